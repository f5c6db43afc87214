"""What a saga that waits costs the leader in memory, by what it waits for.

    python -m benchmarks.asleep [--sagas N] [--only NAME ...]

Postgres (fsync on), and this process as the leader; a stand-in in this process takes the calls, accepts, fails, or is
not to be reached behind the breaker. Each kind is measured in a process of its own: N sagas are started by an intake
and left asleep, so that caches and arenas are as large as they will be; then N more. The growth is of these alone:
by tracemalloc, which counts what Python objects take, and, in another process without it, by resident memory.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import orjson
import psycopg
import structlog
import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.rig import Rig, servers
from benchmarks.usage import resident_bytes
from orchestrator.driving.grpc_edge import CallSettings
from orchestrator.driving.outages import OUTAGE, Outages
from orchestrator.driving.port import Answer, Invocation
from orchestrator.saga.commands import Accepted, Unknown
from orchestrator.sagalog.intake import Intake, IntakeSettings
from orchestrator.sagalog.records import NewSaga
from orchestrator.sagalog.term import boottime_s
from orchestrator.telemetry import Metrics

# What a saga that waits may cost, in bytes.
BYTES_MAX = 200
# Held sagas have the longest pauses once a breaker has opened some six times, one behind the other.
OUTAGE_SETTLES_S = 45.0
_SAGAS_AT_ONCE = 2_000
_PATIENCE_S = 300.0
_LOOKS = 20
_LOOK_EVERY_S = 0.5


@dataclass(frozen=True)
class Kind:
    """One thing to wait for: the first step of the saga, what it is answered, and how long before it begins."""

    name: str
    step: str
    answer: Answer
    starts_in: timedelta = timedelta()


CALL = """service: ADDRESS
    action: {method: shop.v1.EchoService/Do, request: {text: input.order_id}}
    compensation: none
    reason: there is nothing to undo"""
ACCEPTED = Accepted()
FAILED = Unknown("ABORTED", "not now")
AWAY = Unknown(OUTAGE, "connection refused")
KINDS = (
    Kind("delay", "delay: 12h", ACCEPTED),
    Kind("start_at", "delay: 12h", ACCEPTED, starts_in=timedelta(hours=12)),
    Kind("approval", "approval: {question: 'Is it to be done?'}", ACCEPTED),
    Kind("answers_later", f"{CALL}\n    answer: later\n    within: 12h", ACCEPTED),
    Kind("backoff", f"{CALL}\n    retry: {{initial: 6h, max: 6h}}", FAILED),
    Kind("outage", CALL, AWAY),
)


class StandIn:
    """Participants that always give one answer."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def warm(self, services: Iterable[str]) -> None:
        """Nothing to connect to."""

    async def call(self, invocation: Invocation) -> Answer:
        return self._answer


def definition(kind: Kind, address: str) -> str:
    return f"name: benchmark\nsteps:\n  - name: waits\n    {kind.step.replace('ADDRESS', address)}\n"


async def start(intake: Intake, kind: Kind, sagas: int) -> None:
    """Store sagas as StartSaga does."""
    start_at = datetime.now(UTC) + kind.starts_in if kind.starts_in else None
    new = NewSaga("benchmark", 1, '{"order_id": "o123456"}', "{}", "", b"\x00", start_at)
    left = iter(range(sagas))

    async def work() -> None:
        for _ in left:
            await intake.start(new)

    await asyncio.gather(*(work() for _ in range(500)))


async def asleep(dsn: str, rig: Rig, sagas: int, term: asyncio.Task[None]) -> None:
    """Wait until so many sagas wait, and the leader drives none of them."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        async with asyncio.timeout(_PATIENCE_S):
            while not term.done():
                cursor = await connection.execute("SELECT count(*) FROM baton.saga WHERE next_run_at IS NOT NULL")
                row = await cursor.fetchone()
                if row is not None and row[0] >= sagas and in_flight(rig.metrics) == 0:
                    return
                await asyncio.sleep(0.2)
    term.result()


async def least(size: Callable[[], int]) -> int:
    """The smallest of some measurements: those in which the fewest sagas are being driven, who do not wait."""
    sizes = []
    for _ in range(_LOOKS):
        gc.collect()
        sizes.append(size())
        await asyncio.sleep(_LOOK_EVERY_S)
    return min(sizes)


def traced_bytes() -> int:
    """What Python objects take, as far as they were made since it is traced."""
    return tracemalloc.get_traced_memory()[0]


def in_flight(metrics: Metrics) -> float:
    return next(sample.value for family in metrics.sagas_in_flight.collect() for sample in family.samples)


async def grown(dsn: str, address: str, kind: Kind, sagas: int, *, traced: bool) -> dict[str, float]:
    """Bytes by which this process grew for each of `sagas` more that wait."""
    outages = Outages(StandIn(kind.answer), boottime_s, random.random, Metrics("benchmark", "outages"))
    stand_in = outages if kind.name == "outage" else StandIn(kind.answer)
    rig = Rig(dsn, CallSettings(128, 4_000_000, 1_000_000), 4000, _SAGAS_AT_ONCE, stand_in=stand_in)
    await rig.registry.apply(definition(kind, address))
    intake = Intake(IntakeSettings(dsn, "benchmark", 0, 10.0, 4000), Metrics("benchmark", "intake"), lambda: None)
    storing = asyncio.create_task(intake.run())
    if traced:
        tracemalloc.start()
    size = traced_bytes if traced else resident_bytes
    sizes = []
    async with rig.leading() as term:
        for total in (sagas, 2 * sagas):
            await start(intake, kind, sagas)
            if kind.name == "outage":
                # Nobody sleeps for long: some are tried again at any moment.
                await asyncio.sleep(OUTAGE_SETTLES_S)
            else:
                await asleep(dsn, rig, total, term)
            sizes.append(await least(size))
    storing.cancel()
    await asyncio.gather(storing, return_exceptions=True)
    return {"bytes": (sizes[1] - sizes[0]) / sagas}


def in_a_process(kind: Kind, sagas: int, *, traced: bool) -> float:
    """Measured in a process of its own, on a Postgres of its own."""
    with servers() as (dsn, address):
        argv = [sys.executable, "-m", "benchmarks.asleep", "--one", dsn, address, kind.name, str(sagas), str(traced)]
        answer = subprocess.run(argv, stdout=subprocess.PIPE, check=True, timeout=2 * _PATIENCE_S)
    return float(orjson.loads(answer.stdout)["bytes"])


def report(kinds: Sequence[Kind], sagas: int) -> bool:
    table = Table(title=f"Memory of the leader for each of {sagas:,} sagas that wait")
    table.add_column("it waits for")
    for column in ("Python objects", "resident"):
        table.add_column(column, justify="right")
    good = True
    for kind in kinds:
        objects, resident = (in_a_process(kind, sagas, traced=traced) for traced in (True, False))
        table.add_row(kind.name, f"{objects:,.1f} bytes", f"{resident:,.0f} bytes")
        good = good and objects < BYTES_MAX
    console = Console(width=100)
    console.print(table)
    console.print(
        f"asked for: under {BYTES_MAX} bytes of objects each; resident memory keeps what a wave of wakers took"
    )
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sagas", type=int, default=20_000)
    parser.add_argument("--only", nargs="*", default=[kind.name for kind in KINDS])
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    kinds = {kind.name: kind for kind in KINDS}
    if arguments.one:
        dsn, address, name, sagas, traced = arguments.one
        print(orjson.dumps(uvloop.run(grown(dsn, address, kinds[name], int(sagas), traced=traced == "True"))).decode())
        return
    sys.exit(0 if report([kinds[name] for name in arguments.only], arguments.sagas) else 1)


if __name__ == "__main__":
    main()
