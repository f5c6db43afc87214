"""What a decision is written into: its events, and the saga evolved behind each of them.

Pure: values in, values out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from orchestrator.saga.backoff import RetryPolicy
from orchestrator.saga.definition import Definition
from orchestrator.saga.events import Event, Order, Status
from orchestrator.saga.evolve import evolve
from orchestrator.saga.model import Cursor, Epoch, Phase, Saga, outlasted
from orchestrator.saga.progress import turnable
from orchestrator.saga.secrets import known_secrets, scrubbed


@dataclass(frozen=True, slots=True)
class Moment:
    """What the pure core may not find out for itself. `chance` is uniform in [0, 1)."""

    epoch: Epoch
    now: datetime
    chance: float

    def after(self, seconds: float) -> datetime:
        """The time `seconds` from now."""
        return self.now + timedelta(seconds=seconds)


# The fields of an event that may quote something.
_SAYING = frozenset({"message", "order"})


class Script:
    """Collects events and keeps the saga evolved behind each, so that every rule sees the present state.

    `due` are the steps whose next attempt may begin now. Messages lose the secrets that they quote here, before they
    are written anywhere: so logs and histories can show them.
    """

    __slots__ = ("cancel_reason", "due", "events", "moment", "saga")

    def __init__(self, saga: Saga, moment: Moment, cancel_reason: str | None = None) -> None:
        self.saga = saga
        self.moment = moment
        self.cancel_reason = cancel_reason
        self.due: set[int] = set()
        self.events: list[Event] = []

    def add(self, status: Status, cursor: Cursor | None = None, **fields: object) -> None:
        """One more event; of the step and attempt of `cursor`, if it is given."""
        if cursor is not None:
            fields.setdefault("position", cursor.position)
            fields.setdefault("attempt", cursor.attempt)
        event = Event(self.saga.sequence + 1, status, self.moment.epoch, **self._discreet(fields))  # type: ignore[arg-type]
        self.saga = evolve(self.saga, event)
        self.events.append(event)

    def move(self, to: Definition, order: Order | None) -> None:
        """One more event: from here on the saga goes by another version of its definition."""
        told = {"from": self.saga.definition.version, "to": to.version}
        fields = self._discreet({"result": told, "order": order})
        event = Event(self.saga.sequence + 1, Status.MOVED, self.moment.epoch, **fields)  # type: ignore[arg-type]
        self.saga = evolve(self.saga, event, {to.version: to})
        self.events.append(event)

    def _discreet(self, fields: dict[str, object]) -> dict[str, object]:
        """The fields of an event, whose messages quote none of the saga's secrets."""
        if not (fields.keys() & _SAYING and self.saga.definition.has_secrets):
            return fields
        secrets, shown = known_secrets(self.saga), dict(fields)
        if isinstance(message := fields.get("message"), str):
            shown["message"] = scrubbed(message, secrets)
        if isinstance(order := fields.get("order"), Order):
            shown["order"] = Order(order.by, scrubbed(order.reason, secrets), scrubbed(order.evidence, secrets))
        return shown

    @property
    def early(self) -> bool:
        """Whether the saga is to begin at a time that has not come, also when it was parked before."""
        return self.saga.starts_at is not None and self.moment.now < self.saga.starts_at

    @property
    def turn_back_wanted(self) -> bool:
        """Whether somebody, or the deadline, wants the saga undone, and it can be."""
        if not turnable(self.saga):
            return False
        if self.cancel_reason is not None:
            return True
        # A paused saga is left as it is, by its deadline too; that is asked again when it is resumed.
        deadline = self.saga.deadline
        return deadline is not None and not self.saga.paused and self.moment.now >= deadline

    def wants_intent(self, cursor: Cursor) -> bool:
        """Whether the next attempt of a step under way may be intended now, or must be under this epoch."""
        if cursor.phase is Phase.INTENDED:
            return cursor.intent_epoch != self.moment.epoch
        return cursor.phase is Phase.BACKOFF and cursor.position in self.due

    def limit(self, within_s: float | None) -> datetime | None:
        """When something that begins now and may take `within_s` seconds must be over."""
        return None if within_s is None else self.moment.after(within_s)

    def next_attempt_at(self, cursor: Cursor, policy: RetryPolicy) -> datetime | None:
        """When to try again after one more failure; None when the attempts, or the time for them, are used up."""
        if policy.exhausted(cursor.failures + 1):
            return None
        retry_at = self.moment.after(policy.delay_s(cursor.failures + 1, self.moment.chance))
        if cursor.limit_at is not None and retry_at > cursor.limit_at:
            return None
        return retry_at

    def over(self, cursor: Cursor) -> bool:
        """Whether the time for all attempts of the step is used up."""
        if cursor.limit_at is None or outlasted(cursor):
            return False
        return self.moment.now >= cursor.limit_at

    def limit_again(self, cursor: Cursor, within_s: float | None) -> datetime | None:
        """When the next attempt, and all behind it, must be over: an outage that outlasted that time renews it."""
        return self.limit(within_s) if cursor.limit_at is None or outlasted(cursor) else cursor.limit_at
