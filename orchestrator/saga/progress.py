"""Which steps may begin, which may be undone, when a saga has anything to do again, and what a person must do before.

Pure: questions to a saga, nothing else.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from orchestrator.saga.definition import Work
from orchestrator.saga.model import Kind, Phase, Saga, SagaState

# A saga that waits for something that has no time.
FOREVER = datetime.max.replace(tzinfo=UTC)

_FORWARD = (SagaState.PENDING, SagaState.RUNNING)


def ready(saga: Saga) -> tuple[int, ...]:
    """The steps whose action may begin: all that they come after has ended, and they have not begun."""
    if saga.state not in _FORWARD:
        return ()
    done = {*saga.executed, *saga.skipped}
    begun = {cursor.position for cursor in saga.open}
    return tuple(
        position
        for position, step in enumerate(saga.definition.steps, start=1)
        if position not in done and position not in begun and done.issuperset(step.after)
    )


def may_begin(saga: Saga, position: int) -> bool:
    """Whether `ready` names that step."""
    if saga.state not in _FORWARD or not 1 <= position <= len(saga.definition.steps):
        return False
    done = saga.executed + saga.skipped
    if position in done or saga.at(position) is not None:
        return False
    return all(earlier in done for earlier in saga.definition.step(position).after)


def undoable(saga: Saga) -> tuple[int, ...]:
    """The steps whose compensation may begin: no action is under way, and nothing that came after them is left.

    One at a time, the newest first, unless the definition lets independent compensations run together.
    """
    if saga.state is not SagaState.COMPENSATING or not saga.to_compensate or acting(saga):
        return ()
    begun = {cursor.position for cursor in saga.open}
    if not saga.definition.parallel_compensation:
        return () if begun else saga.to_compensate[-1:]
    left = set(saga.to_compensate)
    descendants = saga.definition.descendants
    return tuple(p for p in reversed(saga.to_compensate) if p not in begun and not descendants[p - 1] & left)


def acting(saga: Saga) -> bool:
    """Whether an action is under way."""
    return any(cursor.kind is Kind.ACTION for cursor in saga.open)


def committed(saga: Saga) -> bool:
    """Whether the saga is past its pivot, done or passed over: from here on it only goes forward."""
    return saga.definition.pivot in saga.executed or saga.definition.pivot in saga.skipped


def turnable(saga: Saga) -> bool:
    """Whether a wish or a deadline can still turn the saga back."""
    return saga.state in _FORWARD and not saga.sealed


def wake_at(saga: Saga) -> datetime | None:
    """When there is something to do without anybody's saying so; None when there is now, FOREVER if there never is."""
    if saga.state is SagaState.PENDING and not saga.paused:
        return saga.starts_at
    times = []
    for cursor in saga.open:
        if cursor.phase is Phase.INTENDED:
            return None
        if cursor.retry_at is not None:
            times.append(cursor.retry_at)
    if saga.paused:
        return FOREVER
    if not saga.open:
        return None
    if saga.deadline is not None and turnable(saga):
        times.append(saga.deadline)
    return min(times, default=FOREVER)


def asking(saga: Saga) -> tuple[int, ...]:
    """The steps that wait for a person's word."""
    if saga.state is not SagaState.RUNNING:
        return ()
    return tuple(
        cursor.position
        for cursor in saga.open
        if cursor.phase is Phase.WAITING and saga.definition.step(cursor.position).work is Work.APPROVAL
    )


def set_aside(saga: Saga) -> bool:
    """Whether the saga sleeps for no other reason than that a person has paused it, or all that it would do next."""
    if saga.state.terminal:
        return False
    if saga.paused:
        return all(cursor.phase is not Phase.INTENDED for cursor in saga.open)
    return bool(saga.open) and all(cursor.paused and cursor.phase is Phase.BACKOFF for cursor in saga.open)


def context(saga: Saga) -> dict[str, Any]:
    """What the expressions of a definition see."""
    return {
        "input": saga.input,
        "results": {saga.definition.step(position).name: result for position, result in saga.results},
        "saga": {
            "id": str(saga.id),
            "definition": saga.definition.name,
            "version": saga.definition.version,
            "labels": saga.labels,
        },
    }
