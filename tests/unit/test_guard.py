"""What the door of the API notes of a call, and when it may still ask gRPC about it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import grpc
import grpc.aio
import pytest

from orchestrator.api.guard import Guard
from orchestrator.pb.baton.v1.bulk_pb2 import BulkCancelRequest
from orchestrator.security.audit import Action
from orchestrator.security.gate import Gate


class Context:
    """A call as gRPC knows it: each of these reads the memory of the call, also when that has been given back."""

    def __init__(self) -> None:
        self.released = False

    def peer(self) -> str:
        assert not self.released, "the process would die here"
        return "ipv4:127.0.0.1:1"

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        assert not self.released, "this would be anything"
        return ()

    def code(self) -> grpc.StatusCode | None:
        return None

    def details(self) -> str:
        return ""


@pytest.mark.parametrize("gone", [True, False])
async def test_a_stream_whose_caller_has_gone_away_is_noted_after_its_call_was_released(gone: bool) -> None:
    """gRPC leaves the generator of such a stream where it is; it is closed when nobody has it any more."""
    noted: list[Action] = []

    async def behaviour(request: Any, context: Any) -> AsyncIterator[str]:
        for report in ("first", "last"):
            yield report

    async def continuation(details: grpc.HandlerCallDetails) -> Any:
        return grpc.unary_stream_rpc_method_handler(behaviour)  # type: ignore[arg-type]

    called: Any = SimpleNamespace(method="/baton.v1.BulkService/BulkCancel", invocation_metadata=())
    handler = await Guard(Gate(), noted.append).intercept_service(continuation, called)
    assert handler is not None
    context = Context()
    stream: Any = handler.unary_stream(BulkCancelRequest(reason="recall"), context)
    assert await anext(stream) == "first"
    context.released = gone
    if gone:
        await stream.aclose()
    else:
        assert [report async for report in stream] == ["last"]
    (action,) = noted
    assert (action.action, action.peer, action.target["reason"]) == (
        "BulkService/BulkCancel",
        "ipv4:127.0.0.1:1",
        "recall",
    )
    assert (action.outcome == "OK") is (not gone)
