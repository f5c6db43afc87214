"""What may be done with a saga by hand: what a cancellation would call, and how a parked one can be taken up again.

Pure: questions to a saga.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.saga.events import Event, Status
from orchestrator.saga.evolve import evolve
from orchestrator.saga.mapping import Mapping, PointsNowhere
from orchestrator.saga.model import Epoch, Json, Phase, Saga, SagaState
from orchestrator.saga.progress import context, ready
from orchestrator.saga.whole import reopened

# An epoch under which nothing was ever intended: so nothing counts as being waited for.
_NOBODYS = Epoch(-1)


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """A compensation that would be called. `request` is None when it cannot be made yet, `because` of this."""

    step: str
    service: str
    method: str
    request: Json | None
    because: str = ""
    # What the request is made by; None where nobody is called: the child saga of the step is undone instead.
    mapping: Mapping | None = None


@dataclass(frozen=True, slots=True)
class CancelPlan:
    """What a cancellation would do now. `left_alone` may have taken effect and has no compensation."""

    refusal: str = ""
    calls: tuple[PlannedCall, ...] = ()
    left_alone: tuple[str, ...] = ()


def cancel_refusal(saga: Saga) -> str:
    """Why the saga cannot be cancelled any more; empty when it can."""
    if saga.state.terminal:
        return f"saga {saga.id} is {saga.state}; only a saga that has not ended can be cancelled"
    if saga.sealed and saga.state is not SagaState.COMPENSATING:
        pivot = saga.definition.step(saga.definition.pivot).name
        return f"saga {saga.id} has come to its pivot, step {pivot}: from there on it only goes forward"
    return ""


def plan_cancel(saga: Saga) -> CancelPlan:
    """What a cancellation would call now, in its order; what is under way counts as if it might take effect."""
    refusal = cancel_refusal(saga)
    if refusal:
        return CancelPlan(refusal)
    return _plan(saga, Status.CANCELLED)


def plan_undo(child: Saga) -> CancelPlan:
    """What a child saga would call if its parent turned back now."""
    if child.state is SagaState.COMPENSATED:
        return CancelPlan()
    if child.state is SagaState.COMPLETED and not child.sealed:
        return _plan(child, Status.UNDONE)
    if child.sealed:
        pivot = child.definition.step(child.definition.pivot).name
        return CancelPlan(f"the child saga {child.id} has come to its pivot, step {pivot}: it is not undone any more")
    return plan_cancel(child)


def _plan(saga: Saga, status: Status) -> CancelPlan:
    turned = saga
    if saga.state is not SagaState.COMPENSATING:
        turned = evolve(saga, Event(saga.sequence + 1, status, _NOBODYS, message="a plan"))
    known = context(turned)
    calls = tuple(planned(turned, position, known) for position in reversed(turned.to_compensate))
    touched = (*saga.executed, *(c.position for c in saga.open if c.doubtful or c.phase is not Phase.BACKOFF))
    alone = tuple(name for name in dict.fromkeys(_undone_by_nobody(saga, position) for position in touched) if name)
    return CancelPlan("", calls, alone)


def planned(saga: Saga, position: int, known: Json) -> PlannedCall:
    """The compensation of a step as it would be called by what is `known` now."""
    step = saga.definition.step(position)
    if step.compensation is None:
        return PlannedCall(step.name, "", "", {}, "")
    method = step.compensation.method
    try:
        request = method.request.evaluate(known)
        return PlannedCall(step.name, step.service, method.path, request, mapping=method.request)
    except PointsNowhere as error:
        return PlannedCall(step.name, step.service, method.path, None, str(error))


def _undone_by_nobody(saga: Saga, position: int) -> str:
    step = saga.definition.step(position)
    return "" if step.undoable or step.action is None else step.name


def resolutions(saga: Saga) -> tuple[str, ...]:
    """What may be ordered for a parked saga: the verb, and the step where it names one."""
    if saga.state is not SagaState.FAILED:
        return ()
    names = [saga.definition.step(position).name for position in (*saga.to_compensate, *saga.uncompensated)]
    found = ["retry", *(f"resolve {name}" for name in names)]
    if saga.parked_from in (SagaState.PENDING, SagaState.RUNNING):
        for position in (*(cursor.position for cursor in saga.open), *ready(reopened(saga))):
            name = saga.definition.step(position).name
            found += [f"skip {name}", f"force {name}"]
    return tuple(found)
