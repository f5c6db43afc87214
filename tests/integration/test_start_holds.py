"""A definition whose sagas are undone too often takes no new starts, on any replica, until that is over."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest
from typer.testing import CliRunner

from orchestrator.__main__ import app
from orchestrator.errors import Fenced
from orchestrator.keeping.holding import Holding
from orchestrator.pb.baton.v1 import holds_pb2, holds_pb2_grpc, saga_pb2
from orchestrator.saga.commands import Refused
from orchestrator.saga.definition import Definition, HoldStarts
from orchestrator.saga.model import Epoch
from orchestrator.sagalog.definitions import PostgresDefinitions
from orchestrator.sagalog.migrate import migrate
from orchestrator.sagalog.pool import Pool
from orchestrator.sagalog.upkeep import PostgresUpkeepLog, UpkeepLogSettings
from orchestrator.telemetry import Metrics
from tests.integration.api_serving import serving
from tests.integration.api_world import INPUT, ApiWorld, api_world, definition, descriptors, refusal

_POLICY = "hold_starts: {share: 0.5, of_last: 2, for: 1h}\nsteps:"


@dataclass
class World:
    """A replica's API with a leader, and what its upkeep does about holds."""

    api: ApiWorld
    upkeep: PostgresUpkeepLog
    holding: Holding
    states: list[str] = field(default_factory=list)

    async def run(self, request_id: str = "") -> str:
        """Start a saga of the definition and wait for its end."""
        start = saga_pb2.StartSagaRequest(definition="risky", input_json=json.dumps(INPUT), request_id=request_id)
        started = await self.api.sagas.StartSaga(start, timeout=10)
        async with asyncio.timeout(60):
            while True:
                saga = (await self.api.get(started.saga.saga_id)).saga
                if saga.HasField("finished_at"):
                    return str(saga.saga_id)
                await asyncio.sleep(0.01)

    async def look(self) -> None:
        """What the leader's upkeep does twice a second."""
        await self.holding.look(cast(Any, SimpleNamespace(epoch=self.api.leader.epoch)))

    async def held(self) -> list[str]:
        """What is held by what the API says."""
        stub: Any = holds_pb2_grpc.HoldServiceStub(self.api.channel)  # type: ignore[no-untyped-call]
        return [hold.definition for hold in (await stub.ListStartHolds(holds_pb2.ListStartHoldsRequest())).holds]


@pytest.fixture
async def world(database: str) -> AsyncIterator[World]:
    migrate(database)
    pool = Pool(database, "baton-pool-r1", 4, 20.0, Metrics("test", "r1"))
    upkeep = PostgresUpkeepLog(UpkeepLogSettings(database, "r1", 0, 20.0, 0.2), pool)
    async with api_world(database) as api:
        registry = api.served.registry
        await registry.apply(definition("risky").replace("steps:", _POLICY), descriptors())

        async def read(name: str, version: int) -> Definition:
            return (await registry.get(name, version)).definition

        holding = Holding(upkeep, PostgresDefinitions(pool).list_definitions, read)
        async with api.leading():
            yield World(api, upkeep, holding)
    await upkeep.close()
    await pool.close()


async def _undo_two(world: World) -> None:
    world.api.participants.answers["pay"] = Refused("FAILED_PRECONDITION", "no money")
    await world.run("first")
    await world.look()
    assert await world.held() == []
    await world.run()
    await world.look()


async def test_starts_are_held_with_the_reason_and_an_operator_lets_them_through(world: World) -> None:
    await _undo_two(world)
    assert await world.held() == ["risky"]
    start = saga_pb2.StartSagaRequest(definition="risky", input_json=json.dumps(INPUT))

    async with serving(world.api.dsn) as other:  # noqa: SIM117  the address is known only then
        async with grpc.aio.insecure_channel(f"127.0.0.1:{other.port}") as channel:
            sagas: Any = type(world.api.sagas)(channel)
            for stub in (world.api.sagas, sagas):
                refused = await _until_refused(stub, start)
                assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
                assert refused.info.reason == "STARTS_HELD"
                assert "2 of its last 2 sagas" in refused.message
                assert "baton definition release risky" in refused.message
                assert refused.retry_delay_s is not None
                assert 3000 < refused.retry_delay_s <= 3600
    # What was started before is answered as it was, and other definitions are none of this.
    start.request_id = "first"
    assert (await world.api.sagas.StartSaga(start)).existing
    other_start = saga_pb2.StartSagaRequest(definition="order", input_json=json.dumps(INPUT))
    assert (await world.api.sagas.StartSaga(other_start)).saga.saga_id

    endpoint = ["--endpoint", f"127.0.0.1:{world.api.served.port}"]
    began_s = asyncio.get_running_loop().time()
    said = await _baton("saga", "start", "risky", "--input", json.dumps(INPUT), *endpoint)
    assert said.exit_code != 0
    assert "are held since" in said.output
    assert asyncio.get_running_loop().time() - began_s < 20, "the command asked again and again"
    said = await _baton("definition", "held", *endpoint)
    assert "risky: held since" in said.output
    # What was let in before the replicas went by the hold ends before the release, too.
    async with asyncio.timeout(60):
        while world.api.rows("SELECT 1 FROM baton.saga WHERE definition = 'risky' AND finished_at IS NULL"):
            await asyncio.sleep(0.02)
    said = await _baton("definition", "release", "risky", "--reason", "mended", "--by", "ann", *endpoint)
    assert "let through again" in said.output, said.output
    # Its answer may have been lost: said again, it is the same release, and nobody else's.
    for by, told in (("ann", "let through again"), ("bob", "were not held")):
        said = await _baton("definition", "release", "risky", "--reason", "mended", "--by", by, *endpoint)
        assert told in said.output, said.output
    assert world.api.rows("SELECT released_by, reason FROM baton.start_hold") == [("ann", "mended")]

    # What ended before does not count any more; what ends from now on does.
    world.api.participants.answers.clear()
    await world.run()
    await world.look()
    assert await world.held() == []
    await _undo_two_more(world)
    assert await world.held() == ["risky"]
    said = await _baton("definition", "release", "order", "--reason", "none", *endpoint)
    assert "were not held" in said.output
    assert (await _baton("definition", "release", "nobody", "--reason", "none", *endpoint)).exit_code == 1


async def test_holds_end_by_themselves_and_outlive_their_leader(world: World) -> None:
    await _undo_two(world)
    epoch = world.api.leader.epoch
    assert epoch is not None
    # Another leader goes by the same hold, and makes no second one.
    before = world.api.rows("SELECT since, until FROM baton.start_hold")
    await world.look()
    assert world.api.rows("SELECT since, until FROM baton.start_hold") == before
    world.api.execute("UPDATE baton.start_hold SET since = since - '2h'::interval, until = clock_timestamp()")
    assert await world.held() == []
    await world.look()
    assert await world.held() == [], "sagas from before the end of the hold count no more"
    async with asyncio.timeout(60):
        while not await _runs(world):
            await asyncio.sleep(0.02)


async def test_a_hold_by_an_older_epoch_or_by_what_an_operator_has_ended_is_not_written(world: World) -> None:
    await _undo_two(world)
    epoch = world.api.leader.epoch
    assert epoch is not None
    policy = HoldStarts(0.5, 2, 60.0)
    seen = await world.upkeep.lately_ended("risky", 2)
    assert seen.held
    world.api.execute("UPDATE baton.start_hold SET released_at = clock_timestamp(), released_by = 'ann'")
    assert await world.upkeep.hold_starts("risky", policy, seen, 2, epoch) is None
    assert await world.held() == []
    now = await world.upkeep.lately_ended("risky", 2)
    assert (now.held, now.states) == (False, ())
    # The fence itself stays: the leader of this world would be fenced with it, sooner or later.
    with pytest.raises(Fenced):
        await world.upkeep.hold_starts("risky", policy, now, 2, Epoch(epoch - 1))
    assert await world.held() == []


async def _runs(world: World) -> bool:
    try:
        await world.run()
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
            raise
        return False
    return True


async def _undo_two_more(world: World) -> None:
    world.api.participants.answers["pay"] = Refused("FAILED_PRECONDITION", "no money")
    for _ in range(2):
        await world.run()
    await world.look()


async def _until_refused(stub: Any, start: saga_pb2.StartSagaRequest) -> Any:
    """The refusal, as soon as the replica goes by the hold."""
    async with asyncio.timeout(60):
        while True:
            try:
                await stub.StartSaga(start)
            except grpc.aio.AioRpcError:
                return await refusal(stub.StartSaga(start))
            await asyncio.sleep(0.02)


async def _baton(*arguments: str) -> Any:
    return await asyncio.to_thread(CliRunner().invoke, app, list(arguments))
