"""What the API reads from the saga log in Postgres: single sagas, pages, news, counts, and definitions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import orjson
import psycopg
import pytest

from orchestrator.embedded.postgres import Postgres
from orchestrator.errors import LogUnavailable
from orchestrator.failpoints import effects
from orchestrator.saga.ids import saga_id
from orchestrator.saga.model import SagaId
from orchestrator.sagalog.definitions import PostgresDefinitions
from orchestrator.sagalog.migrate import migrate
from orchestrator.sagalog.pool import Pool
from orchestrator.sagalog.postgres import LogSettings
from orchestrator.sagalog.queries import Statement, load
from orchestrator.sagalog.reader import Reader
from orchestrator.sagalog.records import SagaFilter
from orchestrator.telemetry import Metrics


def sql(text: str) -> Statement:
    return Statement(effects.CHECK, text.encode())


@pytest.fixture
def settings(database: str) -> LogSettings:
    migrate(database)
    return LogSettings(database, "r1", 0, 20.0, 0.2, 4.0, 4000)


@pytest.fixture
async def pool(settings: LogSettings) -> AsyncIterator[Pool]:
    made = Pool(settings.dsn, "test", 3, settings.timeout_s, Metrics("test", "r1"))
    yield made
    await made.close()


@pytest.fixture
def reader(pool: Pool) -> Reader:
    return Reader(pool, 0)


Insert = Callable[..., SagaId]


@pytest.fixture
def insert(settings: LogSettings) -> Insert:
    """Stores a saga with the given transitions (step, position, status, result); returns its id."""
    made: list[SagaId] = []

    def insert_saga(
        state: str = "RUNNING",
        rows: list[tuple[str | None, int, str, object]] | None = None,
        definition: str = "order",
        labels: dict[str, str] | None = None,
        input_: object = None,
        created_at: datetime | None = None,
    ) -> SagaId:
        at = created_at or datetime.now(UTC)
        identity = saga_id(round(at.timestamp() * 1000), len(made), after=made[-1] if made and not created_at else None)
        made.append(identity)
        with psycopg.connect(settings.dsn, autocommit=True) as connection:
            connection.execute(
                "INSERT INTO baton.saga (id, shard, request_id, request_hash, definition, version, state, sequence,"
                " input, labels, created_at) VALUES (%s, 0, %s, '', %s, 1, %s, %s, %s, %s, %s)",
                [identity, str(identity), definition, state, len(rows or []), orjson.dumps(input_ or {}).decode(),
                 orjson.dumps(labels or {}).decode(), at],
            )  # fmt: skip
            for number, (step, position, status, result) in enumerate(rows or [], 1):
                json = None if result is None else orjson.dumps(result).decode()
                connection.execute(
                    "INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, epoch)"
                    " VALUES (%s, %s, %s, %s, %s, 1, %s, 7)",
                    [identity, number, step, position, status, json],
                )  # fmt: skip
        return identity

    return insert_saga


UNDONE: list[tuple[str | None, int, str, object]] = [
    ("pay", 1, "executing", None),
    ("pay", 1, "completed", {"n": 1}),
    ("ship", 2, "executing", None),
    ("ship", 2, "failed", None),
    ("pay", 1, "compensating", None),
    ("pay", 1, "compensated", None),
]


async def test_a_saga_is_read_with_its_history_and_the_state_after_each_transition(
    reader: Reader, insert: Insert
) -> None:
    saga = await reader.saga(insert("COMPENSATED", UNDONE, input_={"big": 2**63, "money": "1.10"}))
    assert saga is not None
    assert orjson.loads(saga.input or "") == {"big": 2**63, "money": "1.10"}
    history = await reader.history(saga, 0, 100, 1_000_000)
    assert [t.status for t in history] == [row[2] for row in UNDONE]
    assert [t.state for t in history] == ["RUNNING"] * 3 + ["COMPENSATING"] * 2 + ["COMPENSATED"]


async def test_an_unknown_saga_is_none(reader: Reader) -> None:
    assert await reader.saga(SagaId(UUID(int=1))) is None


async def test_history_is_bounded_in_rows_and_bytes_yet_never_empty(reader: Reader, insert: Insert) -> None:
    rows: list[tuple[str | None, int, str, object]] = [("pay", 1, "completed", {"x": "y" * 1000})] * 10
    saga = await reader.saga(insert("RUNNING", rows))
    assert saga is not None
    assert [t.sequence for t in await reader.history(saga, 0, 3, 1_000_000)] == [1, 2, 3]
    assert [t.sequence for t in await reader.history(saga, 3, 100, 2500)] == [4, 5]
    assert [t.sequence for t in await reader.history(saga, 5, 100, 10)] == [6]


async def test_lists_are_filtered_and_paged_newest_first(reader: Reader, insert: Insert) -> None:
    first = insert("RUNNING", labels={"customer": "a", "region": "x"})
    second = insert("COMPLETED", definition="return")
    third = insert("RUNNING", labels={"customer": "b"})

    async def ids(wanted: SagaFilter, before: SagaId | None = None, page: int = 10) -> list[SagaId]:
        return [saga.id for saga in await reader.find(wanted, before, page)]

    assert await ids(SagaFilter()) == [third, second, first]
    assert await ids(SagaFilter(), page=2) == [third, second]
    assert await ids(SagaFilter(), before=second) == [first]
    assert await ids(SagaFilter(states=("COMPLETED", "FAILED"))) == [second]
    assert await ids(SagaFilter(definition="return")) == [second]
    assert await ids(SagaFilter(labels={"customer": "a"})) == [first]
    assert await ids(SagaFilter(labels={"customer": "a", "region": "y"})) == []
    assert await ids(SagaFilter(states=("RUNNING",), labels={"customer": "b"}, definition="order")) == [third]


async def test_lists_by_time_compare_the_time_of_the_log(reader: Reader, insert: Insert) -> None:
    now = datetime.now(UTC)
    old, new = insert(created_at=now - timedelta(days=2)), insert(created_at=now)
    yesterday = now - timedelta(days=1)
    assert [s.id for s in await reader.find(SagaFilter(created_after=yesterday), None, 10)] == [new]
    assert [s.id for s in await reader.find(SagaFilter(created_before=yesterday), None, 10)] == [old]


async def test_a_list_leaves_large_inputs_out(reader: Reader, insert: Insert) -> None:
    text = "".join(chr(0x4E00 + (n * 7919) % 20000) for n in range(4000))
    insert(input_={"text": text})
    listed = await reader.find(SagaFilter(), None, 10)
    assert listed[0].input is None
    whole = await reader.saga(listed[0].id)
    assert whole is not None
    assert orjson.loads(whole.input or "")["text"] == text


async def test_news_names_what_has_happened_and_who_has_ended(reader: Reader, insert: Insert) -> None:
    running, ended, idle = insert("RUNNING", UNDONE[:2]), insert("COMPENSATED", UNDONE), insert("RUNNING", UNDONE[:1])
    found = {n.saga_id: n for n in await reader.news({running: 1, ended: 6, idle: 1}, 10)}
    assert found.keys() == {running, ended}
    assert [t.status for t in found[running].transitions] == ["completed"]
    assert (found[ended].state, found[ended].transitions) == ("COMPENSATED", ())
    assert await reader.ended([running, ended, idle]) == [ended]
    few = await reader.news({ended: 0}, 2)
    assert [t.sequence for t in few[0].transitions] == [1, 2]
    assert few[0].last == 6


async def test_a_cancellation_is_noted_once_and_only_for_a_live_saga(
    reader: Reader, insert: Insert, settings: LogSettings
) -> None:
    live, ended = insert("RUNNING"), insert("COMPLETED")
    async with await psycopg.AsyncConnection.connect(settings.dsn, autocommit=True) as connection:
        await connection.execute("LISTEN baton_work")
        assert await reader.request_cancel(live, "changed my mind")
        heard = [notice.payload async for notice in connection.notifies(timeout=5, stop_after=1)]
    assert heard == [f"0:cancel:{live}"]
    assert not await reader.request_cancel(live, "again")
    assert not await reader.request_cancel(ended, "too late")
    saga = await reader.saga(live)
    assert saga is not None
    assert saga.cancel_reason == "changed my mind"


async def test_counts_are_by_definition_and_state(reader: Reader, insert: Insert) -> None:
    for state in ("RUNNING", "RUNNING", "FAILED", "COMPLETED", "COMPENSATED"):
        insert(state)
    insert("COMPLETED", definition="return")
    assert await reader.counts() == {
        ("order", "RUNNING"): 2,
        ("order", "FAILED"): 1,
        ("order", "COMPLETED"): 1,
        ("order", "COMPENSATED"): 1,
        ("return", "COMPLETED"): 1,
    }


async def test_the_oldest_saga_of_each_state_is_found_by_an_index(
    reader: Reader, insert: Insert, settings: LogSettings
) -> None:
    states = ("PENDING", "RUNNING", "COMPENSATING", "FAILED")
    assert await reader.oldest() == dict.fromkeys((*states, "PAUSED"), 0.0)
    oldest = {state: insert(state) for state in states[1:]}
    for state in (*states[1:], "COMPLETED"):
        insert(state)
    started_at = {}
    for state, oldest_id in oldest.items():
        saga = await reader.saga(oldest_id)
        assert saga is not None
        started_at[state] = pytest.approx(saga.created_at.timestamp())
    assert await reader.oldest() == {"PENDING": 0.0, "PAUSED": 0.0, **started_at}
    statement = load("reader.sql")["oldest"]
    async with await psycopg.AsyncConnection.connect(settings.dsn, autocommit=True) as connection:
        await connection.execute("SET enable_seqscan = off")
        plan = await (await connection.execute(b"EXPLAIN " + statement.text, {"shard": 0})).fetchall()
    lines = "\n".join(row[0] for row in plan)
    for index in ("saga_awake", "saga_asleep", "saga_parked", "saga_paused"):
        assert index in lines
    assert "Sort" not in lines


async def test_equal_content_is_one_version_however_many_apply_it_at_once(pool: Pool) -> None:
    store = PostgresDefinitions(pool)
    contents = [f"{n % 3}" for n in range(12)]
    stored = await asyncio.gather(
        *(store.insert_definition("order", content, f"yaml {content}", b"x\x00y") for content in contents)
    )
    versions = {content: definition.version for content, (definition, _) in zip(contents, stored, strict=True)}
    assert sorted(versions.values()) == [1, 2, 3]
    for content, (definition, _) in zip(contents, stored, strict=True):
        assert definition.version == versions[content]
    assert sum(not existing for _, existing in stored) == 3
    newest = await store.get_definition("order", 0)
    assert newest is not None
    assert (newest.version, newest.descriptor_set) == (3, b"x\x00y")
    assert [d.version for d in await store.list_definitions()] == [3, 2, 1]
    assert await store.get_definition("order", 4) is None


async def test_reads_go_on_at_once_when_postgres_has_returned(
    reader: Reader, insert: Insert, postgres: Postgres
) -> None:
    identity = insert()
    await asyncio.gather(*(reader.saga(identity) for _ in range(3)))
    await asyncio.to_thread(postgres.restart)
    assert await reader.saga(identity) is not None


async def test_postgres_away_is_said_in_time() -> None:
    nowhere = Pool("postgresql://127.0.0.1:1/none", "test", 1, 0.5, Metrics("test", "r1"))
    with pytest.raises(LogUnavailable, match="cannot connect"):
        await Reader(nowhere, 0).ping()


async def test_waiting_for_a_free_connection_has_an_end(settings: LogSettings) -> None:
    pool = Pool(settings.dsn, "test", 1, 0.5, Metrics("test", "r1"))
    try:
        # Held by hand: a statement that holds it has the same patience, and may let go before the other one gives up.
        async with pool._slots:
            with pytest.raises(LogUnavailable, match="was free"):
                await pool.fetch(sql("SELECT 1"), {})
        with pytest.raises(LogUnavailable, match="cannot read"):
            await pool.fetch(sql("SELECT pg_sleep(10)"), {})
        pool._timeout_s = 20.0
        assert await pool.fetch(sql("SELECT 1"), {}) == [(1,)]
    finally:
        await pool.close()
