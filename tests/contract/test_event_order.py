"""Events become visible in their order: whoever follows the log misses nothing, whatever befalls its writers.

The argument stands in migration 0010. Here it is put to the test on a real Postgres: a reader follows with small pages
while connections are cut, backends are stopped, and one epoch takes over from another; what it has seen at the end must
be everything. Other tests do what the argument forbids, and must be found out.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from uuid import UUID

import psycopg
import pytest

from orchestrator.errors import Fenced
from orchestrator.events.model import EventFilter, EventRecord, earliest
from orchestrator.saga.commands import Ready, Succeeded
from orchestrator.saga.model import Saga
from orchestrator.sagalog import migrate as migrating
from orchestrator.sagalog.events import PostgresEvents
from orchestrator.sagalog.migrate import migrate
from orchestrator.sagalog.pool import Pool
from orchestrator.sagalog.port import TermLog
from orchestrator.sagalog.postgres import LogSettings, PostgresSagaLog
from orchestrator.telemetry import Metrics
from tests.contract.test_event_log import as_it_is
from tests.contract.test_saga_log import claim, restored, unfinished, write

SAGAS = 60
WITHIN_S = 60.0
_INSERT = "INSERT INTO baton.step_log (saga_id, sequence, position, status, attempt, epoch)"
_WRITERS = "application_name LIKE 'baton-term-0-%'"


def ask(dsn: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


def insert_pending(dsn: str, count: int = SAGAS) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO baton.saga (id, shard, request_id, request_hash, definition, version, state, input)"
            " VALUES (%s, 0, %s, '', 'test', 1, 'PENDING', '{}')",
            [(UUID(int=number), str(number)) for number in range(1, count + 1)],
        )


@dataclass
class Follower:
    """Reads the log from the beginning, a small page at a time, as it grows."""

    log: PostgresEvents
    seen: list[EventRecord] = field(default_factory=list)

    async def follow(self, until: asyncio.Event) -> None:
        """Until the event is set and the end is reached."""
        cursor = earliest(0)
        while True:
            over = until.is_set()
            page = await self.log.page(cursor, EventFilter(), 7)
            self.seen += page.events
            cursor = page.end
            if page.last and over:
                return

    def rows(self) -> list[tuple[int, int]]:
        return [(event.transition.saga_id.int, event.transition.sequence) for event in self.seen]


@asynccontextmanager
async def followed(dsn: str) -> AsyncIterator[Follower]:
    """A follower that has seen everything when the block has ended."""
    pool = Pool(dsn, "test-follower", 2, 20.0, Metrics("test", "f"))
    follower, over = Follower(PostgresEvents(pool, 0, as_it_is)), asyncio.Event()
    following = asyncio.create_task(follower.follow(over))
    try:
        yield follower
        over.set()
        await asyncio.wait_for(following, WITHIN_S)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await pool.close()


def assert_nothing_missed(dsn: str, follower: Follower) -> None:
    """The follower has seen every row once, by saga without a gap."""
    written = ask(dsn, "SELECT saga_id, sequence FROM baton.step_log")
    rows = follower.rows()
    assert len(set(rows)) == len(rows)
    assert set(rows) == {(UUID(str(saga)).int, sequence) for saga, sequence in written}
    for saga in range(1, SAGAS + 1):
        sequences = [sequence for of, sequence in rows if of == saga]
        assert sequences == list(range(1, len(sequences) + 1))


async def write_until(term: TermLog, saga: Saga, chance: random.Random, stop: float) -> None:
    """Drive a saga to its end, or until the fence is lost; with the probability `stop` a write is the last."""
    try:
        while not saga.state.terminal and chance.random() >= stop:
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)
            saga = await write(term, saga, Succeeded({"n": saga.sequence}) if saga.cursor else Ready())
    except (Fenced, asyncio.CancelledError):
        return


async def begin(term: TermLog, chance: random.Random, stop: float = 0.0) -> list[asyncio.Task[None]]:
    """Drive all that a new leader finds; a saga of an older epoch begins with its intent, as in a real term."""
    found = [*await unfinished(term), *await term.pending(1000, [])]
    tasks = []
    for stored in found:
        saga = restored(stored)
        if saga.cursor is not None:
            saga = await write(term, saga, Ready())
        tasks.append(asyncio.create_task(write_until(term, saga, chance, stop)))
    return tasks


def settings(dsn: str, replica: str, timeout_s: float = 10.0) -> LogSettings:
    return LogSettings(dsn, replica, 0, timeout_s, 0.2, 30.0, 23)


@pytest.mark.parametrize("seed", range(3))
async def test_a_reader_misses_nothing_while_connections_are_cut_and_epochs_pass(database: str, seed: int) -> None:
    migrate(database)
    insert_pending(database)
    chance = random.Random(seed)
    logs = [PostgresSagaLog(settings(database, name), Metrics("test", name)) for name in ("r1", "r2")]
    open_terms: list[tuple[TermLog, asyncio.Task[None]]] = []
    writing: list[asyncio.Task[None]] = []
    async with followed(database) as follower:
        for generation in range(1, 5):
            term = await logs[generation % 2].raise_epoch(claim(generation))
            assert term is not None
            running = asyncio.create_task(term.run())
            open_terms.append((term, running))
            writing += await begin(term, chance, stop=0.0 if generation == 4 else 0.3)
            if generation == 4:
                break
            for _ in range(chance.randrange(1, 4)):
                await asyncio.sleep(0.01 * chance.random())
                ask(database, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {_WRITERS}")
        async with asyncio.timeout(WITHIN_S):
            while ask(database, "SELECT 1 FROM baton.saga WHERE state <> 'COMPLETED' LIMIT 1"):
                await asyncio.sleep(0.02)
    assert_nothing_missed(database, follower)
    epochs = [event.transition.epoch for event in follower.seen]
    assert epochs == sorted(epochs)
    assert len(set(epochs)) > 1
    for task in [*writing, *(running for _, running in open_terms)]:
        task.cancel()
    await asyncio.gather(*writing, *(running for _, running in open_terms), return_exceptions=True)
    for term, _ in open_terms:
        await term.close()
    for log in logs:
        await log.close()


async def test_a_reader_misses_nothing_when_a_stopped_statement_comes_late(database: str) -> None:
    migrate(database)
    insert_pending(database)
    chance = random.Random(1)
    log = PostgresSagaLog(settings(database, "r1", timeout_s=1.5), Metrics("test", "r1"))
    term = await log.raise_epoch(claim(1))
    assert term is not None
    running = asyncio.create_task(term.run())
    async with followed(database) as follower:
        writing = await begin(term, chance)
        await asyncio.sleep(0.01)
        ((pid,),) = ask(database, f"SELECT pid FROM pg_stat_activity WHERE {_WRITERS}")
        os.kill(int(str(pid)), signal.SIGSTOP)
        try:
            # Sent again on a new connection; if the stopped backend holds its rows, it must wait for the end of that.
            another = f"SELECT 1 FROM pg_stat_activity WHERE {_WRITERS} AND pid <> {pid}"
            async with asyncio.timeout(WITHIN_S):
                while not (all(task.done() for task in writing) or ask(database, another)):
                    await asyncio.sleep(0.02)
            await asyncio.wait(writing, timeout=0.5)
        finally:
            os.kill(int(str(pid)), signal.SIGCONT)
        await asyncio.wait_for(asyncio.gather(*writing), WITHIN_S)
    assert_nothing_missed(database, follower)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await term.close()
    await log.close()


async def test_two_writers_at_once_would_be_found_out(database: str) -> None:
    """What the single writer is there for: without it, the reader of these tests misses a row, and they say so."""
    migrate(database)
    insert_pending(database, 2)
    row = (
        "INSERT INTO baton.step_log (saga_id, sequence, position, status, attempt, epoch) VALUES (%s, 1, 0, 'x', 0, 1)"
    )
    async with followed(database) as follower:
        with psycopg.connect(database) as slow, psycopg.connect(database, autocommit=True) as fast:
            slow.execute(row.encode(), [UUID(int=1)])
            fast.execute(row.encode(), [UUID(int=2)])
            async with asyncio.timeout(WITHIN_S):
                while not follower.seen:
                    await asyncio.sleep(0.01)
            slow.commit()
    assert follower.rows() == [(2, 1)]
    with pytest.raises(AssertionError):
        assert_nothing_missed(database, follower)


async def test_rows_that_postgres_lost_do_not_hide_those_that_replace_them(database: str) -> None:
    migrate(database)
    insert_pending(database, 1)
    row = f"{_INSERT} VALUES (%s, %s, 0, 'x', 0, %s)"
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            f"{_INSERT} SELECT %s, n, 0, 'x', 0, 1 FROM generate_series(1, 9) AS n".encode(), [UUID(int=1)]
        )
    async with followed(database) as before:
        pass
    # A standby that lags is promoted: rows and the sequence go back, the horizon has never moved.
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("ALTER TABLE baton.step_log DISABLE TRIGGER step_log_removed")
        connection.execute("DELETE FROM baton.step_log WHERE sequence > 4")
        connection.execute("SELECT setval('baton.step_log_position', 4)")
        for sequence in (5, 6):
            connection.execute(row.encode(), [UUID(int=1), sequence, 2])
    cursor = before.seen[-1].cursor
    page = await before.log.page(cursor, EventFilter(), 10)
    assert [event.transition.sequence for event in page.events] == [5, 6]
    assert page.events[0].cursor.position < cursor.position
    assert not cursor.expired(page.horizon)


async def test_rows_from_before_the_stream_are_no_events_and_the_next_ones_are(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = migrating.migrations()
    with monkeypatch.context() as patched:
        patched.setattr(migrating, "migrations", lambda: tuple(m for m in every if m.number < 10))
        migrate(database)
    insert_pending(database, 1)
    row = f"{_INSERT} VALUES ('{UUID(int=1)}'"
    ask(database, f"{row}, 1, 0, 'x', 0, 1)")
    migrate(database)
    ask(database, f"{row}, 2, 0, 'x', 0, 1)")
    async with followed(database) as follower:
        pass
    assert follower.rows() == [(1, 2)]


def test_only_fenced_statements_of_the_single_writer_insert_into_the_step_log() -> None:
    folder = files("orchestrator.sagalog")
    inserting = {}
    for file in folder.iterdir():
        if file.name.endswith(".sql"):
            _, *parts = re.split(r"^-- name: (\w+)$", file.read_text(), flags=re.MULTILINE)
            for name, body in zip(parts[::2], parts[1::2], strict=True):
                if "INSERT INTO baton.step_log" in body:
                    inserting[f"{file.name}:{name}"] = body
    assert {"term.sql:append", "term.sql:park"} <= set(inserting)
    read = r"SELECT shard(?:, clock_timestamp\(\) AS at)? FROM baton\.fence .* FOR SHARE"
    for name, body in inserting.items():
        assert name.startswith("term.sql:"), f"{name} is no statement of the leader's writer"
        assert re.search(rf"fence AS MATERIALIZED \(\s*{read}\s*\)", body), name
