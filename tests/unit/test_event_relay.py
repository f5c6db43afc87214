"""The relay between a log and a broker that both fail: everything arrives, each saga's events in order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from orchestrator.events import relay as relaying
from orchestrator.events.model import Cursor, EventRecord
from orchestrator.events.port import SinkUnavailable
from orchestrator.events.relay import RELAY_CONSUMER, Relay
from orchestrator.telemetry import Metrics
from tests.unit.event_log import MemoryEvents, an_event

WITHIN_S = 60.0


@dataclass
class FlakySink:
    """A broker that takes some of a round before it fails, and may lose the acknowledgement of all."""

    chance: random.Random = field(default_factory=lambda: random.Random(0))
    fails: float = 0.0
    got: list[EventRecord] = field(default_factory=list)
    closed: int = 0

    async def publish(self, events: Sequence[EventRecord]) -> None:
        await asyncio.sleep(0)
        if self.chance.random() < self.fails:
            taken = [event for event in events if self.chance.random() < 0.5]
            self.chance.shuffle(taken)
            self.got += taken
            raise SinkUnavailable("away")
        self.got += events

    async def close(self) -> None:
        self.closed += 1

    def first_seen(self) -> list[EventRecord]:
        """What is left when a broker, or a consumer, drops what it has by its id."""
        return list({event.id: event for event in reversed(self.got)}.values())[::-1]


def log_of(sagas: int, events: int) -> MemoryEvents:
    """Interleaved sagas."""
    keys = [(saga, sequence) for sequence in range(1, events + 1) for saga in range(1, sagas + 1)]
    return MemoryEvents([an_event(number, saga, sequence) for number, (saga, sequence) in enumerate(keys, 1)])


@asynccontextmanager
async def relaying_to(
    log: MemoryEvents, sink: FlakySink, leading: Callable[[], bool] = lambda: True, metrics: Metrics | None = None
) -> AsyncIterator[Relay]:
    relay = Relay(log, sink, metrics or Metrics("test", "r1"), rows=7, payloads=False)
    running = asyncio.create_task(relay.run(leading))
    try:
        yield relay
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not true():
            await asyncio.sleep(0.001)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for a pause that is there for brokers."""
    monkeypatch.setattr(relaying, "_PAUSE_MIN_S", 0.0)
    monkeypatch.setattr(relaying, "_PAUSE_MAX_S", 0.001)
    monkeypatch.setattr(relaying, "_DOUBT_S", 0.001)


def assert_all_in_order(log: MemoryEvents, sink: FlakySink) -> None:
    arrived = sink.first_seen()
    assert {event.id for event in arrived} == {event.id for event in log.events}
    for saga in {event.transition.saga_id for event in log.events}:
        sequences = [event.transition.sequence for event in arrived if event.transition.saga_id == saga]
        assert sequences == sorted(sequences)


@pytest.mark.parametrize("seed", range(20))
async def test_all_events_arrive_in_order_though_broker_and_leader_fail(seed: int) -> None:
    chance = random.Random(seed)
    log, sink = log_of(sagas=5, events=8), FlakySink(chance, fails=0.3)
    while log.kept.get(RELAY_CONSUMER) != log.events[-1].cursor:
        # A leader dies at any moment, and the next one goes on.
        async with relaying_to(log, sink):
            for _ in range(chance.randrange(60)):
                await asyncio.sleep(0)
    assert_all_in_order(log, sink)


async def test_an_event_that_comes_is_published_and_the_position_is_kept_behind_it() -> None:
    log, sink = log_of(1, 1), FlakySink()
    metrics = Metrics("test", "r1")
    async with relaying_to(log, sink, metrics=metrics) as relay:
        await until(lambda: len(sink.got) == 1)
        log.events.append(an_event(2, 1, 2))
        relay.nudge()
        await until(lambda: log.kept[RELAY_CONSUMER] == Cursor(1, 2))
    assert [event.transition.sequence for event in sink.got] == [1, 2]
    assert metrics.registry.get_sample_value("baton_events_published_total") == 2
    assert sink.closed


async def test_nothing_is_published_by_whoever_does_not_lead() -> None:
    log, sink = log_of(3, 3), FlakySink()
    leads = False
    async with relaying_to(log, sink, lambda: leads):
        await asyncio.sleep(0.02)
        assert sink.got == []
        assert log.pages == 0
        leads = True
        await until(lambda: len(sink.got) == 9)


async def test_a_leader_in_doubt_stops_between_two_rounds() -> None:
    log, sink = log_of(1, 7), FlakySink()
    async with relaying_to(log, sink, lambda: len(sink.got) < 3):
        await until(lambda: len(sink.got) >= 3)
        await asyncio.sleep(0.02)
        assert len(sink.got) == 3
        assert log.kept[RELAY_CONSUMER] == Cursor(0, 0)


async def test_a_reset_of_the_relay_stands_while_it_publishes() -> None:
    log, sink = log_of(1, 20), FlakySink()
    async with relaying_to(log, sink):
        await until(lambda: len(sink.got) >= 20)
        log.kept[RELAY_CONSUMER] = Cursor(1, 15)
        log.events.append(an_event(21, 1, 21))
        await until(lambda: log.kept[RELAY_CONSUMER] == Cursor(1, 21))
    assert [event.cursor.position for event in sink.got][-6:] == [16, 17, 18, 19, 20, 21]


async def test_what_retention_removed_before_it_was_published_waits_for_a_person() -> None:
    log, sink = log_of(1, 9), FlakySink()
    log.kept[RELAY_CONSUMER] = Cursor(1, 1)
    log.remove(4)
    metrics = Metrics("test", "r1")
    errors = ("baton_events_publish_errors_total", {"what": "CursorExpired"})
    async with relaying_to(log, sink, metrics=metrics):
        await until(lambda: bool(metrics.registry.get_sample_value(*errors)))
        assert sink.got == []
        await log.reset(RELAY_CONSUMER, Cursor(0, 0, log.removed))
        await until(lambda: len(sink.got) == 5)


async def test_a_log_that_is_away_and_a_defect_end_nothing() -> None:
    log, sink = log_of(2, 2), FlakySink()
    log.away = True
    metrics = Metrics("test", "r1")

    def errors(what: str) -> float:
        return metrics.registry.get_sample_value("baton_events_publish_errors_total", {"what": what}) or 0

    async with relaying_to(log, sink, metrics=metrics):
        await until(lambda: errors("LogUnavailable") > 1)
        log.away = False
        log.kept[RELAY_CONSUMER] = "nonsense"  # type: ignore[assignment]
        await until(lambda: errors("defect") > 0)
        del log.kept[RELAY_CONSUMER]
        await until(lambda: len(sink.first_seen()) == 4)


async def test_the_lag_is_the_age_of_the_oldest_event_that_is_not_published() -> None:
    log, sink = log_of(1, 3), FlakySink(fails=1.0)
    metrics = Metrics("test", "r1")

    def lag() -> float:
        return metrics.registry.get_sample_value("baton_events_relay_lag_seconds") or 0.0

    async with relaying_to(log, sink, metrics=metrics):
        await until(lambda: lag() > 60)
        sink.fails = 0.0
        await until(lambda: lag() == 0)
