"""How the leader lets a participant forget: over the channel that its calls take; one that offers nothing says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import grpc
import pytest

from orchestrator.driving.grpc_edge import CallSettings, GrpcParticipants
from orchestrator.errors import Retryable
from orchestrator.keeping.port import Purged, Watermark
from orchestrator.pb.baton.participant.v1 import participant_pb2 as pb
from orchestrator.pb.baton.participant.v1 import participant_pb2_grpc
from orchestrator.saga.model import Epoch, SagaId
from orchestrator.telemetry import Metrics

WATERMARK = Watermark(SagaId(UUID("01a202aa-e583-7000-8000-000000000001")), 3, Epoch(7))


class Kit(participant_pb2_grpc.ParticipantServiceServicer):
    """Answers a purge as told, and keeps what it was asked."""

    def __init__(self, code: grpc.StatusCode = grpc.StatusCode.OK) -> None:
        self.code = code
        self.asked: list[pb.PurgeRequest] = []

    async def Purge(self, request: pb.PurgeRequest, context: Any) -> pb.PurgeResponse:
        self.asked.append(request)
        if self.code is not grpc.StatusCode.OK:
            await context.abort(self.code, "as told")
        return pb.PurgeResponse(removed=5, done=len(self.asked) > 1)


@asynccontextmanager
async def serving(kit: Kit | None) -> AsyncIterator[str]:
    server = grpc.aio.server()
    if kit is not None:
        participant_pb2_grpc.add_ParticipantServiceServicer_to_server(kit, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@pytest.fixture
async def participants() -> AsyncIterator[GrpcParticipants]:
    def no_codec(*_: object) -> Any:
        raise AssertionError("no call of a step is made")

    made = GrpcParticipants(no_codec, CallSettings(4, 1_000_000, 1_000_000), Metrics("test", "r1"))
    yield made
    await made.close()


async def test_a_participant_with_the_kit_is_told_the_watermark(participants: GrpcParticipants) -> None:
    kit = Kit()
    async with serving(kit) as address:
        assert await participants.purge(address, WATERMARK, 10.0) == Purged(5, False)
        assert await participants.purge(address, WATERMARK, 10.0) == Purged(5, True)
    assert [(asked.before_saga_id, asked.shard, asked.epoch) for asked in kit.asked] == [
        (str(WATERMARK.before), 3, 7)
    ] * 2


async def test_a_participant_without_it_is_left_alone(participants: GrpcParticipants) -> None:
    async with serving(None) as address:
        assert await participants.purge(address, WATERMARK, 10.0) is None


async def test_what_goes_wrong_is_told_later(participants: GrpcParticipants) -> None:
    async with serving(Kit(grpc.StatusCode.ABORTED)) as address:
        with pytest.raises(Retryable, match="ABORTED"):
            await participants.purge(address, WATERMARK, 10.0)
    with pytest.raises(Retryable, match="127"):
        await participants.purge(address, WATERMARK, 1.0)
