"""What the tally of sagas costs where it is kept: driving and starting sagas with its triggers, and without.

    python -m benchmarks.tally [--sagas N] [--rounds N] [--at-once N]

One Postgres (fsync on) for all; every round measures both, one after the other, so that what the machine does meanwhile
falls on both; the table shows medians and their ratio. Driving is as in `benchmarks.driving`: three steps, each
transition durable before the next. One at a time is the worst case: each statement of a trigger falls on one saga.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time

import psycopg
import structlog
import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.driving import Variant, driven
from benchmarks.rig import servers
from orchestrator.sagalog.intake import Intake, IntakeSettings
from orchestrator.sagalog.records import NewSaga
from orchestrator.telemetry import Metrics

GROUP = Variant("group", 4000, True)
TRIGGERS = ("tally_inserted", "tally_updated", "tally_deleted", "labels_inserted", "start_not_before_watermark")


def set_triggers(dsn: str, *, on: bool) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for trigger in TRIGGERS:
            connection.execute(f"ALTER TABLE baton.saga {'ENABLE' if on else 'DISABLE'} TRIGGER {trigger}".encode())
        connection.execute("TRUNCATE baton.saga, baton.step_log, baton.saga_label, baton.tally, baton.tally_change")


async def started(dsn: str, sagas: int, at_once: int) -> float:
    """Sagas a second that an intake stores, `at_once` callers waiting each for its own."""
    intake = Intake(IntakeSettings(dsn, "benchmark", 0, 10.0, 4000), Metrics("benchmark", "benchmark"), lambda: None)
    running = asyncio.create_task(intake.run())
    left = iter(range(sagas))

    async def work() -> None:
        for _ in left:
            await intake.start(NewSaga("benchmark", 1, '{"order_id": "o123456"}', "{}", "", b"\x00"))

    began_s = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(at_once)))
    rate = sagas / (time.perf_counter() - began_s)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return rate


async def measure(dsn: str, address: str, arguments: argparse.Namespace) -> dict[tuple[str, bool], list[float]]:
    rates: dict[tuple[str, bool], list[float]] = {}
    many, few = arguments.sagas, max(1, arguments.sagas // 10)
    for round_ in range(arguments.rounds + 1):
        for on in (True, False) if round_ % 2 else (False, True):
            set_triggers(dsn, on=on)
            found = {
                f"driven, {arguments.at_once} at once": await driven(dsn, address, GROUP, many, arguments.at_once),
                "driven, one at a time": await driven(dsn, address, GROUP, few, 1),
            }
            set_triggers(dsn, on=on)
            found[f"started, {arguments.at_once} at once"] = await started(dsn, many, arguments.at_once)
            found["started, one at a time"] = await started(dsn, few, 1)
            # The first round warms caches and files up.
            for name, rate in found.items() if round_ > 0 else ():
                rates.setdefault((name, on), []).append(rate)
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sagas", type=int, default=4000, help="sagas of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--at-once", type=int, default=100)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    with servers() as (dsn, address):
        rates = uvloop.run(measure(dsn, address, arguments))
    table = Table(title=f"Sagas a second, median of {arguments.rounds}")
    for column in ("", "without", "with", "with / without"):
        table.add_column(column, justify="right" if column else "left")
    for name in dict.fromkeys(name for name, _ in rates):
        without, with_ = (statistics.median(rates[name, on]) for on in (False, True))
        table.add_row(name, f"{without:,.0f}", f"{with_:,.0f}", f"{with_ / without:.3f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
