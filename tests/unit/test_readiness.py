"""What /healthz, /readyz and the gauge of sagas rest on: who is waited for, and when sagas are counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from orchestrator.dashboard import census as census_module
from orchestrator.dashboard import readiness as readiness_module
from orchestrator.dashboard.census import Census
from orchestrator.dashboard.readiness import Readiness
from orchestrator.errors import LogUnavailable


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_BEAT_S", "_PROBE_S"):
        monkeypatch.setattr(readiness_module, name, 0.005)
    for name in ("_TICK_S", "_INTERVAL_S"):
        monkeypatch.setattr(census_module, name, 0.005)


class World:
    """What a replica needs, there or away as the test says."""

    def __init__(self) -> None:
        self.postgres: str | None = "connection refused"
        self.etcd: str | None = "no lease from etcd yet"
        self.serving = False

    async def ping(self) -> None:
        if self.postgres is not None:
            raise LogUnavailable(self.postgres)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


@asynccontextmanager
async def running(part: Any) -> AsyncIterator[None]:
    task = asyncio.create_task(part.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def waits_for(readiness: Readiness) -> set[str]:
    return {entry.partition(":")[0] for entry in readiness.waiting_for()}


async def test_a_replica_is_ready_when_everything_has_been_reached() -> None:
    world = World()
    readiness = Readiness(world.ping, lambda: world.etcd, lambda: world.serving)
    assert readiness.waiting_for()
    async with running(readiness):
        await until(lambda: waits_for(readiness) == {"api", "postgres", "etcd"})
        await until(lambda: "postgres: connection refused" in readiness.waiting_for())
        world.serving = True
        await until(lambda: waits_for(readiness) == {"postgres", "etcd"})
        world.postgres = None
        await until(lambda: waits_for(readiness) == {"etcd"})
        world.etcd = None
        await until(lambda: not readiness.waiting_for())


async def test_once_ready_etcd_away_changes_nothing_and_postgres_away_does() -> None:
    world = World()
    world.postgres, world.etcd, world.serving = None, None, True
    readiness = Readiness(world.ping, lambda: world.etcd, lambda: world.serving)
    async with running(readiness):
        await until(lambda: not readiness.waiting_for())
        world.etcd, world.postgres = "gone", "gone"
        await until(lambda: bool(readiness.waiting_for()))
        assert waits_for(readiness) == {"postgres"}
        world.postgres = None
        await until(lambda: not readiness.waiting_for())


async def test_a_main_loop_that_hangs_is_told_and_one_that_beats_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    readiness = Readiness(world.ping, lambda: world.etcd, lambda: world.serving)
    async with running(readiness):
        await asyncio.sleep(0)
        assert readiness.complaint() is None
    monkeypatch.setattr(readiness_module, "STALL_MAX_S", 0.0)
    assert "main loop" in (readiness.complaint() or "")


async def test_sagas_are_counted_while_somebody_scrapes_and_the_last_counts_outlive_an_outage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted = 0
    away = False

    async def count() -> dict[tuple[str, str], int]:
        nonlocal counted
        counted += 1
        if away:
            raise LogUnavailable("away")
        return {("order", "RUNNING"): counted}

    census = Census(count)
    async with running(census):
        await until(lambda: census.latest() != {})
        away = True
        await until(lambda: counted > 5)
        assert census.latest()[("order", "RUNNING")] > 0
        monkeypatch.setattr(census_module, "_IDLE_S", 0.0)
        await asyncio.sleep(0.02)
        idle = counted
        await asyncio.sleep(0.03)
        assert counted == idle


async def test_a_replica_that_ends_is_not_ready_at_once_and_for_good() -> None:
    world = World()
    world.postgres, world.etcd, world.serving = None, None, True
    readiness = Readiness(world.ping, lambda: world.etcd, lambda: world.serving)
    async with running(readiness):
        await until(lambda: not readiness.waiting_for())
        readiness.leave()
        assert waits_for(readiness) == {"replica"}
        # The loop that looks has run again, and has not changed its mind.
        beat_at_s = readiness._beat_at_s
        await until(lambda: readiness._beat_at_s != beat_at_s)
        assert waits_for(readiness) == {"replica"}
