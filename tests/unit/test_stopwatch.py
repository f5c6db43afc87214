"""How long a step takes from its intent to what became of it, and which intent is the oldest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from uuid import UUID

import pytest

from orchestrator.driving.stopwatch import Stopwatch
from orchestrator.saga.events import Event, Status
from orchestrator.saga.model import Cursor, Epoch, Kind, Saga, SagaId
from orchestrator.telemetry import Metrics

from .sagas import new_saga

LABELS = {"definition": "test", "step": "s1", "kind": "action"}


@dataclass
class Watch:
    """A stopwatch, and the time that it reads."""

    metrics: Metrics
    now: float = 1000.0

    def __post_init__(self) -> None:
        self.watch = Stopwatch(self.metrics, lambda: self.now)

    def logged(self, saga: Saga, *events: tuple[Status, int]) -> None:
        self.watch.logged(saga, [Event(1, status, Epoch(1), position) for status, position in events])

    def oldest(self) -> float | None:
        return self.metrics.registry.get_sample_value("baton_oldest_intent_timestamp_seconds")

    def seconds(self, **labels: str) -> tuple[float | None, float | None]:
        ask = self.metrics.registry.get_sample_value
        name = "baton_intent_to_done_seconds"
        return ask(f"{name}_count", {**LABELS, **labels}), ask(f"{name}_sum", {**LABELS, **labels})


@pytest.fixture
def watch() -> Watch:
    return Watch(Metrics("baton", "r1"))


def saga(number: int) -> Saga:
    return replace(new_saga(), id=SagaId(UUID(int=number)))


def test_a_step_counts_from_its_first_intent_through_all_retries(watch: Watch) -> None:
    watch.logged(saga(1), (Status.EXECUTING, 1))
    watch.now = 1003.0
    watch.logged(saga(1), (Status.RETRYING, 1))
    watch.logged(saga(1), (Status.EXECUTING, 1))
    assert watch.oldest() == 1000.0
    watch.now = 1007.0
    watch.logged(saga(1), (Status.COMPLETED, 1), (Status.EXECUTING, 2))
    assert watch.seconds() == (1, 7.0)
    assert watch.oldest() == 1007.0


def test_the_oldest_intent_is_that_of_any_saga_and_goes_with_its_end(watch: Watch) -> None:
    for number, now in ((1, 1000.0), (2, 1001.0), (3, 1002.0)):
        watch.now = now
        watch.logged(saga(number), (Status.EXECUTING, 1))
    watch.logged(saga(1), (Status.FAILED, 1))
    assert watch.oldest() == 1001.0
    watch.watch.forget(saga(2))
    assert watch.oldest() == 1002.0
    watch.logged(saga(3), (Status.PARKED, 0))
    assert watch.oldest() == 0


def test_a_compensation_is_timed_by_itself(watch: Watch) -> None:
    watch.logged(saga(1), (Status.EXECUTING, 1))
    watch.logged(saga(1), (Status.CANCELLED, 0))
    watch.now = 1010.0
    watch.logged(saga(1), (Status.COMPENSATING, 1))
    watch.now = 1011.5
    watch.logged(saga(1), (Status.COMPENSATED, 1))
    assert watch.seconds() == (None, None)
    assert watch.seconds(kind="compensation") == (1, 1.5)


def test_what_waits_by_its_nature_or_sleeps_is_not_timed(watch: Watch) -> None:
    watch.logged(saga(1), (Status.EXECUTING, 1))
    watch.logged(saga(1), (Status.WAITING, 1))
    watch.logged(saga(2), (Status.EXECUTING, 1))
    watch.watch.forget(saga(2))
    assert watch.oldest() == 0
    watch.now = 9000.0
    watch.logged(saga(1), (Status.COMPLETED, 1))
    assert watch.seconds() == (None, None)


def test_a_step_under_way_is_timed_on_when_the_saga_is_cancelled(watch: Watch) -> None:
    cursor = Cursor(1, Kind.ACTION, 1, 0, Epoch(1), False, None)
    watch.logged(saga(1), (Status.EXECUTING, 1), (Status.EXECUTING, 2))
    watch.now = 1002.0
    watch.logged(replace(saga(1), open=(cursor,)), (Status.CANCELLED, 0))
    watch.now = 1004.0
    watch.logged(saga(1), (Status.COMPLETED, 1), (Status.COMPLETED, 2))
    assert watch.seconds() == (1, 4.0)
    assert watch.seconds(step="s2") == (None, None)


def test_what_a_former_leader_intended_is_not_timed_before_the_own_intent(watch: Watch) -> None:
    watch.logged(saga(1), (Status.COMPLETED, 1))
    assert watch.seconds() == (None, None)
    assert watch.oldest() == 0
