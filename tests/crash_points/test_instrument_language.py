"""What the crash points demand of the saga language they do demand: with one of its rules taken out, they see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

import pytest

from orchestrator.api.orders import CancelOrder, Outcome, Verdict
from orchestrator.driving import pausing
from orchestrator.driving.driver import Driver
from orchestrator.driving.pausing import Pausing
from orchestrator.driving.term import Term
from orchestrator.events.model import EventRecord
from orchestrator.saga import evolve, progress, undoing
from orchestrator.saga.commands import Wait
from orchestrator.saga.events import Event, Status
from orchestrator.saga.model import Epoch, Saga, SagaId
from orchestrator.saga.pausing import NO_PAUSES
from orchestrator.saga.script import Script
from orchestrator.sagalog.memory_rows import Row
from orchestrator.sagalog.port import Heard, NewChild
from orchestrator.sagalog.records import SagaRecord
from orchestrator.simulation.participants import Rules

from .cases import Case
from .explore import Tally
from .flows import flow
from .relaying import _Broker
from .report import explore_case
from .test_instrument import broken
from .world import DatedLog, World


def case(name: str, of: str) -> Case:
    """A case of a flow."""
    return next(one for one in flow(name).cases(flow(name)) if one.name == of)


def explored(name: str, of: str, rules: Rules | None = None, log: type[DatedLog] = DatedLog) -> Tally:
    return explore_case(name, case(name, of), rules or Rules(), log)


def test_without_tombstones_what_was_accepted_takes_effect_when_it_was_given_up() -> None:
    assert "I1" in broken(explored("later", "done when it was given up", Rules(tombstone=False)))


def test_a_leader_that_does_not_wait_for_a_backoff_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def at_once(driver: Driver, wait: Wait) -> float:
        return 0.0

    monkeypatch.setattr(Driver, "_left_s", at_once)
    assert "TIME" in broken(explored("retries", "pay is broken for ever"))


def test_a_saga_that_begins_before_its_time_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    # What a signal used to do to a saga that waits for its start.
    monkeypatch.setattr(Script, "early", property(lambda script: False))
    assert "TIME" in broken(explored("waiting", "paused before effect 0"))


def test_a_saga_that_turns_back_behind_its_pivot_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Saga, "sealed", property(lambda saga: False))
    assert "PIVOT" in broken(explored("pivot", "cancelled behind the pivot"))


def test_compensations_out_of_order_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def all_at_once(saga: Saga) -> tuple[int, ...]:
        begun = {cursor.position for cursor in saga.open}
        return tuple(position for position in saga.to_compensate if position not in begun)

    for module in (evolve, progress, undoing):
        monkeypatch.setattr(module, "undoable", all_at_once)
    assert "ORDER" in broken(explored("parallel", "ship refused"))


class ConfusedLog(DatedLog):
    """Takes down the end of the step at 4 as if it had been passed over."""

    def write(self, epoch: Epoch, saga: Saga, events: Sequence[Event], heard: Sequence[Heard] = ()) -> int:
        done = (Status.COMPLETED, 4)
        skipped = [replace(e, status=Status.SKIPPED) if (e.status, e.position) == done else e for e in events]
        return super().write(epoch, saga, skipped, heard)


def test_a_step_that_has_run_and_counts_as_passed_over_is_seen() -> None:
    assert "SKIPPED" in broken(explored("conditions", "success", log=ConfusedLog))


class DeafLog(DatedLog):
    """Notes that a signal was heard a moment after the statement that writes what it led to."""

    def write(self, epoch: Epoch, saga: Saga, events: Sequence[Event], heard: Sequence[Heard] = ()) -> int:
        fresh = super().write(epoch, saga, events)
        if heard:
            self.clock._loop.call_later(0.002, self.hear, heard)
        return fresh


def test_a_signal_that_is_heeded_twice_is_seen() -> None:
    assert "SIGNAL" in broken(explored("operators", "paused before effect 4", log=DeafLog))


class FruitfulLog(DatedLog):
    """Begins a child whenever it is asked to."""

    def begin_child(self, parent: Saga, step: str, child: NewChild) -> None:
        row = Row(
            SagaId(UUID(int=100 + len(self.rows))),
            child.definition,
            child.version,
            child.input,
            child.labels,
            self.now(),
        )
        self.insert(replace(row, parent=parent.id, parent_step=step))


def test_a_child_that_is_begun_twice_is_seen() -> None:
    assert "CHILD" in broken(explored("children", "success", log=FruitfulLog))


def test_a_broker_that_acknowledges_before_it_is_durable_loses_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    async def publish(broker: _Broker, events: Sequence[EventRecord]) -> None:
        world = broker._witness.world
        ids = [(event.transition.saga_id, event.transition.sequence) for event in events]

        def arrive(world: World) -> None:
            world.published += ids

        async def perform() -> None:
            world.log.clock._loop.call_later(0.002, arrive, world)

        await broker._witness.effect("publish", perform, arrive)

    monkeypatch.setattr(_Broker, "publish", publish)
    assert "EVENTS" in broken(explored("events", "success"))


def test_an_order_for_many_that_leaves_one_out_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    give = CancelOrder.give

    async def careless(order: CancelOrder, saga: SagaRecord) -> Verdict:
        return Verdict(Outcome.ORDERED, saga.state) if saga.id.int == 2 else await give(order, saga)

    monkeypatch.setattr(CancelOrder, "give", careless)
    assert "BULK" in broken(explored("many-asleep", "all are cancelled"))


def test_a_leader_that_says_that_it_goes_by_a_pause_and_does_not_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pausing, "Pauses", lambda pauses: NO_PAUSES)
    assert "PAUSE" in broken(explored("paused", "definition paused at effect 1"))
    assert "PAUSE" in broken(explored("paused", "participant paused at effect 1"))


def test_a_leader_that_drives_before_it_knows_what_is_paused_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    async def learn(leader: Pausing) -> None:
        """It learns in its own time."""

    monkeypatch.setattr(Pausing, "learn", learn)
    assert "PAUSE" in broken(explored("paused", "definition paused at effect 1"))


def test_a_pause_that_nobody_is_let_go_by_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nobody(leader: Pausing) -> int:
        return 0

    monkeypatch.setattr(Pausing, "_take_up_held", nobody)
    monkeypatch.setattr(Term, "look_again", lambda term: None)
    assert "PAUSE" in broken(explored("paused", "participant paused at effect 1"))
