"""A saga that was moved is restored from its log as it was in memory, and a log that moves otherwise is corrupt."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.errors import CorruptLog, Rejected
from orchestrator.saga.definition import Definition
from orchestrator.saga.events import Event, Status
from orchestrator.saga.machine import fold
from orchestrator.saga.model import Epoch, Saga
from orchestrator.saga.moving import began
from orchestrator.sagalog.port import StoredSaga
from orchestrator.sagalog.restoring import restored, versions

from .choices import World, choices
from .sagas import NOW, Says, Walk, graph, version
from .test_machine_promises import shapes

STEPS_MAX = 7


def test_a_log_that_moves_from_elsewhere_is_corrupt() -> None:
    saga = Walk(graph({})).ready().saga
    for told in ({"from": 2, "to": 3}, {"from": 1, "to": 9}, {}):
        with pytest.raises(CorruptLog):
            fold(saga, [Event(2, Status.MOVED, Epoch(7), result=told)], {3: version(3, {})})


def stored(walk_saga: Saga, log: list[Event], state: str = "") -> StoredSaga:
    saga = walk_saga
    return StoredSaga(
        saga.id, "test", saga.definition.version, saga.input, {}, NOW, None, tuple(log), len(log), state=state
    )


def test_a_row_that_names_another_version_than_its_log_is_corrupt() -> None:
    walk = Walk(graph({}, {})).ready()
    walk.move(version(2, {}, {}))
    assert versions(stored(walk.saga, walk.log)) == (1, 2)
    with pytest.raises(CorruptLog, match="goes by version 5, its log by version 2"):
        versions(replace(stored(walk.saga, walk.log), version=5))
    broken = [*walk.log[:-1], replace(walk.log[-1], result={"to": "x"})]
    with pytest.raises(CorruptLog, match="from which version"):
        versions(stored(walk.saga, broken))


# At random.


@st.composite
def edited(draw: st.DrawFn, number: int, steps: list[Says], top: dict[str, object]) -> Definition:
    """Another version: a few things in it are changed."""
    changed = [dict(step) for step in steps]
    for _ in range(draw(st.integers(0, 2))):
        what = draw(st.sampled_from(["policy", "action", "undo", "when", "after", "drop", "add"]))
        _edit(changed, what, draw(st.integers(0, len(changed) - 1)))
    try:
        return version(number, *changed, **(draw(st.sampled_from([top, {**top, "within": "60s"}]))))
    except Rejected:
        return version(number, *steps, **top)


def _edit(steps: list[Says], what: str, index: int) -> None:
    step = steps[index]
    calls = not step.keys() & {"delay", "approval"}
    match what:
        case "policy" if calls:
            step["retry"] = {"retries": 3}
        case "action" if calls:
            step["action"] = {"method": "t.S/Other"}
        case "undo" if calls and "compensation" not in step and not step.get("pivot"):
            step["compensation"] = {"method": "t.S/Else"}
        case "when":
            step["when"] = "input.never" if step.get("when") == "input.rush" else "input.rush"
        case "after" if index:
            step["after"] = []
        case "drop" if len(steps) > 1:
            steps.pop()
        case "add" if len(steps) < STEPS_MAX:
            steps.append({"compensation": None} if any(other.get("pivot") for other in steps) else {})
        case _:
            pass


@st.composite
def families(draw: st.DrawFn) -> tuple[Saga, tuple[Definition, ...]]:
    steps, top = draw(shapes())
    return graph(*steps, **top), (draw(edited(2, steps, top)), draw(edited(3, steps, top)))


@given(family=families(), turns=st.lists(st.integers(0, 10_000), max_size=40))
@settings(max_examples=150, deadline=None)
def test_a_moved_saga_restored_from_its_log_is_the_saga_in_memory(
    family: tuple[Saga, tuple[Definition, ...]], turns: list[int]
) -> None:
    start, others = family
    known = {definition.version: definition for definition in (start.definition, *others)}
    world, log = World(start, versions=others), list[Event]()
    for turn in turns:
        found = list(choices(world))
        if not found:
            break
        moves = [choice for choice in found if choice[0].startswith("move")]
        well = [choice for choice in found if choice[0].startswith(("intend", "Succeeded", "Wait("))]
        found = (moves if turn % 4 == 0 else well if turn % 4 < 3 else found) or found
        before, (name, world) = world.saga, found[turn % len(found)]
        log += world.events
        if name.startswith("move"):
            _kept(before, world.saga)
        assert restored(stored(world.saga, log), known) == world.saga, name


def _kept(before: Saga, after: Saga) -> None:
    """What had begun is there as it was, and only the version is another one."""
    old, new = before.definition, after.definition
    assert after.sequence > before.sequence
    for position in began(before):
        step, its = old.step(position), new.step(position)
        assert (step.name, step.after, step.work, step.pivot) == (its.name, its.after, its.work, its.pivot)
        done = position in before.executed
        assert not done or (step.action and step.action.path) == (its.action and its.action.path)
    assert set(before.executed) <= set(after.executed)
    assert set(before.to_compensate) <= {*after.to_compensate, *after.compensated, *after.uncompensated}
