"""Failpoints against a real Postgres: between the execution and the commit, and around a commit nobody heard of."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from uuid import UUID

import psycopg
import pytest

from orchestrator.errors import Fenced, LogUnavailable
from orchestrator.failpoints import armed
from orchestrator.failpoints.armed import STRUCK, arm, disarm
from orchestrator.saga.commands import Ready
from orchestrator.saga.machine import decide
from orchestrator.saga.model import Saga, SagaId
from orchestrator.sagalog.migrate import migrate
from orchestrator.sagalog.port import Claim
from orchestrator.sagalog.postgres import LogSettings, PostgresSagaLog
from orchestrator.sagalog.term import PostgresTermLog
from orchestrator.telemetry import Metrics
from tests.unit.sagas import definition, moment

SAGA = Saga(SagaId(UUID(int=1)), definition(True, True), {}, {}, datetime.now(UTC))
WITHIN_S = 60.0
# By itself Postgres ends a transaction that stays open only after so long.
TIMEOUT_S = 20.0


@pytest.fixture(autouse=True)
def nothing_armed() -> Iterator[None]:
    yield
    disarm()
    STRUCK.clear()


@pytest.fixture
def wake(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """What a failpoint puts to sleep sleeps until this is set: nobody can wait for its end."""
    woken = asyncio.Event()

    async def sleep(duration_s: float) -> None:
        async with asyncio.timeout(duration_s):
            await woken.wait()

    monkeypatch.setattr(armed, "asyncio", SimpleNamespace(sleep=sleep))
    return woken


@pytest.fixture
def dsn(database: str) -> str:
    migrate(database)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO baton.saga (id, shard, request_id, request_hash, definition, version, state, input)"
            " VALUES (%s, 0, '1', '', 'test', 1, 'PENDING', '{}')",
            [SAGA.id],
        )
    return database


@pytest.fixture
async def log(dsn: str) -> AsyncIterator[PostgresSagaLog]:
    saga_log = saga_log_at(dsn, "r1")
    yield saga_log
    await saga_log.close()


@pytest.fixture
async def term(log: PostgresSagaLog) -> AsyncIterator[PostgresTermLog]:
    term = await log.raise_epoch(Claim(0, "r1", "c1", 1, "vacant"))
    assert term is not None
    yield term
    await term.close()


def saga_log_at(dsn: str, replica: str) -> PostgresSagaLog:
    return PostgresSagaLog(LogSettings(dsn, replica, 0, TIMEOUT_S, 0.2, 2 * TIMEOUT_S, 4000), Metrics("test", replica))


def logged(dsn: str) -> list[tuple[int, str]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute("SELECT sequence, status FROM baton.step_log ORDER BY sequence").fetchall()


async def struck(point: str) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not STRUCK[point]:
            await asyncio.sleep(0.001)


async def test_inside_an_append_the_rows_are_there_for_nobody_and_the_fence_is_held(
    dsn: str, term: PostgresTermLog
) -> None:
    arm("term.append.inside", "1*sleep(300ms)")
    running, events = decide(SAGA, Ready(), moment(term.epoch))
    writing = asyncio.create_task(term.run())
    appending = asyncio.create_task(term.append(running, events))
    await struck("term.append.inside")
    assert logged(dsn) == []
    with psycopg.connect(dsn, autocommit=True) as other, pytest.raises(psycopg.errors.LockNotAvailable):
        other.execute("SELECT 1 FROM baton.fence FOR UPDATE NOWAIT")
    await appending
    assert logged(dsn) == [(1, "executing")]
    writing.cancel()


async def test_a_raise_gets_past_a_writer_that_stopped_in_a_half_sent_pipeline(
    dsn: str, term: PostgresTermLog, wake: asyncio.Event
) -> None:
    arm("term.append.inside", "1*sleep(60s)")
    successors_log = saga_log_at(dsn, "r2")
    await successors_log.reachable()
    running, events = decide(SAGA, Ready(), moment(term.epoch))
    writing = asyncio.create_task(term.run())
    appending = asyncio.create_task(term.append(running, events))
    await struck("term.append.inside")
    began_s = time.monotonic()
    successor = await successors_log.raise_epoch(Claim(0, "r2", "c1", 2, "frozen"))
    assert successor is not None
    assert time.monotonic() - began_s < TIMEOUT_S / 2
    assert logged(dsn) == []
    wake.set()
    with pytest.raises(Fenced):
        await writing
    appending.cancel()
    await successor.close()
    await successors_log.close()


@pytest.mark.parametrize("point", ["term.append.before", "term.append.inside", "term.append.after"])
async def test_an_append_that_nobody_heard_of_is_sent_again_and_stands_in_the_log_once(
    dsn: str, term: PostgresTermLog, point: str
) -> None:
    arm(point, "1*error")
    running, events = decide(SAGA, Ready(), moment(term.epoch))
    writing = asyncio.create_task(term.run())
    await term.append(running, events)
    assert STRUCK[point] == 1
    assert logged(dsn) == [(1, "executing")]
    writing.cancel()


async def test_a_raise_passes_its_failpoint_whether_the_fence_takes_it_or_refuses(
    dsn: str, log: PostgresSagaLog
) -> None:
    arm("term.raise_epoch.inside", "1*log")
    first = await log.raise_epoch(Claim(0, "r1", "c1", 7, "vacant"))
    assert first is not None
    assert (first.epoch, STRUCK["term.raise_epoch.inside"]) == (7, 1)
    # Refused by the fence: a raise that returns no row passes its failpoints as well.
    arm("term.raise_epoch.inside", "1*log")
    assert await log.raise_epoch(Claim(0, "r1", "c1", 7, "vacant")) is None
    assert STRUCK["term.raise_epoch.inside"] == 2
    await first.close()


async def test_a_raise_gets_past_a_claimant_that_stopped_in_its_own_raise(dsn: str, wake: asyncio.Event) -> None:
    stopped_log, successors_log = saga_log_at(dsn, "r1"), saga_log_at(dsn, "r2")
    await stopped_log.reachable()
    await successors_log.reachable()
    arm("term.raise_epoch.inside", "1*sleep(60s)")
    stopped = asyncio.create_task(stopped_log.raise_epoch(Claim(0, "r1", "c1", 1, "vacant")))
    await struck("term.raise_epoch.inside")
    began_s = time.monotonic()
    successor = await successors_log.raise_epoch(Claim(0, "r2", "c1", 2, "frozen"))
    assert successor is not None
    assert time.monotonic() - began_s < TIMEOUT_S / 2
    wake.set()
    with pytest.raises(LogUnavailable):
        await stopped
    await successor.close()
    await stopped_log.close()
    await successors_log.close()
