"""How fast a new leader takes over 10,000 sagas in flight, and what memory that costs.

    python -m benchmarks.takeover [--in-flight N] [--finished N] [--rounds N] [--sagas-max N]

Postgres (fsync on) holds sagas that an earlier leader left in their second step, among many that are finished. This
process becomes the leader: measured from the raise of the epoch to the first step driven under it, to the end
of the recovery scan, and to the last saga completed; and how much the process grew, with all sagas driven at once
and with a bound of a tenth on how many are.
"""

from __future__ import annotations

import argparse
import random
import resource
import statistics
import subprocess
import sys
import time

import orjson
import psycopg
import structlog
import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.definitions import echo_definition
from benchmarks.rig import Rig, servers
from benchmarks.usage import resident_bytes
from orchestrator.driving.grpc_edge import CallSettings
from orchestrator.saga.ids import RANDOM_BITS, saga_id

FIRST_STEP_MAX_S = 0.15
# What one saga in flight may cost the leader, in bytes.
SAGA_BYTES_MAX = 20_000


def insert(dsn: str, sagas: int, state: str) -> None:
    """Store sagas that an earlier epoch drove to their second step, or to their end."""
    running = state == "RUNNING"
    rows = [(1, "executing", None), (1, "completed", "{}"), (2, "executing", None)]
    identities = [saga_id(time.time_ns() // 1_000_000, random.getrandbits(RANDOM_BITS)) for _ in range(sagas)]
    columns = "id, shard, request_id, request_hash, definition, version, state, sequence, epoch, input"
    with psycopg.connect(dsn) as connection:
        with connection.cursor().copy(f"COPY baton.saga ({columns}) FROM STDIN".encode()) as copy:
            for identity in identities:
                row = (identity, 0, str(identity), "\\x00", "benchmark", 1, state, 3, 1, '{"order_id": "o123456"}')
                copy.write_row(row)
        log_columns = "saga_id, sequence, step, position, status, attempt, result, epoch"
        with connection.cursor().copy(f"COPY baton.step_log ({log_columns}) FROM STDIN".encode()) as copy:
            for identity in identities if running else []:
                for sequence, (position, status, result) in enumerate(rows, start=1):
                    copy.write_row((identity, sequence, f"step_{position}", position, status, 1, result, 1))
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("ANALYZE baton.saga, baton.step_log")


async def take_over(dsn: str, address: str, in_flight: int, sagas_max: int) -> dict[str, float]:
    rig = Rig(dsn, CallSettings(128, 4_000_000, 1_000_000), 4000, sagas_max)
    await rig.registry.apply(echo_definition(address))
    before_bytes = resident_bytes()
    began_s = time.monotonic()
    await rig.lead_until_finished(in_flight)
    took_s = time.monotonic() - began_s
    most_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    query = """
        SELECT extract(epoch FROM min(l.at) - max(h.raised_at))::float8
        FROM baton.epoch_history AS h JOIN baton.step_log AS l USING (epoch)
        WHERE h.epoch = (SELECT max(epoch) FROM baton.epoch_history) AND l.status = 'completed'
    """
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        row = await (await connection.execute(query)).fetchone()
    recovery_s = next(s.value for m in rig.metrics.recovery_s.collect() for s in m.samples if s.name.endswith("_sum"))
    return {
        "first_step_s": row[0] if row else float("nan"),
        "scan_s": recovery_s,
        "all_s": took_s,
        "grown_bytes": most_bytes - before_bytes,
    }


def one_round(dsn: str, address: str, in_flight: int, sagas_max: int) -> dict[str, float]:
    """In a process of its own, so that the peak of memory is this round's."""
    insert(dsn, in_flight, "RUNNING")
    argv = [sys.executable, "-m", "benchmarks.takeover", "--one", dsn, address, str(in_flight), str(sagas_max)]
    answer = subprocess.run(argv, capture_output=True, check=True, timeout=300)
    measured: dict[str, float] = orjson.loads(answer.stdout)
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--in-flight", type=int, default=10_000)
    parser.add_argument("--finished", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    if arguments.one:
        dsn, address, in_flight, sagas_max = arguments.one
        print(orjson.dumps(uvloop.run(take_over(dsn, address, int(in_flight), int(sagas_max)))).decode())
        return
    with servers() as (dsn, address):
        insert(dsn, arguments.finished, "COMPLETED")
        bounds = (arguments.in_flight, max(1, arguments.in_flight // 10))
        rounds = {
            bound: [one_round(dsn, address, arguments.in_flight, bound) for _ in range(arguments.rounds)]
            for bound in bounds
        }
    sys.exit(0 if report(rounds, arguments) else 1)


def report(rounds: dict[int, list[dict[str, float]]], arguments: argparse.Namespace) -> bool:
    title = (
        f"Takeover of {arguments.in_flight:,} sagas in flight among {arguments.finished:,}, {arguments.rounds} times"
    )
    table = Table(title=title)
    for column in ("driven at once", "first step p50", "max", "scan", "all completed", "memory", "a saga"):
        table.add_column(column, justify="right")
    good = True
    for bound, measured in rounds.items():
        first = [m["first_step_s"] for m in measured]
        middle = {key: statistics.median(m[key] for m in measured) for key in measured[0]}
        per_saga = middle["grown_bytes"] / bound
        table.add_row(
            f"{bound:,}",
            f"{statistics.median(first) * 1000:.0f} ms",
            f"{max(first) * 1000:.0f} ms",
            f"{middle['scan_s'] * 1000:,.0f} ms",
            f"{middle['all_s']:.1f} s",
            f"{middle['grown_bytes'] / 1e6:.0f} MB",
            f"{per_saga / 1000:.1f} kB",
        )
        good = good and max(first) < FIRST_STEP_MAX_S and per_saga < SAGA_BYTES_MAX
    console = Console(width=120)
    console.print(table)
    console.print(f"asked for: first step within {FIRST_STEP_MAX_S * 1000:.0f} ms of the new epoch; memory bounded")
    return good


if __name__ == "__main__":
    main()
