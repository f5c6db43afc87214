"""What a move to another version would do, before it is ordered: what stays, what differs, and what comes then.

Pure: questions to a saga. A plan changes nothing and promises nothing: the leader judges anew when it heeds the order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from orchestrator.saga.difference import Change, changes
from orchestrator.saga.events import Event, Order, Status
from orchestrator.saga.mapping import Mapping, PointsNowhere
from orchestrator.saga.model import NO_EPOCH, Epoch, Json, Kind, Phase, Saga, SagaState, reached
from orchestrator.saga.moving import Destination, Obstacle, began, deadline_under, obstacles, turned
from orchestrator.saga.plan import planned
from orchestrator.saga.progress import context
from orchestrator.saga.script import Moment
from orchestrator.saga.signals import Signal, Verb, heed

_PLAN = Order("", "a plan")


@dataclass(frozen=True, slots=True)
class Kept:
    """A step that has begun, and how it stands: it stays so."""

    step: str
    how: str


@dataclass(frozen=True, slots=True)
class Ahead:
    """What the saga comes to under the new version, if nothing fails. `request` is None where it cannot be made yet.

    `at_once` says that the move itself lets it begin, or that the retry does which takes a parked saga up.
    """

    step: str
    what: str
    service: str = ""
    method: str = ""
    request: Json | None = None
    because: str = ""
    at_once: bool = False
    # What the request is made by; None where there is none.
    mapping: Mapping | None = None


@dataclass(frozen=True, slots=True)
class MovePlan:
    """What a move would do now. With obstacles it would be refused, and `ahead` is empty.

    `state` is what the saga would be in behind it.
    """

    from_version: int
    to_version: int
    state: str
    obstacles: tuple[Obstacle, ...]
    kept: tuple[Kept, ...]
    changes: tuple[Change, ...]
    deadline_before: datetime | None
    deadline_after: datetime | None
    ahead: tuple[Ahead, ...] = ()


def plan_move(saga: Saga, to: Destination, now: datetime) -> tuple[MovePlan, Saga]:
    """What a move would do now, and the saga behind it, which is the same one when there are obstacles."""
    new = to.definition
    found = obstacles(saga, to, now)
    moved, events = saga, tuple[Event, ...]()
    if not found:
        moved, events = _moved(saga, to, now)
    differ = tuple(changes(saga.definition, new)) if new is not None else ()
    plan = MovePlan(
        saga.definition.version,
        new.version if new is not None else 0,
        moved.state.value,
        tuple(found),
        tuple(Kept(saga.definition.step(position).name, _how(saga, position)) for position in began(saga)),
        differ,
        saga.deadline,
        deadline_under(saga, new) if new is not None else None,
        () if found else tuple(_ahead(moved, {event.position for event in events})),
    )
    return plan, moved


def _moved(saga: Saga, to: Destination, now: datetime) -> tuple[Saga, tuple[Event, ...]]:
    """The saga behind the move, and what it leads to; with a parked one, what a retry then leads to."""
    # Under the epoch of the latest intent, so that what the present leader has under way is left alone.
    epoch = max((cursor.intent_epoch for cursor in saga.open), default=NO_EPOCH)
    moment = Moment(epoch or Epoch(NO_EPOCH + 1), now, 0.5)
    heeded = heed(saga, Signal(0, Verb.MOVE, order=_PLAN, destination=to), moment)
    if heeded is None or heeded.refusal:
        return saga, ()
    events = heeded.events
    if heeded.saga.state is SagaState.FAILED:
        retried = heed(heeded.saga, Signal(0, Verb.RETRY, order=_PLAN), moment)
        events += () if retried is None else retried.events
    return heeded.saga, tuple(event for event in events if event.status in _BEGINNINGS)


_BEGINNINGS = frozenset({Status.EXECUTING, Status.QUERYING, Status.WAITING, Status.SKIPPED, Status.COMPENSATING})


def _how(saga: Saga, position: int) -> str:
    """How a step stands that has begun."""
    cursor = saga.at(position)
    which = "the compensation " if cursor is not None and cursor.kind is Kind.COMPENSATION else ""
    if cursor is not None:
        if cursor.phase is Phase.WAITING:
            return f"{which}waits"
        doubt = "" if reached(cursor) else ", never reached"
        return f"{which}is tried again{doubt}" if cursor.phase is Phase.BACKOFF else f"{which}is under way{doubt}"
    for positions, how in (
        (saga.compensated, "undone"),
        (saga.uncompensated, "could not be undone"),
        (saga.skipped, "passed over"),
        (saga.to_compensate, "to be undone"),
    ):
        if position in positions:
            return how
    return "done"


def _ahead(saga: Saga, at_once: set[int]) -> Iterator[Ahead]:
    if saga.state in (SagaState.COMPLETED, SagaState.COMPENSATED):
        return
    if turned(saga):
        left = (*saga.to_compensate, *reversed(saga.uncompensated))
        known = context(saga)
        for position in reversed(left):
            call, at = planned(saga, position, known), position in at_once
            method = call.method.removeprefix("/")
            yield Ahead(call.step, "compensation", call.service, method, call.request, call.because, at, call.mapping)
        return
    touched = set(began(saga)) - {c.position for c in saga.open if not reached(c)}
    for position in range(1, len(saga.definition.steps) + 1):
        if position not in touched:
            yield _action(saga, position, position in at_once)


def _action(saga: Saga, position: int, at_once: bool) -> Ahead:
    step = saga.definition.step(position)
    mapping = step.child.input if step.child is not None else step.action.request if step.action is not None else None
    method = step.action.path[1:] if step.action is not None else step.child.definition if step.child else ""
    if mapping is None:
        return Ahead(step.name, step.work.value, at_once=at_once)
    try:
        request = mapping.evaluate(context(saga))
    except PointsNowhere as error:
        return Ahead(step.name, step.work.value, step.service, method, None, str(error), at_once)
    return Ahead(step.name, step.work.value, step.service, method, request, "", at_once, mapping)
