"""Overload on real servers: what Postgres says of itself, and what a caller hears while no new sagas are taken."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from orchestrator.embedded.postgres import Postgres
from orchestrator.errors import Overloaded
from orchestrator.pb.baton.v1 import saga_pb2, saga_pb2_grpc
from orchestrator.sagalog.migrate import migrate
from orchestrator.sagalog.strain import Strain

from .api_world import INPUT, ApiWorld, api_world, refusal

_WITHIN_S = 60.0
START = saga_pb2.StartSagaRequest(definition="order", input_json=json.dumps(INPUT), request_id="one")


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(_WITHIN_S):
        while not true():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def measuring(dsn: str, count_max: int = 1000) -> AsyncIterator[Strain]:
    strain = Strain(dsn, "r1", 0, 2.0, count_max)
    running = asyncio.create_task(strain.run())
    try:
        yield strain
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def execute(dsn: str, statement: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(statement.encode())


def insert(state: str, count: int, due: str = "NULL") -> str:
    return (
        "INSERT INTO baton.saga (id, shard, request_id, request_hash, definition, version, state, input, next_run_at,"
        f" created_at) SELECT gen_random_uuid(), 0, gen_random_uuid()::text, '', 'd', 1, '{state}', '{{}}', {due},"
        f" clock_timestamp() - interval '1 hour' FROM generate_series(1, {count})"
    )


async def test_sagas_that_wait_are_counted_up_to_the_limit_with_the_age_of_the_oldest(database: str) -> None:
    migrate(database)
    execute(database, insert("PENDING", 7))
    execute(database, insert("RUNNING", 5))
    execute(database, insert("PENDING", 3, "clock_timestamp() + interval '1 day'"))
    async with measuring(database) as strain:
        await until(lambda: strain.backlog is not None)
        assert strain.backlog is not None
        assert strain.backlog.sagas == 7
        assert 3590 < strain.backlog.age_s < 3700
    async with measuring(database, count_max=4) as strain:
        await until(lambda: strain.backlog is not None)
        assert strain.backlog is not None
        assert strain.backlog.sagas == 4


async def test_an_absence_of_postgres_is_timed_and_over_as_soon_as_it_is_back(
    postgres: Postgres, database: str
) -> None:
    migrate(database)
    async with measuring(database) as strain:
        await until(lambda: strain.backlog is not None and strain.absent_s == 0)
        name = conninfo_to_dict(database)["dbname"]
        execute(postgres.dsn("postgres"), f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        try:
            execute(
                postgres.dsn("postgres"),
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'baton-strain%'",
            )
            await until(lambda: strain.absent_s > 0.3)
        finally:
            execute(postgres.dsn("postgres"), f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        await until(lambda: strain.absent_s == 0)


async def test_commits_that_hang_show_while_they_hang(postgres: Postgres, database: str) -> None:
    migrate(database)
    async with measuring(database) as strain:
        # A server without its synchronous standby holds every commit.
        execute(postgres.dsn("postgres"), "ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        execute(postgres.dsn("postgres"), "SELECT pg_reload_conf()")
        try:
            await until(lambda: strain.absent_s > 0.5)
        finally:
            with psycopg.connect(postgres.dsn("postgres"), autocommit=True) as connection:
                connection.execute("SET synchronous_commit = off")
                connection.execute("ALTER SYSTEM RESET synchronous_standby_names")
                connection.execute("SELECT pg_reload_conf()")
        await until(lambda: strain.absent_s == 0 and strain.commit_s is not None)
        assert strain.commit_s is not None
        assert strain.commit_s < 2.0


@pytest.fixture
async def api(database: str) -> AsyncIterator[ApiWorld]:
    migrate(database)
    async with api_world(database) as world:
        yield world


def shut(api: ApiWorld, monkeypatch: pytest.MonkeyPatch, retry_after_s: float = 0.75) -> None:
    def refuse() -> None:
        raise Overloaded("no new sagas are taken now: too many wait", retry_after_s)

    monkeypatch.setattr(api.served.door, "admit", refuse)


@pytest.mark.parametrize("many", [False, True])
async def test_starts_are_refused_with_the_time_to_come_again_and_reads_go_on(
    api: ApiWorld, monkeypatch: pytest.MonkeyPatch, many: bool
) -> None:
    before = await api.sagas.StartSaga(START)
    shut(api, monkeypatch)
    request: Any = saga_pb2.StartSagasRequest(requests=[START]) if many else START
    call = (api.sagas.StartSagas if many else api.sagas.StartSaga)(request)
    refused = await refusal(call)
    assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert refused.info.reason == "OVERLOADED"
    assert refused.retry_delay_s == 0.75
    assert "too many wait" in refused.message
    assert ("grpc-retry-pushback-ms", "750") in list(await call.trailing_metadata())
    assert (await api.get(before.saga.saga_id)).saga.saga_id == before.saga.saga_id
    assert len((await api.sagas.ListSagas(saga_pb2.ListSagasRequest())).sagas) == 1
    await api.sagas.CancelSaga(saga_pb2.CancelSagaRequest(saga_id=before.saga.saga_id, reason="not wanted"))


async def test_grpcs_own_retry_policy_comes_again_when_it_was_told_to(
    api: ApiWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = {
        "maxAttempts": 3,
        "initialBackoff": "0.01s",
        "maxBackoff": "0.01s",
        "backoffMultiplier": 1,
        "retryableStatusCodes": ["RESOURCE_EXHAUSTED"],
    }
    config = {"methodConfig": [{"name": [{"service": "baton.v1.SagaService"}], "retryPolicy": policy}]}
    target = f"127.0.0.1:{api.served.port}"
    asked_at_s: list[float] = []

    def refuse_once() -> None:
        asked_at_s.append(time.monotonic())
        if len(asked_at_s) == 1:
            raise Overloaded("not now", 0.6)

    monkeypatch.setattr(api.served.door, "admit", refuse_once)
    async with grpc.aio.insecure_channel(target, options=[("grpc.service_config", json.dumps(config))]) as channel:
        stub = saga_pb2_grpc.SagaServiceStub(channel)  # type: ignore[no-untyped-call]
        answer = await stub.StartSaga(START, timeout=_WITHIN_S)
    assert not answer.existing
    assert len(asked_at_s) == 2
    assert asked_at_s[1] - asked_at_s[0] > 0.5


async def test_a_full_disk_refuses_starts_until_there_is_room(api: ApiWorld) -> None:
    # Postgres says this of a table that it cannot extend; a disk is not filled for a test.
    api.execute(
        "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$"
    )
    api.execute("CREATE TRIGGER no_room BEFORE INSERT ON baton.saga EXECUTE FUNCTION no_room()")
    refused = await refusal(api.sagas.StartSaga(START, timeout=_WITHIN_S))
    assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "no room" in refused.message
    assert refused.retry_delay_s is not None
    assert refused.retry_delay_s > 0
    many = await api.sagas.StartSagas(saga_pb2.StartSagasRequest(requests=[START]), timeout=_WITHIN_S)
    assert [result.code for result in many.results] == [grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]]
    api.execute("DROP TRIGGER no_room ON baton.saga")
    assert not (await api.sagas.StartSaga(START, timeout=_WITHIN_S)).existing
    assert api.count() == 1
