"""One order flow, twice: driven by Baton, and by services that react to each other's events over NATS JetStream.

    python -m benchmarks.choreography [--orders N] [--at-once N] [--rounds N]

Create, charge, reserve, confirm; of ten orders one is declined and one is sold out, so that both ways back are gone as
well. The same services with the same tables in one Postgres (fsync on), everything on this machine: one replica with
one member of etcd, or nats-server. Needs nats-server. Each round measures both, one order at a time and many at once;
the table has medians. CPU is that of all processes, Postgres and the load included; commits and WAL are those of the
whole Postgres.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psycopg
import structlog
import uvloop
from rich.console import Console
from rich.table import Table

from orchestrator.cli.client import Client
from orchestrator.embedded.cluster import Cluster
from orchestrator.embedded.loopback import free_ports
from orchestrator.embedded.nats import NatsServer
from orchestrator.embedded.processes import Process, descendants, inherited_environment
from orchestrator.pb.baton.v1 import saga_pb2
from participants.bus import Bus
from participants.choreography import ENDS, SERVICES, placed
from participants.happening import decode

DEFINITION = "order-create-charge-reserve-confirm"
BATON, EVENTS = "orchestrated by Baton", "choreographed over JetStream"
PARTICIPANT_SETTINGS = {"PARTICIPANT_DECLINED_CUSTOMERS": "poor", "PARTICIPANT_INITIAL_STOCK": "1000000"}
_ORDER_S = 120.0

# Runs one order to its end: whether it was confirmed.
Run = Callable[[str, str, int], Awaitable[bool]]


@dataclass(frozen=True)
class Figures:
    """What one measurement gave; all but the rate for one order."""

    orders_s: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    commits: float
    wal_kb: float


def order(number: int) -> tuple[str, int]:
    """The customer, and how many pieces: one of ten is declined, and one finds too little in stock."""
    return ("poor" if number % 10 == 3 else f"c{number % 50}"), (100_000_000 if number % 10 == 7 else 1)


def confirmed(orders: int) -> int:
    return sum(1 for number in range(orders) if number % 10 not in (3, 7))


def cpu_s() -> float:
    """CPU time of this process and all that descends from it."""
    ticks = 0
    for pid in {os.getpid(), *descendants(os.getpid())}:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += sum(int(field) for field in fields[11:13])
    return ticks / os.sysconf("SC_CLK_TCK")


def postgres_work(dsn: str) -> tuple[int, float]:
    """Transactions that were committed, and bytes of WAL."""
    query = (
        b"SELECT sum(xact_commit)::bigint, pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8 FROM pg_stat_database"
    )
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(b"SELECT pg_stat_force_next_flush()")
        row = connection.execute(query).fetchone()
    if row is None:
        sys.exit("Postgres does not say what it has done")
    return int(row[0]), float(row[1])


async def measure(run: Run, dsn: str, orders: int, at_once: int, prefix: str) -> Figures:
    """Run so many orders, so many at once; every one must end as it should."""
    latencies: list[float] = []
    left = iter(range(orders))
    good = 0

    async def work() -> None:
        nonlocal good
        for number in left:
            customer, quantity = order(number)
            began_s = time.perf_counter()
            async with asyncio.timeout(_ORDER_S):
                well = await run(f"{prefix}-{number}", customer, quantity)
            good += well
            latencies.append((time.perf_counter() - began_s) * 1000)

    commits, wal = postgres_work(dsn)
    cpu, began_s = cpu_s(), time.perf_counter()
    await asyncio.gather(*(work() for _ in range(at_once)))
    took_s, cpu = time.perf_counter() - began_s, cpu_s() - cpu
    # What a session has committed is counted within a second.
    await asyncio.sleep(1.5)
    commits_after, wal_after = postgres_work(dsn)
    if good != confirmed(orders):
        sys.exit(f"{good} orders were confirmed, not {confirmed(orders)}: see the logs")
    latencies.sort()
    return Figures(
        orders / took_s,
        statistics.median(latencies),
        latencies[int(len(latencies) * 0.99)],
        cpu * 1000 / orders,
        (commits_after - commits) / orders,
        (wal_after - wal) / orders / 1000,
    )


def orchestrated(client: Client) -> Run:
    """An order as a saga, waited for by its start."""

    async def run(order_id: str, customer: str, quantity: int) -> bool:
        content = {
            "order_id": order_id,
            "customer_id": customer,
            "amount": "15.30",
            "total": "15.30",
            "lines": [{"stock_code": f"S{sum(order_id.encode()) % 100}", "quantity": quantity}],
        }
        answer = await client.run_saga(DEFINITION, json.dumps(content), request_id=order_id, deadline_s=_ORDER_S)
        return answer.saga.state == saga_pb2.SAGA_STATE_COMPLETED

    return run


@asynccontextmanager
async def choreographed(url: str) -> AsyncIterator[Run]:
    """An order as an event, waited for by the event of its end."""
    bus = Bus(url, "benchmark")
    await bus.open()
    waiting: dict[str, asyncio.Future[bool]] = {}

    async def on_event(message: Any) -> None:
        event = decode(message.data)
        future = waiting.pop(event.order_id, None)
        if event.type in ENDS and future is not None:
            future.set_result(event.type == "order.confirmed")
        elif future is not None:
            waiting[event.order_id] = future

    await bus.listen("order.*", on_event)

    async def run(order_id: str, customer: str, quantity: int) -> bool:
        end = waiting[order_id] = asyncio.get_running_loop().create_future()
        event = placed(order_id, customer, "15.30", [(f"S{sum(order_id.encode()) % 100}", quantity)])
        await bus.publish([(event.id, event.type, event.encode("benchmark"))])
        return await end

    try:
        yield run
    finally:
        await bus.close()


@asynccontextmanager
async def services_by_events(dsn: str, broker: NatsServer, folder: Path) -> AsyncIterator[None]:
    """The three services that react to events, each a process of its own."""
    ports = free_ports(len(SERVICES))
    processes = []
    for name, port in zip(SERVICES, ports, strict=True):
        environment = {
            **inherited_environment("PARTICIPANT_"),
            **PARTICIPANT_SETTINGS,
            "PARTICIPANT_LISTEN": f"127.0.0.1:{port}",
            "PARTICIPANT_DSN": dsn,
            "PARTICIPANT_BROKER": broker.url,
        }
        argv = [sys.executable, "-m", "participants", name]
        processes.append(Process(name, argv, environment, folder / f"{name}.log"))
        processes[-1].start()
    try:
        for port in ports:
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                await asyncio.to_thread(grpc.channel_ready_future(channel).result, 30)
        yield
    finally:
        for process in processes:
            process.stop()


async def applied(client: Client) -> None:
    """Wait until the replica has applied its folder."""
    there: set[str] = set()
    while DEFINITION not in there:
        await asyncio.sleep(0.05)
        there = {definition.name for definition in await client.list_definitions()}


async def rounds(arguments: argparse.Namespace) -> dict[tuple[str, int], list[Figures]]:
    found: dict[tuple[str, int], list[Figures]] = {}
    with tempfile.TemporaryDirectory(prefix="baton-benchmark-") as name, NatsServer(Path(name)) as broker:
        folder = Path(name)
        shop = ("inventory", "payment", "orders", "shipping")
        async with (
            Cluster(folder / "cluster", 1, 1, shop, participant_settings=PARTICIPANT_SETTINGS) as cluster,
            Client(cluster.api_endpoints, deadline_s=_ORDER_S) as client,
            services_by_events(cluster.shop_dsn, broker, folder),
            choreographed(broker.url) as by_events,
        ):
            await applied(client)
            runs = {BATON: orchestrated(client), EVENTS: by_events}
            for round_ in range(arguments.rounds + 1):
                for variant, run in runs.items():
                    for at_once in (1, arguments.at_once):
                        orders = arguments.orders if at_once > 1 else max(20, arguments.orders // 20)
                        prefix = f"{'b' if variant == BATON else 'e'}-{round_}-{at_once}"
                        figures = await measure(run, cluster.shop_dsn, orders, at_once, prefix)
                        # The first round warms caches and connections up.
                        if round_ > 0:
                            found.setdefault((variant, at_once), []).append(figures)
    return found


def report(found: dict[tuple[str, int], list[Figures]], arguments: argparse.Namespace) -> None:
    table = Table(title=f"One order flow in two ways, medians of {arguments.rounds}")
    columns = ("variant", "at once", "orders/s", "p50 ms", "p99 ms", "CPU ms", "commits", "WAL kB")
    for column in columns:
        table.add_column(column, justify="left" if column == "variant" else "right")
    for (variant, at_once), figures in sorted(found.items(), key=lambda item: (item[0][1], item[0][0] != BATON)):
        medians = [
            statistics.median(getattr(figure, name) for figure in figures) for name in Figures.__dataclass_fields__
        ]
        table.add_row(variant, str(at_once), *(f"{value:,.1f}" for value in medians))
    Console(width=120).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, default=1000, help="orders of each measurement of many at once")
    parser.add_argument("--at-once", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    report(uvloop.run(rounds(arguments)), arguments)


if __name__ == "__main__":
    main()
