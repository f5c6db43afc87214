"""What a saga costs: disk, WAL, the leader's CPU and memory, with inputs small and large, with and without its log.

    python -m benchmarks.capacity [--sagas N]

Postgres (fsync on), one participant process that answers at once, and this process as the leader, all on this machine.
A saga is three steps, each one call, each transition durable before the next. docs/capacity.md counts with the figures.
"""

from __future__ import annotations

import argparse
import random
import time
from dataclasses import dataclass
from typing import Any

import psycopg
import structlog
import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.definitions import STEPS, echo_definition
from benchmarks.rig import Rig, Written, servers
from orchestrator.driving.grpc_edge import CallSettings
from orchestrator.driving.transition_log import TransitionLog
from orchestrator.saga.ids import RANDOM_BITS, saga_id
from orchestrator.telemetry import EventLines

AT_ONCE = 100


@dataclass(frozen=True)
class Case:
    """A measurement: bytes of input, and how the transitions are logged."""

    name: str
    input_bytes: int
    log_format: str = ""


CASES = (
    Case("warm-up", 30),
    Case("input of 30 bytes", 30),
    Case("input of 2,000 bytes", 2_000),
    Case("input of 30 bytes, transitions logged as JSON", 30, "json"),
    Case("input of 30 bytes, transitions logged to be read", 30, "console"),
)


@dataclass(frozen=True)
class Cost:
    """What one saga cost."""

    disk_bytes: float
    wal_bytes: float
    cpu_s: float
    sagas_per_s: float
    logged_bytes: float


def insert_pending(dsn: str, sagas: int, input_bytes: int) -> None:
    """Of text that does not compress: real inputs do not compress to nothing either."""
    columns = "id, shard, request_id, request_hash, definition, version, state, input"
    copying = f"COPY baton.saga ({columns}) FROM STDIN".encode()
    with psycopg.connect(dsn) as connection, connection.cursor().copy(copying) as copy:
        for _ in range(sagas):
            identity = saga_id(time.time_ns() // 1_000_000, random.getrandbits(RANDOM_BITS))
            text = random.randbytes(max(0, input_bytes - 23) // 2).hex()
            value = f'{{"order_id": "o1234", "note": "{text}"}}'
            copy.write_row((identity, 0, str(identity), "\\x00", "benchmark", 1, "PENDING", value))


def one(dsn: str, query: str) -> Any:
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def disk_bytes(dsn: str) -> int:
    return int(one(dsn, "SELECT pg_total_relation_size('baton.saga') + pg_total_relation_size('baton.step_log')"))


async def measured(dsn: str, address: str, case: Case, sagas: int) -> Cost:
    """Drive the sagas of one case."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("TRUNCATE baton.saga, baton.step_log")
    before_bytes = disk_bytes(dsn)
    lsn = one(dsn, "SELECT pg_current_wal_lsn()::text")
    insert_pending(dsn, sagas, case.input_bytes)
    counted = Counted()
    rig = Rig(dsn, CallSettings(128, 4_000_000, 1_000_000), 4000, AT_ONCE, transition_log(case, counted))
    await rig.registry.apply(echo_definition(address))
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    await rig.lead_until_finished(sagas)
    took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
    wal_bytes = int(one(dsn, f"SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '{lsn}')::bigint"))
    disk = disk_bytes(dsn) - before_bytes
    return Cost(disk / sagas, wal_bytes / sagas, cpu_s / sagas, sagas / took_s, counted.written / sagas)


def transition_log(case: Case, file: Any) -> Written:
    """What the case does with transitions."""
    match case.log_format:
        case "json" | "console":
            return TransitionLog(EventLines(case.log_format, "info", file), payloads=False)
        case _:
            return lambda saga, events: None


class Counted:
    """A file that keeps nothing, and counts what is written to it."""

    def __init__(self) -> None:
        self.written = 0

    def write(self, text: str) -> None:
        self.written += len(text)

    def flush(self) -> None:
        """There is nothing to flush."""


async def all_measured(dsn: str, address: str, sagas: int) -> list[tuple[Case, Cost]]:
    """Every case; the first of them warms caches and files up."""
    costs = [(case, await measured(dsn, address, case, sagas)) for case in CASES]
    return costs[1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sagas", type=int, default=5000, help="sagas of each measurement")
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    table = Table(title=f"What a saga of {STEPS} steps costs, {AT_ONCE} at once, {arguments.sagas:,} of each")
    for column in ("case", "disk", "WAL", "leader's CPU", "sagas/s", "log"):
        table.add_column(column, justify="left" if column == "case" else "right")
    with servers() as (dsn, address):
        costs = uvloop.run(all_measured(dsn, address, arguments.sagas))
    for case, cost in costs:
        table.add_row(
            case.name,
            f"{cost.disk_bytes / 1000:.1f} kB",
            f"{cost.wal_bytes / 1000:.1f} kB",
            f"{cost.cpu_s * 1e6:,.0f} us",
            f"{cost.sagas_per_s:,.0f}",
            f"{cost.logged_bytes / 1000:.1f} kB" if cost.logged_bytes else "",
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
