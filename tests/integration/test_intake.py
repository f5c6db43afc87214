"""The intake on a real Postgres: idempotent, shared commits, nothing acknowledged is ever lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
import pytest

from orchestrator.embedded.postgres import Postgres
from orchestrator.errors import Conflict, LogUnavailable, Overloaded, Rejected
from orchestrator.sagalog import intake as intake_module
from orchestrator.sagalog.intake import Intake, IntakeSettings
from orchestrator.sagalog.migrate import migrate
from orchestrator.sagalog.records import NewSaga, Started, request_hash
from orchestrator.telemetry import Metrics


def new(request_id: str = "", value: Any = 1, **changes: Any) -> NewSaga:
    hash_ = request_hash("d", 0, {"n": value}, {})
    return replace(NewSaga("d", 1, f'{{"n": {value}}}', "{}", request_id, hash_), **changes)


@dataclass
class Running:
    """An intake that runs, and how often it woke the leader."""

    intake: Intake
    metrics: Metrics
    wakes: list[None] = field(default_factory=list)


@asynccontextmanager
async def running(dsn: str, timeout_s: float = 30.0) -> AsyncIterator[Running]:
    metrics = Metrics("test", "r1")
    wakes: list[None] = []
    intake = Intake(IntakeSettings(dsn, "r1", 0, timeout_s, 4000), metrics, lambda: wakes.append(None))
    writing = asyncio.create_task(intake.run())
    try:
        yield Running(intake, metrics, wakes)
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


@pytest.fixture
async def started(database: str) -> AsyncIterator[Running]:
    migrate(database)
    async with running(database) as it:
        yield it


def rows(dsn: str, query: str = "SELECT id, request_id, state FROM baton.saga ORDER BY id") -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query.encode()).fetchall()


async def test_a_start_is_stored_as_pending_and_wakes_the_leader(started: Running, database: str) -> None:
    answer = await started.intake.start(new("order-1"))
    assert rows(database) == [(answer.saga_id, "order-1", "PENDING")]
    assert not answer.existing
    assert started.wakes


async def test_the_same_request_gives_the_same_saga(started: Running, database: str) -> None:
    first = await started.intake.start(new("order-1"))
    again = await started.intake.start(new("order-1"))
    assert again == replace(first, existing=True)
    assert len(rows(database)) == 1


async def test_equal_requests_at_once_start_one_saga(started: Running, database: str) -> None:
    answers = await asyncio.gather(*(started.intake.start(new("order-1")) for _ in range(50)))
    assert len({answer.saga_id for answer in answers}) == 1
    assert sum(not answer.existing for answer in answers) == 1
    assert len(rows(database)) == 1


async def test_equal_requests_at_two_replicas_at_once_start_one_saga_each(started: Running, database: str) -> None:
    ids = [f"order-{number}" for number in range(200)]
    async with running(database) as other:
        one = [started.intake.start(new(request_id)) for request_id in ids]
        two = [other.intake.start(new(request_id)) for request_id in reversed(ids)]
        answers = await asyncio.gather(*one, *two)
    assert len({answer.saga_id for answer in answers}) == 200
    assert sum(not answer.existing for answer in answers) == 200
    assert len(rows(database)) == 200


async def test_a_used_request_id_with_another_body_is_a_conflict(started: Running, database: str) -> None:
    await started.intake.start(new("order-1", 1))
    with pytest.raises(Conflict, match="order-1"):
        await started.intake.start(new("order-1", 2))
    assert len(rows(database)) == 1


async def test_two_bodies_under_one_id_in_one_batch_give_one_saga_and_one_conflict(
    started: Running, database: str
) -> None:
    starts = (started.intake.start(new("order-1", value)) for value in (1, 2))
    first, second = await asyncio.gather(*starts, return_exceptions=True)
    assert not isinstance(first, BaseException)
    assert isinstance(second, Conflict)
    assert len(rows(database)) == 1


async def test_without_a_request_id_every_call_starts_a_saga(started: Running, database: str) -> None:
    answers = await asyncio.gather(*(started.intake.start(new()) for _ in range(5)))
    assert [row[0] for row in rows(database)] == sorted(answer.saga_id for answer in answers)


async def test_starts_that_come_together_share_commits(started: Running, database: str) -> None:
    await asyncio.gather(*(started.intake.start(new(f"order-{number}")) for number in range(1000)))
    commits = rows(database, "SELECT count(DISTINCT xmin::text) FROM baton.saga")[0][0]
    assert commits <= 3


async def test_what_postgres_cannot_store_concerns_its_caller_alone(started: Running, database: str) -> None:
    bad = new("bad", input_json='{"n": "\\u0000"}')
    others = [new(f"order-{number}") for number in range(3)]
    answers = await asyncio.gather(*map(started.intake.start, [*others, bad, new("z")]), return_exceptions=True)
    assert isinstance(answers[3], Rejected)
    assert [type(answer).__name__ for answer in answers] == ["Started"] * 3 + ["Rejected", "Started"]
    assert len(rows(database)) == 4


async def test_no_acknowledged_start_is_lost_when_postgres_restarts(
    started: Running, database: str, postgres: Postgres
) -> None:
    acknowledged: list[tuple[str, Any]] = []
    restarted = asyncio.Event()

    async def client(number: int) -> None:
        count = 0
        while not restarted.is_set() or count < 3:
            request_id = f"{number}-{count}"
            answer = await started.intake.start(new(request_id))
            acknowledged.append((request_id, answer.saga_id))
            assert not answer.existing
            count += 1

    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(client(number))
        while len(acknowledged) < 100:
            await asyncio.sleep(0.001)
        await asyncio.to_thread(postgres.restart, mode="immediate")
        restarted.set()
    stored = {(row[1], row[0]) for row in rows(database)}
    assert len(acknowledged) >= 100
    assert stored == set(acknowledged)


async def until_started(it: Running, request_id: str) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                await it.intake.start(new(request_id))
                return
            except LogUnavailable:
                continue


async def test_a_postgres_that_hangs_makes_starts_unavailable_in_time(database: str, postgres: Postgres) -> None:
    migrate(database)
    async with running(database, timeout_s=1.0) as it:
        await until_started(it, "before")
        postgres.suspend()
        try:
            async with asyncio.timeout(10):
                with pytest.raises(LogUnavailable, match="takes no sagas now"):
                    await it.intake.start(new("during"))
        finally:
            postgres.resume()
        # Unknown whether it was stored: the same request id gives one saga in any case.
        await until_started(it, "during")
    assert sorted(row[1] for row in rows(database)) == ["before", "during"]


async def test_the_queue_is_bounded(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake_module, "QUEUE_MAX", 2)
    metrics = Metrics("test", "r1")
    intake = Intake(IntakeSettings(database, "r1", 0, 5.0, 4000), metrics, lambda: None)
    waiting = [asyncio.create_task(intake.start(new(str(number)))) for number in range(3)]
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    assert [type(task.exception()) for task in done] == [Overloaded]
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_start_is_announced_to_whoever_listens(started: Running, database: str) -> None:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        await connection.execute("LISTEN baton_work")
        await started.intake.start(new("order-1"))
        heard = [n.payload async for n in connection.notifies(timeout=20, stop_after=1)]
        await started.intake.start(new("order-1"))
        await connection.execute("NOTIFY baton_work, 'end'")
        heard += [n.payload async for n in connection.notifies(timeout=20, stop_after=1)]
    assert heard == ["0:pending", "end"]


async def test_nobody_is_left_waiting_when_the_intake_ends(database: str) -> None:
    migrate(database)
    async with running(database) as it:
        starts = [asyncio.create_task(it.intake.start(new(f"order-{number}"))) for number in range(50)]
        await asyncio.sleep(0)
    async with asyncio.timeout(20):
        answers = await asyncio.gather(*starts, return_exceptions=True)
    assert {type(answer) for answer in answers} <= {LogUnavailable, Started}
