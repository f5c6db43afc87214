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
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc.aio
import psycopg
import structlog
import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.definitions import STEPS, echo_definition
from orchestrator.driving.grpc_edge import CallSettings, GrpcParticipants
from orchestrator.driving.leader import Clocks, Leader, LeaderSettings
from orchestrator.driving.reflection import describe
from orchestrator.driving.registry import Registry
from orchestrator.embedded.loopback import free_ports
from orchestrator.embedded.postgres import Postgres
from orchestrator.embedded.processes import Process, inherited_environment
from orchestrator.saga.ids import RANDOM_BITS, saga_id
from orchestrator.sagalog.migrate import migrate
from orchestrator.sagalog.port import Claim, StoredDefinition
from orchestrator.sagalog.postgres import LogSettings, PostgresSagaLog
from orchestrator.sagalog.term import boottime_s
from orchestrator.telemetry import Metrics
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


class OneDefinition:
    """A definition store that holds the one definition of the benchmark."""

    stored: StoredDefinition | None = None

    async def get_definition(self, name: str, version: int) -> StoredDefinition | None:
        return self.stored

    async def insert_definition(
        self, name: str, content_hash: str, yaml: str, descriptor_set: bytes
    ) -> tuple[StoredDefinition, bool]:
        self.stored = StoredDefinition(name, 1, content_hash, yaml, descriptor_set, datetime.now(UTC))
        return self.stored, False


class Victorious:
    """A mandate that nobody contests."""

    leader_lost_at_s = None

    def __init__(self, revision: int) -> None:
        self.claim = Claim(0, "benchmark", "benchmark", revision, "vacant")

    def vouched(self) -> bool:
        return True

    async def confirm(self) -> bool:
        return True


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
    metrics = Metrics("benchmark", "benchmark")
    store = OneDefinition()
    registry = Registry(store, describe)
    await registry.apply(echo_definition(address))
    insert_pending(dsn, sagas)
    log = PostgresSagaLog(LogSettings(dsn, "benchmark", 0, 10.0, 0.2, 10.0, variant.batch_max), metrics)
    participants = GrpcParticipants(
        registry.codec, CallSettings(128, 4_000_000, 1_000_000, variant.multiplexed), metrics
    )
    settings = LeaderSettings(shard=0, sagas_max=at_once, recovery_page=500, poll_interval_s=1.0)
    clocks = Clocks(lambda: datetime.now(UTC), boottime_s, random.random)
    leader = Leader(log, registry, participants, settings, clocks, metrics)
    began_s = time.perf_counter()
    term = asyncio.create_task(leader.lead(Victorious(time.time_ns() // 1_000_000)))
    while finished(metrics) < sagas:
        if term.done():
            term.result()
        await asyncio.sleep(0.005)
    took_s = time.perf_counter() - began_s
    term.cancel()
    await asyncio.gather(term, return_exceptions=True)
    await participants.close()
    return sagas / took_s


def finished(metrics: Metrics) -> float:
    """The sagas that ended; all must have completed."""
    samples = [s for family in metrics.sagas_finished.collect() for s in family.samples if s.name.endswith("_total")]
    if any(sample.labels["state"] != "COMPLETED" for sample in samples):
        sys.exit("a saga of the benchmark did not complete: see the log")
    return sum(sample.value for sample in samples)


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
    with tempfile.TemporaryDirectory(prefix="baton-benchmark-") as folder, Postgres(Path(folder) / "pg") as postgres:
        dsn = postgres.create_database("baton")
        migrate(dsn)
        (port,) = free_ports(1)
        environment = {**inherited_environment("PARTICIPANT_"), "PARTICIPANT_LISTEN": f"127.0.0.1:{port}"}
        argv = [sys.executable, "-m", "participants", "echo"]
        participant = Process("echo", argv, environment, Path(folder) / "echo.log")
        participant.start()
        try:
            address = f"127.0.0.1:{port}"
            with grpc.insecure_channel(address) as channel:
                grpc.channel_ready_future(channel).result(timeout=20)
            rates = uvloop.run(measure(dsn, address, arguments))
        finally:
            participant.stop()
    sys.exit(0 if report(rates, arguments) else 1)


if __name__ == "__main__":
    main()
