"""What an event changes: the fold that makes a saga of its log.

The state is a fold of `evolve` over the log and nothing else, so a new leader knows what the old one knew (R8). An
event that cannot follow what the saga has seen is a corrupt log, never a guess.

Pure: values only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from orchestrator.errors import CorruptLog
from orchestrator.saga import whole
from orchestrator.saga.definition import Definition
from orchestrator.saga.events import NOT_TO_BE_MADE, PAUSED, UNREACHED, Event, Status
from orchestrator.saga.model import (
    NO_EPOCH,
    Cursor,
    Kind,
    Phase,
    Saga,
    SagaState,
    changed,
    doubtful,
    with_cursor,
    without_cursor,
)
from orchestrator.saga.progress import may_begin, undoable
from orchestrator.saga.transitions import TRANSITIONS

# What may follow when a saga is parked.
_REOPENING = frozenset({Status.RETRIED, Status.SKIPPED, Status.RESOLVED, Status.FORCED})

# What a parked saga still hears, so that an answer is not lost: it stays parked.
_HEARD_PARKED = frozenset({Status.COMPLETED, Status.MOVED})

# The versions of a definition by their numbers; for a saga that was never moved, none is needed.
Versions = Mapping[int, Definition]

_NONE: Versions = MappingProxyType({})


def evolve(saga: Saga, event: Event, versions: Versions = _NONE) -> Saga:
    """The saga after `event`; a move goes to one of `versions`.

    Raises CorruptLog when the event cannot follow what the saga has seen.
    """
    if event.sequence != saga.sequence + 1:
        raise CorruptLog(f"row {event.sequence} follows row {saga.sequence}")
    if saga.state.terminal and not _follows_the_end(saga.state, event.status):
        raise CorruptLog(f"row {event.sequence} ({event.status}) follows the end of a {saga.state} saga")
    if event.status is Status.MOVED:
        saga = whole.redefined(saga, event, versions)
    if event.position > len(saga.definition.steps):
        raise CorruptLog(f"row {event.sequence} names step {event.position} of {len(saga.definition.steps)}")
    after = _settled(_EVOLVE[event.status](saga, event))
    if (saga.state, event.status, after.state) not in TRANSITIONS:
        raise CorruptLog(f"row {event.sequence} ({event.status}) leads from {saga.state} to {after.state}")
    return after


def _follows_the_end(state: SagaState, status: Status) -> bool:
    """Whether such a row may follow when a saga has ended: a parked one is taken up, a completed child is undone."""
    if state is SagaState.FAILED:
        return status in _REOPENING | _HEARD_PARKED
    return state is SagaState.COMPLETED and status is Status.UNDONE


def fold(saga: Saga, events: Iterable[Event], versions: Versions = _NONE) -> Saga:
    """The saga after all of `events`, each folded under the version that was in force. Raises as `evolve` does."""
    for event in events:
        saga = evolve(saga, event, versions)
    return saga


def _settled(saga: Saga) -> Saga:
    """The saga, ended if there is nothing left to do for it."""
    if saga.state is SagaState.RUNNING:
        if len(saga.executed) + len(saga.skipped) == len(saga.definition.steps):
            return changed(saga, state=SagaState.COMPLETED)
    elif saga.state is SagaState.COMPENSATING and not (saga.open or saga.to_compensate or saga.uncompensated):
        return changed(saga, state=SagaState.COMPENSATED)
    return saga


# Intents.


def _executing(saga: Saga, event: Event) -> Saga:
    return whole.after(saga, event, state=SagaState.RUNNING, open=_intended(saga, event, asking=False))


def _querying(saga: Saga, event: Event) -> Saga:
    if saga.at(event.position) is None:
        raise whole.corrupt(event, "asks for an action that was never begun")
    return whole.after(saga, event, open=_intended(saga, event, asking=True))


def _intended(saga: Saga, event: Event, *, asking: bool) -> tuple[Cursor, ...]:
    """The cursors after an intent to act; checks that it may follow what the saga has seen."""
    if saga.state not in (SagaState.PENDING, SagaState.RUNNING):
        raise CorruptLog(f"row {event.sequence} ({event.status}) in a {saga.state} saga")
    here = saga.at(event.position)
    if here is None:
        if not may_begin(saga, event.position):
            raise whole.corrupt(event, f"whose turn it is not after {len(saga.executed)} steps")
        limit_at = event.retry_at
        cursor = Cursor(event.position, Kind.ACTION, event.attempt, 0, event.epoch, False, None, limit_at=limit_at)
        return (*saga.open, cursor)
    return with_cursor(saga, _again(here, event, asking=asking))


def _again(cursor: Cursor, event: Event, *, asking: bool = False) -> Cursor:
    """The cursor after one more intent: whatever an attempt without an outcome did, nobody can be sure of it now."""
    return replace(
        cursor,
        attempt=event.attempt,
        intent_epoch=event.epoch,
        doubtful=doubtful(cursor),
        retry_at=None,
        phase=Phase.INTENDED,
        limit_at=event.retry_at,
        asking=asking,
        paused=False,
    )


def _compensating(saga: Saga, event: Event) -> Saga:
    here = saga.at(event.position)
    if here is not None and here.kind is Kind.COMPENSATION:
        return whole.after(saga, event, open=with_cursor(saga, _again(here, event)))
    if event.position not in undoable(saga):
        raise whole.corrupt(event, "compensates a step whose turn it is not")
    cursor = Cursor(
        event.position,
        Kind.COMPENSATION,
        event.attempt,
        0,
        event.epoch,
        False,
        None,
        limit_at=event.retry_at,
        reached=event.position in saga.undo_reached,
    )
    return whole.after(saga, event, open=(*saga.open, cursor))


# Outcomes.


def _expect(saga: Saga, event: Event, kind: Kind) -> Cursor:
    """The cursor that an outcome belongs to; raises CorruptLog when there is no intent of it."""
    cursor = saga.at(event.position)
    if cursor is None or cursor.kind is not kind:
        raise whole.corrupt(event, "has no intent before it")
    return cursor


def _retrying(saga: Saga, event: Event) -> Saga:
    cursor = _expect(saga, event, _KINDS.get(event.status, Kind.ACTION))
    if event.retry_at is None:
        raise whole.corrupt(event, "does not say when to try again")
    spent = event.status not in (Status.HELD, Status.COMPENSATION_HELD)
    sure = event.status is Status.REFUSED or event.code in UNREACHED
    waiting = replace(
        cursor,
        failures=cursor.failures + spent,
        doubtful=cursor.doubtful or not sure,
        reached=cursor.reached or event.code not in UNREACHED,
        retry_at=event.retry_at,
        phase=Phase.BACKOFF,
        paused=event.code == PAUSED and not spent,
    )
    return whole.after(saga, event, open=with_cursor(saga, waiting))


def _absent(saga: Saga, event: Event) -> Saga:
    cursor = _expect(saga, event, Kind.ACTION)
    if not cursor.asking:
        raise whole.corrupt(event, "answers a question that nobody asked")
    sure = replace(
        cursor,
        doubtful=False,
        asking=False,
        intent_epoch=NO_EPOCH,
        phase=Phase.INTENDED,
        retry_at=None,
        reached=True,
    )
    return whole.after(saga, event, open=with_cursor(saga, sure))


def _waiting(saga: Saga, event: Event) -> Saga:
    here = saga.at(event.position)
    kind = _KINDS.get(event.status, Kind.ACTION)
    if here is None:
        if kind is Kind.COMPENSATION or not may_begin(saga, event.position):
            raise whole.corrupt(event, "waits for a step whose turn it is not")
        here = Cursor(event.position, kind, event.attempt, 0, event.epoch, False, None, limit_at=event.retry_at)
        saga = changed(saga, state=SagaState.RUNNING)
    elif here.kind is not kind:
        raise whole.corrupt(event, "has no intent before it")
    waiting = replace(here, retry_at=event.retry_at, phase=Phase.WAITING, paused=False)
    return whole.after(saga, event, open=with_cursor(saga, waiting))


def _skipped(saga: Saga, event: Event) -> Saga:
    here = saga.at(event.position)
    saga = whole.reopened(saga)
    if saga.state not in (SagaState.PENDING, SagaState.RUNNING):
        raise CorruptLog(f"row {event.sequence} skips a step of a {saga.state} saga")
    if (here is None or here.kind is not Kind.ACTION) and not may_begin(saga, event.position):
        raise whole.corrupt(event, "whose turn it is not")
    skipped = (*saga.skipped, event.position)
    return whole.after(saga, event, state=SagaState.RUNNING, skipped=skipped, open=without_cursor(saga, event.position))


def _completed(saga: Saga, event: Event) -> Saga:
    if event.status is Status.FORCED:
        saga = whole.reopened(saga)
        if saga.at(event.position) is None and not may_begin(saga, event.position):
            raise whole.corrupt(event, "whose turn it is not")
    else:
        _expect(saga, event, Kind.ACTION)
    changes: dict[str, Any] = {
        "open": without_cursor(saga, event.position),
        "executed": (*saga.executed, event.position),
        "results": (*saga.results, (event.position, event.result or {})),
    }
    if SagaState.COMPENSATING in (saga.state, saga.parked_from):
        changes["to_compensate"] = _to_undo(saga, event.position)
    elif saga.state is not SagaState.FAILED:
        changes["state"] = SagaState.RUNNING
    return whole.after(saga, event, **changes)


def _failed(saga: Saga, event: Event) -> Saga:
    cursor = saga.at(event.position)
    if cursor is None and not (event.code == NOT_TO_BE_MADE and may_begin(saga, event.position)):
        raise whole.corrupt(event, "has no intent before it")
    # Refused now, but an earlier attempt may have taken effect without anybody knowing: undo that one as well.
    return _not_done(saga, event, perhaps=cursor is not None and cursor.doubtful)


def _unknown(saga: Saga, event: Event) -> Saga:
    _expect(saga, event, Kind.ACTION)
    return _not_done(saga, event, perhaps=True)


def _not_done(saga: Saga, event: Event, *, perhaps: bool) -> Saga:
    """An action has ended without success; `perhaps` it has taken effect all the same."""
    saga = changed(saga, open=without_cursor(saga, event.position))
    if saga.state is SagaState.COMPENSATING:
        return whole.after(saga, event, to_compensate=_to_undo(saga, event.position) if perhaps else saga.to_compensate)
    return whole.turn_back(saga, event, whole.failure_of(saga, event), also=(event.position,) if perhaps else ())


def _to_undo(saga: Saga, position: int) -> tuple[int, ...]:
    undo = saga.definition.step(position).undoable
    return (*saga.to_compensate, position) if undo else saga.to_compensate


def _compensated(saga: Saga, event: Event) -> Saga:
    if event.status is Status.RESOLVED:
        saga = whole.reopened(saga)
        if event.position not in (*saga.to_compensate, *saga.uncompensated):
            raise whole.corrupt(event, "has nothing to compensate")
    else:
        _expect(saga, event, Kind.COMPENSATION)
    return whole.after(
        saga,
        event,
        open=without_cursor(saga, event.position),
        to_compensate=_less(saga.to_compensate, event.position),
        uncompensated=_less(saga.uncompensated, event.position),
        compensated=(*saga.compensated, event.position),
    )


def _compensation_failed(saga: Saga, event: Event) -> Saga:
    cursor = _expect(saga, event, Kind.COMPENSATION)
    never = not (cursor.reached or cursor.doubtful) and event.code in UNREACHED
    known = never or event.position in saga.undo_reached
    return whole.after(
        saga,
        event,
        open=without_cursor(saga, event.position),
        to_compensate=_less(saga.to_compensate, event.position),
        uncompensated=(*saga.uncompensated, event.position),
        failure=whole.failure_of(saga, event),
        undo_reached=saga.undo_reached if known else (*saga.undo_reached, event.position),
    )


def _less(positions: tuple[int, ...], position: int) -> tuple[int, ...]:
    return tuple(other for other in positions if other != position)


_KINDS = {
    Status.COMPENSATION_RETRYING: Kind.COMPENSATION,
    Status.COMPENSATION_HELD: Kind.COMPENSATION,
    Status.COMPENSATION_WAITING: Kind.COMPENSATION,
}

_EVOLVE = {
    Status.EXECUTING: _executing,
    Status.QUERYING: _querying,
    Status.ABSENT: _absent,
    Status.RETRYING: _retrying,
    Status.REFUSED: _retrying,
    Status.HELD: _retrying,
    Status.WAITING: _waiting,
    Status.SKIPPED: _skipped,
    Status.COMPLETED: _completed,
    Status.FAILED: _failed,
    Status.UNKNOWN: _unknown,
    Status.COMPENSATING: _compensating,
    Status.COMPENSATION_RETRYING: _retrying,
    Status.COMPENSATION_HELD: _retrying,
    Status.COMPENSATION_WAITING: _waiting,
    Status.COMPENSATED: _compensated,
    Status.COMPENSATION_FAILED: _compensation_failed,
    Status.CANCELLED: whole.cancelled,
    Status.EXPIRED: whole.cancelled,
    Status.UNDONE: whole.cancelled,
    Status.PARKED: whole.parked,
    Status.PAUSED: whole.paused,
    Status.RESUMED: whole.resumed,
    Status.RETRIED: whole.retried,
    Status.RESOLVED: _compensated,
    Status.FORCED: _completed,
    Status.MOVED: whole.after,
}
