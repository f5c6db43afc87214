"""The crash points find what they are for: with a part of the barrier or of the log taken out, they see violations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import pytest

from orchestrator.saga.events import Event
from orchestrator.saga.model import Epoch, Saga
from orchestrator.sagalog.port import Heard
from orchestrator.simulation.participants import Rules

from .cases import COMPENSATED, COMPLETED, Case, Rule, Turn
from .explore import Tally
from .report import explore_case
from .world import SAGA, DatedLog

FLOW = "order-reserve-pay-ship"
DEMANDS = {"CHILD", "ORDER", "PIVOT", "SKIPPED", "TIME", "SIGNAL", "EVENTS", "BULK", "PAUSE"}
SUCCESS = Case("success", COMPLETED)
LATE = Case("process_payment unreached", COMPENSATED, (Rule(2, Turn.UNREACHED),))


def broken(tally: Tally) -> set[str]:
    """The invariants, and the demands of the language, that were violated."""
    words = {line.split(":")[0].strip() for violation in tally.violations for line in violation.splitlines()}
    return words & ({f"I{number}" for number in range(1, 10)} | DEMANDS)


@pytest.mark.parametrize("case", [SUCCESS, LATE], ids=lambda case: case.name)
def test_with_every_rule_in_force_nothing_is_found(case: Case) -> None:
    assert explore_case(FLOW, case, Rules()).violations == []


@pytest.mark.parametrize("case", [SUCCESS, LATE], ids=lambda case: case.name)
def test_epochs_at_the_participant_are_a_second_line_of_defence(case: Case) -> None:
    assert explore_case(FLOW, case, Rules(epochs=False)).violations == []


def test_without_idempotency_a_step_takes_effect_twice() -> None:
    assert {"I1", "I2"} <= broken(explore_case(FLOW, SUCCESS, Rules(idempotency=False)))


def test_without_tombstones_an_action_takes_effect_after_it_was_compensated() -> None:
    assert "I1" in broken(explore_case(FLOW, LATE, Rules(tombstone=False, epochs=False)))


def test_without_tombstones_epochs_alone_do_not_save_a_saga() -> None:
    assert "I1" in broken(explore_case(FLOW, LATE, Rules(tombstone=False)))


class ForgetfulLog(DatedLog):
    """Acknowledges a write before it is durable: a crash loses the last one."""

    def __init__(self, clock: object) -> None:
        super().__init__(clock)  # type: ignore[arg-type]
        self.lost: DatedLog | None = None

    def write(self, epoch: Epoch, saga: Saga, events: Sequence[Event], heard: Sequence[Heard] = ()) -> int:
        self.lost = super().fork()
        return super().write(epoch, saga, events, heard)

    def fork(self) -> Self:
        if self.lost is None:
            return super().fork()
        left = super().fork()
        left.rows, left.dates, left.lost = self.lost.rows, self.lost.dates, None
        return left


def test_a_log_that_acknowledges_before_it_is_durable_loses_the_intent() -> None:
    assert "I4" in broken(explore_case(FLOW, SUCCESS, Rules(), ForgetfulLog))


class UnfencedLog(DatedLog):
    """Takes a write of any epoch."""

    def holds_fence(self, epoch: Epoch) -> bool:
        return epoch in self.epochs


def test_a_log_without_a_fence_takes_rows_of_the_dead_leader() -> None:
    assert "I5" in broken(explore_case(FLOW, SUCCESS, Rules(), UnfencedLog))


class UnstoredLog(DatedLog):
    """Loses the saga's row behind its steps: the state is not what the events say."""

    def write(self, epoch: Epoch, saga: Saga, events: Sequence[Event], heard: Sequence[Heard] = ()) -> int:
        before = self.rows[SAGA].state
        fresh = super().write(epoch, saga, events, heard)
        if saga.state.terminal:
            self.rows[SAGA].state = before
        return fresh


def test_a_saga_that_never_ends_is_seen() -> None:
    assert "I6" in broken(explore_case(FLOW, SUCCESS, Rules(), UnstoredLog))
