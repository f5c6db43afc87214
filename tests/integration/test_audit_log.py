"""The audit log on a real Postgres: what is noted while there is no table, or no Postgres, is stored afterwards."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.api.audit_service import AuditService
from orchestrator.embedded.postgres import Postgres
from orchestrator.errors import LogUnavailable
from orchestrator.pb.baton.v1 import audit_pb2
from orchestrator.sagalog import audit_log
from orchestrator.sagalog.audit_log import AuditLog
from orchestrator.sagalog.migrate import migrate
from orchestrator.sagalog.pool import Pool
from orchestrator.security.audit import Action
from orchestrator.telemetry import Metrics

SOON_S = 60.0
NOW = datetime(2026, 1, 2, 3, 4, 5, 6000, tzinfo=UTC)
ACTION = Action(NOW, "ann", "certificate", "ipv4:1", "ClusterService/StepDown", {"reason": "a \x00 b"}, "OK", "m\x00")


@asynccontextmanager
async def running(dsn: str, timeout_s: float = 1.0) -> AsyncIterator[AuditLog]:
    pool = Pool(dsn, "test", 2, timeout_s, Metrics("c", "r1"))
    log = AuditLog(pool, "r1")
    task = asyncio.create_task(log.run())
    try:
        yield log
    finally:
        task.cancel()
        await asyncio.wait({task})
        await log.flush(1.0)
        await pool.close()


async def stored(log: AuditLog, count: int) -> list[audit_log.Entry]:
    async with asyncio.timeout(SOON_S):
        while True:
            # Reads are given up after a second, as writes are.
            with contextlib.suppress(LogUnavailable):
                if len(found := await log.entries(None, 100)) >= count:
                    return found
            await asyncio.sleep(0.01)


async def test_what_is_noted_before_there_is_a_table_is_stored_when_there_is_one(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_log, "_AGAIN_S", 0.02)
    async with running(database) as log:
        await asyncio.to_thread(log.record, ACTION)
        await asyncio.to_thread(migrate, database)
        (entry,) = await stored(log, 1)
    assert entry.replica == "r1"
    assert entry.action == replace(ACTION, target={"reason": "a  b"}, message="m")


async def test_what_is_noted_while_postgres_is_away_is_stored_once(
    database: str, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_log, "_AGAIN_S", 0.02)
    migrate(database)
    async with running(database) as log:
        await asyncio.to_thread(postgres.shut_down)
        for _ in range(3):
            log.record(ACTION)
        await asyncio.to_thread(postgres.restart)
        assert len(await stored(log, 3)) == 3


async def test_what_waits_at_the_end_is_written_before_the_end(database: str) -> None:
    migrate(database)
    pool = Pool(database, "test", 2, SOON_S, Metrics("c", "r1"))
    log = AuditLog(pool, "r1")
    log.record(ACTION)
    await log.flush(SOON_S)
    assert len(await log.entries(None, 10)) == 1
    await pool.close()


async def test_a_log_that_cannot_be_written_does_not_grow_without_end(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_log, "WAITING_MAX", 5)
    migrate(database)
    pool = Pool(database, "test", 2, SOON_S, Metrics("c", "r1"))
    log = AuditLog(pool, "r1")
    for _ in range(10):
        log.record(ACTION)
    await log.flush(SOON_S)
    assert len(await log.entries(None, 100)) == 5
    await pool.close()


async def test_entries_are_listed_newest_first_by_pages_and_filters(database: str) -> None:
    migrate(database)
    async with running(database, timeout_s=SOON_S) as log:
        for number in range(5):
            at = NOW + timedelta(seconds=number)
            log.record(replace(ACTION, at=at, caller="bob" if number == 2 else "ann", message=str(number)))
        await stored(log, 5)
        service, request, told = AuditService(log), audit_pb2.ListAuditEntriesRequest(page_size=2), []
        while True:
            page = await service.ListAuditEntries(request, None)  # type: ignore[arg-type]
            told += [entry.message for entry in page.entries]
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        assert told == ["4", "3", "2", "1", "0"]
        bobs = await service.ListAuditEntries(audit_pb2.ListAuditEntriesRequest(caller="bob"), None)  # type: ignore[arg-type]
        assert [(entry.message, entry.caller) for entry in bobs.entries] == [("2", "bob")]
        none = await service.ListAuditEntries(audit_pb2.ListAuditEntriesRequest(action="x"), None)  # type: ignore[arg-type]
        assert not none.entries


async def test_actions_of_one_moment_are_listed_newest_first_as_well(database: str) -> None:
    migrate(database)
    async with running(database, timeout_s=SOON_S) as log:
        for number in range(20):
            log.record(replace(ACTION, message=str(number)))
        assert [entry.action.message for entry in await stored(log, 20)] == [str(19 - number) for number in range(20)]
