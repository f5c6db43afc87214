"""Injects faults into participants of the sample shop, by their fault service, which is known from its descriptors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
import grpc.aio

from orchestrator.driving.codec import Descriptors
from orchestrator.driving.reflection import describe
from orchestrator.embedded.processes import ProcessFailed
from orchestrator.embedded.servers import Participant

_SERVICE = "shop.v1.FaultService"
_CALL_S = 10.0


async def inject(participant: Participant, rule: Mapping[str, Any]) -> int:
    """Inject a fault, with the fields of shop.v1.Fault; returns its id. Raises ProcessFailed, Rejected, Retryable."""
    answer = await _call(participant, "Inject", rule)
    return int(answer["id"])


async def clear(participant: Participant, rule_id: int) -> None:
    """Drop a fault, if the participant still has it. Raises ProcessFailed, Rejected, Retryable."""
    await _call(participant, "Clear", {"id": rule_id})


async def _call(participant: Participant, method: str, request: Mapping[str, Any]) -> Any:
    described = await describe(participant.address, [_SERVICE], _CALL_S)
    codec = Descriptors(described.SerializeToString()).method(_SERVICE, method)
    call: Any = participant.channel().unary_unary(f"/{_SERVICE}/{method}")
    try:
        return codec.decode(await call(codec.encode(dict(request)), timeout=_CALL_S, wait_for_ready=True))
    except grpc.aio.AioRpcError as error:
        raise ProcessFailed(f"{participant.name} does not take the fault: {error.details()}") from error
