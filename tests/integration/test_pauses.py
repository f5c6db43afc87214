"""Definitions and participants are paused and resumed through any replica, and the leader goes by it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner

from orchestrator.__main__ import app
from orchestrator.pb.baton.v1 import pauses_pb2 as pb
from orchestrator.pb.baton.v1 import pauses_pb2_grpc, saga_pb2
from orchestrator.saga.pausing import PauseKind
from orchestrator.sagalog.migrate import migrate
from orchestrator.sagalog.pauses import PostgresPauses
from orchestrator.sagalog.pool import Pool
from orchestrator.telemetry import Metrics
from tests.integration.api_serving import serving
from tests.integration.api_world import INPUT, ApiWorld, api_world, definition, descriptors, impatient, refusal

PARTICIPANT = "127.0.0.1:1"


@pytest.fixture
async def world(database: str) -> AsyncIterator[ApiWorld]:
    migrate(database)
    async with api_world(database) as api:
        await api.served.registry.apply(definition("other").replace(PARTICIPANT, "127.0.0.1:2"), descriptors())
        yield api


def pauses(channel: grpc.aio.Channel) -> Any:
    return pauses_pb2_grpc.PauseServiceStub(channel)  # type: ignore[no-untyped-call]


async def start(world: ApiWorld, of: str = "order") -> str:
    request = saga_pb2.StartSagaRequest(definition=of, input_json=json.dumps(INPUT))
    return str((await world.sagas.StartSaga(request, timeout=10)).saga.saga_id)


async def until_held(world: ApiWorld, saga_id: str) -> str:
    """What the last row of the saga says, as soon as it is held."""
    async with asyncio.timeout(60):
        while True:
            history = (await world.get(saga_id)).history
            if history and history[-1].error.code == "PAUSED":
                return str(history[-1].error.message)
            await asyncio.sleep(0.02)


async def until_ended(world: ApiWorld, saga_id: str) -> str:
    async with asyncio.timeout(60):
        while True:
            saga = (await world.get(saga_id)).saga
            if saga.HasField("finished_at"):
                return saga_pb2.SagaState.Name(saga.state)
            await asyncio.sleep(0.02)


async def test_a_paused_definition_takes_starts_that_wait_and_go_on_when_it_is_resumed(world: ApiWorld) -> None:
    stub = pauses(world.channel)
    async with world.leading():
        request = pb.PauseDefinitionRequest(definition="order", reason="the price list is wrong", by="ann")
        answer = await stub.PauseDefinition(request)
        assert answer.heeded
        assert answer.pause.HasField("heeded_at")
        # The answer may have been lost: said again, it is the same pause. Another one is refused, and says whose it is.
        assert (await stub.PauseDefinition(request)).pause.paused_at == answer.pause.paused_at
        request.by = "bob"
        refused = await refusal(stub.PauseDefinition(request))
        assert refused.code is grpc.StatusCode.FAILED_PRECONDITION
        assert "definition order is paused by ann since" in refused.message
        assert "the price list is wrong" in refused.message

        waiting = await start(world)
        told = await until_held(world, waiting)
        assert told.startswith("definition order is paused by ann since ")
        assert told.endswith(": the price list is wrong")
        assert await until_ended(world, await start(world, "other")) == "SAGA_STATE_COMPLETED"
        assert len(world.participants.called) == 2, "the other definition's"

        async with serving(world.dsn) as replica:  # noqa: SIM117  the address is known only then
            async with grpc.aio.insecure_channel(f"127.0.0.1:{replica.port}") as channel:
                resume = pb.ResumeDefinitionRequest(definition="order", reason="corrected", by="cleo")
                resumed = await pauses(channel).ResumeDefinition(resume)
                assert resumed.released
                assert resumed.pause.resumed_by == "cleo"
                assert (await pauses(channel).ResumeDefinition(resume)).pause == resumed.pause
        assert await until_ended(world, waiting) == "SAGA_STATE_COMPLETED"
        resume.reason = "again"
        refused = await refusal(stub.ResumeDefinition(resume))
        assert refused.code is grpc.StatusCode.FAILED_PRECONDITION
        assert "definition order is not paused" in refused.message
    ((heeded, released, epoch),) = world.rows(
        "SELECT p.heeded_epoch, p.released_epoch, f.epoch FROM baton.pause AS p, baton.fence AS f"
    )
    assert heeded == released == epoch


async def test_a_paused_participant_is_not_called_and_the_next_leader_knows_it(world: ApiWorld) -> None:
    stub = pauses(world.channel)
    request = pb.PauseParticipantRequest(participant=PARTICIPANT, reason="moving house", by="ann")
    # Nobody leads: it is stored, and the call says so.
    with impatient():
        assert not (await stub.PauseParticipant(request, timeout=20)).heeded
    saga_id = await start(world)
    for _ in range(2):
        async with world.leading():
            told = await until_held(world, saga_id)
            assert told.startswith(f"participant {PARTICIPANT} is paused by ann since ")
            assert await until_ended(world, await start(world, "other")) == "SAGA_STATE_COMPLETED"
    assert world.participants.called == ["reserve", "pay"] * 2, "of the other definition, at another participant"
    (listed,) = (await stub.ListPauses(pb.ListPausesRequest())).pauses
    assert (listed.kind, listed.name) == (pb.PAUSE_KIND_PARTICIPANT, PARTICIPANT)
    assert listed.HasField("heeded_at")

    resume = pb.ResumeParticipantRequest(participant=PARTICIPANT, reason="moved", by="bob")
    with impatient():
        assert not (await stub.ResumeParticipant(resume, timeout=20)).released
    assert not (await stub.ListPauses(pb.ListPausesRequest())).pauses
    async with world.leading():
        assert await until_ended(world, saga_id) == "SAGA_STATE_COMPLETED"
        async with asyncio.timeout(60):
            while world.rows("SELECT released_at FROM baton.pause") == [(None,)]:
                await asyncio.sleep(0.02)
    (ended,) = (await stub.ListPauses(pb.ListPausesRequest(ended=True))).pauses
    assert (ended.paused_by, ended.resumed_by, ended.resumed_reason) == ("ann", "bob", "moved")
    held = world.rows("SELECT count(*) FROM baton.step_log WHERE error_code = 'PAUSED'")
    assert held == [(1,)], "a pause is no reason to write again and again"


@pytest.mark.parametrize(
    ("method", "request_", "code", "says"),
    [
        ("PauseDefinition", pb.PauseDefinitionRequest(definition="order"), "INVALID_ARGUMENT", "reason: is missing"),
        ("PauseDefinition", pb.PauseDefinitionRequest(reason="r"), "INVALID_ARGUMENT", "definition: is missing"),
        (
            "PauseDefinition",
            pb.PauseDefinitionRequest(definition="none", reason="r"),
            "NOT_FOUND",
            "no definition 'none'",
        ),
        (
            "PauseParticipant",
            pb.PauseParticipantRequest(participant="pay:1", reason="r"),
            "NOT_FOUND",
            "no definition calls 'pay:1'; they call 127.0.0.1:1, 127.0.0.1:2",
        ),
        (
            "PauseParticipant",
            pb.PauseParticipantRequest(participant=PARTICIPANT, reason=" "),
            "INVALID_ARGUMENT",
            "reason: is missing",
        ),
        (
            "ResumeParticipant",
            pb.ResumeParticipantRequest(participant=PARTICIPANT, reason="r"),
            "FAILED_PRECONDITION",
            "is not paused",
        ),
        (
            "ResumeDefinition",
            pb.ResumeDefinitionRequest(definition="order", reason="r", by="\x00"),
            "INVALID_ARGUMENT",
            "by: must have",
        ),
    ],
)
async def test_what_is_wrong_with_an_order_is_said(
    world: ApiWorld, method: str, request_: Any, code: str, says: str
) -> None:
    refused = await refusal(getattr(pauses(world.channel), method)(request_))
    assert refused.code.name == code
    told = [refused.message, *(f"{name}: {description}" for name, description in refused.violations)]
    assert any(says in line for line in told), told
    assert world.rows("SELECT 1 FROM baton.pause") == []


async def test_of_many_who_pause_the_same_at_once_one_does(world: ApiWorld) -> None:
    pool = Pool(world.dsn, "baton-pool-r2", 8, 20.0, Metrics("test", "r2"))
    log = PostgresPauses(pool, 0)
    try:
        people = [f"p{number}" for number in range(20)]
        made = await asyncio.gather(*(log.pause(PauseKind.PARTICIPANT, "h:1", by, "r") for by in people))
        assert [ours for _, ours in made].count(True) == 1
        assert len({stored.pause.id for stored, _ in made}) == 1
        ended = await asyncio.gather(*(log.resume(PauseKind.PARTICIPANT, "h:1", by, "r") for by in people))
        assert sum(stored is not None for stored in ended) == 1
    finally:
        await pool.close()


async def test_the_commands_pause_resume_and_list(world: ApiWorld) -> None:
    async with world.leading():
        said = await baton(world, "definition", "pause", "order", "--reason", "the price list is wrong", "--by", "ann")
        assert "definition order is paused: no call begins" in said
        said = await baton(
            world, "participant", "pause", PARTICIPANT, "--reason", "moving house", "--by", "bob", "--json"
        )
        assert json.loads(last_line(said))["heeded"] is True
        assert "the price list is wrong" in await baton(world, "definition", "paused")
        (listed,) = json.loads(last_line(await baton(world, "participant", "paused", "--json")))
        assert (listed["name"], listed["paused_by"], listed["resumed_at"]) == (PARTICIPANT, "bob", None)
        said = await baton(world, "participant", "resume", PARTICIPANT, "--reason", "moved")
        assert "what was held goes on" in said
        assert "no participant is paused" in await baton(world, "participant", "paused")
        assert "moved" in await baton(world, "participant", "paused", "--ended")
    refused = await asyncio.to_thread(CliRunner().invoke, app, ["definition", "pause", "order"])
    assert refused.exit_code == 2


async def baton(world: ApiWorld, *arguments: str) -> str:
    endpoint = f"127.0.0.1:{world.served.port}"
    result = await asyncio.to_thread(CliRunner().invoke, app, [*arguments, "--endpoint", endpoint])
    assert result.exit_code == 0, result.output
    return result.output


def last_line(output: str) -> str:
    """What a command has printed; the leader, which logs to the same place, may have said something before or after."""
    return next(line for line in reversed(output.splitlines()) if line.startswith(("{", "[")))
