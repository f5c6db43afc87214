"""What a saga is at one moment: the fold of its log.

    PENDING --> RUNNING --> COMPLETED
       |           |
       |           v
       +----> COMPENSATING --> COMPENSATED

    FAILED: parked from any of the live states. A person is needed, and what the person orders takes it back there.

Pure: values only. How they change stands in evolve.py; what happens next, in machine.py.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NewType
from uuid import UUID

from orchestrator.saga.definition import Definition, Work

SagaId = NewType("SagaId", UUID)
Epoch = NewType("Epoch", int)

# No leader has this epoch: an intent under it must be written again.
NO_EPOCH = Epoch(0)

# A JSON object, as Python has it.
Json = dict[str, Any]


class SagaState(StrEnum):
    """The state of a whole saga."""

    __hash__ = str.__hash__  # The same number as an enumeration's own, without a call of Python for each look.

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPENSATING = "COMPENSATING"
    COMPLETED = "COMPLETED"
    COMPENSATED = "COMPENSATED"
    FAILED = "FAILED"

    @property
    def terminal(self) -> bool:
        """Whether nothing will ever happen to the saga again by itself."""
        return self in _TERMINAL


_TERMINAL = frozenset({SagaState.COMPLETED, SagaState.COMPENSATED, SagaState.FAILED})


class Kind(StrEnum):
    """The two directions of a step."""

    ACTION = "action"
    COMPENSATION = "compensation"


class Phase(StrEnum):
    """How far a step that was begun has come."""

    INTENDED = "intended"  # The intent is written; the call may be under way.
    BACKOFF = "backoff"  # The next attempt is due at `retry_at`.
    WAITING = "waiting"  # Something else must happen: an answer, an approval, a time, the end of a child.


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a step, or a saga, did not succeed. `code` is a gRPC status by name, or a reason of Baton's own."""

    step: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Cursor:
    """A step that was begun and has not ended, in one of its two directions.

    `attempt` counts intents from 1; `failures` counts attempts whose failure was logged, which alone spend the
    retry budget: a failover repeats an attempt without spending it. `doubtful` says that some earlier attempt may have
    taken effect although nobody knows. `retry_at` is when the next attempt is due (BACKOFF), or when waiting is over
    (WAITING; None without a limit). `limit_at` bounds all attempts together. `asking` says that the present attempt
    asks the status method; `paused`, that the next one waits for the end of a pause (pausing.py).
    """

    position: int
    kind: Kind
    attempt: int
    failures: int
    intent_epoch: Epoch
    doubtful: bool
    retry_at: datetime | None
    phase: Phase = Phase.INTENDED
    limit_at: datetime | None = None
    asking: bool = False
    paused: bool = False
    # Whether an earlier attempt reached the participant, or may have; a refused one did, and took no effect.
    reached: bool = False


def reached(cursor: Cursor) -> bool:
    """Whether the participant may know of the step, so that another request under its key would be another's."""
    return cursor.reached or cursor.phase is Phase.WAITING or doubtful(cursor)


def doubtful(cursor: Cursor) -> bool:
    """Whether an attempt may have taken effect although nobody knows."""
    return cursor.doubtful or (cursor.phase is Phase.INTENDED and cursor.intent_epoch != NO_EPOCH)


def outlasted(cursor: Cursor) -> bool:
    """Whether an outage lasts longer than the time for all attempts, which it does not spend (backoff.py)."""
    return cursor.limit_at is not None and cursor.retry_at is not None and cursor.retry_at > cursor.limit_at


@dataclass(frozen=True, slots=True)
class Parent:
    """The saga that runs this one, and by which of its steps."""

    id: SagaId
    step: str


# Without slots, since a dict is copied at a sixth of what slots take; see `changed`.
@dataclass(frozen=True)
class Saga:
    """A saga as its log tells it. Positions count the definition's steps from 1.

    `open` are the steps under way. `to_compensate` holds what may have taken effect, in the order in which that
    became known. `results` holds each completed action's reply. `parked_from` is the state that a parked saga was in.
    """

    id: SagaId
    definition: Definition
    input: Json
    labels: dict[str, str]
    created_at: datetime
    state: SagaState = SagaState.PENDING
    sequence: int = 0
    open: tuple[Cursor, ...] = ()
    results: tuple[tuple[int, Json], ...] = ()
    executed: tuple[int, ...] = ()
    skipped: tuple[int, ...] = ()
    to_compensate: tuple[int, ...] = ()
    compensated: tuple[int, ...] = ()
    uncompensated: tuple[int, ...] = ()
    failure: Failure | None = None
    cancel_reason: str | None = None
    paused: bool = False
    parked_from: SagaState | None = None
    starts_at: datetime | None = None
    # The steps of whose compensations an earlier series of attempts reached the participant, or may have.
    undo_reached: tuple[int, ...] = ()
    parent: Parent | None = None

    @property
    def cursor(self) -> Cursor | None:
        """The step under way that was begun first."""
        return self.open[0] if self.open else None

    @property
    def current_step(self) -> str | None:
        """The name of the step that the saga is at: the first of those under way."""
        return self.definition.step(self.open[0].position).name if self.open else None

    @property
    def deadline(self) -> datetime | None:
        """When the saga turns back unless it has come past its pivot."""
        within_s = self.definition.within_s
        return None if within_s is None else (self.starts_at or self.created_at) + timedelta(seconds=within_s)

    @property
    def sealed(self) -> bool:
        """Whether the saga can no longer turn back by a wish or a deadline: its pivot may have taken effect.

        A pivot that was passed over seals it as well: what comes behind cannot be undone. One that has surely taken
        no effect does not: it was refused, it is held, or a person has not answered yet.
        """
        pivot = self.definition.pivot
        if pivot == 0:
            return False
        if pivot in self.executed or pivot in self.skipped:
            return True
        cursor = self.at(pivot)
        return cursor is not None and self.perhaps_done(cursor)

    def perhaps_done(self, cursor: Cursor) -> bool:
        """Whether a step under way may have taken effect, or may yet do so. Delays and approvals have none."""
        if self.definition.step(cursor.position).work in (Work.APPROVAL, Work.DELAY):
            return False
        return doubtful(cursor) or cursor.phase is Phase.WAITING

    def at(self, position: int) -> Cursor | None:
        """The cursor of the step at `position`, if it is under way."""
        for cursor in self.open:
            if cursor.position == position:
                return cursor
        return None


_FIELDS = frozenset(field.name for field in fields(Saga))


def changed(saga: Saga, **changes: Any) -> Saga:
    """The saga with these changes: `dataclasses.replace` for the one class that is copied with every event.

    Raises TypeError when a saga has no such field.
    """
    if not changes.keys() <= _FIELDS:
        raise TypeError(f"a saga has no {', '.join(sorted(changes.keys() - _FIELDS))}")
    after = object.__new__(Saga)
    content = after.__dict__
    content.update(saga.__dict__)
    content.update(changes)
    return after


def with_cursor(saga: Saga, cursor: Cursor) -> tuple[Cursor, ...]:
    """The cursors of `saga` with this one in its place, or behind all others."""
    if saga.at(cursor.position) is None:
        return (*saga.open, cursor)
    return tuple(cursor if other.position == cursor.position else other for other in saga.open)


def without_cursor(saga: Saga, position: int) -> tuple[Cursor, ...]:
    """The cursors of `saga` but for the one at `position`."""
    return tuple(cursor for cursor in saga.open if cursor.position != position)
