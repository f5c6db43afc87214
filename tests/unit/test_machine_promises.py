"""The promises of a saga, whatever the graph, the policies, and what happens."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator.saga.commands import Accepted, Call
from orchestrator.saga.events import NOT_CALLED, PAUSED, Event, Status
from orchestrator.saga.machine import fold, next_commands
from orchestrator.saga.model import Kind, Saga, SagaState
from orchestrator.saga.progress import may_begin, ready
from orchestrator.saga.signals import Verb

from .choices import OK, World, choices
from .sagas import EPOCH, Says, graph

STEPS_MAX = 5
WORKS: dict[str, Says] = {
    "call": {},
    "delay": {"delay": "1s"},
    "approval": {"approval": {}},
    "later": {"answer": "later", "heartbeat": "2s", "within": "5s"},
    "asks": {"on_unknown": "query", "status": {"method": "t.S/Get"}},
    "compensates": {"on_unknown": "compensate"},
    "not-undone": {"compensation": "none", "reason": "a test"},
}


@st.composite
def _work(draw: st.DrawFn, *, pivot: bool, behind: bool) -> Says:
    """What a step does, and whether it can be undone."""
    works = ["call", "delay", "later", "asks"] + ([] if behind else ["approval"])
    works += [] if behind or pivot else ["compensates", "not-undone"]
    work = draw(st.sampled_from(works))
    says = WORKS[work]
    if behind and work != "delay":
        says = {**says, "compensation": None}
    return says


@st.composite
def shapes(draw: st.DrawFn) -> tuple[list[Says], dict[str, object]]:
    """A graph of steps with whatever a step may say; with a pivot, all steps come before it or behind it."""
    count = draw(st.integers(1, STEPS_MAX))
    pivot = draw(st.integers(0, count))
    steps: list[Says] = []
    for number in range(1, count + 1):
        says: Says = {}
        behind = pivot != 0 and number > pivot
        names = ["abcdefghij"[index] for index in range(pivot - 1 if behind else 0, number - 1)]
        if number == pivot:
            says |= {"pivot": True, "after": names}
        elif number > 1:
            after = draw(st.lists(st.sampled_from(names), unique=True)) if names else []
            says["after"] = after or (names[:1] if behind else [])
        says |= draw(_work(pivot=number == pivot, behind=behind))
        # A pivot behind a condition is passed over; what is behind it goes forward all the same.
        if draw(st.integers(0, 3)) == 0:
            says["when"] = draw(st.sampled_from(["input.rush", "input.never"]))
        steps.append(says)
    top: dict[str, object] = {"compensate": "parallel"} if draw(st.booleans()) else {}
    if draw(st.booleans()):
        top["within"] = "3s"
    return steps, top


@given(
    start=shapes().map(lambda shape: graph(*shape[0], **shape[1])),
    turns=st.lists(st.integers(0, 10_000), max_size=40),
    orders=st.booleans(),
)
# It is accepted, and then refused by whoever accepted it.
@example(
    start=graph(WORKS["later"], *[{"after": [], "when": "input.never"} for _ in range(3)], within="3s"),
    turns=[0, 2613, 771],
    orders=False,
)
@settings(max_examples=120, deadline=None)
def test_every_saga_ends_as_promised(start: Saga, turns: list[int], orders: bool) -> None:
    world, log = World(start), []
    for turn in turns:
        found = [choice for choice in choices(world) if (orders or not _ordered(choice[0])) and _can_be(choice[0])]
        if not found:
            break
        # Most things go well: else no saga would come far enough to have much to undo.
        found = [choice for choice in found if turn % 3 and _well(choice[0])] or found
        name, world = found[turn % len(found)]
        log += _checked(start, log, world, name)
    # From here on all goes well, and whoever is asked says yes.
    for _ in range(200):
        found = list(choices(world))
        well = [choice for choice in found if _well(choice[0])]
        if world.saga.state.terminal:
            break
        assert well, (next_commands(world.saga, world.epoch), [name for name, _ in found])
        name, world = well[0]
        log += _checked(start, log, world, name)
    assert world.saga.state.terminal
    if not any(event.order for event in log):
        _all_or_nothing(world.saga, log)


def _ordered(name: str) -> bool:
    return name.split(" ")[0] in {verb.value for verb in Verb} - {"complete", "fail", "heartbeat", "approve", "reject"}


def _can_be(name: str) -> bool:
    """A compensation that a participant accepts for later is one of unknown outcome (grpc_edge.py): none comes here."""
    return not (name.startswith(str(Accepted())) and "COMPENSATION" in name)


def _well(name: str) -> bool:
    """What goes well, and the time that passes."""
    if name.split(" ")[0] in ("intend", "approve", "resume", "complete"):
        return True
    return name.startswith((str(OK), "Wait("))


def _checked(start: Saga, log: list[Event], world: World, name: str) -> tuple[Event, ...]:
    """What must hold behind every single event; the events."""
    saga = fold(start, log)
    definition = start.definition
    for event in world.events:
        before, saga = saga, fold(saga, (event,))
        step = definition.step(event.position) if event.position else None
        everywhere = range(-1, len(definition.steps) + 2)
        assert tuple(position for position in everywhere if may_begin(saga, position)) == ready(saga)
        if step is not None and event.status in (Status.EXECUTING, Status.QUERYING, Status.WAITING):
            done = {*before.executed, *before.skipped}
            assert done >= set(step.after), f"{name}: begun before what it comes after"
            assert before.state in (SagaState.PENDING, SagaState.RUNNING)
        if event.status is Status.COMPENSATING:
            begun = {e.position for e in log if e.status in (Status.EXECUTING, Status.FORCED)}
            assert event.position in begun, f"{name}: undone, and never begun"
            assert event.position not in before.skipped
            later = definition.descendants[event.position - 1]
            assert not later & {*before.to_compensate}, f"{name}: undone before what came after it"
            assert not any(cursor.kind is Kind.ACTION for cursor in before.open), f"{name}: undone beside an action"
            assert definition.pivot not in before.executed, f"{name}: undone behind the pivot"
    assert saga == world.saga, f"{name}: the log tells another story"
    stale = [
        command
        for command in next_commands(world.saga, world.epoch)
        if isinstance(command, Call) and (cursor := world.saga.at(command.position)) is not None
        if cursor.intent_epoch != world.epoch
    ]
    assert stale == [], f"{name}: called without an intent of this epoch"
    assert world.epoch >= EPOCH
    return world.events


def _perhaps_done(log: list[Event]) -> set[int]:
    """What may have taken effect, as the log alone tells it."""
    perhaps: set[int] = set()
    accepted: set[int] = set()
    for event in log:
        match event.status:
            case Status.COMPLETED | Status.UNKNOWN | Status.RETRYING:
                perhaps.add(event.position)
            case Status.WAITING:
                accepted.add(event.position)
            case Status.FAILED:
                # Whoever accepted it says that it took no effect; of attempts before that one, nothing is known.
                accepted.discard(event.position)
            case Status.HELD if event.code not in (NOT_CALLED, PAUSED):
                perhaps.add(event.position)
            case Status.ABSENT:
                perhaps.discard(event.position)
            case _:
                pass
    return perhaps | accepted


def _all_or_nothing(saga: Saga, log: list[Event]) -> None:
    """What nobody's order has changed is done as a whole, undone as a whole, or parked."""
    definition = saga.definition
    everything = set(range(1, len(definition.steps) + 1))
    match saga.state:
        case SagaState.COMPLETED:
            assert {*saga.executed, *saga.skipped} == everything
            assert saga.compensated == ()
        case SagaState.COMPENSATED:
            owed = {position for position in saga.executed if definition.step(position).undoable}
            owed |= {position for position in _perhaps_done(log) if definition.step(position).action}
            assert {p for p in owed if definition.step(p).undoable} <= set(saga.compensated)
            assert definition.pivot == 0 or definition.pivot not in (*saga.executed, *saga.skipped)
            assert saga.uncompensated == ()
        case _:
            assert saga.state is SagaState.FAILED
            assert saga.failure is not None
            assert log[-1].status in (Status.PARKED, Status.COMPLETED)
    # No position is undone twice, or done twice.
    for positions in (saga.executed, saga.compensated, saga.to_compensate, saga.skipped):
        assert len(set(positions)) == len(positions)
    late = max((event.retry_at for event in log if event.retry_at), default=saga.created_at)
    assert late - saga.created_at < timedelta(days=1)
