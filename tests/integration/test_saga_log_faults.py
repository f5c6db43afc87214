"""The saga log on a Postgres that fails: frozen writers, restarts, commits that nobody heard of, values it refuses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID

import psycopg
import pytest

from orchestrator.embedded.postgres import Postgres
from orchestrator.errors import CorruptLog, Fenced, LogUnavailable, Resign
from orchestrator.saga.commands import Ready, Succeeded
from orchestrator.saga.machine import decide
from orchestrator.saga.model import Saga, SagaId
from orchestrator.sagalog.level import LEVEL_OPTION
from orchestrator.sagalog.migrate import migrate
from orchestrator.sagalog.port import Claim
from orchestrator.sagalog.postgres import LogSettings, PostgresSagaLog
from orchestrator.sagalog.term import PostgresTermLog
from orchestrator.telemetry import Metrics
from tests.unit.sagas import definition, moment

DEFINITION = definition(True, True, True)


def settings(dsn: str, absence_max_s: float = 20.0, timeout_s: float = 5.0) -> LogSettings:
    return LogSettings(dsn, "r1", 0, timeout_s, 0.2, absence_max_s, 4000)


def claim(revision: int) -> Claim:
    return Claim(0, "r1", "c1", revision, "vacant")


def saga(number: int) -> Saga:
    return Saga(SagaId(UUID(int=number)), DEFINITION, {}, {}, datetime.now(UTC))


def insert(dsn: str, *numbers: int) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for number in numbers:
            connection.execute(
                "INSERT INTO baton.saga (id, shard, request_id, request_hash, definition, version, state, input)"
                " VALUES (%s, 0, %s, '', 'test', 1, 'PENDING', '{}')",
                [UUID(int=number), str(number)],
            )


def log_rows(dsn: str) -> list[tuple[int, str]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute("SELECT sequence, status FROM baton.step_log ORDER BY saga_id, sequence").fetchall()


@pytest.fixture
async def log(database: str) -> AsyncIterator[PostgresSagaLog]:
    migrate(database)
    saga_log = PostgresSagaLog(settings(database), Metrics("test", "r1"))
    yield saga_log
    await saga_log.close()


async def begin(log: PostgresSagaLog, revision: int) -> tuple[PostgresTermLog, asyncio.Task[None]]:
    term = await log.raise_epoch(claim(revision))
    assert term is not None
    return term, asyncio.create_task(term.run())


async def end(term: PostgresTermLog, writing: asyncio.Task[None]) -> None:
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    await term.close()


async def test_a_writer_that_stopped_with_the_fence_row_does_not_hold_up_the_raise(
    database: str, log: PostgresSagaLog
) -> None:
    term, writing = await begin(log, 1)
    # What a leader that stopped in the middle of a half-sent pipeline leaves: its backend holds the fence row.
    with psycopg.connect(database, application_name="baton-term-0-old") as zombie:
        zombie.execute("SELECT 1 FROM baton.fence WHERE shard = 0 FOR SHARE")
        began = time.monotonic()
        successor = await log.raise_epoch(claim(2))
        assert successor is not None
        # Nobody else would ever have ended the zombie; to wait for it, try after try, takes longer.
        assert time.monotonic() - began < 3.0
        with pytest.raises(psycopg.OperationalError):
            zombie.execute("SELECT 1")
    with pytest.raises(Fenced):
        await term.prove()
    await end(term, writing)
    await successor.close()


@pytest.mark.parametrize("value", ["\x00 is secret", 10**23], ids=["no-text", "no-json"])
async def test_a_value_that_cannot_be_stored_harms_its_own_saga_alone(
    database: str, log: PostgresSagaLog, value: object
) -> None:
    insert(database, *range(1, 21))
    term, writing = await begin(log, 1)

    async def write(number: int) -> None:
        running, events = decide(saga(number), Ready(), moment(term.epoch))
        await term.append(running, events)
        result = {"text": value if number == 7 else "fine"}
        done, events = decide(running, Succeeded(result), moment(term.epoch))
        await term.append(done, events)

    results = await asyncio.gather(*(write(number) for number in range(1, 21)), return_exceptions=True)
    assert isinstance(results[6], CorruptLog)
    assert "secret" not in str(results[6])
    assert [r for i, r in enumerate(results) if i != 6] == [None] * 19
    assert len(log_rows(database)) == 19 * 3 + 1
    await end(term, writing)


async def test_a_number_beyond_64_bits_is_read_as_it_was_written(database: str, log: PostgresSagaLog) -> None:
    insert(database, 1)
    term, writing = await begin(log, 1)
    running, events = decide(saga(1), Ready(), moment(term.epoch))
    result = {"mass": 1e23, "most": 2**64 - 1, "least": -(2**63), "exact": 2**63 - 1}
    done, more = decide(running, Succeeded(result), moment(term.epoch))
    await term.append(done, (*events, *more))
    (stored,) = await term.sagas([done.id])
    read = next(event.result for event in stored.events if event.result)
    assert read == result
    assert isinstance(read["mass"], float)
    await term.append(*decide(done, Succeeded(read), moment(term.epoch)))
    await end(term, writing)


async def test_a_number_that_no_double_holds_keeps_nobody_from_reading(database: str, log: PostgresSagaLog) -> None:
    insert(database, 1, 2)
    with psycopg.connect(database, autocommit=True, options=LEVEL_OPTION) as connection:
        connection.execute("UPDATE baton.saga SET input = '{\"n\": 1e400}' WHERE id = %s", [UUID(int=1)])
    term, writing = await begin(log, 1)
    assert {stored.id.int for stored in await term.pending(10, [])} == {1, 2}
    await end(term, writing)


async def test_a_commit_that_nobody_heard_of_is_found_and_not_repeated(database: str, log: PostgresSagaLog) -> None:
    insert(database, 1)
    term, writing = await begin(log, 1)
    await term.prove()
    running, events = decide(saga(1), Ready(), moment(term.epoch))
    real = term._execute

    async def lose_the_answer(*arguments: object) -> tuple[int, int]:
        await real(*arguments)  # type: ignore[arg-type]
        term._execute = real  # type: ignore[method-assign]
        raise psycopg.OperationalError("the connection was lost after the commit")

    term._execute = lose_the_answer  # type: ignore[method-assign]
    await asyncio.wait_for(term.append(running, events), 10)
    assert log_rows(database) == [(1, "executing")]
    await end(term, writing)


async def test_rows_that_are_there_before_they_are_written_are_a_defect(database: str, log: PostgresSagaLog) -> None:
    insert(database, 1)
    term, writing = await begin(log, 1)
    running, events = decide(saga(1), Ready(), moment(term.epoch))
    await term.append(running, events)
    appending = asyncio.create_task(term.append(running, events))
    with pytest.raises(Exception, match="before they were written"):
        await asyncio.wait_for(writing, 10)
    appending.cancel()
    await term.close()


async def test_the_writer_waits_out_a_restart_of_postgres(tmp_path_factory: pytest.TempPathFactory) -> None:
    with Postgres(tmp_path_factory.mktemp("pg")) as server:
        dsn = server.dsn()
        migrate(dsn)
        insert(dsn, *range(1, 101))
        log = PostgresSagaLog(settings(dsn), Metrics("test", "r1"))
        term, writing = await begin(log, 1)

        async def drive(number: int) -> Saga:
            current = saga(number)
            for outcome in (Ready(), Succeeded({}), Succeeded({}), Succeeded({})):
                current, events = decide(current, outcome, moment(term.epoch))
                await term.append(current, events)
            return current

        driving = [asyncio.create_task(drive(number)) for number in range(1, 101)]
        restarting = asyncio.to_thread(server.restart, mode="immediate")
        ends, _ = await asyncio.wait_for(asyncio.gather(asyncio.gather(*driving), restarting), 60)
        assert all(one.state.terminal for one in ends)
        assert len(log_rows(dsn)) == 600
        await end(term, writing)
        await log.close()


async def test_a_leader_without_postgres_resigns_in_time(tmp_path_factory: pytest.TempPathFactory) -> None:
    with Postgres(tmp_path_factory.mktemp("pg")) as server:
        migrate(server.dsn())
        log = PostgresSagaLog(settings(server.dsn(), absence_max_s=0.5, timeout_s=1.0), Metrics("test", "r1"))
        term, writing = await begin(log, 1)
        server.suspend()
        began = time.monotonic()
        with pytest.raises(Resign):
            await asyncio.wait_for(term.prove(), 20)
        assert time.monotonic() - began < 10
        assert not await log.reachable()
        server.resume()
        await end(term, writing)
        await log.close()


async def test_a_raise_without_postgres_says_so(tmp_path_factory: pytest.TempPathFactory) -> None:
    log = PostgresSagaLog(settings("postgresql://127.0.0.1:1/x", timeout_s=1.0), Metrics("test", "r1"))
    with pytest.raises(LogUnavailable, match="cannot connect to Postgres"):
        await log.raise_epoch(claim(1))


def test_replicas_that_start_at_once_migrate_once(database: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        ran = list(pool.map(lambda _: len(migrate(database)), range(8)))
    assert sorted(ran)[:7] == [0] * 7
    assert max(ran) >= 1
