"""What an event changes in a saga as a whole: it turns back, is parked, paused, resumed, or taken up again.

Pure: values only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from orchestrator.errors import CorruptLog
from orchestrator.saga.definition import Definition, Work
from orchestrator.saga.events import NOT_TO_BE_MADE, Event, Status
from orchestrator.saga.model import (
    NO_EPOCH,
    Cursor,
    Failure,
    Phase,
    Saga,
    SagaState,
    changed,
    outlasted,
    with_cursor,
)


def after(saga: Saga, event: Event, **changes: Any) -> Saga:
    """The saga behind `event`, with these changes."""
    return changed(saga, sequence=event.sequence, **changes)


def corrupt(event: Event, why: str) -> CorruptLog:
    """The error for a row that cannot follow what the saga has seen."""
    return CorruptLog(f"row {event.sequence} ({event.status}) of step {event.position} {why}")


def cancelled(saga: Saga, event: Event) -> Saga:
    if saga.state is SagaState.COMPENSATING:
        raise CorruptLog(f"row {event.sequence} cancels a saga that already compensates")
    if saga.sealed:
        raise CorruptLog(f"row {event.sequence} ({event.status}) turns back a saga that has come to its pivot")
    reason = event.message or "cancelled"
    if event.status is Status.UNDONE and saga.state is not SagaState.COMPLETED:
        raise CorruptLog(f"row {event.sequence} undoes a saga that has not completed")
    if event.status in (Status.CANCELLED, Status.UNDONE):
        return turn_back(changed(saga, cancel_reason=reason), event, Failure("", "CANCELLED", reason), also=())
    return turn_back(saga, event, Failure("", "DEADLINE_EXCEEDED", reason), also=())


def turn_back(saga: Saga, event: Event, failure: Failure, also: tuple[int, ...]) -> Saga:
    """Begin to undo what was executed, the steps in `also`, and what may yet turn out to have taken effect.

    A call that is under way under this very epoch is waited for. What was intended under an older one, tried before
    without a clear answer, or accepted, may have taken effect: it is undone.
    """
    under_way = tuple(c for c in saga.open if c.phase is Phase.INTENDED and c.intent_epoch == event.epoch)
    perhaps = tuple(c.position for c in saga.open if c not in under_way and saga.perhaps_done(c))
    stack = tuple(p for p in (*saga.executed, *also, *perhaps) if saga.definition.step(p).undoable)
    return after(
        saga, event, state=SagaState.COMPENSATING, open=under_way, failure=failure, to_compensate=stack, paused=False
    )


def parked(saga: Saga, event: Event) -> Saga:
    name = saga.definition.step(event.position).name if event.position else saga.current_step or ""
    failure = Failure(name, event.code or "PARKED", event.message or "")
    if saga.failure is not None and event.position == 0:
        failure = saga.failure
    return after(
        saga, event, state=SagaState.FAILED, failure=failure, parked_from=saga.state, open=_unmade(saga, event)
    )


def _unmade(saga: Saga, event: Event) -> tuple[Cursor, ...]:
    """The cursors behind a row that parks the saga: a call that could not be made has reached nobody."""
    here = saga.at(event.position)
    if here is None or here.phase is not Phase.INTENDED or event.code != NOT_TO_BE_MADE:
        return saga.open
    return with_cursor(saga, replace(here, intent_epoch=NO_EPOCH))


def redefined(saga: Saga, event: Event, versions: Mapping[int, Definition]) -> Saga:
    """The saga under the version that a move names."""
    told = event.result or {}
    if told.get("from") != saga.definition.version:
        raise corrupt(event, f"moves from version {told.get('from')} what is at version {saga.definition.version}")
    definition = versions.get(told.get("to", 0))
    if definition is None:
        raise corrupt(event, f"moves to version {told.get('to')}, which is not at hand")
    return changed(saga, definition=definition)


def paused(saga: Saga, event: Event) -> Saga:
    if saga.paused:
        raise CorruptLog(f"row {event.sequence} pauses a saga that is paused")
    return after(saga, event, paused=True)


def resumed(saga: Saga, event: Event) -> Saga:
    if not saga.paused:
        raise CorruptLog(f"row {event.sequence} resumes a saga that is not paused")
    return after(saga, event, paused=False)


def retried(saga: Saga, event: Event) -> Saga:
    """No step waits for its next attempt any longer; with a parked saga, every budget is new."""
    parked = saga.state is SagaState.FAILED
    saga = reopened(saga)
    fresh = tuple(_at_once(saga, cursor, parked) if _wants(cursor, event, parked) else cursor for cursor in saga.open)
    again = (*saga.to_compensate, *reversed(saga.uncompensated)) if parked else saga.to_compensate
    left = () if parked else saga.uncompensated
    return after(saga, event, open=fresh, to_compensate=again, uncompensated=left)


def _wants(cursor: Cursor, event: Event, parked: bool) -> bool:
    if event.position not in (0, cursor.position):
        return False
    return parked or cursor.phase is Phase.BACKOFF


def _at_once(saga: Saga, cursor: Cursor, parked: bool) -> Cursor:
    if saga.definition.step(cursor.position).work is Work.DELAY:
        return cursor  # Its time is its time.
    return replace(
        cursor,
        failures=0 if parked else cursor.failures,
        limit_at=None if parked or outlasted(cursor) else cursor.limit_at,
        doubtful=saga.perhaps_done(cursor),
        intent_epoch=NO_EPOCH,
        asking=False,
        phase=Phase.INTENDED,
        retry_at=None,
        paused=False,
    )


def reopened(saga: Saga) -> Saga:
    """A parked saga, back in the state in which it was parked; any other one as it is.

    What was under way when it was parked was given up unheard: it is intended again, and nobody can be sure of it. So
    is what a participant or a child was to answer: that may have been said to the parked saga, and is not said again.
    """
    if saga.state is not SagaState.FAILED:
        return saga
    again = tuple(_unheard(saga, cursor) for cursor in saga.open)
    return changed(saga, state=saga.parked_from or SagaState.COMPENSATING, parked_from=None, open=again)


def _unheard(saga: Saga, cursor: Cursor) -> Cursor:
    answered = saga.definition.step(cursor.position).work in (Work.CALL, Work.CHILD)
    if cursor.phase is Phase.BACKOFF or not (answered or cursor.phase is Phase.INTENDED):
        return cursor
    doubt = saga.perhaps_done(cursor)
    return replace(cursor, doubtful=doubt, intent_epoch=NO_EPOCH, phase=Phase.INTENDED, retry_at=None)


def failure_of(saga: Saga, event: Event) -> Failure:
    name = saga.definition.step(event.position).name
    return Failure(name, event.code or "UNKNOWN", event.message or "")
