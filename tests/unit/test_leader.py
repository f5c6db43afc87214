"""Terms of leadership on the model of the saga log, with participants that do as they are told."""

from __future__ import annotations

import asyncio
import time

import pytest

from orchestrator.driving import driver
from orchestrator.driving.driver import Driven, Driver, Surroundings
from orchestrator.driving.port import Invocation
from orchestrator.errors import Fenced, Resign
from orchestrator.saga.commands import Refused, Succeeded, Unknown
from orchestrator.saga.events import Event, Status
from orchestrator.saga.model import Epoch, Kind, Saga, SagaState
from orchestrator.sagalog.memory import MemorySagaLog
from orchestrator.telemetry import Metrics

from .leader_world import Outcome, Participants, leader, leading, mandate, saga_id, states, stored, succeed, until
from .sagas import definition, graph_definition


@pytest.fixture
def store() -> MemorySagaLog:
    return MemorySagaLog(time.monotonic)


async def test_the_oldest_intent_is_shown_while_its_call_hangs_and_by_the_leader_alone(store: MemorySagaLog) -> None:
    metrics = Metrics("test", "r1")

    def oldest() -> float:
        return metrics.registry.get_sample_value("baton_oldest_intent_timestamp_seconds") or 0.0

    async def hang(_: Invocation) -> Outcome:
        await asyncio.Event().wait()
        return Succeeded({})

    store.insert(stored(1))
    begun = time.time()
    async with leading(leader(store, Participants(hang), metrics=metrics)):
        await until(lambda: oldest() > 0)
        assert begun <= oldest() <= time.time()
    assert oldest() == 0
    async with leading(leader(store, Participants(succeed), metrics=metrics), revision=2):
        await until(lambda: states(store) == [SagaState.COMPLETED])
        assert oldest() == 0
    done = {"definition": "test", "step": "s1", "kind": "action"}
    assert metrics.registry.get_sample_value("baton_intent_to_done_seconds_count", done) == 1


async def test_what_was_pending_and_what_comes_later_is_driven(store: MemorySagaLog) -> None:
    store.insert(stored(1))
    participants = Participants(succeed)
    async with leading(leader(store, participants)):
        await until(lambda: states(store) == [SagaState.COMPLETED])
        store.insert(stored(2))
        await until(lambda: states(store) == [SagaState.COMPLETED] * 2)
    assert [(c.step, c.kind, c.attempt, c.epoch) for c in participants.calls[:3]] == [
        (f"s{number}", Kind.ACTION, 1, 1) for number in (1, 2, 3)
    ]


async def test_a_participant_is_called_only_after_its_intent_is_in_the_log(store: MemorySagaLog) -> None:
    async def look(invocation: Invocation) -> Outcome:
        last = store.rows[invocation.saga_id].events[-1]
        wanted = Status.EXECUTING if invocation.kind is Kind.ACTION else Status.COMPENSATING
        assert (last.status, last.attempt, last.epoch) == (wanted, invocation.attempt, invocation.epoch)
        return Refused("NOT_FOUND", "no") if invocation.step == "s3" else Succeeded({})

    store.insert(stored(1))
    async with leading(leader(store, Participants(look))):
        await until(lambda: states(store) == [SagaState.COMPENSATED])


async def test_a_successor_carries_on_under_its_own_epoch(store: MemorySagaLog) -> None:
    reached = asyncio.Event()

    async def hang_in_step_2(invocation: Invocation) -> Outcome:
        if invocation.step == "s2":
            reached.set()
            await asyncio.Event().wait()
        return Succeeded({})

    for number in range(1, 51):
        store.insert(stored(number))
    async with leading(leader(store, Participants(hang_in_step_2))):
        await reached.wait()
    heir = Participants(succeed)
    async with leading(leader(store, heir), revision=2):
        await until(lambda: states(store) == [SagaState.COMPLETED] * 50)
    assert {call.epoch for call in heir.calls} == {2}
    assert all(call.step != "s1" or call.attempt <= 2 for call in heir.calls)
    for row in store.rows.values():
        assert [e.sequence for e in row.events] == list(range(1, len(row.events) + 1))


async def test_a_leader_that_is_overtaken_stops_at_its_next_write(store: MemorySagaLog) -> None:
    release = asyncio.Event()

    async def wait(_: Invocation) -> Outcome:
        await release.wait()
        return Succeeded({})

    store.insert(stored(1))
    participants = Participants(wait)
    async with leading(leader(store, participants)) as term:
        await until(lambda: bool(participants.calls))
        assert await store.raise_epoch(mandate(2).claim) is not None
        release.set()
        with pytest.raises(Fenced):
            await asyncio.wait_for(term, 5)
    assert len(participants.calls) == 1
    assert len(store.rows[saga_id(1)].events) == 1


async def test_an_idle_leader_finds_out_that_it_is_overtaken(store: MemorySagaLog) -> None:
    async with leading(leader(store, Participants(succeed))) as term:
        await until(lambda: store.epoch == 1)
        await store.raise_epoch(mandate(2).claim)
        with pytest.raises(Fenced):
            await asyncio.wait_for(term, 5)


async def test_a_lease_in_doubt_makes_the_fence_vouch_before_each_call(store: MemorySagaLog) -> None:
    proofs = 0
    term_log = await store.raise_epoch(mandate(1).claim)
    assert term_log is not None
    original = term_log.prove

    async def count() -> None:
        nonlocal proofs
        proofs += 1
        await original()

    term_log.prove = count  # type: ignore[method-assign]
    surroundings = Surroundings(lambda: 0.5, lambda: False, lambda: None, lambda saga, events: None)
    driving = Driver(0, term_log, Participants(succeed), surroundings, Metrics("test", "r1"))
    row = stored(1)
    store.insert(row)
    await driving.drive(Driven(Saga(row.id, definition(True, True, True), {}, {}, row.created_at)))
    assert proofs == 3


async def test_no_more_sagas_are_driven_at_once_than_set(store: MemorySagaLog) -> None:
    open_calls = most = 0

    async def count(_: Invocation) -> Outcome:
        nonlocal open_calls, most
        open_calls += 1
        most = max(most, open_calls)
        await asyncio.sleep(0.001)
        open_calls -= 1
        return Succeeded({})

    for number in range(1, 31):
        store.insert(stored(number))
    async with leading(leader(store, Participants(count), sagas_max=4)):
        await until(lambda: states(store) == [SagaState.COMPLETED] * 30)
    assert most == 4


async def test_a_corrupt_log_and_an_unknown_version_park_their_sagas_and_stop_no_other(store: MemorySagaLog) -> None:
    for number, version in ((1, 1), (2, 9), (3, 1)):
        store.insert(stored(number, version))
    broken = store.rows[saga_id(1)]
    broken.events.append(Event(1, Status.COMPENSATED, Epoch(1), 2, 1))
    broken.state = SagaState.RUNNING
    async with leading(leader(store, Participants(succeed)), revision=2):
        await until(lambda: all(state.terminal for state in states(store)))
    assert states(store) == [SagaState.FAILED, SagaState.FAILED, SagaState.COMPLETED]
    assert "whose turn" in str(broken.error) or "no intent" in str(broken.error)
    assert "no version 9" in str(store.rows[saga_id(2)].error)


async def test_a_saga_that_breaks_its_driver_is_parked_with_the_reason(store: MemorySagaLog) -> None:
    async def break_one(invocation: Invocation) -> Outcome:
        if invocation.saga_id == saga_id(2) and invocation.step == "s2":
            raise RuntimeError("a defect")
        return Succeeded({})

    for number in (1, 2, 3):
        store.insert(stored(number))
    async with leading(leader(store, Participants(break_one))):
        await until(lambda: all(state.terminal for state in states(store)))
    assert states(store) == [SagaState.COMPLETED, SagaState.FAILED, SagaState.COMPLETED]
    assert store.rows[saga_id(2)].error == "RuntimeError: a defect"


async def test_a_cancelled_saga_is_compensated(store: MemorySagaLog) -> None:
    release = asyncio.Event()

    async def hold_step_2(invocation: Invocation) -> Outcome:
        if invocation.step == "s2" and invocation.kind is Kind.ACTION:
            await release.wait()
        return Succeeded({})

    store.insert(stored(1))
    participants = Participants(hold_step_2)
    lead = leader(store, participants)
    async with leading(lead):
        await until(lambda: len(participants.calls) == 2)
        store.request_cancel(saga_id(1), "changed my mind")
        await until(lambda: lead.cancelling == {saga_id(1)})
        release.set()
        await until(lambda: states(store) == [SagaState.COMPENSATED])
    assert [c.step for c in participants.calls if c.kind is Kind.COMPENSATION] == ["s2", "s1"]


async def test_cancelling_wakes_a_saga_that_waits_between_attempts(
    store: MemorySagaLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its driver waits for an hour instead of leaving it to sleep.
    monkeypatch.setattr(driver, "SLEEP_S", 7200.0)
    known = graph_definition({"retry": {"retries": 1, "initial": "1h", "max": "1h"}})

    async def lost(invocation: Invocation) -> Outcome:
        return Unknown("UNAVAILABLE", "gone") if invocation.kind is Kind.ACTION else Succeeded({})

    store.insert(stored(1))
    async with leading(leader(store, Participants(lost), known=known)):
        await until(lambda: len(store.rows[saga_id(1)].events) == 2)
        store.request_cancel(saga_id(1), "no time")
        await until(lambda: states(store) == [SagaState.COMPENSATED])


async def test_a_restored_etcd_raises_the_epoch_only_once_the_victory_is_confirmed(store: MemorySagaLog) -> None:
    assert await store.raise_epoch(mandate(50).claim) is not None
    overtaken = mandate(3)
    overtaken.confirmed = False
    with pytest.raises(Fenced):
        await leader(store, Participants(succeed)).lead(overtaken)
    assert store.epoch == 50
    async with leading(leader(store, Participants(succeed)), revision=3):
        await until(lambda: store.epoch == 51)


async def test_a_leader_that_cannot_raise_the_epoch_resigns(store: MemorySagaLog) -> None:
    store.away = True
    with pytest.raises(Resign):
        await leader(store, Participants(succeed)).lead(mandate())


async def test_an_outage_of_the_log_interrupts_the_scan_but_not_the_term(store: MemorySagaLog) -> None:
    for number in range(1, 41):
        store.insert(stored(number))
        store.rows[saga_id(number)].events.append(Event(1, Status.EXECUTING, Epoch(1), 1, 1))
        store.rows[saga_id(number)].state = SagaState.RUNNING
        store.rows[saga_id(number)].epoch = Epoch(1)
    participants = Participants(succeed)
    async with leading(leader(store, participants), revision=2) as term:
        await until(lambda: bool(participants.calls))
        store.away = True
        await asyncio.sleep(0)
        store.away = False
        await until(lambda: states(store) == [SagaState.COMPLETED] * 40)
        assert not term.done()
