"""The rows of the model of the saga log."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from orchestrator.saga.events import Event
from orchestrator.saga.model import Epoch, Json, Parent, SagaId, SagaState
from orchestrator.saga.signals import Signal
from orchestrator.sagalog.port import StoredSaga

NO_EPOCH = Epoch(0)

# When the clock of the model says zero seconds.
MIDNIGHT = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Row:
    """A saga's row and its part of the step log."""

    id: SagaId
    definition: str
    version: int
    input: Json
    labels: dict[str, str]
    created_at: datetime
    state: SagaState = SagaState.PENDING
    epoch: Epoch = NO_EPOCH
    cancel_reason: str | None = None
    error: str | None = None
    # When there is something to do again; None when there is now, if the saga is live.
    wake_at: datetime | None = None
    starts_at: datetime | None = None
    result: Json | None = None
    parent: SagaId | None = None
    parent_step: str = ""
    events: list[Event] = field(default_factory=list)


@dataclass(slots=True)
class Posted:
    """A signal, and what became of it."""

    saga_id: SagaId
    signal: Signal
    heard: bool = False
    refusal: str = ""
    heard_at: datetime | None = None


def stored_row(row: Row) -> StoredSaga:
    """The row as a leader reads it."""
    events = tuple(row.events)
    last = events[-1].sequence if events else 0
    return StoredSaga(
        id=row.id,
        definition=row.definition,
        version=row.version,
        input=row.input,
        labels=row.labels,
        created_at=row.created_at,
        cancel_reason=row.cancel_reason,
        events=events,
        last_sequence=last,
        parked=row.state is SagaState.FAILED,
        state=row.state.value,
        starts_at=row.starts_at,
        parent=None if row.parent is None else Parent(row.parent, row.parent_step),
    )


def when(row: Row) -> datetime:
    """Until when a row sleeps."""
    return row.wake_at or MIDNIGHT
