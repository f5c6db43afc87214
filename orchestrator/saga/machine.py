"""The state machine of a saga: what to do next, what an outcome means, and what an event changes.

    next_command(saga, epoch)   what the saga asks for
    decide(saga, outcome, ...)  the events that an outcome gives, the next intent among them, and the saga after them
    evolve(saga, event)         the saga after an event

`decide` writes what is done and the intent of what comes next together, so that a step costs one write (R4). The
state is a fold of `evolve` over the log and nothing else, so a new leader knows what the old one knew (R8).

Pure: no clock, no randomness, no I/O. The time and chance come in as arguments.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from orchestrator.errors import CorruptLog, InvariantError
from orchestrator.saga.backoff import RetryPolicy
from orchestrator.saga.commands import Call, Command, Intend, Outcome, Ready, Refused, Succeeded, Unknown, Wait
from orchestrator.saga.events import Event, Status
from orchestrator.saga.model import Cursor, Epoch, Failure, Kind, Saga, SagaState


@dataclass(frozen=True, slots=True)
class Moment:
    """What the pure core may not find out for itself. `chance` is uniform in [0, 1)."""

    epoch: Epoch
    now: datetime
    chance: float


def next_command(saga: Saga, epoch: Epoch) -> Command | None:
    """What the saga asks for under `epoch`; None when it is terminal.

    An intent of an older epoch is written again before the call: so every call of an epoch has an intent of that
    epoch, and a leader that was overtaken finds out before it calls, not after.
    """
    if saga.state.terminal:
        return None
    cursor = saga.cursor
    if cursor is None:
        return Intend()
    if cursor.retry_at is not None:
        return Wait(cursor.retry_at)
    if cursor.intent_epoch != epoch:
        return Intend()
    return Call(cursor.position, cursor.kind, cursor.attempt)


def decide(
    saga: Saga, outcome: Outcome, moment: Moment, cancel_reason: str | None = None
) -> tuple[Saga, tuple[Event, ...]]:
    """The events that follow from `outcome` of the command that `next_command` gave, and the saga after them.

    `cancel_reason` is given once somebody has asked that the saga be undone. Raises InvariantError when the saga
    is terminal, or when the outcome cannot belong to its state.
    """
    if saga.state.terminal:
        raise InvariantError(f"saga {saga.id} is {saga.state}; nothing can come of it any more")
    script = _Script(saga, moment)
    if isinstance(outcome, Ready) or saga.cursor is None:
        _decide_ready(script, outcome, cancel_reason)
    elif saga.cursor.kind is Kind.ACTION:
        _decide_action(script, saga.cursor, outcome, cancel_reason)
    else:
        _decide_compensation(script, saga.cursor, outcome)
    return script.saga, tuple(script.events)


def evolve(saga: Saga, event: Event) -> Saga:
    """The saga after `event`. Raises CorruptLog when the event cannot follow what the saga has seen."""
    if event.sequence != saga.sequence + 1:
        raise CorruptLog(f"row {event.sequence} follows row {saga.sequence}")
    if saga.state.terminal:
        raise CorruptLog(f"row {event.sequence} ({event.status}) follows the end of a {saga.state} saga")
    return _EVOLVE[event.status](saga, event)


def fold(saga: Saga, events: Iterable[Event]) -> Saga:
    """The saga after all of `events`. Raises CorruptLog as `evolve` does."""
    for event in events:
        saga = evolve(saga, event)
    return saga


def parked(saga: Saga, epoch: Epoch, message: str) -> Event:
    """The event that hands the saga to a person, with the reason."""
    return Event(saga.sequence + 1, Status.PARKED, epoch, code="PARKED", message=message)


# Deciding: which events an outcome gives.


class _Script:
    """Collects events and keeps the saga evolved behind each, so that every rule sees the present state."""

    __slots__ = ("events", "moment", "saga")

    def __init__(self, saga: Saga, moment: Moment) -> None:
        self.saga = saga
        self.moment = moment
        self.events: list[Event] = []

    def add(self, status: Status, cursor: Cursor | None = None, **fields: object) -> None:
        position, attempt = (0, 0) if cursor is None else (cursor.position, cursor.attempt)
        event = Event(self.saga.sequence + 1, status, self.moment.epoch, position, attempt, **fields)  # type: ignore[arg-type]
        self.saga = evolve(self.saga, event)
        self.events.append(event)

    def intend(self) -> None:
        """Write the intent of what the saga comes to next, unless it has come to its end."""
        saga = self.saga
        if saga.state.terminal:
            return
        if saga.state is SagaState.COMPENSATING:
            if not saga.to_compensate:
                left = ", ".join(saga.definition.step(position).name for position in saga.uncompensated)
                self.add(Status.PARKED, code="PARKED", message=f"could not compensate: {left}")
                return
            position, kind, status = saga.to_compensate[-1], Kind.COMPENSATION, Status.COMPENSATING
        else:
            position, kind, status = len(saga.executed) + 1, Kind.ACTION, Status.EXECUTING
        here = saga.cursor
        again = here is not None and (here.position, here.kind) == (position, kind)
        attempt = here.attempt + 1 if again and here is not None else 1
        self.add(status, Cursor(position, kind, attempt, 0, self.moment.epoch, False, None))


def _decide_ready(script: _Script, outcome: Outcome, cancel_reason: str | None) -> None:
    if not isinstance(outcome, Ready):
        raise InvariantError(f"saga {script.saga.id} has called nothing that could have given {outcome}")
    if cancel_reason is not None and script.saga.state is not SagaState.COMPENSATING:
        script.add(Status.CANCELLED, message=cancel_reason)
    script.intend()


def _decide_action(script: _Script, cursor: Cursor, outcome: Outcome, cancel_reason: str | None) -> None:
    match outcome:
        case Succeeded(result):
            script.add(Status.COMPLETED, cursor, result=result)
        case Refused(code, message):
            script.add(Status.FAILED, cursor, code=code, message=message)
        case Unknown(code, message):
            policy = script.saga.definition.step(cursor.position).retry
            if cancel_reason is None and not policy.exhausted(cursor.failures + 1):
                _retry(script, Status.RETRYING, cursor, policy, code, message)
                return
            script.add(Status.UNKNOWN, cursor, code=code, message=message)
        case Ready():
            raise InvariantError("handled before")
    # A saga that completed, or already compensates, is past cancelling: the request came too late, or in vain.
    if cancel_reason is not None and script.saga.state is SagaState.RUNNING:
        script.add(Status.CANCELLED, message=cancel_reason)
    script.intend()


def _decide_compensation(script: _Script, cursor: Cursor, outcome: Outcome) -> None:
    match outcome:
        case Succeeded(result):
            script.add(Status.COMPENSATED, cursor, result=result)
        case Refused(code, message) | Unknown(code, message):
            # A compensation may not fail for business reasons: a refusal is retried like anything else.
            compensation = script.saga.definition.step(cursor.position).compensation
            if compensation is None:
                raise InvariantError(f"step {cursor.position} has no compensation")
            if not compensation.retry.exhausted(cursor.failures + 1):
                _retry(script, Status.COMPENSATION_RETRYING, cursor, compensation.retry, code, message)
                return
            script.add(Status.COMPENSATION_FAILED, cursor, code=code, message=message)
        case Ready():
            raise InvariantError("handled before")
    script.intend()


def _retry(script: _Script, status: Status, cursor: Cursor, policy: RetryPolicy, code: str, message: str) -> None:
    delay_s = policy.delay_s(cursor.failures + 1, script.moment.chance)
    retry_at = script.moment.now + timedelta(seconds=delay_s)
    script.add(status, cursor, code=code, message=message, retry_at=retry_at)


# Evolving: what an event changes.


def _after(saga: Saga, event: Event, **changes: Any) -> Saga:
    return replace(saga, sequence=event.sequence, **changes)


def _intent(saga: Saga, event: Event, kind: Kind, states: tuple[SagaState, ...]) -> Cursor:
    """The cursor after an intent; checks that the intent may follow what the saga has seen."""
    if saga.state not in states:
        raise CorruptLog(f"row {event.sequence} ({event.status}) in a {saga.state} saga")
    if not 1 <= event.position <= len(saga.definition.steps):
        raise CorruptLog(f"row {event.sequence} names step {event.position} of {len(saga.definition.steps)}")
    here = saga.cursor
    if here is None or (here.position, here.kind) != (event.position, kind):
        return Cursor(event.position, kind, event.attempt, 0, event.epoch, False, None)
    # The same step again: whatever the former attempt did, nobody can be sure of it now.
    return replace(here, attempt=event.attempt, intent_epoch=event.epoch, doubtful=True, retry_at=None)


def _executing(saga: Saga, event: Event) -> Saga:
    if event.position != len(saga.executed) + 1:
        raise CorruptLog(f"row {event.sequence} executes step {event.position} after {len(saga.executed)} steps")
    cursor = _intent(saga, event, Kind.ACTION, (SagaState.PENDING, SagaState.RUNNING))
    return _after(saga, event, state=SagaState.RUNNING, cursor=cursor)


def _compensating(saga: Saga, event: Event) -> Saga:
    if not saga.to_compensate or event.position != saga.to_compensate[-1]:
        raise CorruptLog(f"row {event.sequence} compensates step {event.position}, whose turn it is not")
    return _after(saga, event, cursor=_intent(saga, event, Kind.COMPENSATION, (SagaState.COMPENSATING,)))


def _expect(saga: Saga, event: Event, kind: Kind) -> Cursor:
    """The cursor that an outcome belongs to; raises CorruptLog when there is no intent of it."""
    cursor = saga.cursor
    if cursor is None or (cursor.position, cursor.kind) != (event.position, kind):
        raise CorruptLog(f"row {event.sequence} ({event.status}) of step {event.position} has no intent before it")
    if kind is Kind.ACTION and event.position in saga.executed:
        raise CorruptLog(f"row {event.sequence} ({event.status}) of step {event.position}, which is completed")
    return cursor


def _retrying(saga: Saga, event: Event) -> Saga:
    kind = Kind.ACTION if event.status is Status.RETRYING else Kind.COMPENSATION
    cursor = _expect(saga, event, kind)
    if event.retry_at is None:
        raise CorruptLog(f"row {event.sequence} ({event.status}) does not say when to try again")
    return _after(
        saga, event, cursor=replace(cursor, failures=cursor.failures + 1, doubtful=True, retry_at=event.retry_at)
    )


def _completed(saga: Saga, event: Event) -> Saga:
    _expect(saga, event, Kind.ACTION)
    executed = (*saga.executed, event.position)
    results = (*saga.results, (event.position, event.result or {}))
    if len(executed) == len(saga.definition.steps):
        return _after(saga, event, state=SagaState.COMPLETED, cursor=None, executed=executed, results=results)
    return _after(saga, event, executed=executed, results=results)


def _failed(saga: Saga, event: Event) -> Saga:
    cursor = _expect(saga, event, Kind.ACTION)
    # Refused now, but an earlier attempt may have taken effect without anybody knowing: undo that one as well.
    return _turn_back(saga, event, _failure(saga, event), also=(cursor.position,) if cursor.doubtful else ())


def _unknown(saga: Saga, event: Event) -> Saga:
    cursor = _expect(saga, event, Kind.ACTION)
    return _turn_back(saga, event, _failure(saga, event), also=(cursor.position,))


def _cancelled(saga: Saga, event: Event) -> Saga:
    if saga.state is SagaState.COMPENSATING:
        raise CorruptLog(f"row {event.sequence} cancels a saga that already compensates")
    cursor = saga.cursor
    # An action that was intended and has no outcome may have taken effect.
    open_action = cursor is not None and cursor.position == len(saga.executed) + 1
    reason = event.message or "cancelled"
    saga = replace(saga, cancel_reason=reason)
    return _turn_back(
        saga,
        event,
        Failure("", "CANCELLED", reason),
        also=(cursor.position,) if cursor is not None and open_action else (),
    )


def _turn_back(saga: Saga, event: Event, failure: Failure, also: tuple[int, ...]) -> Saga:
    """Begin to compensate what was executed, and the steps in `also`, in reverse order."""
    candidates = (*saga.executed, *also)
    stack = tuple(p for p in candidates if saga.definition.step(p).compensation is not None)
    state = SagaState.COMPENSATING if stack else SagaState.COMPENSATED
    return _after(saga, event, state=state, cursor=None, failure=failure, to_compensate=stack)


def _compensated(saga: Saga, event: Event) -> Saga:
    _expect(saga, event, Kind.COMPENSATION)
    stack = saga.to_compensate[:-1]
    done = not stack and not saga.uncompensated
    return _after(
        saga,
        event,
        state=SagaState.COMPENSATED if done else saga.state,
        cursor=None,
        to_compensate=stack,
        compensated=(*saga.compensated, event.position),
    )


def _compensation_failed(saga: Saga, event: Event) -> Saga:
    _expect(saga, event, Kind.COMPENSATION)
    uncompensated = (*saga.uncompensated, event.position)
    failure = _failure(saga, event)
    return _after(
        saga, event, cursor=None, to_compensate=saga.to_compensate[:-1], uncompensated=uncompensated, failure=failure
    )


def _parked(saga: Saga, event: Event) -> Saga:
    failure = saga.failure or Failure(saga.current_step or "", event.code or "PARKED", event.message or "")
    return _after(saga, event, state=SagaState.FAILED, cursor=None, failure=failure)


def _failure(saga: Saga, event: Event) -> Failure:
    name = saga.definition.step(event.position).name
    return Failure(name, event.code or "UNKNOWN", event.message or "")


_EVOLVE = {
    Status.EXECUTING: _executing,
    Status.RETRYING: _retrying,
    Status.COMPLETED: _completed,
    Status.FAILED: _failed,
    Status.UNKNOWN: _unknown,
    Status.COMPENSATING: _compensating,
    Status.COMPENSATION_RETRYING: _retrying,
    Status.COMPENSATED: _compensated,
    Status.COMPENSATION_FAILED: _compensation_failed,
    Status.CANCELLED: _cancelled,
    Status.PARKED: _parked,
}
