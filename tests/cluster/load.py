"""A steady load of orders on a cluster, and the audit of what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import orjson

from orchestrator.audit.evidence import Acknowledgement, Gap
from orchestrator.audit.gauge import Gauge
from orchestrator.audit.judge import audit
from orchestrator.cli.client import Client
from orchestrator.embedded.cluster import Cluster

RATE = 40.0
HEAL_S = 90.0

# What makes a part of the orders compensate for reasons of the business, at each step.
FAILING = ("fail-order", "fail-inventory", "fail-payment", "fail-shipping", "fail-confirm")


@dataclass
class Load:
    """What the client was told."""

    client: Client
    acknowledged: list[Acknowledgement] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    async def start_one(self) -> None:
        number = next(self._numbers)
        prefix = FAILING[number // 8 % len(FAILING)] if number % 8 == 0 else "order"
        request_id = f"r{number}"
        order = {
            "order_id": f"{prefix}-{number}",
            "customer_id": f"c{number % 50}",
            "amount": "12.34",
            "destination": "Germany",
            "lines": [{"stock_code": f"s{number % 97}", "quantity": 1}],
        }
        try:
            answer = await self.client.start_saga("order", orjson.dumps(order).decode(), request_id=request_id)
        except Exception as error:
            # Whatever it is: the promise is that no start fails.
            self.failed.append(f"{request_id}: {error}")
        else:
            self.acknowledged.append(Acknowledgement(request_id, answer.saga.saga_id))

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self.start_one())
                due_s += 1 / RATE
                await asyncio.sleep(max(0.0, due_s - loop.time()))

    async def reached(self, count: int, timeout_s: float = 60) -> None:
        """Wait until so many more starts are acknowledged."""
        wanted = len(self.acknowledged) + count
        async with asyncio.timeout(timeout_s):
            while len(self.acknowledged) < wanted:
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def loaded(cluster: Cluster) -> AsyncIterator[Load]:
    """Start orders all the time within."""
    async with Client(cluster.api_endpoints, spread=True, deadline_s=60) as client:
        load = Load(client)
        running = asyncio.create_task(load.run())
        try:
            await load.reached(20)
            yield load
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def verdict(cluster: Cluster, load: Load, faults: int, gaps: tuple[Gap, ...] = ()) -> None:
    """Wait for the end of all sagas, and check every invariant."""
    async with Gauge(cluster.baton_dsn) as gauge:
        assert await gauge.all_ended(HEAL_S), f"unfinished after {HEAL_S} s: {await gauge.picture()}"
    judged = await asyncio.to_thread(audit, cluster.baton_dsn, cluster.shop_dsn, load.acknowledged, faults, gaps)
    assert judged.holds, "\n".join(judged.lines())
    assert load.failed == []


async def gap(cluster: Cluster, fault: str, since: datetime, epoch: int, bound_s: float) -> Gap:
    """The gap that began with the fault at `since` under `epoch`."""
    async with Gauge(cluster.baton_dsn) as gauge:
        return Gap(fault, await gauge.gap_s(since, epoch, timeout_s=60), bound_s)


def now() -> datetime:
    return datetime.now(UTC)


def monotonic_s() -> float:
    return time.monotonic()
