"""Between the rows of the saga log and the values of the core. Rows stop here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from orchestrator.saga.events import Event, Status
from orchestrator.saga.model import Epoch, Json, Saga, SagaId, SagaState
from orchestrator.sagalog.port import StoredSaga

Row = tuple[Any, ...]
Transition = tuple[Saga, Sequence[Event]]

# A message of an error is kept up to this length, so that no reply can bloat the log.
MESSAGE_CHARS_MAX = 2000

_STATES = frozenset(state.value for state in SagaState)
_STATUSES = {status.value: status for status in Status}


def append_parameters(transitions: Sequence[Transition]) -> dict[str, list[Any]]:
    """The arrays of the `append` statement: one entry an event, and one a saga. None holds a None."""
    rows = [_log_row(saga, event) for saga, events in transitions for event in events]
    states = [_state_row(saga) for saga, _ in transitions]
    log_columns = [list(column) for column in zip(*rows, strict=True)]
    state_columns = [list(column) for column in zip(*states, strict=True)]
    return dict(zip(_LOG_PARAMETERS + _STATE_PARAMETERS, log_columns + state_columns, strict=True))


_LOG_PARAMETERS = (
    "log_saga",
    "log_sequence",
    "log_step",
    "log_position",
    "log_status",
    "log_attempt",
    "log_result",
    "log_code",
    "log_message",
    "log_retry_at_s",
)
_STATE_PARAMETERS = ("saga", "state", "step", "sequence", "result", "error", "next_run_at_s", "finished")


def _log_row(saga: Saga, event: Event) -> Row:
    return (
        saga.id,
        event.sequence,
        saga.definition.step(event.position).name if event.position else "",
        event.position,
        event.status.value,
        event.attempt,
        "" if event.result is None else _json(event.result),
        event.code or "",
        _printable(event.message or ""),
        _seconds(event.retry_at),
    )


def _state_row(saga: Saga) -> Row:
    cursor = saga.cursor
    failure = saga.failure
    error = ""
    if failure is not None:
        error = _json({"step": failure.step, "code": failure.code, "message": _printable(failure.message)})
    return (
        saga.id,
        saga.state.value,
        saga.current_step or "",
        saga.sequence,
        _json(outcome(saga)) if saga.state.terminal else "",
        error,
        _seconds(cursor.retry_at) if cursor is not None else 0.0,
        saga.state.terminal,
    )


def outcome(saga: Saga) -> Json:
    """The end record of a terminal saga: which steps ran, which were undone, and the last result."""
    last = saga.results[-1][1] if saga.state is SagaState.COMPLETED and saga.results else None
    return {"steps_executed": saga.executed, "steps_compensated": saga.compensated, "result": last}


def stored_sagas(sagas: Iterable[Row], events: Iterable[Row]) -> list[StoredSaga]:
    """Join the rows of sagas with the rows of their events, which come in the order of their sequences."""
    by_saga: defaultdict[UUID, list[Row]] = defaultdict(list)
    for row in events:
        by_saga[row[0]].append(row)
    return [_stored(row, by_saga.get(row[0], [])) for row in sagas]


def _stored(row: Row, event_rows: list[Row]) -> StoredSaga:
    saga_id, definition, version, input_, labels, created_at, cancel_reason, state, sequence = row
    last_sequence = event_rows[-1][1] if event_rows else 0
    events: list[Event] = []
    flaw: str | None = None
    if state not in _STATES:
        flaw = f"its state {state!r} is not known"
    elif sequence != last_sequence:
        # A pending saga comes without events: it has none.
        flaw = f"it is {state} and its row has come to sequence {sequence}, its log to {last_sequence}"
    if not isinstance(input_, dict) or not isinstance(labels, dict):
        flaw = "its input or labels are not JSON objects"
    for event_row in event_rows:
        if event_row[3] not in _STATUSES:
            flaw = f"row {event_row[1]} has the unknown status {event_row[3]!r}"
            break
        events.append(_event(event_row))
    return StoredSaga(
        SagaId(saga_id),
        definition,
        version,
        input_,
        labels,
        created_at,
        cancel_reason,
        tuple(events),
        max(last_sequence, sequence),
        flaw,
    )


def _event(row: Row) -> Event:
    _, sequence, position, status, attempt, result, code, message, retry_at, epoch = row
    return Event(sequence, _STATUSES[status], Epoch(epoch), position, attempt, result, code, message, retry_at)


def _printable(message: str) -> str:
    """Bounded, and without the one character that Postgres cannot store."""
    return message.replace("\x00", "\ufffd")[:MESSAGE_CHARS_MAX]


def _seconds(moment: datetime | None) -> float:
    """Seconds since 1970, exact to the microsecond; 0 stands for no moment."""
    return 0.0 if moment is None else moment.timestamp()


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
