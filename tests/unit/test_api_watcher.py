"""The watcher: who watches hears everything once, who is slow holds nobody up, and who waits hears of the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from orchestrator.api import watcher as watcher_module
from orchestrator.api.watcher import Watcher
from orchestrator.errors import LogUnavailable, Overloaded, Retryable
from orchestrator.saga.model import SagaId
from orchestrator.sagalog.records import News, TransitionRecord

SAGA, OTHER = SagaId(UUID(int=1)), SagaId(UUID(int=2))


class Log:
    """A log in memory: how many transitions each saga has, and which sagas have ended."""

    def __init__(self) -> None:
        self.last: dict[SagaId, int] = {}
        self.over: set[SagaId] = set()
        self.asked: list[dict[SagaId, int]] = []
        self.away = False

    async def news(self, known: Mapping[SagaId, int], rows: int) -> list[News]:
        if self.away:
            raise LogUnavailable("away")
        self.asked.append(dict(known))
        found = []
        for saga_id, after in known.items():
            last = self.last.get(saga_id, 0)
            if last > after or saga_id in self.over:
                page = range(after + 1, min(last, after + rows) + 1)
                found.append(News(saga_id, self._state(saga_id), last, tuple(_row(saga_id, n) for n in page)))
        return found

    async def ended(self, sagas: Sequence[SagaId]) -> list[SagaId]:
        return [saga_id for saga_id in sagas if saga_id in self.over]

    def _state(self, saga_id: SagaId) -> str:
        return "COMPLETED" if saga_id in self.over else "RUNNING"


def _row(saga_id: SagaId, sequence: int) -> TransitionRecord:
    at = datetime.now(UTC)
    return TransitionRecord(saga_id, sequence, "step", 1, "executing", 1, None, None, 1, at, "RUNNING")


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
async def watcher(log: Log, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watcher]:
    monkeypatch.setattr(watcher_module, "_POLL_MIN_S", 0.005)
    monkeypatch.setattr(watcher_module, "_POLL_MAX_S", 0.01)
    reader: Any = log
    made = Watcher(reader)
    task = asyncio.create_task(made.run())
    yield made
    assert not task.done(), "the poller has died"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def heard(watcher: Watcher, after: int = 0) -> list[int]:
    return [transition.sequence async for transition in watcher.watch(SAGA, after)]


async def test_a_long_past_is_told_in_order_and_once(log: Log, watcher: Watcher) -> None:
    log.last[SAGA] = 1000
    log.over.add(SAGA)
    async with asyncio.timeout(10):
        assert await heard(watcher) == list(range(1, 1001))
        assert await heard(watcher, after=990) == list(range(991, 1001))
        assert await heard(watcher, after=1000) == []


async def test_watchers_of_one_saga_at_different_places_each_hear_their_part(log: Log, watcher: Watcher) -> None:
    log.last[SAGA] = 200
    log.over.add(SAGA)
    async with asyncio.timeout(10):
        parts = await asyncio.gather(*(heard(watcher, after) for after in (0, 50, 150, 200)))
    assert parts == [list(range(after + 1, 201)) for after in (0, 50, 150, 200)]


async def test_a_slow_watcher_is_not_read_for_and_holds_nobody_up(log: Log, watcher: Watcher) -> None:
    log.last[SAGA], log.last[OTHER] = 100_000, 5
    slow = watcher.watch(SAGA, 0)
    assert (await anext(slow)).sequence == 1
    log.over.add(OTHER)
    async with asyncio.timeout(10):
        for _ in range(5):
            assert len([t async for t in watcher.watch(OTHER, 0)]) == 5
    assert sum(SAGA in known for known in log.asked) == 1, "the log was asked for what nobody takes"
    assert (await anext(slow)).sequence == 2
    await slow.aclose()


async def test_what_comes_later_is_told_when_it_comes_also_through_an_absence_of_the_log(
    log: Log, watcher: Watcher
) -> None:
    watch = watcher.watch(SAGA, 0)
    for sequence in (1, 2, 3):
        coming = asyncio.ensure_future(anext(watch))
        log.away = True
        done, _ = await asyncio.wait((coming,), timeout=0.03)
        assert not done
        log.away = False
        log.last[SAGA] = sequence
        assert (await asyncio.wait_for(coming, 5)).sequence == sequence
    await watch.aclose()


async def test_a_saga_whose_last_rows_are_lost_ends_its_watches_all_the_same(log: Log, watcher: Watcher) -> None:
    log.over.add(SAGA)
    log.last[SAGA] = 0
    async with asyncio.timeout(5):
        assert await heard(watcher, after=3) == []


async def test_the_end_is_told_to_all_who_wait(log: Log, watcher: Watcher) -> None:
    waiting = [asyncio.create_task(watcher.ended(SAGA, 10)) for _ in range(100)]
    assert not await watcher.ended(SAGA, 0.02)
    log.over.add(SAGA)
    async with asyncio.timeout(5):
        assert all(await asyncio.gather(*waiting))


async def test_nobody_is_asked_about_when_nobody_watches(log: Log, watcher: Watcher) -> None:
    log.last[SAGA] = 1
    watch = watcher.watch(SAGA, 0)
    await anext(watch)
    await watch.aclose()
    await asyncio.sleep(0)
    asked = len(log.asked)
    await asyncio.sleep(0.05)
    assert len(log.asked) <= asked + 1


async def test_a_replica_that_stops_lets_everybody_go(log: Log, watcher: Watcher) -> None:
    waiting = asyncio.create_task(watcher.ended(SAGA, 60))
    watching = asyncio.create_task(heard(watcher))
    await asyncio.sleep(0.02)
    watcher.close()
    async with asyncio.timeout(5):
        assert not await waiting
        with pytest.raises(Retryable, match="last sequence"):
            await watching
        assert not await watcher.ended(SAGA, 60)


async def test_watchers_are_bounded(log: Log, watcher: Watcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher_module, "WATCHERS_MAX", 1)
    waiting = asyncio.create_task(watcher.ended(SAGA, 60))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await watcher.ended(SAGA, 1)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    log.over.add(SAGA)
    assert await watcher.ended(SAGA, 5)
