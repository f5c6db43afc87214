"""The pivot: before it the way back, behind it the way forward, and no guess in between."""

from __future__ import annotations

from datetime import timedelta

import pytest

from orchestrator.errors import CorruptLog
from orchestrator.saga.commands import Held, Refused, Succeeded, Unknown
from orchestrator.saga.events import NOT_TO_BE_MADE, Event, Status
from orchestrator.saga.machine import evolve
from orchestrator.saga.model import SagaState
from orchestrator.saga.plan import cancel_refusal, resolutions
from orchestrator.saga.signals import Verb

from .sagas import EPOCH, NOW, Walk, graph

OK = Succeeded({})
NO = Refused("FAILED_PRECONDITION", "no")
LOST = Unknown("DEADLINE_EXCEEDED", "late")
AWAY = Held("NOT_CALLED", "away", 2.0, called=False)


def at_pivot(**pivot: object) -> Walk:
    """A saga that calls its pivot b, between a and c."""
    return Walk(graph({}, {"pivot": True, **pivot}, {"compensation": None}, within="60s")).ready().tell("a", OK)


def test_a_pivot_that_is_refused_turns_the_saga_back() -> None:
    walk = at_pivot().tell("b", NO).tell("a", OK)
    assert walk.saga.state is SagaState.COMPENSATED
    assert walk.saga.compensated == (1,)


def test_a_request_that_cannot_be_made_is_not_tried_again_on_either_way() -> None:
    cannot = Refused(NOT_TO_BE_MADE, "points nowhere")
    forward = at_pivot().tell("b", OK).tell("c", cannot)
    assert (forward.saga.state, forward.told[-1]) == (SagaState.FAILED, "parked c")
    backward = at_pivot().tell("b", NO).tell("a", cannot)
    assert backward.told[-2:] == ["compensation_failed a", "parked"]


def test_a_compensation_whose_participant_is_away_is_held_unless_that_is_final() -> None:
    lost = Held("UNAVAILABLE", "away", 2.0, called=True)
    assert at_pivot().tell("b", NO).tell("a", lost).told[-1] == "compensation_held a"
    undo = {"compensation": {"method": "t.S/Undo", "retry": {"final": ["UNAVAILABLE"]}}}
    walk = Walk(graph(undo, {})).ready().tell("a", OK).tell("b", NO).tell("a", AWAY).ready("a", 2).tell("a", lost)
    assert walk.told[-4:] == ["compensation_held a", "compensating a", "compensation_failed a", "parked"]


BUDGET = {"retry": {"within": "10s", "initial": "4s", "max": "4s", "jitter": 0}}
GONE = Held("UNAVAILABLE", "away", 30.0, called=True)


@pytest.mark.parametrize("order", [False, True], ids=["by itself", "at once, by order"])
def test_an_outage_spends_none_of_the_time_for_retries(order: bool) -> None:
    walk = Walk(graph({"compensation": "none", **BUDGET})).ready().tell("a", GONE)
    assert walk.waits == {"a": 30.0}
    if order:
        walk.now += timedelta(seconds=29)
        assert walk.signal(Verb.RETRY) == ""
    else:
        walk.failover().ready("a", 30)
    # The time for all attempts begins anew, and is then spent by failures.
    began_s = (walk.now - NOW).total_seconds()
    assert walk.calls == {"a"}
    walk.tell("a", LOST).ready("a", 4).tell("a", LOST).ready("a", 4).tell("a", LOST)
    assert walk.saga.state is SagaState.COMPENSATED
    assert (walk.now - NOW).total_seconds() == began_s + 8
    assert walk.told.count("executing a") == 4


def test_an_outage_spends_none_of_the_time_for_retries_of_a_compensation() -> None:
    undo = {"compensation": {"method": "t.S/Undo", **BUDGET}}
    walk = Walk(graph(undo, {})).ready().tell("a", OK).tell("b", NO).tell("a", GONE).ready("a", 30).tell("a", GONE)
    assert walk.waits == {"a": 60.0}
    assert walk.ready("a", 30).tell("a", OK).saga.state is SagaState.COMPENSATED


def test_the_time_for_a_step_goes_on_in_an_outage() -> None:
    walk = Walk(graph({"compensation": "none", "within": "10s"})).ready().tell("a", GONE)
    assert walk.waits == {"a": 10.0}
    assert walk.ready("a", 10).saga.state is SagaState.COMPENSATED


def test_a_pivot_that_is_refused_after_doubt_needs_a_person() -> None:
    walk = at_pivot().tell("b", LOST).ready("b", 1).tell("b", NO)
    assert walk.saga.state is SagaState.FAILED
    assert walk.saga.failure is not None
    assert "after an attempt that may have taken effect" in walk.saga.failure.message
    assert set(resolutions(walk.saga)) == {"retry", "skip b", "force b"}


def test_a_pivot_that_is_refused_after_a_failover_needs_a_person() -> None:
    assert at_pivot().failover().tell("b", NO).saga.state is SagaState.FAILED


def test_doubt_of_a_parked_pivot_outlives_its_retry() -> None:
    walk = at_pivot().tell("b", LOST).ready("b", 1).tell("b", NO)
    walk.signal(Verb.RETRY)
    assert walk.calls == {"b"}
    assert walk.tell("b", NO).saga.state is SagaState.FAILED
    walk.signal(Verb.FORCE, "b", result={"id": 1})
    assert walk.calls == {"c"}
    assert walk.tell("c", OK).saga.state is SagaState.COMPLETED


def test_neither_a_wish_nor_the_deadline_turns_back_a_pivot_that_may_have_taken_effect() -> None:
    walk = at_pivot().cancelled().ready(after_s=100)
    assert walk.calls == {"b"}
    assert "pivot" in cancel_refusal(walk.saga)
    walk.tell("b", LOST)
    assert walk.waits == {"b": 101.0}
    assert walk.ready("b", 1).tell("b", OK).calls == {"c"}


def test_a_pivot_that_was_surely_not_called_holds_nobody_back() -> None:
    """Its participant is away: past its deadline the saga turns back all the same."""
    walk = at_pivot().tell("b", AWAY)
    assert walk.waits == {"b": 2.0, "": 60.0}
    assert cancel_refusal(walk.saga) == ""
    walk.ready(after_s=60)
    assert walk.told[-2:] == ["expired", "compensating a"]
    assert walk.tell("a", OK).saga.state is SagaState.COMPENSATED


def test_a_held_pivot_past_its_own_limit_was_not_done_and_turns_the_saga_back() -> None:
    walk = at_pivot(within="3s").tell("b", AWAY).ready("b", 2).tell("b", AWAY)
    assert walk.waits["b"] == 3.0
    walk.ready("b", 1)
    assert walk.told[-2:] == ["failed b", "compensating a"]


def test_a_pivot_in_doubt_past_its_own_limit_needs_a_person() -> None:
    walk = at_pivot(within="3s").tell("b", LOST).ready("b", 3)
    assert walk.told[-1] == "parked b"


def test_behind_the_pivot_a_refusal_is_tried_again_and_then_parked() -> None:
    walk = at_pivot().tell("b", OK).tell("c", NO)
    assert walk.told[-1] == "refused c"
    walk.ready("c", 5).tell("c", NO)
    assert walk.told[-1] == "parked c"
    assert "compensating a" not in walk.told


def test_behind_the_pivot_a_wish_and_the_deadline_come_too_late() -> None:
    walk = at_pivot().tell("b", OK).cancelled().ready(after_s=100)
    assert walk.calls == {"c"}
    for status in (Status.CANCELLED, Status.EXPIRED):
        with pytest.raises(CorruptLog, match="pivot"):
            evolve(walk.saga, Event(walk.saga.sequence + 1, status, EPOCH, message="late"))


def test_a_log_that_turns_back_while_the_pivot_is_called_is_corrupt() -> None:
    saga = at_pivot().saga
    with pytest.raises(CorruptLog, match="pivot"):
        evolve(saga, Event(saga.sequence + 1, Status.CANCELLED, EPOCH, message="too late"))


def test_a_wish_before_the_pivot_that_arrives_with_the_last_outcome_comes_in_time() -> None:
    walk = Walk(graph({}, {"pivot": True})).ready()
    walk.cancel = "stop"
    walk.tell("a", OK)
    assert walk.told[-3:] == ["completed a", "cancelled", "compensating a"]


def test_a_pivot_whose_condition_does_not_hold_is_passed_and_the_saga_only_goes_forward() -> None:
    """What comes behind it has no compensation: turned back, it would be left half done."""
    walk = at_pivot(when="input.never")
    assert walk.calls == {"c"}
    assert "pivot" in cancel_refusal(walk.saga)
    walk.tell("c", NO).ready("c", 5).tell("c", NO)
    assert walk.saga.state is SagaState.FAILED
    assert walk.saga.to_compensate == ()


def test_a_pivot_that_cannot_even_begin_turns_the_saga_back() -> None:
    walk = at_pivot(when="ceil(input.rush)")
    assert walk.told[-2:] == ["failed b", "compensating a"]


def test_behind_the_pivot_a_step_that_cannot_begin_is_parked_and_may_be_forced_or_skipped() -> None:
    steps = ({"pivot": True}, {"compensation": None, "when": "ceil(input.rush)"})
    walk = Walk(graph(*steps)).ready().tell("a", OK)
    assert walk.told[-1] == "parked b"
    assert set(resolutions(walk.saga)) == {"retry", "skip b", "force b"}
    assert walk.signal(Verb.SKIP, "b") == ""
    assert walk.saga.state is SagaState.COMPLETED
