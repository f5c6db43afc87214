"""Between the rows of the saga log and the values of the core. Rows stop here."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from orchestrator.saga.events import Event, Order, Status
from orchestrator.saga.model import Epoch, Json, Parent, Saga, SagaId, SagaState
from orchestrator.saga.pausing import Pause, PauseKind
from orchestrator.saga.progress import FOREVER, asking, set_aside, wake_at
from orchestrator.saga.signals import Signal, Verb
from orchestrator.sagalog.port import Heard, StoredPause, StoredSaga, StoredSignal

Row = tuple[Any, ...]
Transition = tuple[Saga, Sequence[Event], Sequence[Heard]]

# A message of an error is kept up to this length, so that no reply can bloat the log.
MESSAGE_CHARS_MAX = 2000

_STATES = frozenset(state.value for state in SagaState)
_STATUSES = {status.value: status for status in Status}
_VERBS = frozenset(verb.value for verb in Verb)


def append_parameters(transitions: Sequence[Transition]) -> dict[str, list[Any]]:
    """The arrays of the `append` statement: one entry an event, and one a saga. None holds a None."""
    rows = [_log_row(saga, event) for saga, events, _ in transitions for event in events]
    states = [_state_row(saga, events) for saga, events, _ in transitions]
    heard = [one for _, _, several in transitions for one in several]
    columns = {**_columns(_LOG_PARAMETERS, rows), **_columns(_STATE_PARAMETERS, states)}
    return {**columns, **heard_parameters(heard)}


def heard_parameters(heard: Sequence[Heard]) -> dict[str, list[Any]]:
    """The arrays of the `append` statement that say which signals were heard."""
    return _columns(("heard", "refusal"), [(one.signal_id, _printable(one.refusal)) for one in heard])


def _columns(names: Sequence[str], rows: Sequence[Row]) -> dict[str, list[Any]]:
    if not rows:
        return {name: [] for name in names}
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))


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
    "log_ordered",
)
_STATE_PARAMETERS = (
    "saga",
    "state",
    "step",
    "sequence",
    "result",
    "error",
    "next_run_at_s",
    "finished",
    "version",
    "asks",
    "set_aside",
)


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
        "" if event.order is None else _json(asdict(event.order)),
    )


def _state_row(saga: Saga, events: Sequence[Event]) -> Row:
    failure = saga.failure
    next_run_at_s = 0.0 if saga.state.terminal else _seconds(wake_at(saga))
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
        next_run_at_s,
        saga.state.terminal,
        saga.definition.version,
        _asks(saga, events),
        next_run_at_s != 0.0 and set_aside(saga),
    )


def _asks(saga: Saga, events: Sequence[Event]) -> int:
    """Whether the saga asks for an approval: 0, not at all; 1, as it did before; 2, from now on."""
    if not (positions := asking(saga)):
        return 0
    begun = {event.position for event in events if event.status is Status.WAITING}
    return 2 if begun.issuperset(positions) else 1


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
    saga_id, definition, version, input_, labels, created_at, cancel_reason, state, sequence, start_at = row[:10]
    parent, parent_step = row[10:12]
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
        state == SagaState.FAILED,
        state,
        start_at,
        None if parent is None else Parent(SagaId(parent), parent_step),
    )


def _event(row: Row) -> Event:
    _, sequence, position, status, attempt, result, code, message, retry_at, ordered, epoch = row
    order = None if ordered is None else _order(ordered)
    return Event(sequence, _STATUSES[status], Epoch(epoch), position, attempt, result, code, message, retry_at, order)


def stored_pause(row: Row) -> StoredPause:
    """A pause, from a row of the queries that read them."""
    number, kind, name, by, reason, since, heeded_at, resumed_by, resumed_reason, resumed_at, released_at = row
    pause = Pause(number, PauseKind(kind), name, by, reason, since)
    return StoredPause(pause, heeded_at, resumed_by or "", resumed_reason or "", resumed_at, released_at)


def stored_signal(row: Row) -> StoredSignal:
    """The signal of a row of the query `signals`."""
    signal_id, saga_id, verb, step, result, code, message, ordered = row
    order = None if ordered is None else _order(ordered)
    known = Verb(verb) if verb in _VERBS else None
    signal = None if known is None else Signal(signal_id, known, step, result, code, message, order)
    return StoredSignal(SagaId(saga_id), signal_id, signal)


def _order(value: Json) -> Order:
    return Order(*(str(value.get(name) or "") for name in ("by", "reason", "evidence")))


def _printable(message: str) -> str:
    """Bounded, and without the one character that Postgres cannot store."""
    return message.replace("\x00", "\ufffd")[:MESSAGE_CHARS_MAX]


def _seconds(moment: datetime | None) -> float:
    """Seconds since 1970, exact to the microsecond; 0 stands for no moment, infinity for one that never comes."""
    if moment is FOREVER:
        return math.inf
    return 0.0 if moment is None else moment.timestamp()


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
