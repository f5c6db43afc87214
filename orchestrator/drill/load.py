"""A steady load of orders on a cluster: a part of them is refused by the business, at each of the steps."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field

import orjson

from orchestrator.audit.evidence import Acknowledgement
from orchestrator.errors import BatonError
from orchestrator.starter import SagaStarter

RATE = 40.0
DEFINITION = "order"
# A start that takes longer than this has failed: no fault of the catalogue is allowed to last so long.
DEADLINE_S = 60.0
# Starts under way at once. Where nobody answers, the load waits rather than to pile up without an end.
_STARTS_MAX = 4000

# Orders whose number begins so are refused: one in eight, by each of the steps in turn.
_FAILING = ("fail-order", "fail-inventory", "fail-payment", "fail-shipping", "fail-confirm")
_FAILING_EVERY = 8
_CUSTOMERS = 50
_ARTICLES = 97


@dataclass(slots=True)
class Load:
    """Starts `rate` sagas of `definition` a second while it runs, and keeps what it was told.

    `run_id` goes into the order numbers and request ids: it keeps apart what several runs start on the same data.
    Each saga gets the `labels`.
    """

    starter: SagaStarter
    rate: float = RATE
    definition: str = DEFINITION
    run_id: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    acknowledged: list[Acknowledgement] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_STARTS_MAX))
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def start_one(self) -> None:
        """Start one order, and remember the answer."""
        request_id, order = self._order(next(self._numbers))
        try:
            answer = await self.starter.start_saga(
                self.definition,
                orjson.dumps(order).decode(),
                labels=self.labels,
                request_id=request_id,
                deadline_s=DEADLINE_S,
            )
        except BatonError as error:
            self.failed.append(f"{request_id}: {error}")
        else:
            self.acknowledged.append(Acknowledgement(request_id, answer.saga.saga_id))
        async with self._changed:
            self._changed.notify_all()

    async def run(self, ended: asyncio.Event) -> None:
        """Start orders at the rate until `ended` is set, and return when all are answered.

        What was missed in a moment in which this process was held up is made up for.
        """
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        async with asyncio.TaskGroup() as group:
            while not ended.is_set():
                await self._room.acquire()
                group.create_task(self.start_one()).add_done_callback(lambda _: self._room.release())
                due_s += 1 / self.rate
                await asyncio.sleep(max(0.0, due_s - loop.time()))

    async def reached(self, count: int, timeout_s: float = DEADLINE_S) -> None:
        """Wait until so many more starts are acknowledged. Raises TimeoutError."""
        wanted = len(self.acknowledged) + count
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(lambda: len(self.acknowledged) >= wanted)

    @contextlib.asynccontextmanager
    async def running(self, warm: int = 20) -> AsyncGenerator[None]:
        """Start orders all the time within, and wait for the answers at the end; begins behind `warm` answers."""
        ended = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.run(ended))
            try:
                await self.reached(warm)
                yield
            finally:
                ended.set()

    def _order(self, number: int) -> tuple[str, dict[str, object]]:
        failing = number % _FAILING_EVERY == 0
        prefix = _FAILING[number // _FAILING_EVERY % len(_FAILING)] if failing else "order"
        order: dict[str, object] = {
            "order_id": f"{prefix}-{self.run_id}{number}",
            "customer_id": f"c{number % _CUSTOMERS}",
            "amount": "12.34",
            "destination": "Germany",
            "lines": [{"stock_code": f"s{number % _ARTICLES}", "quantity": 1}],
        }
        return f"{self.request_prefix}{number}", order

    @property
    def request_prefix(self) -> str:
        """What the request ids of this load begin with, and no others where runs have ids."""
        return f"r{self.run_id}"
