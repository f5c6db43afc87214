"""How fast sagas are driven: group commit against one commit a transition, and against bare grpc.aio calls.

    python -m benchmarks.driving [--sagas N] [--rounds N] [--at-once N]

One Postgres (fsync on), one participant process that answers at once, and this process as the leader, all on this
machine. A saga is three steps, each one call, each transition durable before the next. Every round measures all
variants, one after the other, so that what the machine does meanwhile falls on all of them; the table shows medians.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import time
from dataclasses import dataclass

import grpc.aio
import psycopg
import structlog
import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.definitions import STEPS, echo_definition
from benchmarks.rig import Rig, servers
from orchestrator.driving.grpc_edge import CallSettings
from orchestrator.saga.ids import RANDOM_BITS, saga_id
from participants.pb.shop.v1 import echo_pb2

METHOD = "/shop.v1.EchoService/Do"


@dataclass(frozen=True)
class Variant:
    """One way to do the same work."""

    name: str
    batch_max: int
    multiplexed: bool


VARIANTS = (
    Variant("Baton, group commit, multiplexed calls", 4000, True),
    Variant("Baton, group commit, unary calls", 4000, False),
    Variant("Baton, one commit a transition, multiplexed calls", 1, True),
    Variant("Baton, one commit a transition, unary calls", 1, False),
)
BARE = "bare grpc.aio calls, no log at all"


async def bare(address: str, sagas: int, at_once: int) -> float:
    """Sagas a second if a saga were three calls and nothing else."""
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_unary(METHOD)
        request = echo_pb2.EchoRequest(text="o123456").SerializeToString()
        left = iter(range(sagas))

        async def work() -> None:
            for _ in left:
                for _ in range(STEPS):
                    await call(request, timeout=5)

        await call(request, timeout=5)
        began_s = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(at_once)))
        return sagas / (time.perf_counter() - began_s)


async def driven(dsn: str, address: str, variant: Variant, sagas: int, at_once: int) -> float:
    """Sagas a second that a leader drives, from the first intent to the last end."""
    rig = Rig(dsn, CallSettings(128, 4_000_000, 1_000_000, variant.multiplexed), variant.batch_max, at_once)
    await rig.registry.apply(echo_definition(address))
    insert_pending(dsn, sagas)
    began_s = time.perf_counter()
    await rig.lead_until_finished(sagas)
    return sagas / (time.perf_counter() - began_s)


def insert_pending(dsn: str, sagas: int) -> None:
    columns = "id, shard, request_id, request_hash, definition, version, state, input"
    copying = f"COPY baton.saga ({columns}) FROM STDIN".encode()
    with psycopg.connect(dsn) as connection, connection.cursor().copy(copying) as copy:
        for _ in range(sagas):
            identity = saga_id(time.time_ns() // 1_000_000, random.getrandbits(RANDOM_BITS))
            row = (identity, 0, str(identity), "\\x00", "benchmark", 1, "PENDING", '{"order_id": "o123456"}')
            copy.write_row(row)


async def measure(dsn: str, address: str, arguments: argparse.Namespace) -> dict[str, list[float]]:
    rates: dict[str, list[float]] = {}
    for round_ in range(arguments.rounds + 1):
        for variant in (None, *VARIANTS):
            name = BARE if variant is None else variant.name
            # One commit a transition is slow: a part of the sagas tells its rate as well.
            sagas = arguments.sagas // 4 if variant is not None and variant.batch_max == 1 else arguments.sagas
            if variant is None:
                rate = await bare(address, sagas, arguments.at_once)
            else:
                rate = await driven(dsn, address, variant, sagas, arguments.at_once)
            # The first round warms caches and files up.
            if round_ > 0:
                rates.setdefault(name, []).append(rate)
    return rates


def report(rates: dict[str, list[float]], arguments: argparse.Namespace) -> bool:
    """Print the table; whether the figures that are asked for were reached."""
    median = {name: statistics.median(values) for name, values in rates.items()}
    table = Table(title=f"Driving sagas of {STEPS} steps, {arguments.at_once} at once, median of {arguments.rounds}")
    for column in ("variant", "sagas/s", "of bare calls", "range"):
        table.add_column(column, justify="left" if column == "variant" else "right")
    for name, values in rates.items():
        share = f"{median[name] / median[BARE]:.0%}"
        table.add_row(name, f"{median[name]:,.0f}", share, f"{min(values):,.0f} - {max(values):,.0f}")
    group, unary, single, _ = (median[variant.name] for variant in VARIANTS)
    console = Console(width=120)
    console.print(table)
    console.print(f"group commit / one commit a transition (multiplexed calls): {group / single:.1f}  (asked for: 4)")
    console.print(f"Baton / bare grpc.aio calls to the same participant: {group / median[BARE]:.0%}  (asked for: 80 %)")
    console.print(f"  with the same unary calls: {unary / median[BARE]:.0%}")
    return group / single >= 4 and group / median[BARE] >= 0.8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sagas", type=int, default=4000, help="sagas of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--at-once", type=int, default=100)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    with servers() as (dsn, address):
        rates = uvloop.run(measure(dsn, address, arguments))
    sys.exit(0 if report(rates, arguments) else 1)


if __name__ == "__main__":
    main()
