"""The pool of connections for reads on a real Postgres: it bounds, it comes back, and it does not hang."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from orchestrator.embedded.postgres import Postgres
from orchestrator.errors import LogUnavailable, Overloaded
from orchestrator.failpoints import effects
from orchestrator.sagalog import pool as pool_module
from orchestrator.sagalog.pool import Pool
from orchestrator.sagalog.queries import Statement
from orchestrator.telemetry import Metrics
from tests.integration.own_time import own_time

SIZE = 3
# Of a reader who comes to a server that is there; where the bound is the subject, it is short.
PATIENCE_S = 60.0
BACKENDS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pool-test'"


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("test", "r1")


@pytest.fixture
async def pool(database: str, metrics: Metrics) -> AsyncIterator[Pool]:
    made = Pool(database, "pool-test", SIZE, PATIENCE_S, metrics)
    yield made
    await made.close()


@contextmanager
def impatient(pool: Pool) -> Iterator[None]:
    """Let its readers wait no longer than a second for a server that does not answer."""
    pool._timeout_s = 1.0
    try:
        yield
    finally:
        pool._timeout_s = PATIENCE_S


def sql(text: str) -> Statement:
    return Statement(effects.CHECK, text.encode())


def gauge(metrics: Metrics, name: str) -> float | None:
    return metrics.registry.get_sample_value(name)


async def test_many_readers_share_few_connections(pool: Pool, metrics: Metrics) -> None:
    answers = await asyncio.gather(*(pool.fetch(sql("SELECT %(n)s::integer"), {"n": n}) for n in range(100)))
    assert answers == [[(n,)] for n in range(100)]
    assert await pool.fetch(sql(BACKENDS)) == [(SIZE,)]
    assert gauge(metrics, "baton_pool_connections") == SIZE
    assert gauge(metrics, "baton_pool_waiting") == 0


async def test_a_reader_goes_on_after_postgres_restarted(pool: Pool, postgres: Postgres, metrics: Metrics) -> None:
    await asyncio.gather(*(pool.fetch(sql("SELECT pg_sleep(0.01)")) for _ in range(SIZE)))
    await asyncio.to_thread(postgres.restart, mode="immediate")
    assert await pool.fetch(sql("SELECT 1")) == [(1,)]
    await asyncio.gather(*(pool.fetch(sql("SELECT pg_sleep(0.01)")) for _ in range(SIZE)))
    assert gauge(metrics, "baton_pool_connections") == SIZE


async def test_a_postgres_that_is_away_makes_reads_unavailable_in_time(pool: Pool, postgres: Postgres) -> None:
    await asyncio.to_thread(postgres.shut_down, "immediate")
    try:
        async with own_time() as measured:
            with impatient(pool), pytest.raises(LogUnavailable, match="cannot read the saga log"):
                await pool.fetch(sql("SELECT 1"))
        assert measured.passed_s < 2
    finally:
        await asyncio.to_thread(postgres.start)
    assert await pool.fetch(sql("SELECT 1")) == [(1,)]


async def test_a_postgres_that_hangs_holds_nobody_longer_than_the_timeout(
    pool: Pool, postgres: Postgres, metrics: Metrics
) -> None:
    await pool.fetch(sql("SELECT 1"))
    postgres.suspend()
    try:
        async with own_time() as measured:
            with impatient(pool):
                reads = [pool.fetch(sql("SELECT 1")) for _ in range(4 * SIZE)]
                answers = await asyncio.gather(*reads, return_exceptions=True)
        assert measured.passed_s < 3
        assert {type(answer) for answer in answers} == {LogUnavailable}
    finally:
        postgres.resume()
    assert await pool.fetch(sql("SELECT 1")) == [(1,)]
    assert gauge(metrics, "baton_pool_waiting") == 0


async def test_a_reader_that_gives_up_takes_no_connection_with_it(pool: Pool, metrics: Metrics) -> None:
    for _ in range(2 * SIZE):
        reading = asyncio.create_task(pool.fetch(sql("SELECT pg_sleep(10)")))
        await asyncio.wait((reading,), timeout=0.05)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    answers = await asyncio.gather(*(pool.fetch(sql("SELECT pg_sleep(0.01)")) for _ in range(2 * SIZE)))
    assert len(answers) == 2 * SIZE
    assert gauge(metrics, "baton_pool_connections") == SIZE


async def test_a_value_that_postgres_refuses_costs_no_connection(pool: Pool, metrics: Metrics) -> None:
    for _ in range(2 * SIZE):
        with pytest.raises(psycopg.DataError):
            await pool.fetch(sql("SELECT %(n)s::integer"), {"n": "no number"})
    assert gauge(metrics, "baton_pool_connections") == 1


async def test_those_who_wait_are_bounded(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "WAITING_MAX", 2)
    reads = [asyncio.create_task(pool.fetch(sql("SELECT pg_sleep(0.1)"))) for _ in range(SIZE + 4)]
    answers = await asyncio.gather(*reads, return_exceptions=True)
    assert sum(isinstance(answer, Overloaded) for answer in answers) == 2
    assert sum(isinstance(answer, list) for answer in answers) == SIZE + 2


async def test_a_closed_pool_leaves_no_backend(pool: Pool, database: str) -> None:
    await asyncio.gather(*(pool.fetch(sql("SELECT pg_sleep(0.01)")) for _ in range(SIZE)))
    busy = asyncio.create_task(pool.fetch(sql("SELECT pg_sleep(0.1)")))
    await asyncio.sleep(0)
    await pool.close()
    await busy
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                cursor = await connection.execute(BACKENDS.encode())
                if await cursor.fetchone() == (0,):
                    break
