"""The leader's upkeep of the log in Postgres: the tally is exact, what is needed stays, older epochs change nothing."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import RFC_4122, UUID

import psycopg
import pytest

from orchestrator.errors import Fenced
from orchestrator.saga.ids import first_id_at, saga_id
from orchestrator.saga.model import Epoch, SagaId
from orchestrator.sagalog.migrate import migrate, migrations
from orchestrator.sagalog.pool import Pool
from orchestrator.sagalog.reader import Reader
from orchestrator.sagalog.upkeep import PostgresUpkeepLog, UpkeepLogSettings
from orchestrator.sagalog.upkeep_port import FinishedSaga
from orchestrator.telemetry import Metrics

EPOCH, OLDER = Epoch(7), Epoch(6)
HOUR_S = 3600.0
STATES = ("PENDING", "RUNNING", "COMPENSATING", "COMPLETED", "COMPENSATED", "FAILED")
COUNTED = "SELECT definition, state, count(*) FROM baton.saga GROUP BY 1, 2"
TALLIED = (
    "SELECT definition, state, sum(sagas)::bigint FROM (SELECT definition, state, sagas FROM baton.tally"
    " UNION ALL SELECT definition, state, change FROM baton.tally_change) AS t GROUP BY 1, 2 HAVING sum(sagas) <> 0"
)


@dataclass
class World:
    """A saga log whose fence has `EPOCH`, and ways to put sagas into it that are as old as a test wants."""

    dsn: str
    log: PostgresUpkeepLog
    reader: Reader
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    def insert(self, state: str, ended_s_ago: float | None = None, labels: str = "{}", shard: int = 0) -> SagaId:
        """A saga that began a second before it ended, by its id too."""
        at_ms = round((time.time() - (ended_s_ago or 0.0) - 1.0) * 1000)
        identity = saga_id(at_ms, next(self.numbers))
        ended = None if ended_s_ago is None else timedelta(seconds=ended_s_ago)
        with psycopg.connect(self.dsn) as connection:
            connection.execute(
                "INSERT INTO baton.saga (id, shard, request_id, request_hash, definition, version, state, sequence,"
                " input, labels, finished_at)"
                " VALUES (%s, %s, %s, '', 'order', 1, %s, 2, '{}', %s, now() - %s::interval)",
                [identity, shard, str(identity), state, labels, ended],
            )
            for sequence in (1, 2):
                connection.execute(
                    "INSERT INTO baton.step_log (saga_id, sequence, position, status, attempt, epoch)"
                    " VALUES (%s, %s, 1, 'completed', 1, 7)",
                    [identity, sequence],
                )
        return identity

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.dsn) as connection:
            return sorted(connection.execute(query.encode()).fetchall())

    def ids(self) -> set[object]:
        return {row[0] for row in self.rows("SELECT id FROM baton.saga")}

    async def over(self, after_s: float = HOUR_S, rows: int = 100) -> list[FinishedSaga]:
        """What may go, by as many pages as it takes."""
        found: list[FinishedSaga] = []
        behind = None
        while True:
            page = await self.log.finished(behind, None, after_s, rows)
            found += page.over
            if not page.more:
                return found
            behind = page.last


@pytest.fixture
async def world(database: str) -> AsyncIterator[World]:
    migrate(database)
    with psycopg.connect(database) as connection:
        connection.execute("INSERT INTO baton.fence VALUES (0, 7, 'c', 7, 'r1', now())")
    pool = Pool(database, "test", 3, 30.0, Metrics("test", "r1"))
    log = PostgresUpkeepLog(UpkeepLogSettings(database, "r1", 0, 30.0, 20.0), pool)
    yield World(database, log, Reader(pool, 0))
    await log.close()
    await pool.close()


async def write_at_random(dsn: str, seed: int, statements: int) -> None:
    """Insert, change and remove sagas, some statements many at once, some rolled back."""
    chance = random.Random(seed)
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        for number in range(statements):
            match chance.randrange(4):
                case 0:
                    text = (
                        "INSERT INTO baton.saga (id, shard, request_id, request_hash, definition, version,"
                        f" state, input) SELECT gen_random_uuid(), 0, '{seed}/{number}/' || n, '', 'd' || n % 2, 1,"
                        " 'PENDING', '{}'"
                        f" FROM generate_series(1, {chance.randrange(1, 30)}) AS n"
                    )
                case 1:
                    text = f"DELETE FROM baton.saga WHERE request_id LIKE '{seed}/{chance.randrange(statements)}/1%'"
                case _:
                    text = (
                        f"UPDATE baton.saga SET state = '{chance.choice(STATES)}'"
                        f" WHERE request_id LIKE '{seed}/{chance.randrange(statements)}/%'"
                    )
            async with connection.transaction(force_rollback=chance.random() < 0.2):
                await connection.execute(text.encode())


async def test_the_tally_is_exact_at_every_moment_while_many_write_and_fold(world: World) -> None:
    writers = [asyncio.create_task(write_at_random(world.dsn, seed, 60)) for seed in range(4)]
    others = PostgresUpkeepLog(UpkeepLogSettings(world.dsn, "r2", 0, 30.0, 20.0), world.reader._pool)
    looks = 0
    async with await psycopg.AsyncConnection.connect(world.dsn) as connection:
        await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        while not all(writer.done() for writer in writers) or looks < 3:
            await asyncio.gather(world.log.fold_tally(EPOCH), others.fold_tally(EPOCH))
            async with connection.transaction():
                counted = sorted(await (await connection.execute(COUNTED)).fetchall())
                assert sorted(await (await connection.execute(TALLIED)).fetchall()) == counted
            looks += 1
    await asyncio.gather(*writers)
    while await world.log.fold_tally(EPOCH):
        pass
    assert world.rows("SELECT * FROM baton.tally_change") == []
    expected = {(row[0], row[1]): row[2] for row in world.rows(COUNTED)}
    assert expected
    assert await world.reader.counts() == expected
    assert await world.reader.counts("d1", ("PENDING",)) == {
        key: count for key, count in expected.items() if key == ("d1", "PENDING")
    }
    await others.close()


async def test_sagas_from_before_the_tally_are_counted_and_their_labels_found(database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("CREATE SCHEMA baton")
        for migration in migrations():
            if migration.number < 20:
                connection.execute(migration.sql.encode())
        connection.execute(
            "INSERT INTO baton.saga (id, shard, request_id, request_hash, definition, version, state, input, labels)"
            " SELECT gen_random_uuid(), 0, n::text, '', 'order', 1, 'COMPLETED', '{}', '{\"a\": \"b\"}'"
            " FROM generate_series(1, 5) AS n"
        )
        for migration in migrations():
            if migration.number >= 20:
                connection.execute(migration.sql.encode())
    with psycopg.connect(database) as connection:
        assert connection.execute(TALLIED).fetchall() == [("order", "COMPLETED", 5)]
        labels = connection.execute("SELECT key, value, count(*) FROM baton.saga_label GROUP BY 1, 2").fetchall()
        assert labels == [("a", "b", 5)]


async def test_only_what_ended_well_and_long_ago_may_go(world: World) -> None:
    old, undone = (world.insert(state, 2 * HOUR_S) for state in ("COMPLETED", "COMPENSATED"))
    for state in STATES:
        world.insert(state, HOUR_S / 2 if state in ("COMPLETED", "COMPENSATED") else None)
    world.insert("FAILED", 2 * HOUR_S)
    world.insert("ODD", 2 * HOUR_S)
    world.insert("COMPLETED", 2 * HOUR_S, shard=1)
    live_and_old = world.insert("RUNNING", 2 * HOUR_S)
    for rows in (100, 1, 2, 3):
        over = await world.over(rows=rows)
        assert {saga.id for saga in over} == {old, undone}
        assert all(saga.sequence == 2 and saga.size_bytes > 0 for saga in over)
    assert live_and_old in world.ids()


async def test_what_is_live_or_parked_is_not_even_looked_at_however_old_it_is(world: World) -> None:
    for state in STATES:
        if state not in ("COMPLETED", "COMPENSATED"):
            world.insert(state, 9 * HOUR_S)
    young = world.insert("COMPLETED", HOUR_S / 2)
    page = await world.log.finished(None, None, HOUR_S, 1)
    assert (page.over, page.last, page.more) == ((), None, False)
    page = await world.log.finished(None, None, HOUR_S / 4, 1)
    assert (page.over[0].id, page.more) == (young, True)


async def test_pages_come_by_the_time_of_the_end_and_go_no_further_than_is_asked(world: World) -> None:
    ends = (5, 2, 4, 3, 6)
    in_order = [world.insert("COMPLETED", hours * HOUR_S) for hours in sorted(ends, reverse=True)]
    with psycopg.connect(world.dsn) as connection:
        # Two at the very same moment: then the id decides.
        at = connection.execute("SELECT finished_at FROM baton.saga WHERE id = %s", [in_order[2]]).fetchone()
        assert at is not None
        connection.execute("UPDATE baton.saga SET finished_at = %s WHERE id = %s", [at[0], in_order[1]])
    for rows in (1, 2, 3, 7):
        assert [saga.id for saga in await world.over(rows=rows)] == in_order
    second = (await world.log.finished(None, None, HOUR_S, 2)).last
    fourth = (await world.log.finished(None, None, HOUR_S, 4)).last
    page = await world.log.finished(second, fourth, HOUR_S, 9)
    assert ([saga.id for saga in page.over], page.last, page.more) == (in_order[2:4], fourth, False)


async def test_what_is_removed_is_gone_with_all_that_belongs_to_it(world: World) -> None:
    gone = world.insert("COMPLETED", 2 * HOUR_S, labels='{"shop": "a"}')
    kept = world.insert("RUNNING", labels='{"shop": "a"}')
    with psycopg.connect(world.dsn) as connection:
        for saga in (gone, kept):
            connection.execute(
                "INSERT INTO baton.signal (key, saga_id, shard, verb) VALUES (%s, %s, 0, 'retry')", [saga, saga]
            )
    assert await world.log.remove(await world.over(), HOUR_S, EPOCH) == [gone]
    assert world.rows("SELECT saga_id FROM baton.signal") == [(kept,)]
    assert world.ids() == {kept}
    assert world.rows("SELECT DISTINCT saga_id FROM baton.step_log") == [(kept,)]
    assert world.rows("SELECT key, value, saga_id FROM baton.saga_label") == [("shop", "a", kept)]
    assert await world.reader.counts() == {("order", "RUNNING"): 1}


async def test_nothing_goes_that_has_changed_or_is_live_or_failed_whoever_asks(world: World) -> None:
    stays = [world.insert(state, 2 * HOUR_S) for state in STATES if state not in ("COMPLETED", "COMPENSATED")]
    young = world.insert("COMPLETED", HOUR_S / 2)
    changed = world.insert("COMPLETED", 2 * HOUR_S)
    asked = [FinishedSaga(identity, 2, 1) for identity in (*stays, young)] + [FinishedSaga(changed, 1, 1)]
    assert await world.log.remove(asked, HOUR_S, EPOCH) == []
    assert world.ids() == {*stays, young, changed}


async def test_an_older_epoch_folds_removes_and_raises_nothing(world: World) -> None:
    world.insert("COMPLETED", 2 * HOUR_S)
    over = await world.over()
    before = [world.rows(f"SELECT * FROM baton.{table}") for table in ("tally", "tally_change", "watermark")]
    with pytest.raises(Fenced):
        await world.log.fold_tally(OLDER)
    with pytest.raises(Fenced):
        await world.log.remove(over, HOUR_S, OLDER)
    with pytest.raises(Fenced):
        await world.log.raise_watermark(HOUR_S, OLDER)
    assert world.ids() == {over[0].id}
    assert before == [world.rows(f"SELECT * FROM baton.{table}") for table in ("tally", "tally_change", "watermark")]


async def test_the_history_of_many_sagas_comes_whole_and_in_order_over_pages(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = sorted(world.insert("COMPLETED", 2 * HOUR_S) for _ in range(5))
    monkeypatch.setattr("orchestrator.sagalog.upkeep._HISTORY_ROWS", 3)
    pages = [page async for page in world.log.history(await world.log.sagas(ids))]
    assert [len(page) for page in pages] == [3, 3, 3, 1]
    assert [(row.saga_id, row.sequence) for page in pages for row in page] == [(i, n) for i in ids for n in (1, 2)]


async def test_the_watermark_trails_the_oldest_saga_that_is_kept(world: World) -> None:
    def make_due() -> None:
        with psycopg.connect(world.dsn) as connection:
            connection.execute("UPDATE baton.watermark SET next_at = next_at - interval '2 hours'")

    oldest = world.insert("FAILED", 5 * HOUR_S)
    newer = world.insert("COMPLETED", 3 * HOUR_S)
    assert (await world.log.raise_watermark(HOUR_S, EPOCH)).int == 0
    assert (await world.log.raise_watermark(HOUR_S, EPOCH)).int == 0, "the second stride is not due"
    make_due()
    assert await world.log.raise_watermark(HOUR_S, EPOCH) == oldest
    with psycopg.connect(world.dsn) as connection:
        connection.execute("DELETE FROM baton.saga WHERE id = %s", [oldest])
    make_due()
    assert await world.log.raise_watermark(HOUR_S, EPOCH) == oldest, "what has just gone is told a margin later"
    make_due()
    assert await world.log.raise_watermark(HOUR_S, EPOCH) == newer
    with psycopg.connect(world.dsn) as connection:
        connection.execute("DELETE FROM baton.saga")
    for _ in range(2):
        make_due()
        last = await world.log.raise_watermark(HOUR_S, EPOCH)
    now_ms = time.time_ns() // 1_000_000
    assert (last.version, last.variant) == (7, RFC_4122), "participants take no other"
    assert first_id_at(now_ms - 3_700_000) < last < first_id_at(now_ms - 3_500_000)


async def test_no_saga_can_be_started_below_the_watermark(world: World) -> None:
    with psycopg.connect(world.dsn) as connection:
        connection.execute(
            "INSERT INTO baton.watermark VALUES (0, %s, %s, now())", [first_id_at(time.time_ns() // 1_000_000)] * 2
        )
    with pytest.raises(psycopg.errors.RaiseException, match="clock of this replica"):
        world.insert("PENDING", HOUR_S)
    assert world.ids() == set()
    with psycopg.connect(world.dsn) as connection:
        connection.execute("UPDATE baton.watermark SET before_id = %s", [UUID(int=1)])
    world.insert("PENDING", HOUR_S)
