"""The participants with all that a definition may ask of them: to answer later, and to say what became of a call.

As participants/barrier.py, answers.py and standing.py do on Postgres: each call is one transaction.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.driving.port import Invocation
from orchestrator.saga.commands import Accepted, Refused, Succeeded
from orchestrator.saga.model import Kind, SagaId
from orchestrator.simulation.participants import Effect, Outcome, Shop

Place = tuple[SagaId, str]

# What the caller hears, accepted or not.
Heard = Outcome | Accepted


@dataclass(slots=True)
class AnsweringShop(Shop):
    """A shop whose services may accept.

    `accepted` are actions without an answer yet, by the call that was accepted last; `outbox` the answers that were
    stored later and are to be told, None for done; `asked` the highest attempt that a question has kept out.
    """

    accepted: dict[Place, Invocation] = field(default_factory=dict)
    outbox: dict[Place, Refused | None] = field(default_factory=dict)
    asked: dict[Place, int] = field(default_factory=dict)

    def fork(self) -> AnsweringShop:
        """A copy that goes its own way."""
        plain = Shop.fork(self)
        return AnsweringShop(
            plain.rules,
            plain.effects,
            plain.tombstones,
            plain.answers,
            plain.requests,
            plain.epochs,
            self.accepted.copy(),
            self.outbox.copy(),
            self.asked.copy(),
        )

    def receive(self, invocation: Invocation, verdict: Outcome, at_s: float, *, accepts: bool = False) -> Heard:
        """Take a call or a question; `accepts` says that the service answers later if the barrier lets it through."""
        if (stale := self._admit(invocation)) is not None:
            return stale
        place = (invocation.saga_id, invocation.step)
        if invocation.asks:
            return self._standing(invocation, place)
        if invocation.kind is Kind.COMPENSATION:
            self._withdraw(place)
            return self.take(invocation, verdict, at_s)
        if place in self.asked:
            if invocation.attempt <= self.asked[place]:
                return Refused(
                    "FAILED_PRECONDITION", "NOT_DONE: a later attempt has asked, and was told that it is not"
                )
            del self.asked[place]
        open_yet = place not in self.tombstones and (*place, Kind.ACTION) not in self.answers
        if open_yet and (accepts or place in self.accepted):
            self.accepted[place] = invocation
            return Accepted()
        return self.take(invocation, verdict, at_s)

    def finish(self, place: Place, at_s: float) -> None:
        """Do what was accepted, store the answer and the note that it is to be told: one transaction."""
        call = self.accepted.pop(place, None)
        if call is None:
            return
        key = (*place, Kind.ACTION)
        self.answers[key], self.requests[key] = Succeeded({"key": f"key of {call.step}"}), call.request
        self.effects.append(Effect(*key, call.epoch, at_s, call.service))
        self.outbox[place] = None

    def decline(self, place: Place) -> None:
        """Refuse what was accepted."""
        call = self.accepted.pop(place, None)
        if call is None:
            return
        refusal = Refused("FAILED_PRECONDITION", "no, after all")
        key = (*place, Kind.ACTION)
        self.answers[key], self.requests[key] = refusal, call.request
        self.outbox[place] = refusal

    def _withdraw(self, place: Place) -> None:
        """A compensation ends what is open: what was accepted, and what a question has kept out, never happens."""
        if not self.rules.tombstone:
            return
        if self.accepted.pop(place, None) is not None or self.asked.pop(place, None) is not None:
            self.tombstones.add(place)

    def _standing(self, invocation: Invocation, place: Place) -> Heard:
        """What became of the action: not done is a promise for every attempt up to this one."""
        if place in self.accepted:
            return Accepted()
        answer = self.answers.get((*place, Kind.ACTION))
        if isinstance(answer, Succeeded):
            undone = (*place, Kind.COMPENSATION) in self.answers
            return Refused("FAILED_PRECONDITION", "it took effect and was undone") if undone else answer
        if answer is None and place not in self.tombstones:
            self.asked[place] = max(self.asked.get(place, 0), invocation.attempt)
        return Refused("NOT_FOUND", "NOT_DONE: no attempt so far will do it")
