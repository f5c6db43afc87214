"""What the simulation has found: one small scenario for each defect, kept after it was mended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from orchestrator.driving.children import Children
from orchestrator.driving.driver import Driven, Driver, Surroundings
from orchestrator.driving.port import Invocation
from orchestrator.driving.registry import Compiled, Registry
from orchestrator.errors import LogUnavailable
from orchestrator.saga.commands import Accepted, Begin, Outcome, Ready, Refused, Succeeded, Unknown, Wait
from orchestrator.saga.events import Event, Order, Status
from orchestrator.saga.machine import Moment, decide, evolve, next_commands, parked
from orchestrator.saga.model import Epoch, Kind, Saga, SagaId, SagaState
from orchestrator.saga.parse import parse
from orchestrator.saga.progress import wake_at
from orchestrator.saga.signals import Signal, Verb, heed
from orchestrator.sagalog.memory import MemorySagaLog
from orchestrator.sagalog.memory_rows import Row
from orchestrator.sagalog.port import Claim, NewChild
from orchestrator.simulation.clock import now_s, virtually
from orchestrator.telemetry import Metrics
from tests.unit.leader_world import Participants, leader, leading, saga_id, stored, succeed, until
from tests.unit.sagas import EPOCH, NOW, Says, Walk, definition, graph, graph_definition, new_saga

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
OURS = SagaId(UUID(int=1))
BECAUSE = Order("kim", "it has to be", "a look at it")
PARENT = """
name: test
steps:
  - {name: a, saga: {definition: child, version: 1}}
  - {name: b, service: 'h:1', action: {method: t.S/Do}, compensation: none}
"""


class Obliging:
    """Participants that do everything."""

    async def call(self, _: Invocation) -> Succeeded:
        await asyncio.sleep(0)
        return Succeeded({})

    def warm(self, services: Iterable[str]) -> None: ...


def test_a_retry_set_under_a_leader_whose_clock_is_an_hour_ahead_waits_no_longer_than_its_policy() -> None:
    """Seeds 32 and 233: a retry that was due an hour later by the clock of the former leader was waited for.

    All times of a saga are those of the log's clock since: no leader's own clock is asked.
    """

    async def scenario() -> float:
        store = MemorySagaLog(now_s)
        saga = Saga(OURS, definition(True, True), {}, {}, NOON)
        store.insert(Row(OURS, "test", 1, {}, {}, NOON))
        first = await store.raise_epoch(Claim(0, "r1", "c1", 1, "vacant"))
        assert first is not None
        lost: tuple[Outcome, ...] = (Ready(), Unknown("UNAVAILABLE", "gone"))
        for outcome in lost:
            saga, events = decide(saga, outcome, Moment(first.epoch, first.now(), 0.0))
            store.write(first.epoch, saga, events)
        term = await store.raise_epoch(Claim(0, "r2", "c1", 2, "gone"))
        assert term is not None
        began_s = now_s()
        surroundings = Surroundings(lambda: 0.0, lambda: True, lambda: None, lambda saga, events: None)
        driver = Driver(0, term, Obliging(), surroundings, Metrics("test", "r2"))
        await driver.drive(Driven(saga))
        assert store.rows[OURS].state is SagaState.COMPLETED
        return now_s() - began_s

    assert virtually(scenario) <= definition(True).step(1).retry.max_s


def test_a_child_whose_definition_cannot_be_read_at_the_moment_is_begun_later() -> None:
    """Seeds 3, 25 and 34: a parent that began its child while Postgres was away was parked."""

    class Away(Registry):
        def __init__(self) -> None:
            self.asked = 0

        async def get(self, name: str, version: int) -> Compiled:
            self.asked += 1
            if self.asked < 3:
                raise LogUnavailable("Postgres does not answer")
            return Compiled(graph_definition({"delay": "1s"}), {})

    async def scenario() -> tuple[MemorySagaLog, int]:
        store = MemorySagaLog(now_s)
        saga = Saga(OURS, parse(PARENT, 1), {}, {}, NOON)
        store.insert(Row(OURS, "test", 1, {}, {}, NOON))
        term = await store.raise_epoch(Claim(0, "r1", "c1", 1, "vacant"))
        assert term is not None
        registry = Away()
        children = Children(term, registry, lambda: 0.0, lambda: None)
        surroundings = Surroundings(lambda: 0.0, lambda: True, lambda: None, lambda saga, events: None)
        await Driver(0, term, Obliging(), surroundings, Metrics("test", "r1"), children).drive(Driven(saga))
        return store, registry.asked

    store, asked = virtually(scenario)
    assert asked == 3
    assert store.rows[OURS].state is SagaState.RUNNING
    assert store.child(OURS, "a") is not None


def test_a_saga_that_is_told_something_before_its_start_still_waits_for_it() -> None:
    """Seeds 23 and 28: a signal woke a saga whose start was to come, and it began at once."""
    saga = replace(new_saga(), starts_at=NOW + timedelta(minutes=1))
    early = Moment(EPOCH, NOW, 0.0)
    for verb in (Verb.PAUSE, Verb.RESUME):
        heeded = heed(saga, Signal(1, verb, order=BECAUSE), early)
        assert heeded is not None
        saga = heeded.saga
    assert (saga.state, saga.open) == (SagaState.PENDING, ())
    assert next_commands(saga, EPOCH) == (Wait(saga.starts_at),)
    assert wake_at(saga) == saga.starts_at
    assert decide(saga, Ready(), early, position=0)[1] == ()
    # No order brings it forward either, not even where somebody has to take it up.
    by_defect = evolve(saga, parked(saga, EPOCH, "a defect"))
    for told in (saga, by_defect):
        forced = heed(told, Signal(2, Verb.FORCE, "s1", order=BECAUSE), early)
        assert forced is not None
        assert (forced.events, "starts at" in forced.refusal) == ((), True)
    begun, _ = decide(saga, Ready(), Moment(EPOCH, NOW + timedelta(minutes=1), 0.0), position=0)
    assert begun.current_step == "s1"


def test_a_parked_parent_that_is_retried_asks_its_child_once_more() -> None:
    """Seed 29: attempts were counted from one again, so the child was not told, and its parent waited for ever."""

    async def scenario() -> list[int]:
        store = MemorySagaLog(now_s)
        term = await store.raise_epoch(Claim(0, "r1", "c1", 1, "vacant"))
        assert term is not None
        parent = Saga(OURS, parse(PARENT, 1), {}, {}, NOON, SagaState.RUNNING)
        store.insert(Row(OURS, "test", 1, {}, {}, NOON, SagaState.RUNNING))
        await term.begin_child(parent, "a", NewChild(SagaId(UUID(int=2)), "child", 1, {}, {}))
        children = Children(term, Registry.__new__(Registry), lambda: 0.0, lambda: None)
        posted = []
        for sequence in (5, 5, 9):
            await children.perform(replace(parent, sequence=sequence), Begin(1, Kind.COMPENSATION, 1))
            posted.append(sum(one.signal.verb is Verb.UNDO for one in store.posted.values()))
        return posted

    # The same time of asking, repeated, tells it nothing new.
    assert virtually(scenario) == [1, 1, 2]


def test_the_end_of_a_child_that_comes_before_its_parent_waits_for_it_is_not_lost() -> None:
    """Found beside seed 29: the child was undone before the row was written that says that its parent waits."""
    now, told = Moment(EPOCH, NOON, 0.0), Signal(9, Verb.CHILD, "a", {"state": "COMPENSATED"})
    saga = Saga(OURS, parse(PARENT, 1), {}, {}, NOON)
    for outcome in (Ready(), Accepted()):
        saga, _ = decide(saga, outcome, now)
    begun = heed(saga, Signal(8, Verb.CHILD, "a", {"state": "COMPLETED"}), now)
    assert begun is not None
    saga, _ = decide(begun.saga, Refused("FAILED_PRECONDITION", "no"), now)
    assert next_commands(saga, EPOCH) == (Begin(1, Kind.COMPENSATION, 1),)
    assert heed(saga, told, now) is None
    waiting, _ = decide(saga, Accepted(), now)
    heeded = heed(waiting, told, now)
    assert heeded is not None
    assert heeded.saga.state is SagaState.COMPENSATED


@pytest.mark.parametrize("pivot", [False, True])
def test_what_turns_a_saga_back_while_several_steps_are_intended_again_ends_that(pivot: bool) -> None:
    """Seed 14: a new leader gave up a step that was out of time, and went on with those beside it."""
    beside: list[Says] = [{"after": [], "within": "1s", "timeout": "1s"}, {"after": []}, {"after": []}]
    if pivot:
        beside = [{"pivot": True}, *({**step, "after": ["a"], "compensation": None} for step in beside)]
    walk = Walk(graph(*beside)).ready()
    if pivot:
        walk.tell("a", Succeeded({}))
    late = Moment(Epoch(walk.epoch + 1), walk.now + timedelta(seconds=2), 0.0)
    saga, events = decide(walk.saga, Ready(), late, position=0)
    assert saga.state is (SagaState.FAILED if pivot else SagaState.COMPENSATING)
    assert events[0].status is (Status.PARKED if pivot else Status.UNKNOWN)
    if not pivot:
        assert saga.to_compensate == (1, 2, 3)


def test_the_model_of_the_scan_finds_what_is_awake_behind_many_that_sleep() -> None:
    """Seed 133: a page of the model's recovery scan was cut before those that sleep were left out."""
    store = MemorySagaLog(lambda: 0.0)
    for number in range(1, 41):
        row = Row(SagaId(UUID(int=number)), "test", 1, {}, {}, NOON, SagaState.RUNNING)
        row.wake_at = None if number == 40 else NOON
        store.insert(row)
    assert [one.id.int for one in store.unfinished(SagaState.RUNNING, Epoch(1), None, 32)] == [40]


async def test_an_ended_saga_is_not_parked_when_it_is_told_something_and_its_rows_cannot_be_read() -> None:
    """Seed 89: an undone child became a parked one, since a signal came late and its rows could not be understood."""
    store = MemorySagaLog(time.monotonic)
    store.insert(stored(1))
    row = store.rows[saga_id(1)]
    row.events.append(Event(1, Status.COMPENSATED, Epoch(1), 2, 1))
    row.state = SagaState.COMPENSATED
    number = store.post(row.id, Signal(0, Verb.UNDO))
    async with leading(leader(store, Participants(succeed)), revision=2):
        await until(lambda: store.posted[number].heard)
    assert row.state is SagaState.COMPENSATED
    assert "cannot be understood" in store.posted[number].refusal
