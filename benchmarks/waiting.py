"""What 100,000 sagas that wait cost, and how punctual timers are among them, on a whole cluster of processes.

    python -m benchmarks.waiting [--waiting N] [--timers N] [--window S] [--rate N]

Three etcd members, Postgres (fsync on), three replicas and a participant that answers at once, all on this machine. A
crowd of sagas is started through the API, in delays, before their start and in approvals. At each of three sizes, with
nothing due: what a look of the leader reads, by EXPLAIN; what all replicas together read of the saga log in a second,
as Postgres counts it; the leader's CPU and memory. Then timers come due, delays and later starts, while other sagas
are started at a steady rate and the crowd waits: spread over a window, the same with the leader killed (SIGKILL) in its
middle, and a fifth as many at one instant. How late each was, and that each fired once, is read from the log.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc.aio
import orjson
import psycopg
import uvloop
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console
from rich.table import Table

from benchmarks.definitions import echo_definition
from benchmarks.failover import OPTIONS, Load, start_sagas
from benchmarks.polling import Plan, explained, text_of
from benchmarks.usage import cpu_s, resident_bytes
from orchestrator.cli.client import Client
from orchestrator.embedded.cluster import Cluster
from orchestrator.pb.baton.v1 import saga_pb2, saga_pb2_grpc

BYTES_MAX = 200
LATE_MAX_S = 1.0
# Deeper indexes, and pages that were split meanwhile.
BLOCKS_MORE_MAX = 6
_BATCH = 1000
_WATCHED_S = 15.0
_COUNTED_S = 12.0
_AHEAD_S = 10.0
_PATIENCE_S = 180.0

ACTS = """  - name: acts
    service: ADDRESS
    action: {method: shop.v1.EchoService/Do, request: {text: saga.id}}
    compensation: none
    reason: it does nothing
"""
DEFINITIONS = (
    "name: hours\nsteps:\n  - {name: waits, delay: 12h}\n",
    "name: consent\nsteps:\n  - {name: waits, approval: {question: 'Is it to be done?'}}\n",
    "name: timer\nsteps:\n  - {name: waits, delay: {until: input.at}}\n" + ACTS,
    "name: later\nsteps:\n" + ACTS,
)


@dataclass(frozen=True)
class Cost:
    """What so many that wait cost while nothing is due."""

    waiting: int
    plans: list[Plan]
    blocks_per_s: float
    cpu: float
    resident_bytes: int


@dataclass(frozen=True)
class Run:
    """Timers that come due from `_AHEAD_S` from now on, within a window in seconds."""

    name: str
    timers: int
    window_s: float
    kills: bool = False


@dataclass(frozen=True)
class Lateness:
    """How late the timers of a run were, sorted, in seconds; how many have fired how often; the load meanwhile."""

    run: Run
    late_s: list[float]
    not_once: int
    load: Load


class Bench:
    """The cluster, a client, and a connection to look at the log with."""

    def __init__(self, cluster: Cluster, client: Client, log: psycopg.AsyncConnection) -> None:
        self.cluster = cluster
        self._client = client
        self._log = log
        self._waiting = 0

    async def define(self) -> None:
        address = self.cluster.addresses["ECHO_ADDRESS"]
        for text in (echo_definition(address), *(text.replace("ADDRESS", address) for text in DEFINITIONS)):
            await self._client.apply_definition(text)

    async def one(self, query: str, *parameters: Any) -> Any:
        row = await (await self._log.execute(query.encode(), parameters)).fetchone()
        return None if row is None else row[0]

    async def start(self, requests: Iterator[saga_pb2.StartSagaRequest], sagas: int) -> None:
        """Through the API, a thousand in a call."""
        for begun in range(0, sagas, _BATCH):
            batch = [next(requests) for _ in range(min(_BATCH, sagas - begun))]
            results = await self._client.start_sagas(batch, deadline_s=60)
            if any(result.code for result in results):
                sys.exit(f"StartSagas refused some: {next(r.message for r in results if r.code)}")

    async def until(self, query: str, *parameters: Any) -> None:
        """Wait until the log says so."""
        give_up_s = time.monotonic() + _PATIENCE_S
        while not await self.one(query, *parameters):
            if time.monotonic() > give_up_s:
                sys.exit(f"after {_PATIENCE_S:g} s it is still not so: {query}")
            await asyncio.sleep(0.2)

    async def cost(self, waiting: int) -> Cost:
        """Have so many wait, and see what that costs while nothing happens."""
        await self.start(crowd(), waiting - self._waiting)
        self._waiting = waiting
        await self.until("SELECT count(*) = %s FROM baton.saga WHERE next_run_at IS NOT NULL", waiting)
        await self._log.execute("VACUUM ANALYZE baton.saga")
        pid = (await self.cluster.wait_leader()).replica.pid
        # A connection that has nothing to do tells what it has read ten seconds later.
        await asyncio.sleep(_COUNTED_S)
        began_s, used_s, read = time.monotonic(), cpu_s(pid), await self.one(BLOCKS)
        await asyncio.sleep(_WATCHED_S)
        took_s, used_s = time.monotonic() - began_s, cpu_s(pid) - used_s
        blocks = (await self.one(BLOCKS) - read) / took_s
        plans = await asyncio.to_thread(self._plans)
        return Cost(waiting, plans, blocks, used_s / took_s, resident_bytes(pid))

    def _plans(self) -> list[Plan]:
        with psycopg.connect(self.cluster.baton_dsn, autocommit=True) as connection:
            return list(explained(connection, generic=True))

    async def punctuality(self, run: Run, load: Load) -> Lateness:
        """Have the timers of a run come due, and read from the log when they fired."""
        first = datetime.now(UTC) + timedelta(seconds=_AHEAD_S)
        await self.start(timers(run, first), run.timers)
        if run.kills:
            middle = first + timedelta(seconds=run.window_s / 2)
            await asyncio.sleep((middle - datetime.now(UTC)).total_seconds())
            (await self.cluster.wait_leader()).replica.kill()
        await self.until(f"SELECT count(*) = %s FROM ({FIRED}) AS f WHERE done", run.timers, run.name)
        cursor = await self._log.execute(FIRED.encode(), [run.name])
        rows = await cursor.fetchall()
        return Lateness(run, sorted(row[0] for row in rows), sum(row[1] != 1 for row in rows), load)


# All that Postgres has read of the log's tables and indexes, cached or not.
BLOCKS = """
    SELECT sum(heap_blks_hit + heap_blks_read + coalesce(idx_blks_hit + idx_blks_read, 0))::bigint
    FROM pg_statio_user_tables WHERE schemaname = 'baton'
"""

# Of each timer of a run: how late it fired, how often it was written that it had, and whether its saga has completed. A
# delay fires when it is completed; a later start when its first row is written, and what was started is done once.
FIRED = """
    SELECT extract(epoch FROM min(l.at) FILTER (WHERE CASE s.definition
            WHEN 'timer' THEN l.position = 1 AND l.status = 'completed' ELSE l.sequence = 1 END
        ) - coalesce(s.start_at, (s.input ->> 'at')::timestamptz))::float8 AS late_s,
        count(*) FILTER (WHERE l.position = 1 AND l.status = 'completed') AS times,
        s.state = 'COMPLETED' AS done
    FROM baton.saga AS s JOIN baton.step_log AS l ON l.saga_id = s.id
    WHERE s.definition IN ('timer', 'later') AND s.input ->> 'run' = %s
    GROUP BY s.id
"""


def crowd() -> Iterator[saga_pb2.StartSagaRequest]:
    """Sagas that wait for hours: half of them in a delay, the others for their start or for an approval."""
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    while True:
        for name in ("hours", "hours", "later", "consent"):
            request = saga_pb2.StartSagaRequest(definition=name, input_json='{"order_id": "o123456"}')
            if name == "later":
                request.start_at.FromDatetime(tomorrow)
            yield request


def timers(run: Run, first: datetime) -> Iterator[saga_pb2.StartSagaRequest]:
    """Two delays for each later start."""
    for number in range(run.timers):
        at = first + timedelta(seconds=random.uniform(0, run.window_s))
        text = orjson.dumps({"run": run.name, "at": at.isoformat()}).decode()
        if number % 3:
            yield saga_pb2.StartSagaRequest(definition="timer", input_json=text)
        else:
            start_at = Timestamp()
            start_at.FromDatetime(at)
            yield saga_pb2.StartSagaRequest(definition="later", input_json=text, start_at=start_at)


async def measure(arguments: argparse.Namespace, folder: Path) -> bool:
    sizes = sorted({max(1, arguments.waiting // 100), max(1, arguments.waiting // 10), arguments.waiting})
    window_s = arguments.window
    runs = (
        Run("spread", arguments.timers, window_s),
        Run("spread, leader killed", arguments.timers, window_s, kills=True),
        Run("at one instant", arguments.timers // 5, 0.0),
    )
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(
            Cluster(folder, participants=("echo",), definitions_dir=None, restart_replicas=True)
        )
        client = await stack.enter_async_context(Client(cluster.api_endpoints))
        log = await stack.enter_async_context(await psycopg.AsyncConnection.connect(cluster.baton_dsn, autocommit=True))
        target = "ipv4:" + ",".join(cluster.api_endpoints)
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(target, options=OPTIONS))
        bench = Bench(cluster, client, log)
        await bench.define()
        costs = []
        for size in sizes:
            print(f"{size:,} are to wait", file=sys.stderr, flush=True)
            costs.append(await bench.cost(size))
        found = []
        for run in runs:
            print(f"timers: {run.name}", file=sys.stderr, flush=True)
            load = Load()
            loading = asyncio.create_task(start_sagas(saga_pb2_grpc.SagaServiceStub(channel), arguments.rate, load))
            found.append(await bench.punctuality(run, load))
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
        with psycopg.connect(cluster.baton_dsn, autocommit=True) as connection:
            print(text_of(connection, "due"))
    good = report_cost(costs)
    return report_lateness(found, arguments) and good


def report_cost(costs: list[Cost]) -> bool:
    table = Table(title="What waits costs, while nothing is due")
    table.add_column("")
    for cost in costs:
        table.add_column(f"{cost.waiting:,} wait", justify="right")
    table.add_column("read by", justify="left")
    grown = 0
    for at, plan in enumerate(costs[-1].plans):
        blocks = [cost.plans[at].blocks for cost in costs]
        grown = max(grown, blocks[-1] - blocks[0])
        table.add_row(f"blocks for {plan.name}", *(f"{count:,}" for count in blocks), plan.scans)
    table.add_section()
    table.add_row("blocks read a second, all replicas", *(f"{cost.blocks_per_s:,.0f}" for cost in costs))
    table.add_row("leader's CPU, of one core", *(f"{cost.cpu * 100:.1f} %" for cost in costs))
    table.add_row("leader's memory", *(f"{cost.resident_bytes / 1e6:,.1f} MB" for cost in costs))
    # From the middle size on: until then the caches and arenas of any leader that works have grown as well.
    fewer, most = costs[-2:]
    bytes_each = (most.resident_bytes - fewer.resident_bytes) / (most.waiting - fewer.waiting)
    console = Console(width=130)
    console.print(table)
    console.print(
        f"memory of the leader for each saga that waits, beyond {fewer.waiting:,}: {bytes_each:.0f} bytes "
        f"(asked for: under {BYTES_MAX})"
    )
    console.print(f"blocks that any look reads more with the most: {grown} (asked for: {BLOCKS_MORE_MAX} at most)")
    return bytes_each < BYTES_MAX and grown <= BLOCKS_MORE_MAX


def report_lateness(found: list[Lateness], arguments: argparse.Namespace) -> bool:
    table = Table(
        title=f"Timers among {arguments.waiting:,} that wait, under {arguments.rate:g} sagas/s, in milliseconds late"
    )
    for column in ("timers", "how many", "within", "p50", "p99", "max", "not once", "asked for"):
        table.add_column(column, justify="left" if column == "timers" else "right")
    good = True
    for one in found:
        late = one.late_s
        middle, high = late[len(late) // 2], late[round(0.99 * (len(late) - 1))]
        cells = [f"{value * 1000:,.0f}" for value in (middle, high, late[-1])]
        table.add_row(
            one.run.name, f"{len(late):,}", f"{one.run.window_s:g} s", *cells, str(one.not_once), "max < 1,000, once"
        )
        good = good and late[-1] < LATE_MAX_S and late[0] >= 0 and one.not_once == 0 and one.load.failed == 0
    console = Console(width=130)
    console.print(table)
    started, failed = sum(one.load.started for one in found), sum(one.load.failed for one in found)
    console.print(
        f"the earliest was {min(one.late_s[0] for one in found) * 1000:.1f} ms late (asked for: none before its time)"
    )
    console.print(f"StartSaga meanwhile: {started:,} answered, {failed} failed")
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waiting", type=int, default=100_000)
    parser.add_argument("--timers", type=int, default=5_000)
    parser.add_argument("--window", type=float, default=20.0, help="seconds over which timers come due")
    parser.add_argument("--rate", type=float, default=100, help="sagas started a second meanwhile")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="baton-benchmark-") as folder:
        reached = uvloop.run(measure(arguments, Path(folder)))
    sys.exit(0 if reached else 1)


if __name__ == "__main__":
    main()
