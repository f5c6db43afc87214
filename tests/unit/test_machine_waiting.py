"""What a saga waits for: conditions, delays, approvals, answers that come later, limits and the deadline."""

from __future__ import annotations

from datetime import timedelta

import pytest

from orchestrator.saga.commands import Accepted, Refused, Succeeded, Unknown
from orchestrator.saga.model import Epoch, SagaState
from orchestrator.saga.progress import FOREVER, wake_at
from orchestrator.saga.signals import Verb

from .sagas import Walk, graph

OK = Succeeded({})
NO = Refused("FAILED_PRECONDITION", "no")
LOST = Unknown("DEADLINE_EXCEEDED", "late")
LATER = {"answer": "later", "within": "60s"}


def test_a_step_whose_condition_does_not_hold_is_skipped_in_the_log_and_never_undone() -> None:
    walk = Walk(graph({}, {"when": "input.never"}, {})).ready().tell("a", OK)
    assert walk.told[-2:] == ["skipped b", "executing c"]
    walk.tell("c", NO).tell("a", OK)
    assert walk.saga.compensated == (1,)


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+23:59", "0001-01-01", "1969-12-31T23:59:59Z", "2020-01-01"])
def test_a_date_of_the_past_is_no_wait_even_one_that_no_database_could_store(at: str) -> None:
    walk = Walk(graph({"delay": {"until": f"'{at}'"}}, {})).ready()
    assert walk.log[0].retry_at is not None
    assert walk.log[0].retry_at.year >= 1970
    assert walk.ready("a").calls == {"b"}


@pytest.mark.parametrize("at", ["9999-12-31T23:59:59.999999-23:59", "9999-12-31T23:59:59Z", "soon", "10000-01-01"])
def test_a_date_that_never_comes_fails_the_step(at: str) -> None:
    walk = Walk(graph({"delay": {"until": f"'{at}'"}})).ready()
    assert (walk.saga.state, walk.told) == (SagaState.COMPENSATED, ["failed a"])
    assert walk.saga.failure is not None
    assert at not in walk.saga.failure.message


def test_what_waits_for_a_skipped_step_begins_at_once_and_a_saga_may_consist_of_nothing_else() -> None:
    walk = Walk(graph({"when": "input.never"}, {"when": "input.never"})).ready()
    assert walk.told == ["skipped a", "skipped b"]
    assert walk.saga.state is SagaState.COMPLETED


def test_a_condition_reads_results() -> None:
    walk = Walk(graph({}, {"when": "results.a.ok"}, {"when": "!(results.a.ok)", "after": ["a"]})).ready()
    walk.tell("a", Succeeded({"ok": True}))
    assert walk.calls == {"b"}
    assert walk.saga.skipped == (3,)


def test_a_delay_ends_at_its_time_and_not_before_through_a_failover() -> None:
    walk = Walk(graph({"delay": "10s"}, {})).ready()
    assert walk.waits == {"a": 10.0}
    walk.failover().ready("a", 9)
    assert walk.told == ["waiting a"]
    walk.ready("a", 1)
    assert walk.told == ["waiting a", "completed a", "executing b"]


def test_a_delay_is_not_undone() -> None:
    walk = Walk(graph({"delay": "10s"}, {"after": []})).ready().tell("b", NO)
    assert walk.saga.state is SagaState.COMPENSATED
    assert walk.saga.compensated == ()


def test_an_approval_waits_for_a_person_and_says_who_it_was_whatever_they_claim() -> None:
    walk = Walk(graph({"approval": {}}, {})).ready()
    assert wake_at(walk.saga) == FOREVER
    assert walk.signal(Verb.APPROVE, "a", result={"approved_by": "the queen", "note": "fine"}) == ""
    assert dict(walk.saga.results)[1] == {"approved_by": "kim", "note": "fine"}
    assert walk.signal(Verb.APPROVE, "a") == "step a was approved before"


@pytest.mark.parametrize("how", ["rejected", "late"])
def test_an_approval_that_is_rejected_or_comes_to_nothing_turns_the_saga_back(how: str) -> None:
    walk = Walk(graph({}, {"approval": {}, "within": "60s"})).ready().tell("a", OK)
    if how == "late":
        walk.ready("b", 60)
    else:
        walk.signal(Verb.REJECT, "b")
    assert walk.told[-2:] == ["failed b", "compensating a"]


def test_an_accepted_step_waits_for_its_answer() -> None:
    walk = Walk(graph(LATER, {})).ready().tell("a", Accepted())
    assert walk.waits == {"a": 60.0}
    assert walk.signal(Verb.COMPLETE, "a", result={"id": 7}) == ""
    assert walk.calls == {"b"}
    assert dict(walk.saga.results)[1] == {"id": 7}
    assert walk.signal(Verb.COMPLETE, "a") == "step a was completed before"


def test_an_answer_that_comes_before_the_acceptance_waits_for_the_call_to_end() -> None:
    walk = Walk(graph(LATER, {})).ready()
    assert walk.deferred(Verb.COMPLETE, "a")
    walk.tell("a", Accepted())
    assert walk.signal(Verb.COMPLETE, "a") == ""
    assert walk.calls == {"b"}


def test_an_answer_to_a_call_of_a_lost_leader_counts_at_once() -> None:
    walk = Walk(graph(LATER, {})).ready()
    walk.epoch = Epoch(walk.epoch + 1)
    assert walk.signal(Verb.COMPLETE, "a") == ""
    assert walk.told[-2:] == ["completed a", "executing b"]


def test_a_participant_says_no_later() -> None:
    walk = Walk(graph({}, LATER)).ready().tell("a", OK).tell("b", Accepted())
    assert walk.signal(Verb.FAIL, "b", code="OUT_OF_RANGE", message="no") == ""
    assert walk.told[-2:] == ["failed b", "compensating a"]


def test_an_answer_that_never_comes_leaves_the_outcome_unknown() -> None:
    walk = Walk(graph(LATER)).ready().tell("a", Accepted()).ready("a", 60)
    assert walk.told[-2:] == ["unknown a", "compensating a"]
    assert walk.signal(Verb.COMPLETE, "a") == "step a is being undone"


def test_a_step_that_is_not_heard_of_is_called_again_and_its_answer_still_counts() -> None:
    walk = Walk(graph({**LATER, "heartbeat": "10s"})).ready().tell("a", Accepted())
    assert walk.waits == {"a": 10.0}
    walk.ready("a", 9)
    assert walk.signal(Verb.HEARTBEAT, "a") == ""
    assert walk.waits == {"a": 19.0}
    walk.ready("a", 10)
    assert walk.told[-1] == "retrying a"
    assert walk.signal(Verb.COMPLETE, "a") == ""
    assert walk.saga.state is SagaState.COMPLETED


def test_what_was_accepted_is_undone_when_the_saga_turns_back() -> None:
    walk = Walk(graph(LATER)).ready().tell("a", Accepted()).cancelled()
    assert walk.told[-2:] == ["cancelled", "compensating a"]


def test_an_acceptance_while_the_saga_turns_back_is_not_waited_for() -> None:
    walk = Walk(graph({}, {"after": [], **LATER})).ready().tell("a", NO).tell("b", Accepted())
    assert walk.told[-2:] == ["unknown b", "compensating b"]


def test_a_step_is_over_when_its_time_is_whatever_attempts_are_left() -> None:
    walk = Walk(graph({"within": "5s", "retry": {"retries": 9, "initial": "2s"}})).ready()
    walk.tell("a", LOST).ready("a", 2).tell("a", LOST)
    assert walk.told[-2:] == ["unknown a", "compensating a"], "the next attempt would come after its time"


def test_a_failover_neither_forgets_nor_renews_the_time_of_a_step() -> None:
    walk = Walk(graph({"within": "5s"})).ready()
    walk.now += timedelta(seconds=5)
    walk.failover()
    assert walk.told[-2:] == ["unknown a", "compensating a"]


def test_past_its_deadline_a_saga_turns_back_and_its_compensations_do_not_inherit_it() -> None:
    walk = Walk(graph({}, {"delay": "100s"}, within="10s")).ready().tell("a", OK)
    assert walk.waits == {"b": 100.0, "": 10.0}
    walk.ready(after_s=10)
    assert walk.told[-2:] == ["expired", "compensating a"]
    walk.tell("a", LOST).ready("a", 1000)
    assert walk.calls == {"-a"}
    assert walk.tell("a", OK).saga.state is SagaState.COMPENSATED


def test_a_call_under_way_at_the_deadline_is_waited_for() -> None:
    walk = Walk(graph({}, {}, within="10s")).ready().ready(after_s=10)
    assert walk.told[-1] == "expired"
    assert walk.calls == {"a"}
    walk.tell("a", OK).tell("a", OK)
    assert walk.saga.compensated == (1,)


def test_a_paused_saga_is_left_by_its_deadline_until_it_is_resumed() -> None:
    walk = Walk(graph({}, {}, within="10s")).ready()
    assert walk.signal(Verb.PAUSE) == ""
    walk.now += timedelta(seconds=10)
    walk.tell("a", OK)
    assert walk.told[-1] == "completed a"
    assert walk.waits == {"": None}
    assert walk.signal(Verb.RESUME) == ""
    assert walk.told[-3:] == ["resumed", "expired", "compensating a"]
