"""A saga is moved to another version where what has begun is equal, and to no other."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.errors import FieldViolation
from orchestrator.saga.commands import Accepted, Held, Refused, Succeeded, Unknown
from orchestrator.saga.definition import Definition
from orchestrator.saga.machine import Moment
from orchestrator.saga.model import SagaState
from orchestrator.saga.moving import Destination
from orchestrator.saga.signals import Signal, Verb, heed

from .choices import ORDER
from .sagas import EPOCH, NOW, Says, Walk, graph, version

OK = Succeeded({"id": 1})
NO = Refused("FAILED_PRECONDITION", "no")
LOST = Unknown("DEADLINE_EXCEEDED", "late")
UNMADE = Refused("MAPPING", "results.a.idd points nowhere")
AWAY = Held("NOT_CALLED", "away", 1.0, called=False)
OTHER: Says = {"action": {"method": "t.S/Other"}}
UNDONE_OTHERWISE: Says = {"compensation": {"method": "t.S/Else", "retry": {"retries": 1}}}


def refusal(walk: Walk, to: Definition) -> str:
    """Why a move is refused; nothing has happened to the saga then."""
    before = walk.saga, len(walk.log)
    why = walk.move(to)
    assert why
    assert (walk.saga, len(walk.log)) == before
    return why


def test_what_has_not_begun_may_differ() -> None:
    walk = Walk(graph({}, {}, {})).ready().tell("a", OK)
    assert walk.move(version(2, {}, {}, OTHER, {})) == ""
    assert walk.told[-1] == "moved"
    assert walk.log[-1].result == {"from": 1, "to": 2}
    assert walk.log[-1].order == ORDER
    # The call of b is under way, and what comes of it is heard under the new version.
    walk.tell("b", OK)
    assert walk.calls == {"c"}
    assert walk.saga.definition.step(3).action.path == "/t.S/Other"  # type: ignore[union-attr]
    walk.tell("c", OK).tell("d", OK)
    assert walk.saga.state is SagaState.COMPLETED


def test_a_step_that_may_begin_under_the_new_version_begins_in_the_same_write() -> None:
    walk = Walk(graph({"approval": {}}, {})).ready()
    assert walk.move(version(2, {"approval": {}}, {}, {"after": []})) == ""
    assert walk.told[-2:] == ["moved", "executing c"]


def test_a_version_in_which_nothing_is_left_ends_the_saga() -> None:
    walk = Walk(graph({}, {})).ready()
    walk.signal(Verb.PAUSE)
    walk.tell("a", OK)
    assert walk.move(version(2, {})) == ""
    assert walk.saga.state is SagaState.COMPLETED


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ([OTHER, {}], "step a: action.method is t.S/Other, and was t.S/Do when the step began"),
        ([UNDONE_OTHERWISE, {}], "step a: compensation.method is t.S/Else"),
        ([{"when": "input.rush"}, {}], "step a: when is input.rush, and was not there"),
        ([{"service": "elsewhere:1"}, {}], "step a: service is elsewhere:1"),
        ([{"action": {"method": "t.S/Do", "request": {"n": "input.rush"}}}, {}], "step a: action.request.n"),
        ([{"delay": "1s"}, {}], "step a: work is delay"),
        ([{"name": "z"}, {}], "step a: step has begun, and is not there"),
        ([{"name": "z"}, {"name": "a", "after": []}], "step a: place is 2, and was 1"),
        ([{"pivot": True}, {}], "step a: pivot is true"),
    ],
)
def test_what_was_executed_must_be_equal(steps: list[Says], why: str) -> None:
    walk = Walk(graph({}, {})).ready().tell("a", OK).tell("b", LOST)
    assert why in refusal(walk, version(2, *steps))
    assert walk.ready("b", 1.0).tell("b", OK).saga.state is SagaState.COMPLETED


def test_a_version_without_a_step_that_was_done_beside_a_call_under_way_is_refused() -> None:
    walk = Walk(graph({}, {"after": []})).ready().tell("b", OK)
    assert "step b: step has begun, and is not there" in refusal(walk, version(2, {}))
    assert walk.tell("a", OK).saga.state is SagaState.COMPLETED


def test_relations_of_what_has_begun_must_be_equal() -> None:
    walk = Walk(graph({}, {"after": []}, {"after": ["a", "b"]})).ready().tell("a", OK)
    assert "step b: after is a, and was nothing" in refusal(walk, version(2, {}, {"after": ["a"]}, {}))
    assert walk.move(version(3, {}, {"after": []}, {"after": ["b"]})) == ""


def test_how_persistently_a_step_is_called_may_differ() -> None:
    walk = Walk(graph({}, {})).ready().tell("a", LOST)
    patient = {"retry": {"retries": 9, "initial": "5s"}, "timeout": "60s"}
    assert walk.move(version(2, patient, {})) == ""
    for _ in range(5):
        walk.ready("a", 300.0).tell("a", LOST)
    assert walk.saga.state is SagaState.RUNNING


def test_what_was_passed_over_must_be_equal() -> None:
    walk = Walk(graph({"when": "input.never"}, {})).ready()
    assert walk.saga.skipped == (1,)
    assert "step a: when is input.later, and was input.never" in refusal(walk, version(2, {"when": "input.later"}, {}))


def test_what_was_accepted_must_be_equal() -> None:
    later: Says = {"answer": "later", "within": "5s"}
    walk = Walk(graph(later, {})).ready().tell("a", Accepted())
    assert "step a: action.method" in refusal(walk, version(2, {**later, **OTHER}, {}))
    assert walk.move(version(3, later, OTHER)) == ""
    assert walk.signal(Verb.COMPLETE, "a", result={}) == ""
    assert walk.saga.definition.version == 3


def test_what_a_participant_has_refused_it_knows_and_must_be_equal() -> None:
    transient: Says = {"retry": {"retries": 3, "transient": ["FAILED_PRECONDITION"]}}
    walk = Walk(graph(transient)).ready().tell("a", NO)
    assert "step a: action.method" in refusal(walk, version(2, {**transient, **OTHER}))


def test_what_surely_reached_nobody_may_be_called_otherwise() -> None:
    walk = Walk(graph({}, {})).ready().tell("a", AWAY)
    assert walk.move(version(2, {**OTHER, "service": "elsewhere:1"}, {})) == ""
    walk.ready("a", 1.0)
    assert walk.calls == {"a"}
    assert walk.saga.definition.step(1).service == "elsewhere:1"


def test_a_mapping_that_points_nowhere_is_mended_by_a_move_and_a_retry() -> None:
    behind: Says = {"compensation": None, "retry": {"retries": 0}}
    walk = Walk(graph({"pivot": True}, behind)).ready().tell("a", OK).tell("b", UNMADE)
    assert walk.saga.state is SagaState.FAILED
    assert walk.move(version(2, {"pivot": True}, {**behind, **OTHER})) == ""
    assert walk.saga.state is SagaState.FAILED, "a move alone does not take a parked saga up"
    assert walk.signal(Verb.RETRY) == ""
    assert walk.tell("b", OK).saga.state is SagaState.COMPLETED


def test_what_was_parked_in_doubt_must_be_equal() -> None:
    behind: Says = {"compensation": None, "retry": {"retries": 0}}
    walk = Walk(graph({"pivot": True}, behind)).ready().tell("a", OK).tell("b", LOST)
    assert walk.saga.state is SagaState.FAILED
    assert "step b: action.method" in refusal(walk, version(2, {"pivot": True}, {**behind, **OTHER}))
    # An attempt whose request could not be made leaves the doubt about an earlier one.
    walk.signal(Verb.RETRY)
    walk.tell("b", UNMADE)
    assert walk.saga.state is SagaState.FAILED
    assert "step b: action.method" in refusal(walk, version(2, {"pivot": True}, {**behind, **OTHER}))


def test_a_condition_that_cannot_be_found_out_is_mended_by_a_move() -> None:
    walk = Walk(graph({"pivot": True}, {"compensation": None, "when": "ceil(input.rush)"})).ready().tell("a", OK)
    assert walk.saga.state is SagaState.FAILED
    assert walk.move(version(2, {"pivot": True}, {"compensation": None, "when": "input.rush"})) == ""
    walk.signal(Verb.RETRY)
    assert walk.calls == {"b"}


def test_a_compensation_that_cannot_be_made_is_mended_by_a_move() -> None:
    walk = Walk(graph({}, {})).ready().tell("a", OK).tell("b", NO)
    assert walk.calls == {"-a"}
    assert "step a: compensation.method" in refusal(walk, version(2, UNDONE_OTHERWISE, {}))
    walk.tell("a", UNMADE)
    assert walk.saga.state is SagaState.FAILED
    assert "step a: compensation is none" in refusal(walk, version(3, {"compensation": "none", "reason": "x"}, {}))
    assert walk.move(version(2, UNDONE_OTHERWISE, {})) == ""
    walk.signal(Verb.RETRY)
    assert walk.tell("a", OK).saga.state is SagaState.COMPENSATED


def test_a_compensation_that_was_ever_called_must_be_equal() -> None:
    walk = Walk(graph({}, {})).ready().tell("a", OK).tell("b", NO)
    walk.tell("a", LOST).ready("a", 60.0).tell("a", LOST)
    assert walk.saga.state is SagaState.FAILED
    walk.signal(Verb.RETRY)
    walk.tell("a", UNMADE)
    assert walk.saga.state is SagaState.FAILED
    assert "step a: compensation.method" in refusal(walk, version(2, UNDONE_OTHERWISE, {}))


def test_a_saga_that_turns_back_goes_on_turning_back() -> None:
    walk = Walk(graph({}, {}, {})).ready().tell("a", OK).tell("b", NO)
    patient: Says = {"compensation": {"method": "t.S/Undo", "retry": {"retries": 9}}}
    assert walk.move(version(2, patient, OTHER, {})) == ""
    assert "compensate is parallel" in refusal(walk, version(3, {}, {}, {}, compensate="parallel"))
    assert "step c: step may have begun, and is not there" in refusal(walk, version(4, {}, {}))
    assert walk.tell("a", OK).saga.state is SagaState.COMPENSATED


def test_a_saga_that_waits_for_its_time_does_not_begin_before_it() -> None:
    walk = Walk(replace(graph({}), starts_at=NOW + timedelta(seconds=60)))
    assert walk.move(version(2, OTHER)) == ""
    assert walk.told == ["moved"]
    assert (walk.calls, walk.waits) == (set(), {"": 60.0})
    assert walk.ready(after_s=60.0).calls == {"a"}


def test_a_deadline_that_would_be_over_is_an_obstacle() -> None:
    walk = Walk(graph({"approval": {}}, {}, within="60s")).ready()
    walk.now += timedelta(seconds=10)
    why = refusal(walk, version(2, {"approval": {}}, {}, within="5s"))
    assert why.endswith("within is 5s, which is over: the saga would turn back at once")
    assert walk.move(version(3, {"approval": {}}, {}, within="90s")) == ""
    assert walk.waits[""] == 90.0


def test_no_move_shows_what_was_hidden() -> None:
    walk = Walk(graph({"secrets": ["token"]}, {}, secrets=["card"])).ready().tell("a", OK)
    assert "secrets would no longer hide card" in refusal(walk, version(2, {"secrets": ["token"]}, {}))
    assert "step a: secrets" in refusal(walk, version(3, {}, {}, secrets=["card"]))
    assert walk.move(version(4, {"secrets": ["token", "id"]}, {}, secrets=["card", "name"])) == ""


def test_a_request_that_names_the_version_is_not_repeated_under_another() -> None:
    named: Says = {"action": {"method": "t.S/Do", "request": {"version": "saga.version"}}}
    walk = Walk(graph(named, {})).ready()
    assert "step a: action.request would be made otherwise" in refusal(walk, version(2, named, {}))
    assert walk.tell("a", OK).move(version(2, named, {})) == ""


def test_messages_that_are_described_otherwise_hold_up_what_is_under_way_alone() -> None:
    walk = Walk(graph({}, {})).ready().tell("a", OK)
    assert "step b: action has other messages" in walk.move(version(2, {}, {}), described_anew=frozenset({"a", "b"}))
    assert walk.move(version(2, {}, {}), described_anew=frozenset({"a"})) == ""


def test_an_input_that_the_new_version_cannot_use_is_an_obstacle() -> None:
    walk = Walk(graph({}, {})).ready()
    why = walk.move(version(2, {}, {}), unusable=(FieldViolation("input.street", "is missing"),))
    assert why == "it cannot be moved to version 2: input.street is missing"


def test_a_move_to_nowhere_is_refused() -> None:
    walk = Walk(graph({})).ready()
    assert refusal(walk, version(1, {})) == "it cannot be moved to version 1: version is 1 already"
    assert "the saga is one of test" in refusal(walk, replace(version(2, {}), name="other"))
    assert "is 1 by now, no longer 7" in walk.move(version(2, {}), from_version=7)
    assert walk.signal(Verb.MOVE) == "nobody has said where the saga is to be moved to"
    assert walk.signal(Verb.MOVE, destination=Destination(None, "there is no version 9")) == "there is no version 9"
    assert walk.tell("a", OK).move(version(2, {})) == "the saga is COMPLETED"


def test_nobody_moves_a_saga_without_a_reason() -> None:
    saga = Walk(graph({})).ready().saga
    signal = Signal(1, Verb.MOVE, destination=Destination(version(2, {}), from_version=1))
    heeded = heed(saga, signal, Moment(EPOCH, NOW, 0.0))
    assert heeded is not None
    assert heeded.refusal == "move needs a reason"
