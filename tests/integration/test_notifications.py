"""The notifications participant: it listens to Baton's events, and handles each of them once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from orchestrator.pb.baton.v1 import events_pb2
from orchestrator.saga.commands import Refused
from orchestrator.sagalog.migrate import migrate
from participants import notifications
from participants.database import Connection, Database
from participants.inbox import Inbox
from participants.pb.shop.v1 import notifications_pb2 as pb
from participants.server import MIGRATIONS, Participant
from participants.settings import ParticipantSettings
from tests.integration.api_world import ApiWorld, api_world
from tests.integration.shop import connected, running
from tests.integration.test_event_stream import events_of, run_sagas

WITHIN_S = 30.0
GUIDE = Path(__file__).parents[2] / "docs" / "choreography.md"


@pytest.fixture
async def api(database: str) -> AsyncIterator[ApiWorld]:
    migrate(database)
    async with api_world(database) as world, world.leading():
        yield world


def notified(api: ApiWorld) -> list[tuple[str, str]]:
    """What was written: saga and state."""
    try:
        return [
            (row[0], row[1]) for row in api.rows("SELECT saga_id, state FROM notifications.notification ORDER BY id")
        ]
    except psycopg.errors.UndefinedTable:
        return []


async def until_notified(api: ApiWorld, count: int) -> None:
    async with asyncio.timeout(WITHIN_S):
        while len({saga for saga, _ in notified(api)}) < count:
            await asyncio.sleep(0.02)


async def handled_all(api: ApiWorld) -> None:
    """Wait until the consumer has come to the end of the log."""

    async def behind() -> int:
        consumers = (await events_of(api).ListConsumers(events_pb2.ListConsumersRequest())).consumers
        return sum(consumer.lag_events for consumer in consumers if consumer.name == "notifications")

    async with asyncio.timeout(WITHIN_S):
        while await behind():
            await asyncio.sleep(0.05)


@asynccontextmanager
async def listening(api: ApiWorld, *others: str) -> AsyncIterator[Participant]:
    replicas = ",".join([*others, f"127.0.0.1:{api.served.port}"])
    async with running(notifications.SERVICE, api.dsn, baton=replicas) as participant:
        yield participant


async def test_everybody_hears_once_how_a_saga_has_ended(api: ApiWorld) -> None:
    (first,) = await run_sagas(api, 1)
    # The first replica that it knows is down.
    async with listening(api, "127.0.0.1:1") as participant:
        await until_notified(api, 1)
        api.participants.answers["pay"] = Refused("FAILED_PRECONDITION", "no")
        (second,) = await run_sagas(api, 1)
        await until_notified(api, 2)
        async with connected(participant.port) as client:
            reply = await client.call(
                "shop.v1.NotificationsService/ListNotifications", pb.ListNotificationsRequest(saga_id=second), None
            )
            totals = await client.call("shop.v1.NotificationsService/GetTotals", pb.NotificationsTotalsRequest(), None)
    (told,) = pb.ListNotificationsResponse.FromString(reply.response).notifications
    assert (told.definition, told.state) == ("order", "COMPENSATED")
    assert told.event_id.startswith(f"{second}/")
    assert "you have it back" in told.message
    assert pb.NotificationsTotals.FromString(totals.response) == pb.NotificationsTotals(completed=1, compensated=1)
    assert notified(api) == [(first, "COMPLETED"), (second, "COMPENSATED")]


async def test_events_that_come_again_have_no_second_effect(api: ApiWorld) -> None:
    sagas = await run_sagas(api, 10)
    async with listening(api), listening(api):
        # Two at once get everything twice, and each of them again after the reset.
        await until_notified(api, 10)
        await events_of(api).ResetConsumer(events_pb2.ResetConsumerRequest(consumer="notifications", earliest=True))
    async with listening(api):
        (last,) = await run_sagas(api, 1)
        await until_notified(api, 11)
    assert sorted(saga for saga, _ in notified(api)) == sorted([*sagas, last])


async def test_nothing_is_lost_or_doubled_while_it_and_its_database_are_interrupted(api: ApiWorld) -> None:
    starting = asyncio.create_task(run_sagas(api, 40))
    for _ in range(3):
        async with listening(api):
            await asyncio.sleep(0.05)
            api.rows(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'participant-notifications'"
            )
            await asyncio.sleep(0.05)
    sagas = await starting
    async with listening(api):
        await until_notified(api, 40)
        await handled_all(api)
    assert sorted(saga for saga, _ in notified(api)) == sorted(sagas)


async def test_the_listener_of_the_guide_hears_of_ends_and_waits_for_its_table(api: ApiWorld) -> None:
    code = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)[1]
    guide: dict[str, Any] = {}
    exec(compile(code, str(GUIDE), "exec"), guide)
    service = replace(notifications.SERVICE, background=guide["listen"])
    await run_sagas(api, 2)
    async with running(service, api.dsn, baton=f"127.0.0.1:{api.served.port}"):
        # Until its effect is possible, the first event is tried again and again.
        api.execute("CREATE TABLE notifications.mail (text text)")
        async with asyncio.timeout(WITHIN_S):
            while api.rows("SELECT text FROM notifications.mail") != [("order has COMPLETED",)] * 2:
                await asyncio.sleep(0.02)


@pytest.fixture
async def inbox(database: str) -> AsyncIterator[tuple[Inbox, Database]]:
    settings = ParticipantSettings(dsn=database, lock_wait_max_s=10.0)
    opened = Database(settings, "inbox")
    await opened.open([MIGRATIONS / "inbox"])
    async with opened.connection() as connection:
        await connection.execute(b"CREATE TABLE effect (id text)")
        await connection.commit()
    yield Inbox(opened, keep_s=3600.0), opened
    await opened.close()


async def count(database: Database, table: bytes) -> int:
    async with database.connection() as connection:
        row = await (await connection.execute(b"SELECT count(*) FROM " + table)).fetchone()
    assert row is not None
    return int(str(row[0]))


async def test_of_many_deliveries_at_once_one_takes_effect(inbox: tuple[Inbox, Database]) -> None:
    box, database = inbox

    async def effect(connection: Connection) -> None:
        await connection.execute(b"INSERT INTO effect VALUES ('e')")
        await asyncio.sleep(0.02)

    done = await asyncio.gather(*(box.once("e", effect) for _ in range(10)))
    assert sorted(done) == [False] * 9 + [True]
    assert await count(database, b"effect") == 1


async def test_an_effect_that_fails_leaves_its_event_to_be_delivered_again(inbox: tuple[Inbox, Database]) -> None:
    box, database = inbox

    async def fails(connection: Connection) -> None:
        await connection.execute(b"INSERT INTO effect VALUES ('e')")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await box.once("e", fails)
    assert await count(database, b"effect") == await count(database, b"processed_event") == 0

    async def works(connection: Connection) -> None:
        await connection.execute(b"INSERT INTO effect VALUES ('e')")

    assert await box.once("e", works)
    assert await count(database, b"effect") == 1


async def test_ids_are_forgotten_when_they_are_too_old_to_come_again(inbox: tuple[Inbox, Database]) -> None:
    box, database = inbox
    async with database.connection() as connection:
        await connection.execute(
            b"INSERT INTO processed_event (id, at)"
            b" SELECT 'old-' || n, now() - interval '2 hours' FROM generate_series(1, 2500) AS n"
        )
        await connection.execute(b"INSERT INTO processed_event (id) VALUES ('new')")
        await connection.commit()
    forgetting: asyncio.Task[Any] = asyncio.create_task(box.forget_old())
    async with asyncio.timeout(WITHIN_S):
        while await count(database, b"processed_event") > 1:
            await asyncio.sleep(0.01)
    forgetting.cancel()
    await asyncio.gather(forgetting, return_exceptions=True)
