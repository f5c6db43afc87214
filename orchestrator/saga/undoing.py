"""How compensations begin, and what the outcome of one means.

A compensation may not fail for business reasons: a refusal is tried again like anything else. One whose budget is
spent lets the others run, and then the saga is parked. Neither a deadline nor a cancellation reaches them.

Pure: rules over a script.
"""

from __future__ import annotations

from orchestrator.errors import InvariantError
from orchestrator.saga.acting import hold
from orchestrator.saga.backoff import COMPENSATION_RETRY, RetryPolicy
from orchestrator.saga.commands import Accepted, Held, Outcome, Ready, Refused, Succeeded, Unknown
from orchestrator.saga.events import NOT_TO_BE_MADE, Status
from orchestrator.saga.model import Cursor, Kind, SagaState
from orchestrator.saga.progress import undoable
from orchestrator.saga.script import Script


def decide(script: Script, cursor: Cursor, outcome: Outcome) -> None:
    """What follows from the outcome of a compensation."""
    match outcome:
        case Succeeded(result):
            script.add(Status.COMPENSATED, cursor, result=result)
        case Refused(code, message) | Unknown(code, message):
            policy, _ = _bounds(script, cursor.position)
            final = code in policy.final or code == NOT_TO_BE_MADE
            retry_at = None if final else script.next_attempt_at(cursor, policy)
            if retry_at is None:
                script.add(Status.COMPENSATION_FAILED, cursor, code=code, message=message)
            else:
                status = Status.COMPENSATION_RETRYING
                script.add(status, cursor, code=code, message=message, retry_at=retry_at)
        case Held(code, message):
            policy, _ = _bounds(script, cursor.position)
            if code in policy.final or (policy.within_s is None and script.over(cursor)):
                script.add(Status.COMPENSATION_FAILED, cursor, code=code, message=message)
            else:
                hold(script, cursor, Status.COMPENSATION_HELD, outcome, policy)
        case Accepted():
            script.add(Status.COMPENSATION_WAITING, cursor, retry_at=cursor.limit_at)
        case Ready():
            raise InvariantError("handled before")


def waited(script: Script, cursor: Cursor) -> None:
    """The time for which a compensation waited may have come."""
    if cursor.retry_at is not None and script.moment.now >= cursor.retry_at:
        script.add(Status.COMPENSATION_FAILED, cursor, code="DEADLINE_EXCEEDED", message="no answer in its time")


def intend(script: Script) -> None:
    """Write the intents of all compensations that may begin now, or begin again; park the saga if none is left."""
    if script.saga.state is not SagaState.COMPENSATING:
        return
    for cursor in script.saga.open:
        if cursor.kind is Kind.COMPENSATION and script.wants_intent(cursor):
            _intend_again(script, cursor)
    for position in undoable(script.saga):
        _, within_s = _bounds(script, position)
        script.add(Status.COMPENSATING, position=position, attempt=1, retry_at=script.limit(within_s))
    saga = script.saga
    if saga.state is SagaState.COMPENSATING and not (saga.open or saga.to_compensate):
        left = ", ".join(saga.definition.step(position).name for position in saga.uncompensated)
        script.add(Status.PARKED, code="PARKED", message=f"could not compensate: {left}")


def _intend_again(script: Script, cursor: Cursor) -> None:
    if script.over(cursor):
        message = "not done in its time"
        script.add(Status.COMPENSATION_FAILED, cursor, code="DEADLINE_EXCEEDED", message=message)
        return
    limit_at = script.limit_again(cursor, _bounds(script, cursor.position)[1])
    script.add(Status.COMPENSATING, position=cursor.position, attempt=cursor.attempt + 1, retry_at=limit_at)


def _bounds(script: Script, position: int) -> tuple[RetryPolicy, float | None]:
    """How persistently the step is undone. A child saga is undone as persistently as anything else."""
    compensation = script.saga.definition.step(position).compensation
    return (COMPENSATION_RETRY, None) if compensation is None else (compensation.retry, compensation.within_s)
