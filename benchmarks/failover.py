"""How long a shard stands still when its leader fails, under load, on a whole cluster of processes.

    python -m benchmarks.failover [--kills N] [--terms N] [--stops N] [--rate N]

Three etcd members, Postgres, three replicas and a participant that answers at once, all on this machine. A client with
three endpoints starts sagas of three steps at a steady rate all the time, while the leader is killed (SIGKILL), asked
to end (SIGTERM) or frozen (SIGSTOP, woken later), again and again.

The gap is the time from the signal to the first step that the next leader has driven to its end: its call made, and
its result in the log under the new epoch.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import psycopg
import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.definitions import echo_definition
from orchestrator.cli.client import Client
from orchestrator.embedded.cluster import Cluster
from orchestrator.pb.baton.v1 import saga_pb2, saga_pb2_grpc

# The client of docs/api.md: every replica in one target, and gRPC's own retry policy. Nothing of Baton's.
SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{"service": "baton.v1.SagaService"}],
            "waitForReady": True,
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
            },
        }
    ],
}
OPTIONS = [
    ("grpc.service_config", json.dumps(SERVICE_CONFIG)),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.keepalive_time_ms", 1_000),
    ("grpc.keepalive_timeout_ms", 1_000),
    ("grpc.http2.ping_timeout_ms", 1_000),
    ("grpc.http2.max_pings_without_data", 0),
]
START_TIMEOUT_S = 30

SETTLE_S = (0.3, 0.8)

# What the figures must be under, in seconds: p50 and p99 of the gap.
BOUNDS = {"SIGKILL": (0.05, 0.15), "SIGTERM": (0.05, 0.05), "SIGSTOP": (1.0, 1.0)}


@dataclass(frozen=True)
class Fault:
    """One fault of a leader: when, by the wall clock, and the epochs before and after."""

    kind: str
    at_s: float
    epoch: int
    next_epoch: int


@dataclass
class Load:
    """What the client has seen."""

    started: int = 0
    failed: int = 0
    slowest_s: float = 0.0


async def start_sagas(sagas: saga_pb2_grpc.SagaServiceStub, rate: float, load: Load) -> None:
    """Start sagas at `rate` a second until cancelled, whatever the answers take."""
    loop = asyncio.get_running_loop()
    next_s = loop.time()
    async with asyncio.TaskGroup() as group:
        while True:
            group.create_task(start_one(sagas, load))
            next_s += 1 / rate
            await asyncio.sleep(max(0.0, next_s - loop.time()))


async def start_one(sagas: saga_pb2_grpc.SagaServiceStub, load: Load) -> None:
    began_s = time.monotonic()
    try:
        request = saga_pb2.StartSagaRequest(
            definition="benchmark", input_json='{"order_id": "o1"}', request_id=str(uuid.uuid4())
        )
        await sagas.StartSaga(request, timeout=START_TIMEOUT_S)
    except grpc.aio.AioRpcError as error:
        load.failed += 1
        print(f"StartSaga failed: {error}", file=sys.stderr)
    else:
        load.started += 1
        load.slowest_s = max(load.slowest_s, time.monotonic() - began_s)


async def make_faults(cluster: Cluster, kinds: list[str]) -> list[Fault]:
    faults = []
    for number, kind in enumerate(kinds, start=1):
        leader = await cluster.wait_ready()
        # The load runs on meanwhile: a fault must not always meet the leader at the same point of its work.
        await asyncio.sleep(random.uniform(*SETTLE_S))
        # Where each replica has a machine of its own, a process that starts again takes nothing from the takeover.
        leader.replica.watched = False
        at_s = time.time()
        match kind:
            case "SIGKILL":
                leader.replica.kill()
            case "SIGTERM":
                leader.replica.terminate()
            case _:
                leader.replica.suspend()
        next_epoch = await epoch_above(cluster, leader.epoch)
        if kind == "SIGSTOP":
            leader.replica.resume()
        leader.replica.watched = True
        faults.append(Fault(kind, at_s, leader.epoch, next_epoch))
        print(f"\r{number} of {len(kinds)} faults", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return faults


async def epoch_above(cluster: Cluster, epoch: int) -> int:
    """The next epoch, once a step was driven under it."""
    async with await psycopg.AsyncConnection.connect(cluster.baton_dsn, autocommit=True) as connection:
        async with asyncio.timeout(60):
            while True:
                query = "SELECT epoch FROM baton.fence"
                row = await (await connection.execute(query)).fetchone()
                if row is not None and row[0] > epoch:
                    return int(row[0])
                await asyncio.sleep(0.05)


async def measure(arguments: argparse.Namespace, folder: Path) -> bool:
    load = Load()
    kinds = ["SIGKILL"] * arguments.kills + ["SIGTERM"] * arguments.terms + ["SIGSTOP"] * arguments.stops
    async with Cluster(folder, participants=("echo",), definitions_dir=None, restart_replicas=True) as cluster:
        async with Client(cluster.api_endpoints) as client:
            await client.apply_definition(echo_definition(cluster.addresses["ECHO_ADDRESS"]))
        target = "ipv4:" + ",".join(cluster.api_endpoints)
        async with grpc.aio.insecure_channel(target, options=OPTIONS) as channel:
            loading = asyncio.create_task(start_sagas(saga_pb2_grpc.SagaServiceStub(channel), arguments.rate, load))
            faults = await make_faults(cluster, kinds)
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
            return await report(cluster, faults, load, arguments)


async def first_steps(cluster: Cluster) -> dict[int, tuple[float, float, float]]:
    """By epoch: when it was raised, its first intent, and its first step done, in seconds of the wall clock."""
    query = """
        SELECT h.epoch, extract(epoch FROM h.raised_at)::float8, extract(epoch FROM min(l.at))::float8,
            extract(epoch FROM min(l.at) FILTER (WHERE l.status IN ('completed', 'compensated')))::float8
        FROM baton.epoch_history AS h JOIN baton.step_log AS l USING (epoch)
        GROUP BY h.epoch, h.raised_at
    """
    async with await psycopg.AsyncConnection.connect(cluster.baton_dsn) as connection:
        rows = await (await connection.execute(query)).fetchall()
    return {epoch: tuple(times) for epoch, *times in rows}


async def unfinished(cluster: Cluster) -> int:
    """Sagas that are not terminal, once the last ones have had their time."""
    left = -1
    async with await psycopg.AsyncConnection.connect(cluster.baton_dsn, autocommit=True) as connection:
        give_up_s = time.monotonic() + 30
        while left != 0 and time.monotonic() < give_up_s:
            cursor = await connection.execute(
                "SELECT count(*) FROM baton.saga WHERE state IN ('PENDING', 'RUNNING', 'COMPENSATING')"
            )
            row = await cursor.fetchone()
            left = row[0] if row else -1
            await asyncio.sleep(0.05)
    return left


async def report(cluster: Cluster, faults: list[Fault], load: Load, arguments: argparse.Namespace) -> bool:
    left = await unfinished(cluster)
    steps = await first_steps(cluster)
    table = Table(title=f"Failover under {arguments.rate:g} sagas/s: from the signal, in milliseconds")
    for column in ("fault", "times", "epoch p50", "first intent p50", "first step p50", "p99", "max", "asked for"):
        table.add_column(column, justify="left" if column == "fault" else "right")
    good = load.failed == 0 and left == 0
    for kind, (median_max_s, high_max_s) in BOUNDS.items():
        after = [[t - f.at_s for t in steps[f.next_epoch]] for f in faults if f.kind == kind and f.next_epoch in steps]
        if not after:
            continue
        raises, intents, gaps = (sorted(column) for column in zip(*after, strict=True))
        median_s, high_s = statistics.median(gaps), gaps[min(len(gaps) - 1, round(0.99 * (len(gaps) - 1)))]
        good = good and median_s < median_max_s and high_s < high_max_s
        cells = [statistics.median(raises), statistics.median(intents), median_s, high_s, gaps[-1]]
        asked = f"p50 < {median_max_s * 1000:.0f}, p99 < {high_max_s * 1000:.0f}"
        table.add_row(kind, str(len(gaps)), *(f"{cell * 1000:.1f}" for cell in cells), asked)
    console = Console(width=120)
    console.print(table)
    console.print(
        f"StartSaga through gRPC's own retry policy: {load.started:,} answered, {load.failed} failed (asked for: 0), "
        f"slowest {load.slowest_s:.2f} s"
    )
    console.print(f"sagas left unfinished: {left}; leadership changes: {len(steps) - 1} for {len(faults)} faults")
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--terms", type=int, default=20)
    parser.add_argument("--stops", type=int, default=10)
    parser.add_argument("--rate", type=float, default=200, help="sagas started a second")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="baton-benchmark-") as folder:
        reached = uvloop.run(measure(arguments, Path(folder)))
    sys.exit(0 if reached else 1)


if __name__ == "__main__":
    main()
