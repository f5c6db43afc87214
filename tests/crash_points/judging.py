"""Judges the end of a run: by the independent audit, and by what the definition and the people demand besides.

Each demand is a function from a world to what speaks against it. They read the log, the ledgers and the definition,
and share no rule with the code that they judge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta

from orchestrator.audit.evidence import (
    Acknowledgement,
    Circumstances,
    EffectRow,
    EpochRow,
    Evidence,
    SagaRow,
    StepRow,
    StepShape,
    Tombstone,
)
from orchestrator.audit.judge import Verdict, judge
from orchestrator.saga.definition import Definition, Work
from orchestrator.saga.events import PAUSED, Event, Status
from orchestrator.saga.model import Kind, SagaState
from orchestrator.saga.pausing import PauseKind
from orchestrator.sagalog.memory_rows import Row
from orchestrator.sagalog.port import child_request

from .bulk import REASON
from .world import World, day_time

# What a pause has held goes on so soon after its end, in seconds: a leader looks every half second.
LET_GO_LATE_S = 1.5

# A timer fires within this time, in seconds, while somebody leads.
TIMER_LATE_S = 1.0

_INTENTS = frozenset({Status.EXECUTING, Status.QUERYING, Status.COMPENSATING})
_BACKWARD = frozenset({Status.COMPENSATING, Status.COMPENSATION_RETRYING, Status.COMPENSATION_HELD})
_BACKOFFS = frozenset({Status.RETRYING, Status.REFUSED, Status.HELD, *_BACKWARD} - {Status.COMPENSATING})


def audit(world: World, faults: int) -> Verdict:
    """The verdict of the independent audit."""
    told = tuple(Acknowledgement(_request(row), str(row.id)) for row in world.started)
    return judge(_evidence(world), Circumstances(told, faults))


def demands(world: World) -> Iterator[str]:
    """What speaks against the end of a run, beyond what the audit knows."""
    for row in world.log.rows.values():
        definition = world.flow.definition_of(row.definition)
        for demand in _OF_A_SAGA:
            yield from demand(world, row, definition)
    yield from _heard_once(world)
    yield from _pauses_kept(world)
    if world.flow.relayed:
        yield from _published_once(world)
    if world.flow.cancelled_when is not None:
        yield from _told_truly(world)


def _children_follow(world: World, row: Row, definition: Definition) -> Iterator[str]:
    """One child for each step that runs a saga, which ends as its parent does."""
    for step in definition.steps:
        if step.child is None:
            continue
        children = [one for one in world.log.rows.values() if (one.parent, one.parent_step) == (row.id, step.name)]
        if len(children) > 1:
            yield f"CHILD: {step.name} began {len(children)} child sagas"
        states = {one.state for one in children}
        if row.state is SagaState.COMPLETED and states != {SagaState.COMPLETED}:
            yield f"CHILD: the saga completed, the child of {step.name} is {sorted(states) or 'not there'}"
        by_hand = _when(row, Status.RESOLVED, definition.steps.index(step) + 1)
        undone = step.child.undone and by_hand is None
        if row.state is SagaState.COMPENSATED and undone and not states <= {SagaState.COMPENSATED}:
            yield f"CHILD: the saga was undone, the child of {step.name} is {sorted(states)}"


def _undone_in_order(world: World, row: Row, definition: Definition) -> Iterator[str]:
    """What came after a step is undone before it, unless that was given up and left to a person."""
    at_s = {(e.step, e.kind): e.at_s for e in world.shop.effects if e.saga_id == row.id}
    given_up = {e.position for e in row.events if e.status in (Status.COMPENSATION_FAILED, Status.RESOLVED)}
    for position, step in enumerate(definition.steps, start=1):
        undone_s = at_s.get((step.name, Kind.COMPENSATION))
        for later in definition.descendants[position - 1] - given_up:
            name = definition.step(later).name
            stood = (name, Kind.ACTION) in at_s and definition.step(later).compensation is not None
            if undone_s is not None and stood and at_s.get((name, Kind.COMPENSATION), undone_s) >= undone_s:
                yield f"ORDER: {step.name} was undone before {name}, which came after it"


def _pivot_stands(world: World, row: Row, definition: Definition) -> Iterator[str]:
    """Once the pivot is done nothing is undone any more."""
    if definition.pivot and _when(row, Status.COMPLETED, definition.pivot) is not None:
        undone = [event for event in row.events if event.status is Status.COMPENSATING]
        if undone:
            yield f"PIVOT: {len(undone)} compensations behind the pivot"


def _passed_over(world: World, row: Row, definition: Definition) -> Iterator[str]:
    """A step whose condition does not hold has no effect of either kind, and is passed over once."""
    skipped = Counter(e.position for e in row.events if e.status is Status.SKIPPED and e.order is None)
    for position, times in skipped.items():
        name = definition.step(position).name
        effects = [e for e in world.shop.effects if (e.saga_id, e.step) == (row.id, name)]
        if effects or times > 1:
            yield f"SKIPPED: {name}, {times} times, with {len(effects)} effects"


def _times_kept(world: World, row: Row, definition: Definition) -> Iterator[str]:
    """Nothing is tried before its backoff is over, and no delay ends early or late; an order may hasten a backoff."""
    begun_s = [at_s for _, _, at_s in world.log.raises]
    until: dict[tuple[int, Kind], Event] = {}
    for event, at_s in zip(row.events, world.log.dates.get(row.id, ()), strict=True):
        if event.status in (Status.RETRIED, Status.PAUSED, Status.RESUMED):
            until.clear()
        kind = Kind.COMPENSATION if event.status in _BACKWARD else Kind.ACTION
        waited = until.pop((event.position, kind), None)
        # An answer may come during a backoff, and a saga may turn back: an intent is timed, and the end of a delay.
        timed = event.status in _INTENTS or (waited is not None and waited.status is Status.WAITING)
        if waited is not None and waited.retry_at is not None and timed and event.order is None:
            at = day_time(at_s)
            led_s = max(begin_s for begin_s in begun_s if begin_s <= at_s)
            late = max(waited.retry_at, day_time(led_s)) + timedelta(seconds=TIMER_LATE_S)
            if not waited.retry_at <= at <= late:
                yield f"TIME: {event.status}({event.position}) at {at_s:.3f} s, and its time was {waited.retry_at}"
        work = definition.step(event.position).work if event.position else None
        # What a pause holds waits for its end, and for no time.
        backs_off = event.status in _BACKOFFS and event.code != PAUSED
        if backs_off or (event.status is Status.WAITING and work is Work.DELAY):
            until[event.position, kind] = event


def _begins_in_time(world: World, row: Row, definition: Definition) -> Iterator[str]:
    """No action begins before the saga's start, nor behind its deadline."""
    for event, at_s in zip(row.events, world.log.dates.get(row.id, ()), strict=True):
        if event.status is not Status.EXECUTING or event.attempt > 1:
            continue
        at = day_time(at_s)
        if row.starts_at is not None and at < row.starts_at:
            yield f"TIME: step {event.position} began at {at_s:.3f} s, before the saga was to start"
        if definition.within_s is not None:
            deadline = (row.starts_at or row.created_at) + timedelta(seconds=definition.within_s + TIMER_LATE_S)
            sealed = definition.pivot and _when(row, Status.COMPLETED, definition.pivot) is not None
            if at > deadline and not sealed:
                yield f"TIME: step {event.position} began at {at_s:.3f} s, behind the saga's deadline"


def _when(row: Row, status: Status, position: int) -> int | None:
    """The sequence of the first such row."""
    return next((e.sequence for e in row.events if e.status is status and e.position == position), None)


_OF_A_SAGA: tuple[Callable[[World, Row, Definition], Iterator[str]], ...] = (
    _children_follow,
    _undone_in_order,
    _pivot_stands,
    _passed_over,
    _times_kept,
    _begins_in_time,
)


def _heard_once(world: World) -> Iterator[str]:
    """Whatever was said to a saga is heeded once or refused with a reason, never both and never neither."""
    for number, posted in world.log.posted.items():
        what = f"{posted.signal.verb} {posted.signal.step}".strip()
        if not posted.heard:
            yield f"SIGNAL: {what} ({number}) was never heard"
        if posted.signal.order is None:
            continue
        rows = [e for e in world.log.rows[posted.saga_id].events if e.order == posted.signal.order]
        if len(rows) != (0 if posted.refusal else 1):
            yield f"SIGNAL: {what} ({number}) stands in {len(rows)} rows, and was {posted.refusal or 'heeded'}"


def _pauses_kept(world: World) -> Iterator[str]:
    """Nobody is called whom a pause holds; nothing else is held; and what was held goes on when the pause ends."""
    for offence in world.offences:
        yield f"PAUSE: {offence}"
    for one in world.log.paused.values():
        if one.resumed_at is not None and one.released_at is None:
            yield f"PAUSE: the end of it was never heeded: {one.pause}"
    for row in world.log.rows.values():
        steps = world.flow.definition_of(row.definition).steps
        dated = list(zip(row.events, world.log.dates.get(row.id, ()), strict=True))
        for number, (event, at_s) in enumerate(dated):
            if event.code != PAUSED:
                continue
            named = {(PauseKind.DEFINITION, row.definition), (PauseKind.PARTICIPANT, steps[event.position - 1].service)}
            pauses = [one for one in world.log.paused.values() if (one.pause.kind, one.pause.name) in named]
            if not any(one.pause.since <= day_time(at_s) for one in pauses):
                yield f"PAUSE: row {event.sequence} is held by no pause"
            again_s = next((s for later, s in dated[number + 1 :] if later.position == event.position), None)
            over = [one.resumed_at for one in pauses if one.resumed_at is not None]
            if again_s is None or not over:
                continue
            led_s = max(raised_s for _, _, raised_s in world.log.raises if raised_s <= again_s)
            if day_time(again_s) > max(*over, day_time(led_s)) + timedelta(seconds=LET_GO_LATE_S):
                yield f"PAUSE: row {event.sequence} goes on at {again_s:.3f} s, and its pause was over at {max(over)}"


def _published_once(world: World) -> Iterator[str]:
    """The broker has every transition, each behind those of its saga that come before it, and nothing else."""
    first = list(dict.fromkeys(world.published))
    if strangers := set(first) - set(world.log.order):
        yield f"EVENTS: {len(strangers)} events without a transition"
    if lost := set(world.log.order) - set(first):
        yield f"EVENTS: {len(lost)} transitions without an event: {sorted(number for _, number in lost)}"
    for row in world.log.rows.values():
        of_saga = [sequence for saga_id, sequence in first if saga_id == row.id]
        if of_saga != sorted(of_saga):
            yield f"EVENTS: out of order: {of_saga}"


def _told_truly(world: World) -> Iterator[str]:
    """Whoever was told that a saga was ordered to turn back finds that it did; no saga was left out."""
    told = {saga_id for saga_id, _ in world.bulk.items}
    for row in world.started:
        if row.cancel_reason != REASON or row.state is not SagaState.COMPENSATED:
            yield f"BULK: {row.id} is {row.state}, for {row.cancel_reason!r}; told: {str(row.id) in told}"
    if strangers := told - {str(row.id) for row in world.started}:
        yield f"BULK: {strangers} were never started"
    if not world.bulk.over:
        yield "BULK: the client was never told that it was all"


def _evidence(world: World) -> Evidence:
    log, shop, flow = world.log, world.shop, world.flow
    return Evidence(
        sagas=[_saga(row) for row in log.rows.values()],
        steps=[row for saga in log.rows.values() for row in _steps(world, saga)],
        epochs=[
            EpochRow(claim.shard, epoch, claim.holder, claim.cause, day_time(at_s)) for claim, epoch, at_s in log.raises
        ],
        definitions={(one.name, one.version): _shape(one) for one in flow.definitions},
        effects=[
            EffectRow(e.service, number, str(e.saga_id), e.step, str(e.kind), e.epoch, {}, day_time(e.at_s))
            for number, e in enumerate(shop.effects, start=1)
        ],
        tombstones=[Tombstone("shop", str(saga_id), step) for saga_id, step in shop.tombstones],
    )


def _saga(row: Row) -> SagaRow:
    error = None if row.error is None else {"message": row.error}
    return SagaRow(str(row.id), _request(row), 0, row.definition, row.version, str(row.state), error, row.input)


def _request(row: Row) -> str:
    return f"request {row.id}" if row.parent is None else child_request(row.parent, row.parent_step)


def _steps(world: World, row: Row) -> Iterator[StepRow]:
    names = ["", *(step.name for step in world.flow.definition_of(row.definition).steps)]
    for event, at_s in zip(row.events, world.log.dates.get(row.id, ()), strict=True):
        yield StepRow(
            str(row.id), event.sequence, names[event.position], str(event.status), event.epoch, day_time(at_s)
        )


def _shape(definition: Definition) -> tuple[StepShape, ...]:
    return tuple(
        StepShape(step.name, step.compensation is not None, step.work is Work.CALL) for step in definition.steps
    )
