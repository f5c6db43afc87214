"""The barrier on a real Postgres: duplicates, tombstones, races, stale epochs, refusals and lost connections."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest

from participants.barrier import transaction
from participants.pb.shop.v1 import echo_pb2, echo_pb2_grpc
from participants.server import Service
from participants.status import Refusal
from tests.integration.shop import TIMEOUT_S, Client, Reply, action, compensation, connected, running

DO = "shop.v1.EchoService/Do"
UNDO = "shop.v1.EchoService/Undo"

SCHEMA = """
CREATE TABLE effect (id bigserial PRIMARY KEY, text text NOT NULL CHECK (text <> 'check'), twin bigint UNIQUE
    DEFERRABLE INITIALLY DEFERRED);
INSERT INTO effect (text, twin) VALUES ('first', 1);
"""


class Probe(echo_pb2_grpc.EchoServiceServicer):
    """Writes its text into a table and then does what the text says."""

    def __init__(self) -> None:
        self.runs = 0
        self.refuse = True
        self.entered = asyncio.Event()
        self.release = asyncio.Event()

    async def Do(self, request: echo_pb2.EchoRequest, context: Any) -> echo_pb2.EchoResponse:
        self.runs += 1
        tx = transaction()
        cursor = await tx.execute(
            b"INSERT INTO effect (text, twin) VALUES (%(text)s, %(twin)s) RETURNING id",
            {"text": request.text, "twin": 1 if request.text == "deferred" else None},
        )
        tx.record_effect(text=request.text)
        match request.text:
            case "refuse" if self.refuse:
                await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "out of everything")
            case "transient" if self.refuse:
                raise Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "too busy")
            case "boom" if self.refuse:
                raise ZeroDivisionError("a defect")
            case "wait":
                self.entered.set()
                await self.release.wait()
        (number,) = await cursor.fetchone()  # type: ignore[misc]  # the row of RETURNING
        return echo_pb2.EchoResponse(text=f"{request.text} {number}")

    async def Undo(self, request: echo_pb2.EchoRequest, context: Any) -> echo_pb2.EchoResponse:
        return await self.Do(request, context)


@pytest.fixture
def probe() -> Probe:
    return Probe()


@pytest.fixture
def service(probe: Probe, tmp_path: Path) -> Service:
    folder = tmp_path / "probe"
    folder.mkdir()
    (folder / "0001_probe.sql").write_text(SCHEMA)
    return Service(
        name="probe",
        register=echo_pb2_grpc.add_EchoServiceServicer_to_server,
        servicer=lambda _database, _settings: probe,
        listen="",
        migrations=folder,
    )


@pytest.fixture(params=["unary", "exchange"])
async def client(request: pytest.FixtureRequest, service: Service, database: str) -> AsyncIterator[Client]:
    async with running(service, database) as participant, connected(participant.port, request.param) as client:
        yield client


def text(value: str) -> echo_pb2.EchoRequest:
    return echo_pb2.EchoRequest(text=value)


def rows(database: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(database, autocommit=True, options="-c search_path=probe") as connection:
        return connection.execute(query.encode()).fetchall()


async def until_waiting_for_a_lock(database: str) -> None:
    query = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    async with asyncio.timeout(TIMEOUT_S):
        while not rows(database, query):
            await asyncio.sleep(0.01)


async def test_a_duplicate_gets_the_stored_response_without_running(
    client: Client, probe: Probe, database: str
) -> None:
    first = await client.call(DO, text("a"), action("s1"))
    second = await client.call(DO, text("a"), action("s1", attempt=2, epoch=2))
    assert first.code == 0
    assert second == first
    assert echo_pb2.EchoResponse.FromString(first.response).text.startswith("a ")
    assert probe.runs == 1
    assert rows(database, "SELECT saga_id, step, kind, epoch, effect->>'text' FROM ledger") == [
        ("s1", "step", "action", 1, "a")
    ]


async def test_a_concurrent_duplicate_waits_for_the_first_and_gets_its_response(
    client: Client, probe: Probe, database: str
) -> None:
    first = asyncio.create_task(client.call(DO, text("wait"), action("s1")))
    await probe.entered.wait()
    second = asyncio.create_task(client.call(DO, text("wait"), action("s1", attempt=2)))
    await until_waiting_for_a_lock(database)
    probe.release.set()
    assert (await first).code == 0
    assert await second == await first
    assert probe.runs == 1


async def test_a_duplicate_that_waits_too_long_is_told_to_try_again(
    service: Service, probe: Probe, database: str
) -> None:
    async with (
        running(service, database, lock_wait_max_s=0.05) as participant,
        connected(participant.port) as client,
    ):
        first = asyncio.create_task(client.call(DO, text("wait"), action("s1")))
        await probe.entered.wait()
        second = await client.call(DO, text("wait"), action("s1"))
        assert second.name == "ABORTED"
        assert second.message.startswith("IN_PROGRESS")
        probe.release.set()
        assert (await first).code == 0


async def test_a_refusal_is_stored_and_leaves_no_effect(client: Client, probe: Probe, database: str) -> None:
    first = await client.call(DO, text("refuse"), action("s1"))
    second = await client.call(DO, text("refuse"), action("s1", attempt=2))
    assert (first.name, first.message) == ("FAILED_PRECONDITION", "out of everything")
    assert second == first
    assert probe.runs == 1
    assert rows(database, "SELECT text FROM effect") == [("first",)]
    assert rows(database, "SELECT * FROM ledger") == []


async def test_a_refused_compensation_runs_again_at_the_next_attempt(
    client: Client, probe: Probe, database: str
) -> None:
    await client.call(DO, text("a"), action("s1"))
    assert (await client.call(UNDO, text("refuse"), compensation("s1"))).name == "FAILED_PRECONDITION"
    probe.refuse = False
    assert (await client.call(UNDO, text("refuse"), compensation("s1", attempt=2))).code == 0
    assert rows(database, "SELECT kind FROM ledger ORDER BY id") == [("action",), ("compensation",)]


@pytest.mark.parametrize("failure", ["transient", "boom"])
async def test_what_is_no_refusal_is_not_stored(client: Client, probe: Probe, database: str, failure: str) -> None:
    first = await client.call(DO, text(failure), action("s1"))
    assert first.name == {"transient": "RESOURCE_EXHAUSTED", "boom": "INTERNAL"}[failure]
    assert rows(database, "SELECT text FROM effect") == [("first",)]
    probe.refuse = False
    assert (await client.call(DO, text(failure), action("s1", attempt=2))).code == 0


@pytest.mark.parametrize("failure", ["check", "deferred"])
async def test_an_error_of_the_database_is_a_stored_refusal(
    client: Client, probe: Probe, database: str, failure: str
) -> None:
    first = await client.call(DO, text(failure), action("s1"))
    second = await client.call(DO, text(failure), action("s1", attempt=2))
    assert first.name == "FAILED_PRECONDITION"
    assert "database error: " in first.message
    assert "constraint" in first.message
    assert second == first
    assert probe.runs == 1
    assert rows(database, "SELECT text FROM effect") == [("first",)]


async def test_a_compensation_of_an_action_never_seen_leaves_a_tombstone(
    client: Client, probe: Probe, database: str
) -> None:
    assert await client.call(UNDO, text("a"), compensation("s1")) == Reply(0, "", b"")
    assert await client.call(UNDO, text("a"), compensation("s1", attempt=2)) == Reply(0, "", b"")
    for attempt in (1, 2):
        late = await client.call(DO, text("a"), action("s1", attempt=attempt))
        assert late.name == "FAILED_PRECONDITION"
        assert late.message.startswith("TOMBSTONE")
    assert probe.runs == 0
    assert rows(database, "SELECT * FROM ledger") == []


async def test_a_compensation_of_a_refused_action_has_nothing_to_undo(
    client: Client, probe: Probe, database: str
) -> None:
    refused = await client.call(DO, text("refuse"), action("s1"))
    assert (await client.call(UNDO, text("a"), compensation("s1"))).code == 0
    assert await client.call(DO, text("refuse"), action("s1", attempt=2)) == refused
    assert probe.runs == 1


async def test_a_compensation_waits_for_its_action_under_way_and_undoes_it(
    client: Client, probe: Probe, database: str
) -> None:
    first = asyncio.create_task(client.call(DO, text("wait"), action("s1")))
    await probe.entered.wait()
    undo = asyncio.create_task(client.call(UNDO, text("undo"), compensation("s1", epoch=2)))
    await until_waiting_for_a_lock(database)
    probe.release.set()
    assert (await first).code == 0
    assert (await undo).code == 0
    assert rows(database, "SELECT kind, epoch FROM ledger ORDER BY id") == [("action", 1), ("compensation", 2)]


async def test_a_lower_epoch_is_turned_away_and_another_shard_is_not(
    client: Client, probe: Probe, database: str
) -> None:
    assert (await client.call(DO, text("a"), action("s1", epoch=7))).code == 0
    stale = await client.call(DO, text("a"), action("s2", epoch=6))
    assert stale.name == "ABORTED"
    assert stale.message.startswith("STALE_EPOCH")
    assert (await client.call(DO, text("a"), action("s1", epoch=6))).name == "ABORTED"
    assert (await client.call(DO, text("a"), action("s3", epoch=6, shard=1))).code == 0
    assert rows(database, "SELECT saga_id FROM ledger ORDER BY id") == [("s1",), ("s3",)]


async def test_the_epoch_outlives_the_process_and_holds_for_all_its_replicas(service: Service, database: str) -> None:
    async with running(service, database) as one, connected(one.port) as client:
        assert (await client.call(DO, text("a"), action("s1", epoch=7))).code == 0
        async with running(service, database) as two, connected(two.port) as other:
            assert (await other.call(DO, text("a"), action("s2", epoch=6))).name == "ABORTED"
            assert (await other.call(DO, text("a"), action("s2", epoch=9))).code == 0
        # What the first process remembers is out of date; what it reads in the transaction is not.
        assert (await client.call(DO, text("a"), action("s3", epoch=7))).name == "ABORTED"
        assert (await client.call(DO, text("a"), action("s3", epoch=8))).name == "ABORTED"


async def test_missing_metadata_is_named(client: Client, probe: Probe) -> None:
    none = await client.call(DO, text("a"), None)
    assert none.name == "INVALID_ARGUMENT"
    assert "baton-saga-id, baton-step, baton-kind, baton-epoch" in none.message
    assert (await client.call(DO, text("a"), action("s1", step=""))).name == "INVALID_ARGUMENT"
    assert probe.runs == 0


async def test_a_call_past_its_deadline_leaves_no_effect_and_can_be_repeated(
    client: Client, probe: Probe, database: str
) -> None:
    assert (await client.call(DO, text("wait"), action("s1"), timeout_s=0.2)).name == "DEADLINE_EXCEEDED"
    probe.release.set()
    assert (await client.call(DO, text("wait"), action("s1", attempt=2))).code == 0
    assert rows(database, "SELECT count(*) FROM ledger") == [(1,)]


async def test_a_stream_that_is_cut_takes_back_what_was_under_way(
    service: Service, probe: Probe, database: str
) -> None:
    async with running(service, database) as participant:
        async with connected(participant.port, "exchange") as client:
            cut = asyncio.create_task(client.call(DO, text("wait"), action("s1")))
            await probe.entered.wait()
            cut.cancel()
        # The stream is gone, the servicer would still wait: its key must be free nevertheless.
        async with connected(participant.port) as client:
            assert (await client.call(DO, text("a"), action("s1", attempt=2))).code == 0
    assert rows(database, "SELECT effect->>'text' FROM ledger") == [("a",)]


async def test_a_lost_connection_is_transient_and_the_pool_recovers(
    client: Client, probe: Probe, database: str
) -> None:
    first = asyncio.create_task(client.call(DO, text("wait"), action("s1")))
    await probe.entered.wait()
    rows(
        database, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'participant-probe'"
    )
    probe.release.set()
    assert (await first).name == "UNAVAILABLE"
    assert (await client.call(DO, text("a"), action("s1", attempt=2))).code == 0
    assert rows(database, "SELECT text FROM effect ORDER BY id") == [("first",), ("a",)]


async def test_duplicated_delayed_and_reordered_calls_keep_the_ledger_right(
    service: Service, probe: Probe, database: str
) -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    sagas = [f"s{number}" for number in range(25)]
    calls = [(kind(saga), form) for saga in sagas for kind in (action, compensation) for form in (0, 1) for _ in "12"]
    chance.shuffle(calls)
    texts = {call.key: chance.choice("abc") for call, _ in calls}
    async with (
        running(service, database) as participant,
        connected(participant.port, "unary") as unary,
        connected(participant.port, "exchange") as exchange,
    ):
        replies = await asyncio.gather(
            *(
                (unary, exchange)[form].call(DO if call.kind == "action" else UNDO, text(texts[call.key]), call)
                for call, form in calls
            )
        )
    by_key: dict[str, set[Reply]] = {}
    for (call, _), reply in zip(calls, replies, strict=True):
        by_key.setdefault(call.key, set()).add(reply)
    assert all(len(found) == 1 for found in by_key.values()), f"seed {seed}: {by_key}"
    ledger = rows(database, "SELECT saga_id, kind FROM ledger ORDER BY id")
    for saga in sagas:
        kinds = [kind for saga_id, kind in ledger if saga_id == saga]
        assert kinds in ([], ["action", "compensation"]), f"seed {seed}: {saga}: {kinds}"
        (undone,) = by_key[compensation(saga).key]
        assert undone.code == 0, f"seed {seed}: {undone}"
