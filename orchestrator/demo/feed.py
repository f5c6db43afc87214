"""Feeds the invoices of an order book through StartSaga, at a rate, and keeps what the cluster acknowledged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from orchestrator.audit.evidence import Acknowledgement
from orchestrator.demo.orders import Invoice
from orchestrator.errors import BatonError
from orchestrator.starter import SagaStarter

_CALLS_MAX = 64


@dataclass(frozen=True, slots=True)
class FailedStart:
    """A StartSaga that failed although the client asked every replica: there should be none."""

    invoice: str
    reason: str


@dataclass(slots=True)
class Feed:
    """Starts a saga for each invoice, `rate` in a second, never past the invoice that `allow` has named.

    `run_id` goes into the order numbers and request ids, so that a second run on the same data starts new sagas; it is
    empty for the first run.
    """

    starter: SagaStarter
    invoices: Sequence[Invoice]
    rate: float
    run_id: str = ""
    acknowledged: list[Acknowledgement] = field(default_factory=list)
    failed: list[FailedStart] = field(default_factory=list)
    sent: int = 0
    _allowed: int = 0
    _hurry_until: int = 0
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_CALLS_MAX))

    @property
    def answered(self) -> int:
        """How many starts are over, in whatever way."""
        return len(self.acknowledged) + len(self.failed)

    async def allow(self, count: int, *, at_once: bool = False) -> None:
        """Let the feed go on to `count` invoices; `at_once` without regard to the rate."""
        async with self._changed:
            self._allowed = max(self._allowed, min(count, len(self.invoices)))
            if at_once:
                self._hurry_until = self._allowed
            self._changed.notify_all()

    async def reached(self, count: int) -> None:
        """Wait until so many starts are over."""
        target = min(count, len(self.invoices))
        async with self._changed:
            await self._changed.wait_for(lambda: self.answered >= target)

    async def run(self) -> None:
        """Feed all invoices; returns when every start is over."""
        async with asyncio.TaskGroup() as calls:
            for number, invoice in enumerate(self.invoices):
                await self._allowed_beyond(number)
                if number >= self._hurry_until:
                    await asyncio.sleep(1 / self.rate)
                await self._room.acquire()
                calls.create_task(self._start(invoice))
                self.sent = number + 1

    async def _allowed_beyond(self, number: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._allowed > number)

    async def _start(self, invoice: Invoice) -> None:
        order_id = f"{invoice.number}-{self.run_id}" if self.run_id else invoice.number
        request_id = f"invoice-{order_id}"
        try:
            answer = await self.starter.start_saga(
                invoice.kind,
                json.dumps(invoice.saga_input(order_id)),
                labels={"country": invoice.country[:60]} if invoice.country else {},
                request_id=request_id,
            )
        except BatonError as error:
            self.failed.append(FailedStart(invoice.number, str(error)))
        else:
            self.acknowledged.append(Acknowledgement(request_id, answer.saga.saga_id))
        finally:
            self._room.release()
        async with self._changed:
            self._changed.notify_all()
