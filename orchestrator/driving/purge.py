"""Asks a participant that keeps Baton's barrier to forget the sagas that are kept no more."""

from __future__ import annotations

import grpc
import grpc.aio

from orchestrator.errors import Retryable
from orchestrator.failpoints import effects
from orchestrator.failpoints.armed import ARMED, strike
from orchestrator.keeping.port import Purged, Watermark
from orchestrator.pb.baton.participant.v1 import participant_pb2 as pb

_PATH = "/baton.participant.v1.ParticipantService/Purge"


async def purge(channel: grpc.aio.Channel, address: str, watermark: Watermark, timeout_s: float) -> Purged | None:
    """See `Barriers.purge`. A participant that knows nothing of it is one with a barrier of its own, or with none."""
    method = channel.unary_unary(
        _PATH, request_serializer=pb.PurgeRequest.SerializeToString, response_deserializer=pb.PurgeResponse.FromString
    )
    request = pb.PurgeRequest(before_saga_id=str(watermark.before), shard=watermark.shard, epoch=watermark.epoch)
    if ARMED:
        await strike(effects.PURGE.before)
    try:
        answer = await method(request, timeout=timeout_s)
    except grpc.aio.AioRpcError as error:
        if ARMED:
            await strike(effects.PURGE.after)
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            return None
        raise Retryable(f"{address} cannot purge its barrier: {error.code().name}: {error.details()}") from None
    if ARMED:
        await strike(effects.PURGE.after)
    return Purged(answer.removed, answer.done)
