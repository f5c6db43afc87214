"""Whether a saga can go on under another version of its definition.

A moved saga is as one of the new version that has come to the same point: what has begun must be equal there, and what
has not may differ. That is judged from the saga's state, step by step:

- A step that has begun (executed, skipped, under way, or to be undone) is at the same place, under the same name, comes
  after the same steps, has the same condition, and does and undoes the same by the same requests.
- How persistently it is called, and for how long, may differ: that is no part of what was done.
- What surely reached no participant may be called otherwise, since nobody knows its key: an action or a compensation
  whose request cannot be made of this saga, or whose participant was never reached.
- The compensation of what was executed is a part of it, begun or not: what was done is undone as was said then.
- A saga that turns back keeps the places of all steps: one without a compensation that may have taken effect is among
  them, and the state does not say which.

Pure: questions to a saga and two versions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from orchestrator.errors import FieldViolation
from orchestrator.saga.definition import Definition, Step, Work
from orchestrator.saga.difference import step_changes, summary
from orchestrator.saga.lint_risks import time
from orchestrator.saga.mapping import Mapping, PointsNowhere
from orchestrator.saga.model import Cursor, Json, Kind, Saga, SagaState, reached
from orchestrator.saga.progress import context, turnable
from orchestrator.saga.whole import reopened

# How persistently and for how long something is tried: no part of what was done.
_POLICY = ("timeout", "retry.", "within", "heartbeat", "reason", "approval.roles")
_UNDO_POLICY = ("compensation.retry.", "compensation.within")
# What a step that never reached its participant may do otherwise, and a compensation that never reached it.
_CALLED = ("service", "action.", "status.", "on_unknown", "barrier", "answer", "secrets", "compensation", "saga.")
_UNDONE_BY = ("compensation.method", "compensation.request.")

_TOLD_MAX = 5


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a saga cannot be moved: what differs, in which step and field. `step` is empty for the saga as a whole."""

    step: str
    field: str
    why: str
    before: str = ""
    after: str = ""

    def __str__(self) -> str:
        where = f"step {self.step}: {self.field}" if self.step else self.field
        return f"{where} {self.why}"


@dataclass(frozen=True, slots=True)
class Destination:
    """The version that a saga is to be moved to, as whoever has both versions at hand finds it.

    `definition` is None when it cannot be had, and `why_not` says why. `unusable` is what of the saga's input no step
    of it could use. `described_anew` are the steps whose messages have other descriptors than in `from_version`.
    """

    definition: Definition | None
    why_not: str = ""
    from_version: int = 0
    unusable: tuple[FieldViolation, ...] = ()
    described_anew: frozenset[str] = frozenset()


def began(saga: Saga) -> tuple[int, ...]:
    """The steps that have begun, in the order of the definition: those that a version to move to must have as well."""
    found = {*saga.executed, *saga.skipped, *saga.to_compensate, *saga.compensated, *saga.uncompensated}
    return tuple(sorted(found | {cursor.position for cursor in saga.open}))


def turned(saga: Saga) -> bool:
    """Whether the saga turns back, or did so before it was parked."""
    return SagaState.COMPENSATING in (saga.state, saga.parked_from)


def obstacles(saga: Saga, to: Destination, now: datetime) -> list[Obstacle]:
    """Why the saga cannot be moved; empty when it can. `to` must have a definition."""
    new = to.definition
    old = saga.definition
    if new is None:
        return [Obstacle("", "version", to.why_not or "is not known")]
    if new.name != old.name:
        return [Obstacle("", "name", f"is {new.name}, and the saga is one of {old.name}", old.name, new.name)]
    if new.version == old.version:
        return [Obstacle("", "version", f"is {old.version} already")]
    if to.from_version != old.version:
        return [Obstacle("", "version", f"is {old.version} by now, no longer {to.from_version}: look again")]
    found = list(_whole(saga, new, now))
    begun = began(saga)
    for position in begun:
        found += _of_step(saga, new, position)
    if turned(saga):
        for position in sorted({*range(1, len(old.steps) + 1)} - {*begun}):
            found += _of_place(saga, new, position, "may have begun")
    named = {obstacle.step for obstacle in found}
    found += [obstacle for obstacle in _repeated(saga, new, to.described_anew) if obstacle.step not in named]
    if not turned(saga):
        found += [Obstacle("", violation.field, violation.description) for violation in to.unusable]
    return found


def told(found: list[Obstacle]) -> str:
    """The obstacles in a sentence, as many as fit."""
    text = "; ".join(str(obstacle) for obstacle in found[:_TOLD_MAX])
    return f"{text}; and {len(found) - _TOLD_MAX} more" if len(found) > _TOLD_MAX else text


def deadline_under(saga: Saga, definition: Definition) -> datetime | None:
    """When the saga would turn back under this version unless it has come past its pivot."""
    within_s = definition.within_s
    return None if within_s is None else (saga.starts_at or saga.created_at) + timedelta(seconds=within_s)


def _whole(saga: Saga, new: Definition, now: datetime) -> Iterator[Obstacle]:
    old = saga.definition
    shown = sorted(set(old.secrets) - set(new.secrets))
    if shown:
        names = ", ".join(shown)
        yield Obstacle("", "secrets", f"would no longer hide {names}", names)
    if turned(saga) and old.parallel_compensation != new.parallel_compensation:
        modes = ("sequential", "parallel")
        before, after = modes[old.parallel_compensation], modes[new.parallel_compensation]
        yield Obstacle("", "compensate", f"is {after}, and the saga turns back {before}", before, after)
    before_at, after_at = deadline_under(saga, old), deadline_under(saga, new)
    if after_at is not None and now >= after_at and turnable(reopened(saga)) and (before_at is None or now < before_at):
        before = "" if old.within_s is None else time(old.within_s)
        after = "" if new.within_s is None else time(new.within_s)
        yield Obstacle("", "within", f"is {after}, which is over: the saga would turn back at once", before, after)


def _of_step(saga: Saga, new: Definition, position: int) -> Iterator[Obstacle]:
    """What of a step that has begun is not equal in the new version."""
    misplaced = list(_of_place(saga, new, position, "has begun"))
    yield from misplaced
    if misplaced:
        return
    step, its = saga.definition.step(position), new.step(position)
    free = _free(saga, step, position)
    for change in step_changes(saga.definition, step, new, its):
        field = change.path.removeprefix(f"steps.{step.name}.")
        if field.startswith(free) or (field == "secrets" and set(step.secrets) <= set(its.secrets)):
            continue
        why = f"is {change.after or 'gone'}, and was {change.before or 'not there'} when the step began"
        yield Obstacle(step.name, field, why, change.before, change.after)


def _of_place(saga: Saga, new: Definition, position: int, standing: str) -> Iterator[Obstacle]:
    """Whether a step is where it was. Of one that was never heard of and cannot be undone, the state knows nothing."""
    step = saga.definition.step(position)
    place = next((number for number, other in enumerate(new.steps, start=1) if other.name == step.name), None)
    if place is None:
        yield Obstacle(step.name, "step", f"{standing}, and is not there", summary(step))
    elif place != position:
        why = f"is {place}, and was {position}: new steps go behind those that have begun"
        yield Obstacle(step.name, "place", why, str(position), str(place))


def _free(saga: Saga, step: Step, position: int) -> tuple[str, ...]:
    """The fields, by their beginnings, in which a step that has begun may differ."""
    free = (*_POLICY, *_UNDO_POLICY)
    cursor = saga.at(position)
    if cursor is not None and cursor.kind is Kind.ACTION:
        calls = step.work in (Work.CALL, Work.CHILD)
        return (*free, *_CALLED) if calls and not reached(cursor) else free
    return (*free, *_UNDONE_BY) if _in_vain(saga, position, cursor) else free


def _in_vain(saga: Saga, position: int, cursor: Cursor | None) -> bool:
    """Whether the compensation of a step was tried, and surely never reached its participant."""
    if position in saga.undo_reached:
        return False
    if cursor is not None:
        return cursor.failures > 0 and not reached(cursor)
    return position in saga.uncompensated


def _repeated(saga: Saga, new: Definition, described_anew: frozenset[str]) -> Iterator[Obstacle]:
    """Calls that may have been heard, and would be repeated under the same key with another request."""
    if any(position > len(new.steps) for position, _ in saga.results):
        return  # It lacks a step that was done, which is told already; nothing can be made without that one's result.
    for cursor in saga.open:
        if cursor.position > len(new.steps) or not reached(cursor):
            continue
        step, other = saga.definition.step(cursor.position), new.step(cursor.position)
        which = "action" if cursor.kind is Kind.ACTION else "compensation"
        mapping, its = _request(step, cursor.kind), _request(other, cursor.kind)
        if step.name != other.name or mapping is None or its is None:
            continue
        if step.name in described_anew:
            yield Obstacle(step.name, which, "has other messages, and its call is under way or in doubt")
        if _made(saga, saga.definition, mapping) != _made(saga, new, its):
            yield Obstacle(step.name, f"{which}.request", "would be made otherwise, and its call may have been heard")


def _request(step: Step, kind: Kind) -> Mapping | None:
    if kind is Kind.COMPENSATION:
        return None if step.compensation is None else step.compensation.method.request
    if step.child is not None:
        return step.child.input
    return None if step.action is None else step.action.request


def _made(saga: Saga, definition: Definition, mapping: Mapping) -> Json | None:
    """The request, which may hold the number of the version; None when it cannot be made."""
    try:
        return mapping.evaluate(context(replace(saga, definition=definition)))
    except PointsNowhere:
        return None
