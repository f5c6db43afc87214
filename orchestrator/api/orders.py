"""Orders that can be given to many sagas: what each comes to for one saga, tried or only judged."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from orchestrator.api.port import SagaReader
from orchestrator.api.signalling import Signalling
from orchestrator.errors import NotFound, Rejected
from orchestrator.saga.events import Order as OrderedBy
from orchestrator.saga.model import SagaState
from orchestrator.saga.plan import cancel_refusal, resolutions
from orchestrator.saga.signals import Signal, Verb
from orchestrator.sagalog.records import SagaRecord


class Outcome(StrEnum):
    """What an order comes to for one saga; the names are those of the API."""

    ORDERED = "ORDERED"
    ALREADY_ORDERED = "ALREADY_ORDERED"
    ENDED = "ENDED"
    REFUSED = "REFUSED"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class Verdict:
    """An outcome, the state that the saga was in, and why."""

    outcome: Outcome
    state: str
    message: str = ""


class Order(Protocol):
    """Something that a saga can be told. `states` are those of the sagas that are meant when nobody says which."""

    @property
    def states(self) -> tuple[str, ...]:
        """The states of sagas that the order makes sense for."""
        ...

    async def judge(self, saga: SagaRecord) -> Verdict:
        """What the order would come to for a saga as it was read. Changes nothing."""
        ...

    async def give(self, saga: SagaRecord) -> Verdict:
        """Give the order; it is durable when the outcome says so. To be repeated without harm.

        Raises LogUnavailable, Overloaded: then it is unknown whether it was given.
        """
        ...


@dataclass(frozen=True, slots=True)
class CancelOrder:
    """Implements `Order`: undo what the saga has done."""

    reader: SagaReader
    reason: str
    signalling: Signalling | None = None

    @property
    def states(self) -> tuple[str, ...]:
        """Sagas that have not ended."""
        return (SagaState.PENDING.value, SagaState.RUNNING.value, SagaState.COMPENSATING.value)

    async def judge(self, saga: SagaRecord) -> Verdict:
        """See `Order.judge`."""
        if saga.terminal:
            return Verdict(Outcome.ENDED, saga.state, f"it is {saga.state}")
        if saga.cancel_reason is not None:
            return Verdict(Outcome.ALREADY_ORDERED, saga.state, f"cancelled before: {saga.cancel_reason}")
        if self.signalling is not None and (refusal := await past_pivot(saga, self.signalling)):
            return Verdict(Outcome.REFUSED, saga.state, refusal)
        return Verdict(Outcome.ORDERED, saga.state)

    async def give(self, saga: SagaRecord) -> Verdict:
        """See `Order.give`."""
        judged = await self.judge(saga)
        if judged.outcome is Outcome.REFUSED:
            return judged
        if await self.reader.request_cancel(saga.id, self.reason):
            return Verdict(Outcome.ORDERED, saga.state)
        now = await self.reader.saga(saga.id)
        if now is None:
            return Verdict(Outcome.ENDED, saga.state, "it has ended and was removed")
        verdict = await self.judge(now)
        if verdict.outcome is Outcome.ORDERED:
            return Verdict(Outcome.REFUSED, now.state, f"a saga that is {now.state} takes no cancellation")
        return verdict


@dataclass(frozen=True, slots=True)
class RetryOrder:
    """Implements `Order`: take a parked saga up again, with new budgets."""

    signalling: Signalling
    given: OrderedBy

    @property
    def states(self) -> tuple[str, ...]:
        """Parked sagas."""
        return (SagaState.FAILED.value,)

    async def judge(self, saga: SagaRecord) -> Verdict:
        """See `Order.judge`."""
        if saga.state != SagaState.FAILED:
            outcome = Outcome.ENDED if saga.terminal else Outcome.ALREADY_ORDERED
            return Verdict(outcome, saga.state, f"it is {saga.state}, not parked")
        if "retry" not in resolutions(await self.signalling.folded(saga.id)):
            return Verdict(Outcome.REFUSED, saga.state, "it cannot be retried; look at it with baton parked")
        return Verdict(Outcome.ORDERED, saga.state)

    async def give(self, saga: SagaRecord) -> Verdict:
        """See `Order.give`. The leader heeds it; given twice, the second one hastens what waits, and no more."""
        now = await self.signalling.existing(saga.id)
        verdict = await self.judge(now)
        if verdict.outcome is Outcome.ORDERED:
            await self.signalling.tell(now.id, Signal(0, Verb.RETRY, order=self.given), left_s=0.0)
        return verdict


async def past_pivot(saga: SagaRecord, signalling: Signalling) -> str | None:
    """Why the saga takes no cancellation any more: it has come so far that it only goes forward. None if it does."""
    if saga.terminal or saga.state != SagaState.RUNNING:
        return None
    try:
        compiled = await signalling.compiled(saga.id)
    except (NotFound, Rejected):
        return None  # Nobody can drive it either: the leader parks it.
    if not compiled.definition.pivot:
        return None
    return cancel_refusal(await signalling.folded(saga.id)) or None
