"""The driver on the model of the saga log: calls side by side, signals meanwhile, sleeping and waking."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import replace

import pytest

from orchestrator.driving.driver import Driven, Driver, Surroundings
from orchestrator.driving.looks import Looks
from orchestrator.driving.port import Answer, Invocation
from orchestrator.saga.commands import Accepted, Refused, Succeeded
from orchestrator.saga.events import Order
from orchestrator.saga.model import Saga, SagaState
from orchestrator.saga.moving import Destination
from orchestrator.saga.signals import Signal, Verb
from orchestrator.sagalog.memory import MemorySagaLog
from orchestrator.sagalog.memory_rows import Row
from orchestrator.sagalog.port import Claim
from orchestrator.telemetry import Metrics

from .sagas import Says, graph, graph_definition

OK = Succeeded({})
ORDER = Order("kim", "because", "a receipt")


class Held:
    """Participants that answer when they are told to."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.under_way: dict[str, asyncio.Future[Answer]] = {}
        self._changed = asyncio.Event()

    def warm(self, services: Iterable[str]) -> None:
        """Nothing to connect to."""

    async def call(self, invocation: Invocation) -> Answer:
        name = invocation.step if invocation.kind == "action" else f"-{invocation.step}"
        self.calls.append(name)
        self.under_way[name] = asyncio.get_running_loop().create_future()
        self._changed.set()
        try:
            return await self.under_way[name]
        finally:
            del self.under_way[name]
            self._changed.set()

    async def called(self, *names: str) -> None:
        """Wait until exactly these calls are under way."""
        async with asyncio.timeout(20):
            while set(self.under_way) != set(names):
                self._changed.clear()
                await self._changed.wait()

    def answer(self, name: str, answer: Answer = OK) -> None:
        self.under_way[name].set_result(answer)


class Stage:
    """One saga, its driver, and who it calls."""

    def __init__(self, saga: Saga) -> None:
        # The model's clock begins when the saga does.
        zero_s = time.monotonic()
        self.store = MemorySagaLog(lambda: time.monotonic() - zero_s)
        self.store.insert(Row(saga.id, "test", 1, saga.input, {}, saga.created_at))
        self.participants = Held()
        self.driven = Driven(saga)
        self.revision = 0

    async def drive(self) -> Saga:
        """Drive it until it ends or sleeps; once more, under the next epoch."""
        self.revision += 1
        term_log = await self.store.raise_epoch(Claim(0, "r1", "c1", self.revision, "vacant"))
        assert term_log is not None
        surroundings = Surroundings(lambda: 0.0, lambda: True, lambda: None, lambda *_: None)
        driver = Driver(0, term_log, self.participants, surroundings, Metrics("test", "r1"))
        async with asyncio.timeout(30):
            return await driver.drive(self.driven)

    def tell(self, verb: Verb, step: str = "") -> int:
        number = self.store.post(self.driven.saga.id, Signal(0, verb, step, order=ORDER))
        self.driven.tell(Signal(number, verb, step, order=ORDER))
        return number

    @property
    def told(self) -> list[str]:
        return [f"{e.status} {e.position}" for e in self.store.rows[self.driven.saga.id].events]


async def test_steps_side_by_side_are_called_at_the_same_time_and_logged_as_they_end() -> None:
    stage = Stage(graph({}, {"after": []}, {"after": ["a", "b"]}))
    async with asyncio.TaskGroup() as group:
        driving = group.create_task(stage.drive())
        await stage.participants.called("a", "b")
        stage.participants.answer("b")
        async with asyncio.timeout(20):
            while "completed 2" not in stage.told:
                await asyncio.sleep(0)
        stage.participants.answer("a")
        await stage.participants.called("c")
        stage.participants.answer("c")
    assert driving.result().state is SagaState.COMPLETED
    assert stage.told == ["executing 1", "executing 2", "completed 2", "completed 1", "executing 3", "completed 3"]


async def test_a_cancellation_waits_for_the_calls_under_way_and_undoes_what_came_of_them() -> None:
    stage = Stage(graph({}, {"after": []}))
    async with asyncio.TaskGroup() as group:
        driving = group.create_task(stage.drive())
        await stage.participants.called("a", "b")
        stage.driven.cancel("stop")
        stage.participants.answer("a")
        await stage.participants.called("b")
        stage.participants.answer("b", Refused("FAILED_PRECONDITION", "no"))
        await stage.participants.called("-a")
        stage.participants.answer("-a")
    assert driving.result().state is SagaState.COMPENSATED
    assert stage.participants.calls == ["a", "b", "-a"]


async def test_a_pause_told_during_a_call_comes_before_the_next_step() -> None:
    stage = Stage(graph({}, {}))
    async with asyncio.TaskGroup() as group:
        driving = group.create_task(stage.drive())
        await stage.participants.called("a")
        stage.tell(Verb.PAUSE)
        stage.participants.answer("a")
    # It has nothing to do for long: it sleeps.
    assert driving.result().paused
    assert stage.told == ["executing 1", "paused 0", "completed 1"]
    assert stage.participants.calls == ["a"]
    async with asyncio.TaskGroup() as group:
        driving = group.create_task(stage.drive())
        stage.tell(Verb.RESUME)
        await stage.participants.called("b")
        stage.participants.answer("b")
    assert driving.result().state is SagaState.COMPLETED


async def test_an_answer_that_came_before_its_acceptance_is_heeded_while_another_call_goes_on() -> None:
    stage = Stage(graph({"answer": "later", "within": "60s"}, {"after": []}, {"after": ["a"]}))
    async with asyncio.TaskGroup() as group:
        driving = group.create_task(stage.drive())
        await stage.participants.called("a", "b")
        number = stage.tell(Verb.COMPLETE, "a")
        assert not stage.store.posted[number].heard
        stage.participants.answer("a", Accepted())
        # Nobody says it again, and b is still being called.
        await stage.participants.called("b", "c")
        assert stage.store.posted[number].heard
        stage.participants.answer("b")
        stage.participants.answer("c")
    assert driving.result().state is SagaState.COMPLETED


async def test_a_saga_that_waits_for_a_person_sleeps_and_goes_on_by_a_signal() -> None:
    stage = Stage(graph({"approval": {}}, {}))
    assert not (await stage.drive()).state.terminal
    assert stage.told == ["waiting 1"]
    async with asyncio.TaskGroup() as group:
        driving = group.create_task(stage.drive())
        stage.tell(Verb.APPROVE, "a")
        await stage.participants.called("b")
        stage.participants.answer("b")
    assert driving.result().state is SagaState.COMPLETED


async def test_a_short_delay_is_waited_for_and_a_long_one_slept_through() -> None:
    short = Stage(graph({"delay": "0.02s"}))
    assert (await short.drive()).state is SagaState.COMPLETED
    long = Stage(graph({"delay": "100s"}))
    saga = await long.drive()
    assert saga.state is SagaState.RUNNING
    assert long.store.rows[saga.id].wake_at == saga.open[0].retry_at


@pytest.mark.parametrize("verb", [Verb.PAUSE, Verb.APPROVE, Verb.RETRY])
async def test_a_signal_to_a_saga_that_has_ended_is_answered_and_changes_nothing(verb: Verb) -> None:
    stage = Stage(graph({"delay": "0.01s"}))
    await stage.drive()
    before = list(stage.told)
    number = stage.tell(verb, "a")
    await stage.drive()
    assert stage.store.posted[number].refusal == "the saga is COMPLETED"
    assert stage.told == before


def test_a_look_is_not_believed_about_a_saga_that_was_left_while_it_was_open() -> None:
    looks, saga = Looks(), graph({}).id
    with looks.open() as early:
        assert early.trusted(saga)
        with looks.open() as other:
            looks.left(saga)
            assert not other.trusted(saga)
        with looks.open() as late:
            assert late.trusted(saga)
        assert not early.trusted(saga)


def moving(stage: Stage, *steps: Says) -> int:
    """Order that the saga be moved to a version of these steps; the number of the signal."""
    to = replace(graph_definition(*steps), version=2)
    signal = Signal(0, Verb.MOVE, order=ORDER, destination=Destination(to, from_version=1))
    number = stage.store.post(stage.driven.saga.id, signal)
    stage.driven.tell(replace(signal, id=number))
    return number


async def test_a_move_is_heeded_beside_calls_under_way_and_what_may_begin_then_is_called_at_once() -> None:
    stage = Stage(graph({}, {"after": []}))
    async with asyncio.TaskGroup() as group:
        driving = group.create_task(stage.drive())
        await stage.participants.called("a", "b")
        number = moving(stage, {}, {"after": []}, {"after": []})
        await stage.participants.called("a", "b", "c")
        assert stage.store.posted[number].heard
        assert stage.store.rows[stage.driven.saga.id].version == 2
        for name in "abc":
            stage.participants.answer(name)
    assert driving.result().state is SagaState.COMPLETED
    assert stage.told[:4] == ["executing 1", "executing 2", "moved 0", "executing 3"]
    assert stage.participants.calls == ["a", "b", "c"]


async def test_a_move_told_during_a_call_comes_before_the_next_step() -> None:
    stage = Stage(graph({}, {}))
    async with asyncio.TaskGroup() as group:
        driving = group.create_task(stage.drive())
        await stage.participants.called("a")
        moving(stage, {}, {"action": {"method": "t.S/Other"}}, {})
        stage.participants.answer("a")
        await stage.participants.called("b")
        stage.participants.answer("b")
        await stage.participants.called("c")
        stage.participants.answer("c")
    assert driving.result().definition.version == 2
    assert stage.told[:4] == ["executing 1", "moved 0", "completed 1", "executing 2"]


async def test_a_move_that_leaves_nothing_to_do_ends_the_saga_and_a_refused_one_leaves_it_as_it_was() -> None:
    stage = Stage(graph({}, {"after": ["a"], "approval": {}}))
    async with asyncio.TaskGroup() as group:
        driving = group.create_task(stage.drive())
        await stage.participants.called("a")
        refused = moving(stage, {"service": "elsewhere:1"})
        stage.tell(Verb.PAUSE)
        moving(stage, {})
        stage.participants.answer("a")
    assert driving.result().state is SagaState.COMPLETED
    assert "step a: service is elsewhere:1" in stage.store.posted[refused].refusal
    assert stage.told == ["executing 1", "paused 0", "moved 0", "completed 1"]
