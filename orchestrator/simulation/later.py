"""The model of the participants once more, for all that their barrier knows: actions that are accepted and answered
later (participants/answers.py), and questions for what has become of an action (participants/standing.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

from orchestrator.driving.port import Answer, Invocation
from orchestrator.saga.commands import Accepted, Refused, Succeeded, Unknown
from orchestrator.saga.model import Kind, SagaId
from orchestrator.simulation.participants import Effect, Rules, Shop

Place = tuple[SagaId, str]


@dataclass(frozen=True, slots=True)
class LaterRules(Rules):
    """One more part of the barrier: an open answer is withdrawn by its compensation."""

    withdraw: bool = True


class Stored(StrEnum):
    """What came of an answer that was given later."""

    STORED = "stored"
    ANSWERED = "answered"
    CANCELLED = "cancelled"


@dataclass(slots=True)
class LaterShop(Shop):
    """A shop whose actions may be accepted, and asked about.

    `accepted` are the open answers with the calls that were accepted; `asked` the actions that a question has found not
    done, with the highest attempt that asked: no attempt up to that one can do it any more.
    """

    rules: LaterRules = LaterRules()
    accepted: dict[Place, Invocation] = field(default_factory=dict)
    asked: dict[Place, int] = field(default_factory=dict)

    def call(self, invocation: Invocation, verdict: Answer, at_s: float) -> Answer:
        """As `take`, in one transaction; `verdict` may be Accepted, and the call may be a question."""
        if (stale := self._admit(invocation)) is not None:
            return stale
        place = (invocation.saga_id, invocation.step)
        if invocation.asks:
            return self._standing(place, invocation.attempt)
        if invocation.kind is Kind.ACTION:
            return self._act(place, invocation, verdict, at_s)
        self.asked.pop(place, None)
        if place in self.accepted and self.rules.withdraw:
            del self.accepted[place]
            self.tombstones.add(place)
        return self.take(invocation, _plain(verdict), at_s)

    def _act(self, place: Place, invocation: Invocation, verdict: Answer, at_s: float) -> Answer:
        if invocation.attempt <= self.asked.get(place, 0):
            words = "a question has found it not done, and keeps out the attempts so far"
            return Refused("FAILED_PRECONDITION", f"TOMBSTONE: {words}")
        self.asked.pop(place, None)
        key = (*place, Kind.ACTION)
        if place in self.accepted:
            if self.requests[key] == invocation.request:
                return Accepted()
            return Unknown(
                "DATA_LOSS", f"REQUEST_MISMATCH: {invocation.idempotency_key} was accepted with another request"
            )
        if isinstance(verdict, Accepted) and place not in self.tombstones and key not in self.answers:
            self.accepted[place], self.requests[key] = invocation, invocation.request
            return verdict
        return self.take(invocation, _plain(verdict), at_s)

    def _standing(self, place: Place, attempt: int) -> Answer:
        answer = self.answers.get((*place, Kind.ACTION))
        if place in self.accepted:
            return Accepted()
        if isinstance(answer, Succeeded) and (*place, Kind.COMPENSATION) in self.answers:
            return Refused("FAILED_PRECONDITION", "COMPENSATED: it took effect and was undone")
        if isinstance(answer, Succeeded):
            return answer
        if answer is None and place not in self.tombstones:
            self.asked[place] = max(attempt, self.asked.get(place, 0))
        return Refused("NOT_FOUND", "NOT_DONE: no attempt so far has done it, and none of them will")

    def finish(self, saga_id: SagaId, step: str, verdict: Succeeded | Refused, at_s: float) -> Stored:
        """Do what was accepted, and store its answer with it; or why nothing was done."""
        place = (saga_id, step)
        accepted = self.accepted.pop(place, None)
        if accepted is None:
            return Stored.CANCELLED if place in self.tombstones else Stored.ANSWERED
        key = (*place, Kind.ACTION)
        self.answers[key] = verdict
        if isinstance(verdict, Succeeded):
            self.effects.append(Effect(*key, accepted.epoch, at_s, accepted.service))
        return Stored.STORED


def _plain(verdict: Answer) -> Succeeded | Refused | Unknown:
    """The verdict on what cannot be accepted."""
    if isinstance(verdict, Succeeded | Refused | Unknown):
        return verdict
    return Succeeded({})


def with_epochs(rules: LaterRules, epochs: bool) -> LaterRules:
    """The same rules, with or without R6."""
    return replace(rules, epochs=epochs)
