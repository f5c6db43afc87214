"""What others tell a saga while it is under way: answers of participants, approvals, and operators' orders.

Every replica takes signals and stores them; the leader heeds them in the order in which they were stored. One that
cannot be heeded is answered with the reason, and changes nothing.

Pure: values and rules.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.saga import acting, undoing
from orchestrator.saga.commands import Refused, Succeeded
from orchestrator.saga.definition import Step, Work
from orchestrator.saga.events import Event, Order, Status
from orchestrator.saga.machine import proceed
from orchestrator.saga.model import Cursor, Json, Kind, Phase, Saga, SagaState
from orchestrator.saga.moving import Destination, obstacles, told
from orchestrator.saga.progress import ready
from orchestrator.saga.script import Moment, Script
from orchestrator.saga.whole import reopened


class Verb(StrEnum):
    """What a signal says."""

    COMPLETE = "complete"  # A participant that answers later has done it.
    FAIL = "fail"  # It has refused it, or could not do it.
    HEARTBEAT = "heartbeat"  # It is still at it.
    APPROVE = "approve"
    REJECT = "reject"
    PAUSE = "pause"
    RESUME = "resume"
    RETRY = "retry"
    SKIP = "skip"
    RESOLVE = "resolve"
    FORCE = "force"
    MOVE = "move"  # Go on under another version of the definition.
    # What the log tells a parent and its child of one another.
    CHILD = "child"  # The child saga of a step has ended, or will not be undone.
    UNDO = "undo"  # The saga's parent turns back.


# Orders that replace what a participant would have to say: nobody gives them without showing why.
NEEDS_EVIDENCE = frozenset({Verb.SKIP, Verb.RESOLVE, Verb.FORCE})

# Orders that take a parked saga up again.
REOPENING = frozenset({Verb.RETRY, Verb.SKIP, Verb.RESOLVE, Verb.FORCE})

# What is meant for a compensation under way as well: it waits for the end of that call.
_OF_BOTH = frozenset({Verb.RETRY, Verb.RESOLVE, Verb.CHILD})

# A parked saga heeds these, and stays parked: what is said once and would be lost, and a move, which mends what it was
# parked for.
STAYING_PARKED = frozenset({Verb.COMPLETE, Verb.APPROVE, Verb.MOVE})

# All that a parked saga hears.
HEARD_PARKED = REOPENING | STAYING_PARKED


@dataclass(frozen=True, slots=True)
class Signal:
    """One signal. `id` is its place in the order in which signals were stored; `step` is empty for the whole saga."""

    id: int
    verb: Verb
    step: str = ""
    result: Json | None = None
    code: str = ""
    message: str = ""
    order: Order | None = None
    # Where a move goes to; whoever tells the saga has looked it up, since `result` only names it.
    destination: Destination | None = None

    @property
    def version(self) -> tuple[str, int]:
        """The definition and the version that a move goes to."""
        named = self.result or {}
        name, version = named.get("definition"), named.get("to")
        # Whatever else stands there is a version that nobody has.
        return (name, version) if isinstance(name, str) and isinstance(version, int) else ("", 0)


@dataclass(frozen=True, slots=True)
class Heeded:
    """What a signal has led to: the saga after it, the events, and why it was refused, if it was."""

    saga: Saga
    events: tuple[Event, ...] = ()
    refusal: str = ""


class _Refusal(Exception):
    """The signal cannot be heeded, and why."""


def heed(saga: Saga, signal: Signal, moment: Moment, cancel_reason: str | None = None) -> Heeded | None:
    """What follows from a signal; None while that cannot be said, because a call of its step is under way."""
    script = Script(saga, moment, cancel_reason)
    try:
        if saga.state.terminal and not _reopens(saga, signal):
            raise _Refusal(f"the saga is {saga.state}")
        if signal.verb in NEEDS_EVIDENCE and not (signal.order and signal.order.reason and signal.order.evidence):
            raise _Refusal(f"{signal.verb} needs a reason and evidence")
        position = _position(saga, signal)
        cursor = saga.at(position)
        if cursor is not None and saga.state is not SagaState.FAILED and _must_wait(cursor, signal, moment):
            return None
        _HEED[signal.verb](script, signal, position, cursor)
    except _Refusal as refusal:
        return Heeded(saga, (), str(refusal))
    if not script.saga.state.terminal:
        proceed(script)
    return Heeded(script.saga, tuple(script.events))


def _reopens(saga: Saga, signal: Signal) -> bool:
    """Whether an ended saga may be taken up again by such a signal."""
    if signal.verb is Verb.UNDO:
        return saga.state is SagaState.COMPLETED
    return saga.state is SagaState.FAILED and signal.verb in HEARD_PARKED


def _must_wait(cursor: Cursor, signal: Signal, moment: Moment) -> bool:
    """Whether a signal has to wait for the end of a call. What is meant for an action need not for its compensation."""
    under_way = cursor.phase is Phase.INTENDED and cursor.intent_epoch == moment.epoch
    return under_way and (cursor.kind is Kind.ACTION or signal.verb in _OF_BOTH)


def _position(saga: Saga, signal: Signal) -> int:
    """The position of the step that a signal names; 0 when it names none."""
    if not signal.step:
        return 0
    for number, step in enumerate(saga.definition.steps, start=1):
        if step.name == signal.step:
            return number
    known = ", ".join(step.name for step in saga.definition.steps)
    raise _Refusal(f"the saga has no step {signal.step!r}; it has {known}")


# Answers.


def _answerable(script: Script, position: int, cursor: Cursor | None) -> Cursor:
    """The cursor of a step that waits for the answer of its participant."""
    saga = script.saga
    step = _step(saga, position)
    if step.work is not Work.CALL or not step.answers_later:
        raise _Refusal(f"step {step.name} does not answer later")
    if position in saga.executed:
        raise _Refusal(f"step {step.name} was completed before")
    if cursor is None or cursor.kind is not Kind.ACTION:
        gone = position in (*saga.to_compensate, *saga.compensated, *saga.uncompensated)
        raise _Refusal(f"step {step.name} {'is being undone' if gone or cursor else 'does not wait for an answer'}")
    return cursor


def _complete(script: Script, signal: Signal, position: int, cursor: Cursor | None) -> None:
    acting.decide(script, _answerable(script, position, cursor), Succeeded(signal.result or {}))


def _fail(script: Script, signal: Signal, position: int, cursor: Cursor | None) -> None:
    outcome = Refused(signal.code or "FAILED_PRECONDITION", signal.message)
    acting.decide(script, _answerable(script, position, cursor), outcome)


def _heartbeat(script: Script, signal: Signal, position: int, cursor: Cursor | None) -> None:
    cursor = _answerable(script, position, cursor)
    step = _step(script.saga, position)
    if step.heartbeat_s is None or cursor.phase is not Phase.WAITING:
        return
    times = [time for time in (cursor.limit_at, script.limit(step.heartbeat_s)) if time is not None]
    script.add(Status.WAITING, cursor, retry_at=min(times))


def _approval(script: Script, signal: Signal, position: int, cursor: Cursor | None) -> Cursor:
    step = _step(script.saga, position)
    if step.work is not Work.APPROVAL:
        raise _Refusal(f"step {step.name} asks for no approval")
    if cursor is None:
        done = "was approved before" if position in script.saga.executed else "does not wait for an approval"
        raise _Refusal(f"step {step.name} {done}")
    return cursor


def _approve(script: Script, signal: Signal, position: int, cursor: Cursor | None) -> None:
    waiting = _approval(script, signal, position, cursor)
    result = {**(signal.result or {}), "approved_by": signal.order.by if signal.order else ""}
    script.add(Status.COMPLETED, waiting, result=result, order=signal.order)


def _reject(script: Script, signal: Signal, position: int, cursor: Cursor | None) -> None:
    waiting = _approval(script, signal, position, cursor)
    reason = signal.order.reason if signal.order else ""
    acting.rejected(script, waiting, reason, signal.order)


# Children.

_PARENT_TURNS = "the saga that runs it turns back"


def _child(script: Script, signal: Signal, position: int, cursor: Cursor | None) -> None:
    """The child of a step has ended. Nobody may be waiting for that any more, which is no error."""
    if cursor is None or cursor.phase is not Phase.WAITING:
        return
    told = signal.result or {}
    state, message = told.get("state"), str((told.get("error") or {}).get("message", ""))
    if cursor.kind is Kind.ACTION:
        if state == SagaState.COMPLETED:
            end = told.get("result") or {}
            acting.decide(script, cursor, Succeeded(end.get("result") or {}))
        elif state == SagaState.COMPENSATED:
            acting.decide(script, cursor, Refused("CHILD_COMPENSATED", message or "the child saga was undone"))
    elif state == SagaState.COMPENSATED:
        undoing.decide(script, cursor, Succeeded({}))
    elif state == "REFUSED":
        undoing.decide(script, cursor, Refused("CHILD_NOT_UNDONE", message))


def _undo(script: Script, signal: Signal, position: int, cursor: Cursor | None) -> None:
    saga = script.saga
    if saga.state is SagaState.COMPENSATING:
        return
    if saga.sealed:
        pivot = saga.definition.step(saga.definition.pivot).name
        raise _Refusal(f"the child saga has come to its pivot, step {pivot}")
    status = Status.UNDONE if saga.state is SagaState.COMPLETED else Status.CANCELLED
    script.add(status, message=_PARENT_TURNS)


# Orders.


def _pause(script: Script, signal: Signal, position: int, cursor: Cursor | None) -> None:
    if script.saga.paused:
        raise _Refusal("the saga is paused already")
    script.add(Status.PAUSED, order=signal.order)


def _resume(script: Script, signal: Signal, position: int, cursor: Cursor | None) -> None:
    if not script.saga.paused:
        raise _Refusal("the saga is not paused")
    script.add(Status.RESUMED, order=signal.order)


def _retry(script: Script, signal: Signal, position: int, cursor: Cursor | None) -> None:
    saga = script.saga
    waits = [c for c in saga.open if c.phase is Phase.BACKOFF and position in (0, c.position)]
    if saga.state is not SagaState.FAILED and not waits:
        raise _Refusal("nothing waits for its next attempt")
    script.add(Status.RETRIED, position=position, order=signal.order)


def _skip(script: Script, signal: Signal, position: int, cursor: Cursor | None) -> None:
    _must_act(script, position, cursor, "skipped")
    script.add(Status.SKIPPED, position=position, order=signal.order)


def _force(script: Script, signal: Signal, position: int, cursor: Cursor | None) -> None:
    _must_act(script, position, cursor, "forced")
    script.add(Status.FORCED, position=position, result=signal.result or {}, order=signal.order)


def _move(script: Script, signal: Signal, position: int, cursor: Cursor | None) -> None:
    """Go on under another version. Calls under way are a part of what has begun; what comes of them is heard there."""
    to = signal.destination
    if to is None or to.definition is None:
        raise _Refusal(to.why_not if to is not None else "nobody has said where the saga is to be moved to")
    if signal.order is None or not signal.order.reason.strip():
        raise _Refusal("move needs a reason")
    if found := obstacles(script.saga, to, script.moment.now):
        raise _Refusal(f"it cannot be moved to version {to.definition.version}: {told(found)}")
    script.move(to.definition, signal.order)


def _must_act(script: Script, position: int, cursor: Cursor | None, what: str) -> None:
    """Refuse unless the action of the step is what the saga is at, or comes to next."""
    saga = script.saga
    step = _step(saga, position)
    if script.early:
        raise _Refusal(f"the saga starts at {saga.starts_at:%Y-%m-%dT%H:%M:%SZ}: no step of it has begun")
    forward = saga.parked_from if saga.state is SagaState.FAILED else saga.state
    if forward not in (SagaState.PENDING, SagaState.RUNNING):
        raise _Refusal(f"the saga turns back: no action of it can be {what}")
    if position in (*saga.executed, *saga.skipped):
        raise _Refusal(f"step {step.name} has ended before")
    if cursor is None and position not in ready(reopened(saga)):
        raise _Refusal(f"step {step.name} has not begun")


def _resolve(script: Script, signal: Signal, position: int, cursor: Cursor | None) -> None:
    saga = script.saga
    step = _step(saga, position)
    if position not in (*saga.to_compensate, *saga.uncompensated):
        raise _Refusal(f"step {step.name} has nothing to compensate")
    script.add(Status.RESOLVED, position=position, order=signal.order)


def _step(saga: Saga, position: int) -> Step:
    if position == 0:
        raise _Refusal("the signal names no step")
    return saga.definition.step(position)


_HEED: dict[Verb, Callable[[Script, Signal, int, Cursor | None], None]] = {
    Verb.COMPLETE: _complete,
    Verb.FAIL: _fail,
    Verb.HEARTBEAT: _heartbeat,
    Verb.APPROVE: _approve,
    Verb.REJECT: _reject,
    Verb.PAUSE: _pause,
    Verb.RESUME: _resume,
    Verb.RETRY: _retry,
    Verb.SKIP: _skip,
    Verb.RESOLVE: _resolve,
    Verb.FORCE: _force,
    Verb.MOVE: _move,
    Verb.CHILD: _child,
    Verb.UNDO: _undo,
}
