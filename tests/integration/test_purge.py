"""Sagas behind the watermark: their rows go, their calls are refused, and no late message takes effect again."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from participants import purge
from participants.barrier import transaction
from participants.pb.baton.participant.v1 import participant_pb2 as pb
from participants.pb.shop.v1 import echo_pb2, echo_pb2_grpc
from participants.server import Service
from tests.integration.shop import TIMEOUT_S, Client, Reply, action, compensation, connected, running

DO, UNDO = "shop.v1.EchoService/Do", "shop.v1.EchoService/Undo"
PURGE = "baton.participant.v1.ParticipantService/Purge"
STATUS = "baton.participant.v1.ParticipantService/Status"
ASKED = echo_pb2.EchoRequest(text="x")
_NOW_MS = time.time_ns() // 1_000_000


def saga(minutes_ago: float, number: int = 0) -> str:
    """The id of a saga of that time."""
    milliseconds = _NOW_MS - round(minutes_ago * 60_000)
    return str(UUID(int=milliseconds << 80 | 7 << 76 | 0b10 << 62 | number))


class Slow(echo_pb2_grpc.EchoServiceServicer):
    """Takes effect; while `gate` is closed it waits in the middle of that."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def Do(self, request: echo_pb2.EchoRequest, context: Any) -> echo_pb2.EchoResponse:
        transaction().record_effect(text=request.text)
        self.entered.set()
        await self.gate.wait()
        return echo_pb2.EchoResponse(text=request.text)

    async def Undo(self, request: echo_pb2.EchoRequest, context: Any) -> echo_pb2.EchoResponse:
        return await self.Do(request, context)


@dataclass
class World:
    """A participant that serves, and a client of it."""

    client: Client
    servicer: Slow
    dsn: str

    async def act(self, saga_id: str, **more: Any) -> Reply:
        return await self.client.call(DO, ASKED, action(saga_id, **more))

    async def undo(self, saga_id: str, **more: Any) -> Reply:
        return await self.client.call(UNDO, ASKED, compensation(saga_id, **more))

    async def purge(self, before: str, **more: int) -> Reply:
        return await self.client.call(PURGE, pb.PurgeRequest(before_saga_id=before, **more), None)

    async def purged(self, before: str, **more: int) -> int:
        """Purge to the end; how many rows went."""
        removed = 0
        while True:
            reply = await self.purge(before, **more)
            assert reply.code == 0, reply
            response = pb.PurgeResponse.FromString(reply.response)
            removed += response.removed
            if response.done:
                return removed

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn, autocommit=True, options="-c search_path=slow") as connection:
            return connection.execute(query.encode()).fetchall()

    async def until_waiting_for_a_lock(self) -> None:
        query = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        async with asyncio.timeout(TIMEOUT_S):
            while not self.rows(query):
                await asyncio.sleep(0.01)


def is_purged(reply: Reply) -> bool:
    return reply.name == "FAILED_PRECONDITION" and reply.message.startswith("PURGED: ")


@pytest.fixture
async def world(database: str, tmp_path: Path) -> AsyncIterator[World]:
    folder = tmp_path / "slow"
    folder.mkdir()
    servicer = Slow()
    register = echo_pb2_grpc.add_EchoServiceServicer_to_server
    service = Service("slow", register, lambda _database, _settings: servicer, "", folder)
    async with running(service, database) as participant, connected(participant.port) as client:
        yield World(client, servicer, database)


async def test_rows_behind_the_watermark_go_and_their_calls_are_refused(world: World) -> None:
    old, buried, young = saga(60), saga(50), saga(10)
    await world.act(old)
    await world.undo(old)
    await world.undo(buried)
    first = await world.act(young)
    assert await world.purged(saga(30)) == 4
    assert world.rows("SELECT DISTINCT saga_id FROM barrier") == [(young,)]
    for late in (await world.act(old), await world.undo(old), await world.act(buried), await world.act(saga(40))):
        assert is_purged(late), late
    assert await world.act(young, attempt=2) == first
    status = await world.client.call(STATUS, pb.StatusRequest(saga_id=old, step="step", epoch=1), None)
    assert is_purged(status)
    assert world.rows("SELECT saga_id, kind FROM ledger ORDER BY id") == [
        (old, "action"),
        (old, "compensation"),
        (young, "action"),
    ]
    assert world.rows("SELECT DISTINCT saga_id FROM barrier") == [(young,)]


async def test_a_watermark_never_goes_back(world: World) -> None:
    await world.purged(saga(30))
    assert await world.purged(saga(60)) == 0
    assert is_purged(await world.act(saga(40)))
    assert world.rows("SELECT saga_id FROM watermark") == [(saga(30),)]


async def test_shards_have_watermarks_of_their_own(world: World) -> None:
    await world.act(saga(60), shard=1)
    await world.act(saga(60, 1), shard=0)
    assert await world.purged(saga(30), shard=0) == 1
    assert world.rows("SELECT saga_id, shard FROM barrier") == [(saga(60), 1)]
    assert (await world.act(saga(60), shard=1, attempt=2)).code == 0


@pytest.mark.parametrize(
    ("before", "words"),
    [
        ("", "is not a UUID"),
        ("s1", "is not a UUID"),
        (saga(30).upper(), "lower case"),
        ("6f9619ff-8b86-4011-b42d-00cf4fc964ff", "version 7"),
        (saga(-60), "of the future"),
    ],
)
async def test_a_watermark_that_would_do_harm_is_refused(world: World, before: str, words: str) -> None:
    reply = await world.purge(before)
    assert reply.name == "INVALID_ARGUMENT"
    assert words in reply.message
    assert world.rows("SELECT * FROM watermark") == []


async def test_a_leader_of_the_past_purges_nothing(world: World) -> None:
    await world.act(saga(60), epoch=7)
    assert (await world.purge(saga(30), epoch=6)).message.startswith("STALE_EPOCH")
    assert world.rows("SELECT * FROM watermark") == []
    assert await world.purged(saga(30), epoch=7) == 1


async def test_a_call_under_way_when_the_watermark_passes_takes_no_effect(world: World) -> None:
    world.servicer.gate.clear()
    under_way = asyncio.create_task(world.act(saga(60)))
    await world.servicer.entered.wait()
    assert await world.purged(saga(30)) == 0
    world.servicer.gate.set()
    assert is_purged(await under_way)
    assert world.rows("SELECT * FROM ledger") == []
    assert world.rows("SELECT * FROM barrier") == []


async def test_a_claim_that_waited_while_the_watermark_passed_takes_no_effect(world: World) -> None:
    """Its statement began before the watermark was there, and finds the key free: as if the key's row were purged."""
    world.servicer.gate.clear()
    first = asyncio.create_task(world.act(saga(60)))
    await world.servicer.entered.wait()
    second = asyncio.create_task(world.act(saga(60), attempt=2))
    await world.until_waiting_for_a_lock()
    assert await world.purged(saga(30)) == 0
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    world.servicer.gate.set()
    assert is_purged(await second)
    assert world.rows("SELECT * FROM ledger") == []
    assert world.rows("SELECT * FROM barrier") == []


async def test_a_status_that_waited_while_the_watermark_passed_says_nothing(world: World) -> None:
    world.servicer.gate.clear()
    first = asyncio.create_task(world.act(saga(60)))
    await world.servicer.entered.wait()
    request = pb.StatusRequest(saga_id=saga(60), step="step", epoch=1)
    asked = asyncio.create_task(world.client.call(STATUS, request, None))
    await world.until_waiting_for_a_lock()
    assert await world.purged(saga(30)) == 0
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert is_purged(await asked)
    assert world.rows("SELECT * FROM barrier") == []


async def test_late_messages_in_a_crowd_never_take_effect_twice(world: World) -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    sagas = [saga(60, number) for number in range(30)]
    for identity in sagas[:20]:
        await world.act(identity)
    calls = [call(identity) for identity in sagas for call in (world.act, world.act, world.undo)]
    calls += [world.purge(saga(61)), world.purge(saga(30)), world.purge(saga(30))]
    chance.shuffle(calls)
    await asyncio.gather(*calls)
    await world.purged(saga(30))
    counted = world.rows("SELECT saga_id, kind, count(*) FROM ledger GROUP BY 1, 2 HAVING count(*) > 1")
    assert counted == [], f"seed {seed}"
    before = world.rows("SELECT count(*) FROM ledger")
    assert all(is_purged(reply) for reply in await asyncio.gather(*(world.act(identity) for identity in sagas)))
    assert world.rows("SELECT count(*) FROM ledger") == before
    assert world.rows("SELECT * FROM barrier") == []


async def test_a_large_table_is_purged_in_small_transactions_that_read_each_page_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge, "_PAGES", 8)
    monkeypatch.setattr(purge, "BUDGET_S", 0.0)
    fill = """INSERT INTO barrier (saga_id, step, kind, epoch)
        SELECT {saga} || lpad(to_hex(n), 12, '0'), 'step', 'action', 1 FROM generate_series(1, 3000) AS n RETURNING 1"""
    for minutes in (60, 10):
        assert len(world.rows(fill.format(saga=f"'{saga(minutes)[:24]}'"))) == 3000
    assert await world.purged(saga(30)) == 3000
    assert world.rows("SELECT count(*) FROM barrier") == [(3000,)]
    plan = world.rows(
        "EXPLAIN DELETE FROM barrier WHERE ctid >= format('(%s,0)', 8::bigint)::tid"
        " AND ctid < format('(%s,0)', 16::bigint)::tid AND shard = 0 AND saga_id < 'x' COLLATE \"C\""
    )
    assert any("Tid Range Scan" in line for (line,) in plan), plan
