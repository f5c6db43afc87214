"""The state machine: every transition, by the outcomes that lead there."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator.errors import CorruptLog, InvariantError
from orchestrator.saga.commands import Call, Intend, Outcome, Ready, Refused, Succeeded, Unknown, Wait
from orchestrator.saga.events import Event, Status
from orchestrator.saga.machine import decide, evolve, fold, next_command, parked
from orchestrator.saga.model import Epoch, Kind, Saga, SagaState

from .sagas import EPOCH, NOW, moment, new_saga

OK = Succeeded({"id": "x"})
NO = Refused("FAILED_PRECONDITION", "out of stock")
LOST = Unknown("UNAVAILABLE", "gone")


def after(saga: Saga, *outcomes: Outcome, epoch: int = EPOCH) -> Saga:
    for outcome in outcomes:
        saga, _ = decide(saga, outcome, moment(epoch))
    return saga


def statuses(events: tuple[Event, ...]) -> list[tuple[str, int]]:
    return [(event.status.value, event.position) for event in events]


def test_a_pending_saga_asks_for_the_intent_of_its_first_step() -> None:
    saga = new_saga()
    assert next_command(saga, EPOCH) == Intend()
    saga, events = decide(saga, Ready(), moment())
    assert statuses(events) == [("executing", 1)]
    assert saga.state is SagaState.RUNNING
    assert next_command(saga, EPOCH) == Call(1, Kind.ACTION, 1)


def test_what_is_done_and_the_intent_of_the_next_step_are_written_together() -> None:
    _, events = decide(after(new_saga(), Ready()), OK, moment())
    assert statuses(events) == [("completed", 1), ("executing", 2)]


def test_the_last_action_completes_the_saga() -> None:
    saga, events = decide(after(new_saga(), Ready(), OK, OK), OK, moment())
    assert statuses(events) == [("completed", 3)]
    assert saga.state is SagaState.COMPLETED
    assert saga.executed == (1, 2, 3)
    assert next_command(saga, EPOCH) is None


def test_a_refusal_compensates_what_was_executed_in_reverse_order() -> None:
    saga = after(new_saga(), Ready(), OK, OK, NO)
    assert saga.state is SagaState.COMPENSATING
    assert next_command(saga, EPOCH) == Call(2, Kind.COMPENSATION, 1)
    saga = after(saga, OK)
    assert next_command(saga, EPOCH) == Call(1, Kind.COMPENSATION, 1)
    saga = after(saga, OK)
    assert saga.state is SagaState.COMPENSATED
    assert (saga.executed, saga.compensated) == ((1, 2), (2, 1))
    assert saga.failure is not None
    assert (saga.failure.step, saga.failure.code) == ("s3", "FAILED_PRECONDITION")


def test_a_refused_first_step_leaves_nothing_to_compensate() -> None:
    saga = after(new_saga(), Ready(), NO)
    assert saga.state is SagaState.COMPENSATED
    assert saga.compensated == ()


def test_a_step_without_compensation_is_passed_over() -> None:
    saga = after(new_saga(True, False, True), Ready(), OK, OK, NO)
    assert next_command(saga, EPOCH) == Call(1, Kind.COMPENSATION, 1)


def test_an_unknown_outcome_is_retried_under_a_new_intent() -> None:
    saga, events = decide(after(new_saga(), Ready()), LOST, moment())
    assert statuses(events) == [("retrying", 1)]
    assert next_command(saga, EPOCH) == Wait(NOW + timedelta(seconds=1), 1)
    saga, events = decide(saga, Ready(), moment())
    assert statuses(events) == [("executing", 1)]
    assert next_command(saga, EPOCH) == Call(1, Kind.ACTION, 2)


def test_a_step_whose_outcome_stays_unknown_is_compensated_too() -> None:
    saga = after(new_saga(), Ready(), OK, LOST, Ready())
    saga, events = decide(saga, LOST, moment())
    assert statuses(events) == [("unknown", 2), ("compensating", 2)]
    assert saga.to_compensate == (1, 2)


def test_a_refusal_after_an_attempt_of_unknown_outcome_compensates_the_step_too() -> None:
    saga = after(new_saga(), Ready(), OK, LOST, Ready(), NO)
    assert saga.to_compensate == (1, 2)


def test_a_refusal_after_a_failover_compensates_the_step_too() -> None:
    saga = after(after(new_saga(), Ready(), OK), Ready(), NO, epoch=EPOCH + 1)
    assert saga.to_compensate == (1, 2)


def test_a_new_epoch_writes_the_intent_again_and_spends_no_retry() -> None:
    saga = after(new_saga(), Ready())
    later = Epoch(EPOCH + 1)
    assert next_command(saga, later) == Intend()
    saga, events = decide(saga, Ready(), moment(later))
    assert [(e.status, e.attempt, e.epoch) for e in events] == [(Status.EXECUTING, 2, later)]
    assert next_command(saga, later) == Call(1, Kind.ACTION, 2)
    assert saga.cursor is not None
    assert saga.cursor.failures == 0


def test_a_wait_survives_a_new_epoch() -> None:
    saga = after(new_saga(), Ready(), LOST)
    assert next_command(saga, Epoch(EPOCH + 1)) == Wait(NOW + timedelta(seconds=1), 1)


@pytest.mark.parametrize("outcome", [NO, LOST])
def test_a_compensation_is_retried_whatever_the_participant_says(outcome: Outcome) -> None:
    saga, events = decide(after(new_saga(), Ready(), OK, NO), outcome, moment())
    assert statuses(events) == [("compensation_retrying", 1)]
    assert after(saga, Ready(), OK).state is SagaState.COMPENSATED


def test_a_spent_compensation_lets_the_others_run_and_then_parks_the_saga() -> None:
    saga = after(new_saga(), Ready(), OK, OK, NO, LOST, Ready())
    saga, events = decide(saga, LOST, moment())
    assert statuses(events) == [("compensation_failed", 2), ("compensating", 1)]
    saga, events = decide(saga, OK, moment())
    assert statuses(events) == [("compensated", 1), ("parked", 0)]
    assert saga.state is SagaState.FAILED
    assert events[-1].message == "could not compensate: s2"


def test_the_last_compensation_failing_parks_the_saga() -> None:
    saga = after(new_saga(), Ready(), OK, NO, LOST, Ready(), LOST)
    assert saga.state is SagaState.FAILED


def test_cancelling_a_pending_saga_calls_nobody() -> None:
    saga, events = decide(new_saga(), Ready(), moment(), "changed my mind")
    assert statuses(events) == [("cancelled", 0)]
    assert saga.state is SagaState.COMPENSATED
    assert saga.cancel_reason == "changed my mind"


def test_cancelling_takes_effect_when_the_call_in_flight_has_succeeded() -> None:
    saga, events = decide(after(new_saga(), Ready()), OK, moment(), "stop")
    assert statuses(events) == [("completed", 1), ("cancelled", 0), ("compensating", 1)]
    assert after(saga, OK).compensated == (1,)


def test_cancelling_does_not_retry_an_unknown_outcome_but_compensates_it() -> None:
    _, events = decide(after(new_saga(), Ready()), LOST, moment(), "stop")
    assert statuses(events) == [("unknown", 1), ("compensating", 1)]


def test_cancelling_during_a_wait_compensates_the_step_that_waited() -> None:
    _, events = decide(after(new_saga(), Ready(), OK, LOST), Ready(), moment(), "stop")
    assert statuses(events) == [("cancelled", 0), ("compensating", 2)]


def test_cancelling_comes_too_late_for_the_last_action() -> None:
    saga, events = decide(after(new_saga(True), Ready()), OK, moment(), "stop")
    assert statuses(events) == [("completed", 1)]
    assert saga.state is SagaState.COMPLETED


def test_cancelling_changes_nothing_in_a_saga_that_already_compensates() -> None:
    saga = after(new_saga(), Ready(), OK, NO)
    _, events = decide(saga, OK, moment(), "stop")
    assert statuses(events) == [("compensated", 1)]
    waiting = after(saga, LOST)
    _, events = decide(waiting, Ready(), moment(), "stop")
    assert statuses(events) == [("compensating", 1)]


def test_parking_ends_a_saga_from_any_live_state() -> None:
    for saga in (new_saga(), after(new_saga(), Ready()), after(new_saga(), Ready(), OK, NO)):
        ended = evolve(saga, parked(saga, EPOCH, "a defect"))
        assert ended.state is SagaState.FAILED
        assert next_command(ended, EPOCH) is None


def test_nothing_comes_of_a_terminal_saga() -> None:
    saga = after(new_saga(True), Ready(), OK)
    with pytest.raises(InvariantError):
        decide(saga, OK, moment())


def test_an_outcome_without_a_call_is_a_defect() -> None:
    with pytest.raises(InvariantError):
        decide(new_saga(), OK, moment())


@pytest.mark.parametrize(
    "event",
    [
        Event(3, Status.EXECUTING, EPOCH, 1, 1),
        Event(1, Status.EXECUTING, EPOCH, 2, 1),
        Event(1, Status.EXECUTING, EPOCH, 9, 1),
        Event(1, Status.COMPLETED, EPOCH, 1, 1, result={}),
        Event(1, Status.FAILED, EPOCH, 1, 1),
        Event(1, Status.UNKNOWN, EPOCH, 1, 1),
        Event(1, Status.COMPENSATING, EPOCH, 1, 1),
        Event(1, Status.COMPENSATED, EPOCH, 1, 1),
        Event(1, Status.COMPENSATION_FAILED, EPOCH, 1, 1),
        Event(1, Status.RETRYING, EPOCH, 1, 1, retry_at=NOW),
    ],
)
def test_a_row_that_cannot_follow_is_a_corrupt_log(event: Event) -> None:
    with pytest.raises(CorruptLog):
        evolve(new_saga(), event)


def test_rows_that_contradict_a_running_saga_are_a_corrupt_log() -> None:
    running = after(new_saga(), Ready(), OK)
    for status, position in ((Status.COMPLETED, 1), (Status.EXECUTING, 3), (Status.COMPENSATING, 1)):
        with pytest.raises(CorruptLog):
            evolve(running, Event(running.sequence + 1, status, EPOCH, position, 1, result={}))
    with pytest.raises(CorruptLog, match="when to try again"):
        evolve(running, Event(running.sequence + 1, Status.RETRYING, EPOCH, 2, 1))
    done = after(running, OK, OK)
    with pytest.raises(CorruptLog, match="follows the end"):
        evolve(done, Event(done.sequence + 1, Status.CANCELLED, EPOCH, message="late"))


def test_a_compensating_saga_is_not_cancelled_a_second_time() -> None:
    saga = after(new_saga(), Ready(), OK, NO)
    with pytest.raises(CorruptLog):
        evolve(saga, Event(saga.sequence + 1, Status.CANCELLED, EPOCH, message="again"))


outcomes = st.lists(st.sampled_from([OK, NO, LOST]), min_size=1, max_size=40)


@example(steps=[True], script=[OK], cancel_at=1, failover_at=1)
@given(
    steps=st.lists(st.booleans(), min_size=1, max_size=5),
    script=outcomes,
    cancel_at=st.integers(0, 40),
    failover_at=st.integers(0, 40),
)
@settings(max_examples=300)
def test_any_outcomes_keep_the_promises_of_a_saga(
    steps: list[bool], script: list[Outcome], cancel_at: int, failover_at: int
) -> None:
    """Driven to its end: the state is the fold of the log, and what may have happened was undone, in reverse order."""
    saga = new_saga(*steps)
    start = saga
    log: list[Event] = []
    for turn in range(200):
        epoch = Epoch(EPOCH + (turn >= failover_at))
        command = next_command(saga, epoch)
        if command is None:
            break
        outcome: Outcome = Ready()
        if isinstance(command, Call):
            outcome = script[turn % len(script)] if turn < 150 else OK
        saga, events = decide(saga, outcome, moment(epoch), "stop" if turn >= cancel_at else None)
        log += events
    assert saga.state.terminal
    assert fold(start, log) == saga
    assert [event.sequence for event in log] == list(range(1, len(log) + 1))
    handled = saga.compensated + saga.uncompensated
    if saga.state is SagaState.COMPLETED:
        assert saga.executed == tuple(range(1, len(steps) + 1))
        assert handled == ()
    else:
        owed = {p for p in saga.executed if steps[p - 1]}
        # Not what was called here: a leader before a failover may have called whatever it intended.
        intended = {e.position for e in log if e.status is Status.EXECUTING}
        assert owed <= set(handled) <= intended
        in_order = [e.position for e in log if e.status in (Status.COMPENSATED, Status.COMPENSATION_FAILED)]
        assert in_order == sorted(in_order, reverse=True)
        assert (saga.state is SagaState.FAILED) == bool(saga.uncompensated)


def test_a_saga_reads_back_the_same_after_every_event() -> None:
    """R8: at whatever event the leader dies, folding the log gives the state that it had."""
    saga = start = new_saga()
    log: list[Event] = []
    for outcome in (Ready(), OK, LOST, Ready(), OK, NO, LOST, Ready(), OK, OK):
        saga, events = decide(saga, outcome, moment())
        log += events
        assert fold(start, log) == saga
        assert fold(replace(start), log[: len(log) - 1]).sequence == len(log) - 1
