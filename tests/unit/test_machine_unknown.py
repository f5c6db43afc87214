"""Outages, unknown outcomes, and what operators order."""

from __future__ import annotations

from datetime import timedelta

import pytest

from orchestrator.saga.commands import Held, Refused, Succeeded, Unknown
from orchestrator.saga.events import Event, Status
from orchestrator.saga.machine import evolve
from orchestrator.saga.model import SagaState
from orchestrator.saga.plan import plan_cancel
from orchestrator.saga.signals import Signal, Verb, heed

from .sagas import Says, Walk, graph, moment

OK = Succeeded({})
NO = Refused("FAILED_PRECONDITION", "no")
LOST = Unknown("DEADLINE_EXCEEDED", "late")
AWAY = Held("NOT_CALLED", "away", 2.0, called=False)
CUT = Held("UNAVAILABLE", "cut", 2.0, called=True)
ABSENT = Refused("NOT_FOUND", "never heard of it")
ASKS: Says = {"on_unknown": "query", "status": {"method": "t.S/Get"}, "retry": {"retries": 3}}


def test_an_outage_spends_no_attempt() -> None:
    walk = Walk(graph({})).ready()
    for _ in range(20):
        walk.tell("a", AWAY).ready("a", 2).tell("a", CUT).ready("a", 2)
    assert walk.saga.open[0].failures == 0
    assert walk.tell("a", OK).saga.state is SagaState.COMPLETED


def test_whoever_was_never_called_in_an_outage_is_not_undone_and_whoever_may_have_been_is() -> None:
    assert Walk(graph({})).ready().tell("a", AWAY).cancelled().saga.state is SagaState.COMPENSATED
    assert Walk(graph({})).ready().tell("a", CUT).cancelled().calls == {"-a"}


@pytest.mark.parametrize(("outcome", "told"), [(AWAY, "failed a"), (CUT, "unknown a")])
def test_a_held_step_is_held_no_longer_than_it_may_take(outcome: Held, told: str) -> None:
    walk = Walk(graph({"within": "3s"})).ready().tell("a", outcome).ready("a", 2).tell("a", outcome)
    assert walk.waits == {"a": 3.0}
    walk.ready("a", 1)
    assert told in walk.told


def test_a_compensation_is_held_too_and_gives_up_at_its_own_limit() -> None:
    undo = {"method": "t.S/Undo", "within": "3s"}
    walk = Walk(graph({"compensation": undo}, {})).ready().tell("a", OK).tell("b", NO)
    walk.tell("a", AWAY).ready("a", 2).tell("a", AWAY).ready("a", 1)
    assert walk.told[-2:] == ["compensation_failed a", "parked"]
    walk.signal(Verb.RETRY)
    assert walk.saga.open[0].limit_at == walk.now + timedelta(seconds=3)


def test_an_unknown_outcome_is_asked_about_before_anything_is_repeated() -> None:
    walk = Walk(graph(ASKS, {})).ready().tell("a", LOST).ready("a", 1)
    assert walk.calls == {"?a"}
    walk.tell("a", Succeeded({"id": 7}))
    assert walk.calls == {"b"}
    assert dict(walk.saga.results)[1] == {"id": 7}


def test_what_is_not_there_is_done_anew_without_doubt() -> None:
    walk = Walk(graph(ASKS)).ready().tell("a", LOST).ready("a", 1).tell("a", ABSENT)
    assert walk.told[-2:] == ["absent a", "executing a"]
    walk.tell("a", NO)
    assert walk.saga.state is SagaState.COMPENSATED
    assert walk.saga.compensated == ()


def test_a_new_leader_asks_first() -> None:
    assert Walk(graph(ASKS)).ready().failover().calls == {"?a"}


def test_a_question_that_gets_no_answer_is_asked_again_within_the_budget() -> None:
    walk = Walk(graph(ASKS)).ready().tell("a", LOST)
    for _ in range(3):
        walk.ready("a", 60).tell("a", NO)
    assert walk.told[-2:] == ["unknown a", "compensating a"], "a refused question says nothing about the action"


def test_what_is_not_there_while_the_saga_turns_back_is_not_undone() -> None:
    walk = Walk(graph(ASKS, {"after": []})).ready().tell("a", LOST).ready("a", 1).tell("b", NO)
    assert walk.calls == {"?a"}
    walk.tell("a", ABSENT)
    assert walk.saga.state is SagaState.COMPENSATED
    assert walk.saga.compensated == ()


def test_an_unknown_outcome_turns_back_at_once_if_the_step_says_so() -> None:
    assert Walk(graph({"on_unknown": "compensate"})).ready().tell("a", LOST).calls == {"-a"}


def test_a_step_overrules_the_table_of_codes() -> None:
    retry = {"retries": 1, "final": ["INTERNAL"], "transient": ["FAILED_PRECONDITION"]}
    walk = Walk(graph({"retry": retry})).ready().tell("a", NO)
    assert walk.told[-1] == "refused a"
    walk.ready("a", 1).tell("a", Unknown("INTERNAL", "broken"))
    assert walk.told[-2:] == ["unknown a", "compensating a"]


def test_pausing_lets_what_is_called_end_and_begins_nothing_until_it_is_resumed() -> None:
    walk = Walk(graph({}, {})).ready()
    assert walk.signal(Verb.PAUSE) == ""
    assert walk.signal(Verb.PAUSE) == "the saga is paused already"
    assert walk.calls == {"a"}
    walk.tell("a", OK)
    assert (walk.calls, walk.waits) == (set(), {"": None})
    assert walk.signal(Verb.RESUME) == ""
    assert walk.calls == {"b"}
    assert walk.signal(Verb.RESUME) == "the saga is not paused"


def test_a_paused_saga_calls_nobody_under_a_new_leader_and_can_be_cancelled() -> None:
    walk = Walk(graph({}, {})).ready()
    walk.signal(Verb.PAUSE)
    walk.failover()
    assert walk.calls == set()
    walk.cancelled()
    assert walk.calls == {"-a"}


def test_a_step_that_waits_for_its_next_attempt_is_retried_at_once() -> None:
    walk = Walk(graph({})).ready().tell("a", LOST)
    assert walk.signal(Verb.RETRY) == ""
    assert walk.calls == {"a"}
    assert walk.deferred(Verb.RETRY, "a")
    assert walk.signal(Verb.RETRY) == "nothing waits for its next attempt"


def test_a_compensation_counts_as_done_when_somebody_shows_that_it_is() -> None:
    walk = Walk(graph({}, {})).ready().tell("a", OK).tell("b", NO).tell("a", LOST).ready("a", 1).tell("a", LOST)
    assert walk.saga.state is SagaState.FAILED
    assert walk.signal(Verb.RESOLVE, "b") == "step b has nothing to compensate"
    assert walk.signal(Verb.RESOLVE, "a") == ""
    assert walk.saga.state is SagaState.COMPENSATED
    assert walk.log[-1].order is not None
    assert (walk.log[-1].order.by, walk.log[-1].order.evidence) == ("kim", "a receipt")


@pytest.mark.parametrize("verb", [Verb.SKIP, Verb.FORCE, Verb.RESOLVE])
def test_nobody_replaces_what_a_participant_would_say_without_evidence(verb: Verb) -> None:
    saga = Walk(graph({})).ready().tell("a", LOST).saga
    heeded = heed(saga, Signal(1, verb, "a"), moment())
    assert heeded is not None
    assert heeded.refusal == f"{verb} needs a reason and evidence"
    assert heeded.events == ()


def test_a_step_is_skipped_or_forced_where_the_saga_is_and_nowhere_else() -> None:
    walk = Walk(graph({}, {})).ready().tell("a", LOST)
    assert walk.signal(Verb.FORCE, "b") == "step b has not begun"
    assert walk.signal(Verb.SKIP, "a") == ""
    assert walk.signal(Verb.SKIP, "a") == "step a has ended before"
    assert walk.calls == {"b"}
    walk.tell("b", NO)
    assert walk.saga.state is SagaState.COMPENSATED
    assert walk.saga.compensated == ()
    turning = Walk(graph({}, {})).ready().tell("a", OK).tell("b", NO).tell("a", LOST)
    assert "turns back" in turning.signal(Verb.FORCE, "a")


def test_what_was_forced_is_undone_like_anything_else() -> None:
    walk = Walk(graph({}, {})).ready().tell("a", LOST)
    walk.signal(Verb.FORCE, "a", result={"id": 1})
    assert walk.tell("b", NO).calls == {"-a"}


@pytest.mark.parametrize("verb", [verb for verb in Verb if verb is not Verb.UNDO])
def test_nothing_is_heeded_by_a_saga_that_has_ended(verb: Verb) -> None:
    walk = Walk(graph({})).ready().tell("a", OK)
    assert walk.signal(verb, "a") == "the saga is COMPLETED"
    assert len(walk.log) == 2


def parked(*steps: Says) -> Walk:
    """A saga that a defect parked after its first intents."""
    walk = Walk(graph(*steps)).ready()
    return Walk(evolve(walk.saga, Event(walk.saga.sequence + 1, Status.PARKED, walk.epoch, message="a defect")))


def test_a_parked_saga_cannot_be_forced_where_it_has_not_come() -> None:
    walk = parked({}, {}, {})
    assert walk.signal(Verb.FORCE, "c") == "step c has not begun"
    assert walk.saga.state is SagaState.FAILED


def test_what_waits_for_a_person_or_a_time_still_does_after_a_parked_saga_is_retried() -> None:
    walk = parked({"approval": {}, "within": "30s"}, {"after": [], "delay": "10s"}, {"after": []})
    walk.now += timedelta(seconds=10)
    assert walk.signal(Verb.RETRY) == ""
    assert walk.calls == {"c"}
    assert walk.waits == {"a": 40.0, "b": 10.0}, "the question is put anew; a time is a time"


def test_a_question_that_was_put_again_may_be_answered_with_no() -> None:
    walk = parked({"approval": {}, "pivot": True})
    walk.signal(Verb.RETRY)
    walk.signal(Verb.REJECT, "a")
    assert walk.saga.state is SagaState.COMPENSATED, "there is no doubt about what a person has not answered"


def test_an_answer_to_a_parked_saga_is_not_lost() -> None:
    walk = parked({"answer": "later", "within": "60s"}, {"after": []})
    assert walk.signal(Verb.COMPLETE, "a", result={"id": 7}) == ""
    assert walk.saga.state is SagaState.FAILED
    walk.signal(Verb.RETRY)
    assert walk.calls == {"b"}
    assert dict(walk.saga.results)[1] == {"id": 7}


def test_the_budgets_and_the_time_of_a_parked_step_are_new_when_it_is_retried() -> None:
    steps: tuple[Says, ...] = ({"pivot": True}, {"compensation": None, "within": "3s", "retry": {"retries": 0}})
    walk = Walk(graph(*steps)).ready().tell("a", OK).tell("b", LOST)
    assert walk.told[-1] == "parked b"
    walk.now += timedelta(seconds=60)
    walk.signal(Verb.RETRY)
    assert walk.calls == {"b"}
    assert walk.saga.open[0].limit_at == walk.now + timedelta(seconds=3)


def test_a_plan_shows_what_is_under_way_also_when_it_was_just_ordered_anew() -> None:
    walk = Walk(graph({}, {})).ready().tell("a", OK).tell("b", LOST)
    assert [call.step for call in plan_cancel(walk.saga).calls] == ["b", "a"]
    walk.signal(Verb.PAUSE)
    walk.signal(Verb.RETRY)
    assert [call.step for call in plan_cancel(walk.saga).calls] == ["b", "a"]
