"""How actions begin, and what the outcome of one means.

Before the pivot an action that fails turns the saga back. The pivot itself must be clear: one that may or may not have
taken effect needs a person. Behind it a refusal is tried again like anything else, and what cannot be done is parked.

Pure: rules over a script.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from orchestrator.errors import InvariantError
from orchestrator.saga.backoff import RetryPolicy
from orchestrator.saga.commands import Accepted, Held, Outcome, Ready, Refused, Succeeded, Unknown
from orchestrator.saga.definition import OnUnknown, Step, Work
from orchestrator.saga.events import NOT_CALLED, NOT_TO_BE_MADE, PAUSED, Order, Status
from orchestrator.saga.mapping import PointsNowhere, holds, value_of
from orchestrator.saga.model import Cursor, Kind, SagaState, doubtful
from orchestrator.saga.progress import committed, context, may_begin, ready
from orchestrator.saga.script import Script

_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(9999, 1, 1, tzinfo=UTC)

# What a status method answers when the action took no effect and never will.
_ABSENT = "NOT_FOUND"


def decide(script: Script, cursor: Cursor, outcome: Outcome) -> None:
    """What follows from the outcome of an action, or of a question for it."""
    step = script.saga.definition.step(cursor.position)
    match outcome:
        case Succeeded(result):
            script.add(Status.COMPLETED, cursor, result=result)
        case Refused(code, message) if cursor.asking and code == _ABSENT:
            script.add(Status.ABSENT, cursor, code=code, message=message)
        case Refused(code, message) if cursor.asking:
            _again(script, cursor, step, Unknown(code, message))
        case Refused() | Unknown() if _final(script, step, outcome):
            _give_up(script, cursor, step, outcome)
        case Refused() | Unknown():
            _again(script, cursor, step, outcome)
        case Held():
            _held(script, cursor, step, outcome)
        case Accepted():
            _accepted(script, cursor, step)
        case Ready():
            raise InvariantError("handled before")


def waited(script: Script, cursor: Cursor) -> None:
    """The time for which a step waited may have come."""
    if cursor.retry_at is None or script.moment.now < cursor.retry_at:
        return
    step = script.saga.definition.step(cursor.position)
    match step.work:
        case Work.DELAY:
            script.add(Status.COMPLETED, cursor, result={})
        case Work.APPROVAL:
            _give_up(script, cursor, step, Refused("DEADLINE_EXCEEDED", f"nobody has answered for {step.within_s:g} s"))
        case Work.CALL if not script.over(cursor):
            _again(script, cursor, step, Unknown("HEARTBEAT_LOST", f"not heard of for {step.heartbeat_s} s"))
        case Work.CALL | Work.CHILD:
            _give_up(script, cursor, step, Unknown("DEADLINE_EXCEEDED", f"no answer within {step.within_s} s"))


def rejected(script: Script, cursor: Cursor, reason: str, order: Order | None) -> None:
    """A person has said no: as if a participant had."""
    step = script.saga.definition.step(cursor.position)
    _give_up(script, cursor, step, Refused("REJECTED", reason), order)


def intend(script: Script) -> None:
    """Write the intents of all actions that may begin now, or begin again."""
    for cursor in script.saga.open:
        wanted = cursor.kind is Kind.ACTION and script.wants_intent(cursor)
        # What became of an earlier one may have turned the saga back, which gave this one up, or parked it.
        if wanted and not script.saga.state.terminal and script.saga.at(cursor.position) == cursor:
            _intend_again(script, cursor)
    while not script.saga.paused and (positions := ready(script.saga)):
        before = len(script.saga.skipped)
        for position in positions:
            # What an earlier one of them led to may have turned the saga back.
            if may_begin(script.saga, position):
                _begin(script, position)
        if len(script.saga.skipped) == before:
            return


def _intend_again(script: Script, cursor: Cursor) -> None:
    saga = script.saga
    step = saga.definition.step(cursor.position)
    if saga.state is SagaState.COMPENSATING:
        _abandon(script, cursor)
    elif script.over(cursor):
        # Without any doubt it was never done: refused, or its participant was not to be reached.
        verdict = Unknown if doubtful(cursor) else Refused
        _give_up(script, cursor, step, verdict("DEADLINE_EXCEEDED", f"not done within {step.within_s} s"))
    elif step.work is Work.APPROVAL:
        script.add(Status.WAITING, cursor, retry_at=script.limit(step.within_s))
    else:
        asks = step.on_unknown is OnUnknown.QUERY and step.status is not None and doubtful(cursor)
        status = Status.QUERYING if asks else Status.EXECUTING
        limit_at = script.limit_again(cursor, step.within_s)
        script.add(status, position=cursor.position, attempt=cursor.attempt + 1, retry_at=limit_at)


def _abandon(script: Script, cursor: Cursor) -> None:
    """The saga turns back, and nobody waits for what comes of an action any longer."""
    if doubtful(cursor):
        message = "the saga turns back; nobody heard what came of it"
        script.add(Status.UNKNOWN, cursor, code="ABANDONED", message=message)
    else:
        script.add(Status.FAILED, cursor, code="ABANDONED", message="the saga turns back, and it was never done")


def _begin(script: Script, position: int) -> None:
    step = script.saga.definition.step(position)
    try:
        if step.when is not None and not holds(step.when, context(script.saga)):
            script.add(Status.SKIPPED, position=position)
            return
        waits_until = _waits_until(script, step)
    except (PointsNowhere, ValueError) as error:
        _cannot_begin(script, position, str(error))
        return
    waits = step.work in (Work.DELAY, Work.APPROVAL)
    script.add(Status.WAITING if waits else Status.EXECUTING, position=position, attempt=1, retry_at=waits_until)


def _cannot_begin(script: Script, position: int, message: str) -> None:
    """Its condition, or the time that it waits for, cannot be found out: as if a participant had refused it."""
    status = Status.PARKED if committed(script.saga) else Status.FAILED
    script.add(status, position=position, code=NOT_TO_BE_MADE, message=message)


def _waits_until(script: Script, step: Step) -> datetime | None:
    """The time that a delay ends, or by which all of the step must be over. Raises PointsNowhere, ValueError."""
    delay = step.delay
    if delay is None:
        return script.limit(step.within_s)
    if delay.until is None:
        return script.limit(delay.seconds)
    try:
        return date(value_of(delay.until, context(script.saga)))
    except ValueError:
        # Not the value itself: it may be a secret.
        raise ValueError(f"{delay.until.field} gives no time such as 2026-01-31T12:00:00Z") from None


def date(value: Any) -> datetime:
    """The time that a value spells (RFC 3339), in UTC unless it says otherwise. Raises ValueError.

    Every database can tell it: what is before 1970 is as good as 1970, and beyond the year 9998 nothing is a time.
    """
    moment = datetime.fromisoformat(str(value))
    try:
        moment = moment.astimezone(UTC) if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    except OverflowError:
        moment = moment.replace(tzinfo=UTC)
    if moment > _LATEST:
        raise ValueError("is beyond the year 9998")
    return max(moment, _EARLIEST)


def _again(script: Script, cursor: Cursor, step: Step, outcome: Refused | Unknown) -> None:
    retry_at = script.next_attempt_at(cursor, step.retry)
    if retry_at is None or script.turn_back_wanted or script.saga.state is SagaState.COMPENSATING:
        _give_up(script, cursor, step, outcome)
        return
    status = Status.REFUSED if isinstance(outcome, Refused) else Status.RETRYING
    script.add(status, cursor, code=outcome.code, message=outcome.message, retry_at=retry_at)


def _final(script: Script, step: Step, outcome: Refused | Unknown) -> bool:
    """Whether an outcome is not tried again, whatever budget is left."""
    # What a request is made of does not change by itself.
    if outcome.code in step.retry.final or outcome.code == NOT_TO_BE_MADE:
        return True
    if isinstance(outcome, Refused):
        return outcome.code not in step.retry.transient and not committed(script.saga)
    return step.on_unknown is OnUnknown.COMPENSATE and not _forward(script, step)


def _forward(script: Script, step: Step) -> bool:
    """Whether a step may not be undone: it is the pivot, or comes behind it."""
    return step.pivot or committed(script.saga)


def _give_up(
    script: Script, cursor: Cursor, step: Step, outcome: Refused | Unknown, order: Order | None = None
) -> None:
    """The action is not tried again."""
    refused = isinstance(outcome, Refused)
    clear = step.pivot and refused and not cursor.doubtful
    if _forward(script, step) and not clear and script.saga.state is SagaState.RUNNING:
        why = (
            "was refused after an attempt that may have taken effect" if refused else "may or may not have taken effect"
        )
        message = f"step {step.name} {why}: {outcome.message}" if step.pivot else f"step {step.name}: {outcome.message}"
        script.add(Status.PARKED, cursor, code=outcome.code, message=message, order=order)
        return
    status = Status.FAILED if refused else Status.UNKNOWN
    script.add(status, cursor, code=outcome.code, message=outcome.message, order=order)


def _held(script: Script, cursor: Cursor, step: Step, outcome: Held) -> None:
    over = step.retry.within_s is None and script.over(cursor)
    over = over or script.turn_back_wanted or script.saga.state is SagaState.COMPENSATING
    if over or (outcome.called and _final(script, step, Unknown(outcome.code, outcome.message))):
        verdict = Unknown if outcome.called else Refused
        _give_up(script, cursor, step, verdict(outcome.code, outcome.message))
        return
    hold(script, cursor, Status.HELD, outcome, step.retry)


def hold(script: Script, cursor: Cursor, status: Status, outcome: Held, policy: RetryPolicy) -> None:
    """Wait until the participant is back, no longer than the step may take; nothing of its retry policy is spent."""
    retry_at = script.moment.after(outcome.wait_s)
    if cursor.limit_at is not None and policy.within_s is None:
        retry_at = min(retry_at, cursor.limit_at)
    code = outcome.code if outcome.called or outcome.code == PAUSED else NOT_CALLED
    script.add(status, cursor, code=code, message=outcome.message, retry_at=retry_at)


def _accepted(script: Script, cursor: Cursor, step: Step) -> None:
    if script.saga.state is SagaState.COMPENSATING:
        # Nobody waits for an answer that must be undone anyway; what was accepted may take effect.
        script.add(Status.UNKNOWN, cursor, code="ABANDONED", message="it was accepted, and the saga turns back")
        return
    times = [time for time in (cursor.limit_at, script.limit(step.heartbeat_s)) if time is not None]
    script.add(Status.WAITING, cursor, retry_at=min(times, default=None))
