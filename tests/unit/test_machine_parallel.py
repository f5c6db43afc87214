"""Steps side by side: what begins together, what is waited for, and the order in which it is undone."""

from __future__ import annotations

from datetime import timedelta

import pytest

from orchestrator.errors import CorruptLog
from orchestrator.saga.commands import Accepted, Begin, Refused, Succeeded, Unknown
from orchestrator.saga.events import Event, Status
from orchestrator.saga.machine import evolve, next_commands
from orchestrator.saga.model import Kind, SagaState
from orchestrator.saga.signals import Verb

from .sagas import EPOCH, Says, Walk, graph

OK = Succeeded({})
NO = Refused("FAILED_PRECONDITION", "no")
LOST = Unknown("DEADLINE_EXCEEDED", "late")

# a and b side by side, c behind both, d behind a alone.
DIAMOND: tuple[Says, ...] = ({}, {"after": []}, {"after": ["a", "b"]}, {"after": ["a"]})


def diamond(**top: object) -> Walk:
    return Walk(graph(*DIAMOND, **top)).ready()


def test_steps_that_wait_for_nothing_begin_together_and_each_other_one_behind_all_it_waits_for() -> None:
    walk = diamond()
    assert walk.calls == {"a", "b"}
    walk.tell("a", OK)
    assert walk.calls == {"b", "d"}
    walk.tell("b", OK)
    assert walk.calls == {"c", "d"}
    walk.tell("d", OK).tell("c", OK)
    assert walk.saga.state is SagaState.COMPLETED


def test_a_failure_leaves_what_has_not_begun_and_waits_for_what_runs() -> None:
    walk = diamond().tell("a", OK).tell("b", NO)
    assert walk.calls == {"d"}
    walk.tell("d", OK)
    assert walk.calls == {"-d"}
    walk.tell("d", OK).tell("a", OK)
    assert walk.saga.state is SagaState.COMPENSATED
    assert walk.saga.compensated == (4, 1)


def test_a_second_failure_while_the_first_is_waited_for_is_taken_in() -> None:
    walk = diamond().tell("a", NO).tell("b", NO)
    assert walk.saga.state is SagaState.COMPENSATED
    assert walk.saga.failure is not None
    assert walk.saga.failure.step == "a"


def test_a_call_whose_outcome_stays_unknown_while_the_saga_turns_back_is_undone() -> None:
    walk = diamond().tell("a", NO).tell("b", LOST)
    assert walk.told[-2:] == ["unknown b", "compensating b"]


def test_a_step_that_waits_for_its_next_attempt_is_undone_when_another_one_turns_the_saga_back() -> None:
    walk = diamond().tell("a", LOST).tell("b", NO)
    assert walk.calls == {"-a"}


def test_a_refused_attempt_that_would_have_been_repeated_is_not_undone() -> None:
    steps: tuple[Says, ...] = ({"retry": {"retries": 1, "transient": ["FAILED_PRECONDITION"]}}, {"after": []})
    walk = Walk(graph(*steps)).ready().tell("a", NO).tell("b", NO)
    assert walk.saga.state is SagaState.COMPENSATED
    assert walk.saga.compensated == ()


def test_a_new_leader_that_finds_a_saga_turning_back_undoes_what_the_old_one_was_calling() -> None:
    walk = diamond().tell("a", NO).failover()
    assert walk.told[-2:] == ["unknown b", "compensating b"]


def test_a_failover_before_the_failure_makes_every_other_call_doubtful() -> None:
    walk = diamond().failover()
    assert walk.calls == {"a", "b"}
    walk.tell("a", NO)
    # Refused now; but the old leader's call of a may have taken effect.
    assert walk.saga.to_compensate == (1,)
    walk.tell("b", OK)
    assert walk.saga.to_compensate == (1, 2)


def test_without_more_being_asked_for_steps_are_undone_one_at_a_time_the_last_first() -> None:
    walk = diamond().tell("b", OK).tell("a", OK).tell("c", OK).tell("d", NO)
    order = []
    while walk.calls:
        (call,) = walk.calls
        order.append(call)
        walk.tell(call[1:], OK)
    assert order == ["-c", "-a", "-b"]


def test_independent_compensations_run_together_if_asked_for() -> None:
    walk = diamond(compensate="parallel").tell("a", OK).tell("b", OK).tell("c", OK).tell("d", NO)
    assert walk.calls == {"-c"}
    walk.tell("c", OK)
    assert walk.calls == {"-a", "-b"}


def test_the_way_back_goes_through_steps_without_compensation_and_skipped_ones() -> None:
    """c was done behind a by way of b, which has nothing to undo: a still has to wait for c."""
    steps: tuple[Says, ...] = ({}, {"compensation": "none"}, {}, {"after": ["a"]})
    walk = Walk(graph(*steps, compensate="parallel")).ready()
    walk.tell("a", OK).tell("b", OK).tell("c", OK).tell("d", NO)
    assert walk.calls == {"-c"}


def test_a_spent_compensation_stops_none_of_the_others() -> None:
    walk = diamond(compensate="parallel").tell("a", OK).tell("b", OK).tell("c", OK).tell("d", NO)
    walk.tell("c", LOST).ready("c", 60).tell("c", LOST)
    assert walk.calls == {"-a", "-b"}
    walk.tell("a", OK).tell("b", OK)
    assert walk.saga.state is SagaState.FAILED
    assert walk.saga.uncompensated == (3,)


def test_a_parked_saga_of_several_branches_is_retried_as_a_whole() -> None:
    walk = Walk(graph({"pivot": True}, {"compensation": None}, {"after": ["a"], "compensation": None})).ready()
    walk.tell("a", OK)
    assert walk.calls == {"b", "c"}
    walk.tell("b", LOST).ready("b", 60).tell("b", LOST)
    assert walk.saga.state is SagaState.FAILED
    # c was being called when the saga was parked: that call was given up, and is made again under a new intent.
    walk.signal(Verb.RETRY)
    assert walk.calls == {"b", "c"}
    cursor = walk.saga.at(3)
    assert cursor is not None
    assert (cursor.attempt, cursor.doubtful) == (2, True)


def test_a_parked_saga_whose_one_step_is_retried_is_in_doubt_about_the_others_as_well() -> None:
    walk = Walk(graph({}, {"after": []})).ready()
    parked = Event(walk.saga.sequence + 1, Status.PARKED, EPOCH, code="PARKED", message="a defect")
    walk = Walk(evolve(walk.saga, parked))
    walk.signal(Verb.RETRY, "a")
    for position in (1, 2):
        cursor = walk.saga.at(position)
        assert cursor is not None
        assert (cursor.attempt, cursor.doubtful) == (2, True), "its call was given up when the saga was parked"


def test_a_step_may_not_begin_before_what_it_waits_for() -> None:
    walk = diamond().tell("a", OK)
    with pytest.raises(CorruptLog, match="turn"):
        evolve(walk.saga, Event(walk.saga.sequence + 1, Status.EXECUTING, EPOCH, 3, 1))


def test_a_new_leader_that_finds_one_of_several_steps_out_of_time_turns_back_and_undoes_them_all() -> None:
    walk = Walk(graph({"within": "3s"}, {"after": []}, {"after": ["a", "b"]})).ready()
    walk.now += timedelta(seconds=5)
    walk.failover()
    assert walk.told[-2:] == ["unknown a", "compensating b"], "b may have taken effect as well: its leader is gone"
    walk.tell("b", OK).tell("a", OK)
    assert walk.saga.state is SagaState.COMPENSATED


def test_a_new_leader_that_finds_one_of_several_steps_behind_the_pivot_out_of_time_parks_the_saga_alone() -> None:
    behind: Says = {"after": ["a"], "compensation": None}
    walk = Walk(graph({"pivot": True}, {**behind, "within": "3s"}, behind)).ready().tell("a", OK)
    walk.now += timedelta(seconds=5)
    walk.failover()
    assert walk.told[-1] == "parked b"
    assert walk.signal(Verb.RETRY) == ""
    assert walk.calls == {"b", "c"}


def test_a_saga_that_is_taken_up_again_asks_for_an_answer_that_it_refused_while_it_was_parked() -> None:
    behind: Says = {"after": ["a"], "compensation": None, "retry": {"retries": 0}}
    walk = Walk(graph({"pivot": True}, {**behind, "answer": "later"}, behind)).ready().tell("a", OK)
    walk.tell("b", Accepted()).tell("c", NO)
    assert walk.told[-1] == "parked c"
    assert walk.signal(Verb.FAIL, "b") == "the saga is FAILED"
    assert walk.signal(Verb.SKIP, "c") == ""
    assert walk.calls == {"b"}, "its participant gives the answer that it has"
    assert walk.tell("b", OK).saga.state is SagaState.COMPLETED


def test_a_saga_that_is_taken_up_again_asks_for_a_child_that_may_have_ended_while_it_was_parked() -> None:
    behind: Says = {"after": ["a"]}
    stubborn: Says = {**behind, "compensation": None, "retry": {"retries": 0}}
    walk = Walk(graph({"pivot": True}, stubborn, {**behind, "saga": {"definition": "other"}})).ready().tell("a", OK)
    walk.tell("c", Accepted()).tell("b", NO)
    assert walk.told[-1] == "parked b"
    assert walk.signal(Verb.CHILD, "c", result={"state": "COMPLETED"}) == "the saga is FAILED"
    assert walk.signal(Verb.SKIP, "b") == ""
    assert next_commands(walk.saga, walk.epoch) == (Begin(3, Kind.ACTION, 2),), "whose end is told again"
