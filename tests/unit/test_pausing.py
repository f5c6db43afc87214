"""Pauses of definitions and participants: the rules, the driver's part, and what a term makes of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from orchestrator.driving.breaker import Breaker, BreakerPolicy
from orchestrator.driving.driver import Driven, Driver, Surroundings
from orchestrator.driving.leader import Leader
from orchestrator.driving.outages import Outages
from orchestrator.driving.port import Invocation
from orchestrator.driving.registry import Compiled, Registry
from orchestrator.driving.term import Clocks, LeaderSettings, Means
from orchestrator.saga.commands import Refused, Succeeded, Unknown
from orchestrator.saga.definition import Definition
from orchestrator.saga.events import Status
from orchestrator.saga.model import Kind, SagaState, doubtful
from orchestrator.saga.pausing import HOLD_MOST_S, HOLD_S, NO_PAUSES, Pause, PauseKind, Pauses, held_by, let_go
from orchestrator.sagalog.memory import MemorySagaLog
from orchestrator.sagalog.memory_rows import Row
from orchestrator.sagalog.memory_term import MemoryTermLog
from orchestrator.sagalog.port import Claim, StoredPause
from orchestrator.telemetry import Metrics

from .leader_world import Participants, leading, saga_id, succeed, until
from .sagas import NOW, Walk, graph, graph_definition

OK = Succeeded({})


def pause(kind: PauseKind = PauseKind.PARTICIPANT, name: str = "h:1") -> Pause:
    return Pause(uuid4(), kind, name, "ann", "moving house", NOW)


def test_a_pause_says_what_who_since_when_and_why() -> None:
    assert str(pause()) == "participant h:1 is paused by ann since 2026-01-01T00:00:00+00:00: moving house"


def test_a_participants_pause_holds_all_calls_to_it_and_a_definitions_all_that_its_sagas_do() -> None:
    of_participant, of_definition = pause(), pause(PauseKind.DEFINITION, "test")
    assert Pauses([of_participant]).holding("any", "h:1") is of_participant
    assert Pauses([of_participant]).holding("any", "h:2") is None
    assert Pauses([of_participant]).holding("h:1") is None, "a definition may bear any name"
    assert Pauses([of_definition]).holding("test", "h:2") is of_definition
    assert Pauses([of_definition]).holding("test") is of_definition
    assert Pauses([of_definition]).holding("other", "test") is None
    assert Pauses([of_definition, of_participant]).holding("test", "h:1") is of_definition
    assert NO_PAUSES.holding("test", "h:1") is None


def test_what_a_pause_holds_spends_no_attempt_and_was_surely_not_done() -> None:
    walk = Walk(graph({"retry": {"attempts": 1}}, {})).ready()
    for _ in range(5):
        walk.tell("a", held_by(pause(), 0.999))
        (cursor,) = walk.saga.open
        assert (cursor.failures, cursor.paused, doubtful(cursor)) == (0, True, False)
        assert cursor.retry_at is not None
        assert timedelta(seconds=HOLD_S) <= cursor.retry_at - walk.now <= timedelta(seconds=HOLD_MOST_S)
        walk.ready("a", HOLD_MOST_S)
        assert not walk.saga.open[0].paused
    assert walk.log[1].code == "PAUSED"
    assert walk.log[1].message == str(pause())
    # It is called at last, and its one attempt is there still: a refusal turns the saga back, and undoes nothing.
    walk.tell("a", Refused("FAILED_PRECONDITION", "no"))
    assert walk.saga.state is SagaState.COMPENSATED


def test_a_held_compensation_spends_no_attempt_either() -> None:
    walk = Walk(graph({}, {})).ready().tell("a", OK).tell("b", Refused("FAILED_PRECONDITION", "no"))
    for _ in range(5):
        walk.tell("a", held_by(pause(), 0.0))
        (cursor,) = walk.saga.open
        assert (cursor.kind, cursor.failures, cursor.paused) == (Kind.COMPENSATION, 0, True)
        walk.ready("a", HOLD_MOST_S)
    assert walk.tell("a", OK).saga.state is SagaState.COMPENSATED


def test_what_may_have_been_done_before_a_pause_may_have_been_done_still() -> None:
    walk = Walk(graph({"retry": {"retries": 3}}, {})).ready().tell("a", Unknown("DEADLINE_EXCEEDED", "late"))
    walk.ready("a", 60).tell("a", held_by(pause(), 0.0))
    assert doubtful(walk.saga.open[0])


def test_a_pause_stops_no_time_limit() -> None:
    walk = Walk(graph({"within": "2s"}, {})).ready().tell("a", held_by(pause(), 0.0))
    assert walk.saga.open[0].retry_at == walk.now + timedelta(seconds=2)
    assert walk.ready("a", 2).saga.state is SagaState.COMPENSATED
    assert walk.saga.failure is not None
    assert walk.saga.failure.code == "DEADLINE_EXCEEDED"
    walk = Walk(graph({}, {}, within="10s")).ready().tell("a", held_by(pause(), 0.0))
    assert walk.ready("", 10).saga.state is SagaState.COMPENSATED


def test_only_what_a_pause_has_held_and_none_holds_is_let_go() -> None:
    saga = Walk(graph({}, {"after": []}, {"after": []})).ready().saga
    walk = Walk(saga).tell("a", held_by(pause(), 0.0)).tell("b", Unknown("UNAVAILABLE", "late"))
    assert let_go(walk.saga, NO_PAUSES) == (1,)
    assert let_go(walk.saga, Pauses([pause(name="h:2")])) == (1,)
    assert let_go(walk.saga, Pauses([pause()])) == ()
    assert let_go(walk.saga, Pauses([pause(PauseKind.DEFINITION, "test")])) == ()
    assert let_go(walk.ready("a").saga, NO_PAUSES) == (), "its next attempt is intended"


def test_calls_come_back_in_the_ramp_when_a_pause_has_ended() -> None:
    policy = BreakerPolicy(ramp=2, ramp_step_s=1.0, ramp_steps=2)
    breaker = Breaker(policy)
    assert all(breaker.wait_s(1.0, 0.0) is None for _ in range(100))
    breaker.come_back(1.0)
    assert [breaker.wait_s(1.0, 0.0) is None for _ in range(3)] == [True, True, False]
    for _ in range(policy.misses):
        breaker.missed(1.5, 0.0)
    breaker.come_back(1.6)
    assert breaker.open, "that nobody holds calls back does not mean that it can be reached"


# The driver.


class Stage:
    """One saga, its driver and the pauses that it goes by. Calls succeed, or hang while `hang` is set."""

    def __init__(self, *steps: dict[str, object]) -> None:
        zero_s = time.monotonic()
        self.store = MemorySagaLog(lambda: time.monotonic() - zero_s)
        saga = graph(*steps)
        self.store.insert(Row(saga.id, "test", 1, saga.input, {}, saga.created_at))
        self.driven = Driven(saga)
        self.pauses = NO_PAUSES
        self.calls: list[str] = []
        self.hung: dict[str, asyncio.Event] = {}
        self.epoch = 0

    def warm(self, services: Iterable[str]) -> None:
        """Nothing to connect to."""

    async def call(self, invocation: Invocation) -> Succeeded:
        self.calls.append(invocation.step)
        if invocation.step in self.hung:
            await self.hung[invocation.step].wait()
        return OK

    async def drive(self) -> None:
        self.epoch += 1
        term_log = await self.store.raise_epoch(Claim(0, "r1", "c1", self.epoch, "vacant"))
        assert term_log is not None
        surroundings = Surroundings(lambda: 0.0, lambda: True, lambda: None, lambda *_: None, lambda: self.pauses)
        async with asyncio.timeout(30):
            await Driver(0, term_log, self, surroundings, Metrics("test", "r1")).drive(self.driven)

    @property
    def told(self) -> list[str]:
        return [f"{e.status} {e.position}" for e in self.store.rows[self.driven.saga.id].events]

    async def tells(self, row: str) -> None:
        await until(lambda: row in self.told)


async def test_a_call_under_way_ends_normally_and_the_next_one_is_not_made() -> None:
    stage = Stage({}, {})
    stage.hung["a"] = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(stage.drive())
        await until(lambda: stage.calls == ["a"])
        stage.pauses = Pauses([pause()])
        stage.driven.look_again()
        stage.hung["a"].set()
    # It has nothing to do for long: it sleeps.
    assert stage.told == ["executing 1", "completed 1", "executing 2", "held 2"]
    assert stage.calls == ["a"]
    stage.pauses = NO_PAUSES
    await stage.drive()
    assert stage.driven.saga.state is SagaState.COMPLETED
    assert stage.told[4:] == ["executing 2", "completed 2"]
    assert stage.calls == ["a", "b"]


async def test_what_is_held_beside_a_call_goes_on_as_soon_as_the_pause_ends() -> None:
    stage = Stage({}, {"after": [], "service": "h:2"})
    stage.hung["a"] = asyncio.Event()
    stage.pauses = Pauses([pause(name="h:2")])
    async with asyncio.TaskGroup() as group:
        group.create_task(stage.drive())
        await stage.tells("held 2")
        assert stage.calls == ["a"]
        stage.pauses = NO_PAUSES
        stage.driven.look_again()
        await stage.tells("completed 2")
        stage.hung["a"].set()
    assert stage.driven.saga.state is SagaState.COMPLETED


async def test_a_pause_that_ends_while_a_step_is_being_held_leaves_nobody_asleep() -> None:
    stage = Stage({}, {})
    write = MemorySagaLog.write
    held = asyncio.Event()

    def ends_meanwhile(store: MemorySagaLog, *arguments: object) -> int:
        if not held.is_set() and any(event.status is Status.HELD for event in arguments[2]):  # type: ignore[attr-defined]
            held.set()
            stage.pauses = NO_PAUSES
            stage.driven.look_again()
        return write(store, *arguments)  # type: ignore[arg-type]

    stage.store.write = ends_meanwhile.__get__(stage.store)  # type: ignore[method-assign]
    stage.pauses = Pauses([pause()])
    await stage.drive()
    assert held.is_set()
    assert stage.driven.saga.state is SagaState.COMPLETED


# A term.


class Definitions(Registry):
    """Knows version 1 of `test`, of two steps at two participants, and of `other`, of one."""

    def __init__(self) -> None:
        self._known: dict[str, Definition] = {
            "test": graph_definition({}, {"service": "h:2"}),
            "other": graph_definition({"service": "h:2"}, name="other"),
        }

    async def get(self, name: str, version: int) -> Compiled:
        return Compiled(self._known[name], {})

    def services(self) -> set[str]:
        return {"h:1"}


@pytest.fixture
def store() -> MemorySagaLog:
    return MemorySagaLog(time.monotonic)


def leader(store: MemorySagaLog, participants: Participants, metrics: Metrics | None = None) -> Leader:
    settings = LeaderSettings(shard=0, sagas_max=100, recovery_page=2, poll_interval_s=0.05)
    clocks = Clocks(time.monotonic, lambda: 0.5)
    metrics = metrics or Metrics("test", "r1")
    outages = Outages(participants, time.monotonic, lambda: 0.5, metrics)
    means = Means(Definitions(), outages, settings, clocks, metrics, comes_back=outages.comes_back)
    return Leader(store, means)


def insert(store: MemorySagaLog, *numbers: int, of: str = "test") -> None:
    for number in numbers:
        store.insert(Row(saga_id(number), of, 1, {}, {}, datetime.now(UTC)))


def all_are(store: MemorySagaLog, status: Status) -> bool:
    return all(row.events and row.events[-1].status is status for row in store.rows.values())


def done(store: MemorySagaLog) -> bool:
    return all(row.state is SagaState.COMPLETED for row in store.rows.values())


async def test_a_new_leader_knows_what_is_paused_before_it_calls_anybody(store: MemorySagaLog) -> None:
    insert(store, *range(1, 21))
    store.put_pause(paused := pause(name="h:2"))
    first = Participants(succeed)
    async with leading(leader(store, first)):
        await until(lambda: all_are(store, Status.HELD))
    assert {call.service for call in first.calls} == {"h:1"}

    insert(store, *range(21, 31))
    metrics = Metrics("test", "r1")
    second = Participants(succeed)
    async with leading(leader(store, second, metrics), revision=2):
        await until(lambda: all_are(store, Status.HELD))
        await until(lambda: store.paused[paused.id].heeded_at is not None)
        assert metrics.registry.get_sample_value("baton_pauses", {"kind": "participant"}) == 1
        assert metrics.registry.get_sample_value("baton_pauses", {"kind": "definition"}) == 0
        assert {call.service for call in second.calls} == {"h:1"}
        assert len(second.calls) == 10, "what the former leader has held was left asleep"
        store.end_pause(paused.id)
        await until(lambda: done(store))
        await until(lambda: store.paused[paused.id].released_at is not None)
        await until(lambda: metrics.registry.get_sample_value("baton_pauses", {"kind": "participant"}) == 0)
    assert metrics.registry.get_sample_value("baton_pauses", {"kind": "definition"}) == 0


async def test_a_paused_definition_waits_and_others_go_on_at_the_same_participant(store: MemorySagaLog) -> None:
    store.put_pause(paused := pause(PauseKind.DEFINITION, "test"))
    participants = Participants(succeed)
    async with leading(leader(store, participants)):
        await until(lambda: store.paused[paused.id].heeded_at is not None)
        insert(store, 1, 2, 3)
        insert(store, 4, 5, of="other")
        await until(lambda: all(row.events for row in store.rows.values()))
        await until(lambda: [r.state for r in store.rows.values()].count(SagaState.COMPLETED) == 2)
        await until(lambda: all(r.events[-1].status is Status.HELD for r in list(store.rows.values())[:3]))
        assert {call.saga_id for call in participants.calls} == {saga_id(4), saga_id(5)}
        store.end_pause(paused.id)
        await until(lambda: done(store))


async def test_a_release_that_a_leader_did_not_live_to_end_is_ended_by_the_next(store: MemorySagaLog) -> None:
    insert(store, 1, 2, 3)
    store.put_pause(paused := pause())
    async with leading(leader(store, Participants(succeed))):
        await until(lambda: all_are(store, Status.HELD))
    store.end_pause(paused.id)
    async with leading(leader(store, Participants(succeed)), revision=2):
        await until(lambda: done(store))
        await until(lambda: store.paused[paused.id].released_at is not None)


async def test_what_was_let_go_on_and_never_wrote_so_is_let_go_on_once_more(store: MemorySagaLog) -> None:
    """Seed 32 of the simulation: a leader said that it had released the pause, and died before its sagas wrote."""
    insert(store, 1, 2, 3)
    store.put_pause(paused := pause())
    async with leading(leader(store, Participants(succeed))):
        await until(lambda: all_are(store, Status.HELD))
    store.end_pause(paused.id)
    store.heed_pauses((), [paused.id])
    assert store.paused[paused.id].released_at is not None
    async with leading(leader(store, Participants(succeed)), revision=2):
        await until(lambda: done(store))


async def test_nothing_is_driven_until_it_is_known_what_is_paused(
    store: MemorySagaLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert(store, 1)
    store.put_pause(pause(PauseKind.DEFINITION, "test"))
    participants = Participants(succeed)
    known, asked = asyncio.Event(), asyncio.Event()
    read = MemoryTermLog.pauses

    async def slow(term_log: MemoryTermLog) -> list[StoredPause]:
        asked.set()
        await known.wait()
        return await read(term_log)

    monkeypatch.setattr(MemoryTermLog, "pauses", slow)
    async with leading(leader(store, participants)):
        await asked.wait()
        # As many turns of the loop as it takes to drive a saga to its end.
        for _ in range(200):
            await asyncio.sleep(0)
        assert store.rows[saga_id(1)].events == []
        known.set()
        await until(lambda: all_are(store, Status.HELD))
    assert participants.calls == []
