"""A model of the participants: their ledgers, and the barrier of participants/barrier.py, in memory.

One contract suite holds it to what the barrier does on Postgres. `Rules` takes parts of the barrier out, so that a test
can show that its instrument notices.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from orchestrator.driving.port import Invocation
from orchestrator.saga.commands import Refused, Succeeded, Unknown
from orchestrator.saga.model import Epoch, Json, Kind, SagaId

Outcome = Succeeded | Refused | Unknown
Key = tuple[SagaId, str, Kind]

# What the service itself says, if the barrier lets the call through to it. Unknown: it failed, and nothing took effect.
Business = Callable[[Invocation], Outcome]


@dataclass(frozen=True, slots=True)
class Rules:
    """The parts of the barrier that are in force: R5 twice, and R6."""

    idempotency: bool = True
    tombstone: bool = True
    epochs: bool = True


@dataclass(frozen=True, slots=True)
class Effect:
    """An entry of a ledger: what took effect, at which address, under which epoch, and when (`at_s`, seconds)."""

    saga_id: SagaId
    step: str
    kind: Kind
    epoch: Epoch
    at_s: float
    service: str = ""

    @property
    def key(self) -> Key:
        """What no two entries may have in common."""
        return (self.saga_id, self.step, self.kind)


@dataclass(slots=True)
class Shop:
    """What all participants keep in their databases: it outlives every process of theirs."""

    rules: Rules = Rules()
    effects: list[Effect] = field(default_factory=list)
    tombstones: set[tuple[SagaId, str]] = field(default_factory=set)
    answers: dict[Key, Succeeded | Refused] = field(default_factory=dict)
    requests: dict[Key, Json] = field(default_factory=dict)
    epochs: dict[tuple[str, int], Epoch] = field(default_factory=dict)

    def fork(self) -> Shop:
        """A copy that goes its own way."""
        return Shop(
            self.rules,
            self.effects.copy(),
            self.tombstones.copy(),
            self.answers.copy(),
            self.requests.copy(),
            self.epochs.copy(),
        )

    def take(self, invocation: Invocation, verdict: Outcome, at_s: float) -> Outcome:
        """Take a call as the barrier does, all of it in one transaction, and answer it.

        `verdict` is what the service says where the barrier asks it; otherwise it counts for nothing.
        """
        if (stale := self._admit(invocation)) is not None:
            return stale
        key = (invocation.saga_id, invocation.step, invocation.kind)
        if invocation.kind is Kind.ACTION and key[:2] in self.tombstones:
            return _tombstoned(invocation)
        if self.rules.idempotency and (stored := self.answers.get(key)) is not None:
            return stored if self.requests[key] == invocation.request else _mismatch(invocation)
        if invocation.kind is Kind.COMPENSATION and not self._something_to_undo(invocation):
            self.requests.setdefault(key, invocation.request)
            return self.answers.setdefault(key, Succeeded({}))
        match verdict:
            case Succeeded():
                self.answers[key], self.requests[key] = verdict, invocation.request
                self.effects.append(Effect(*key, invocation.epoch, at_s, invocation.service))
            case Refused() if invocation.kind is Kind.ACTION:
                self.answers.setdefault(key, verdict)
                self.requests.setdefault(key, invocation.request)
            case Refused() | Unknown():
                # Nothing is stored: the next attempt runs again.
                pass
        return verdict

    def _admit(self, invocation: Invocation) -> Unknown | None:
        """Remember the highest epoch of each service; what a lower one gets is transient, not a decision."""
        if not self.rules.epochs:
            return None
        place = (invocation.service, invocation.shard)
        seen = self.epochs.get(place, invocation.epoch)
        if invocation.epoch < seen:
            words = f"stale epoch: the call carries {invocation.epoch}, but {seen} has been seen"
            return Unknown("ABORTED", f"STALE_EPOCH: {words} for shard {invocation.shard}: another replica leads")
        self.epochs[place] = invocation.epoch
        return None

    def _something_to_undo(self, invocation: Invocation) -> bool:
        """Whether the action took effect; leaves a tombstone where it was never seen."""
        action = self.answers.get((invocation.saga_id, invocation.step, Kind.ACTION))
        if action is None and self.rules.tombstone:
            self.tombstones.add((invocation.saga_id, invocation.step))
        return isinstance(action, Succeeded)


class ModelParticipants:
    """Implements `Participants` over a shop. A call arrives at once and is answered after `latency_s` seconds."""

    def __init__(self, shop: Shop, business: Business, clock_s: Callable[[], float], latency_s: float = 0.0) -> None:
        self._shop = shop
        self._business = business
        self._clock_s = clock_s
        self._latency_s = latency_s

    async def call(self, invocation: Invocation) -> Outcome:
        """See `Participants.call`."""
        outcome = self._shop.take(invocation, self._business(invocation), self._clock_s())
        await asyncio.sleep(self._latency_s)
        return outcome

    def warm(self, services: Iterable[str]) -> None:
        """See `Participants.warm`: there is nothing to connect to."""


def _tombstoned(invocation: Invocation) -> Refused:
    words = f"the compensation of {invocation.saga_id}/{invocation.step} came before its action, which must not happen"
    return Refused("FAILED_PRECONDITION", f"TOMBSTONE: {words}")


def _mismatch(invocation: Invocation) -> Unknown:
    words = f"{invocation.idempotency_key} was called before with another request: this one has had no effect"
    return Unknown("DATA_LOSS", f"REQUEST_MISMATCH: {words}")
