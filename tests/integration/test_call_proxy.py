"""The proxy for calls before a real participant: what it does to calls, and what the barrier makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from orchestrator.drill.call_proxy import CallProxy, Mischief
from orchestrator.pb.baton.participant.v1 import participant_pb2 as pb
from orchestrator.pb.baton.participant.v1 import participant_pb2_grpc as pb_grpc

WITHIN_S = 30.0
HOLD_S = 59.5
METHOD = "/test.v1.Test/Do"


class Target:
    """A participant that notes what arrives."""

    def __init__(self) -> None:
        self.arrived: list[tuple[bytes, dict[str, str]]] = []

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return grpc.unary_unary_rpc_method_handler(self._do) if details.method == METHOD else None

    async def _do(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        self.arrived.append((request, {name: str(value) for name, value in context.invocation_metadata() or ()}))
        if request == b"refuse":
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no")
        return b"did " + request

    @property
    def requests(self) -> list[bytes]:
        return [request for request, _ in self.arrived]


@asynccontextmanager
async def proxied() -> AsyncIterator[tuple[Target, CallProxy, grpc.aio.Channel]]:
    target = Target()
    server = grpc.aio.server()
    handlers = type("Handlers", (grpc.GenericRpcHandler,), {"service": lambda _, details: target.service(details)})
    server.add_generic_rpc_handlers((handlers(),))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    async with CallProxy(address) as proxy, grpc.aio.insecure_channel(proxy.address) as channel:
        yield target, proxy, channel
    await server.stop(None)


async def test_a_unary_call_passes_with_its_metadata_and_its_answer() -> None:
    async with proxied() as (target, _, channel):
        metadata = (("baton-step", "pay"),)
        assert await channel.unary_unary(METHOD)(b"it", metadata=metadata, timeout=WITHIN_S) == b"did it"
        assert target.arrived[0][1]["baton-step"] == "pay"


async def test_a_refusal_passes() -> None:
    async with proxied() as (_, _, channel):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary(METHOD)(b"refuse", timeout=WITHIN_S)
        assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "no")


async def test_calls_of_the_stream_arrive_as_the_unary_calls_they_stand_for() -> None:
    async with proxied() as (target, _, channel):
        stream = pb_grpc.ParticipantServiceStub(channel).Exchange(timeout=WITHIN_S)
        calls = [
            pb.Call(
                id=number, method=METHOD, request=body, saga_id="s", step="pay", kind=pb.CALL_KIND_COMPENSATION, epoch=7
            )
            for number, body in enumerate((b"a", b"refuse"), start=1)
        ]
        await stream.write(pb.CallBatch(calls=calls))
        replies = {}
        while len(replies) < 2:
            for reply in (await stream.read()).replies:
                replies[reply.id] = (reply.code, reply.message, reply.response)
        assert replies == {1: (0, "", b"did a"), 2: (9, "no", b"")}
        carried = target.arrived[0][1]
        assert (carried["baton-kind"], carried["baton-epoch"]) == ("compensation", "7")
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF


async def test_a_duplicated_call_arrives_twice_and_is_answered_once() -> None:
    async with proxied() as (target, proxy, channel):
        proxy.mischief = Mischief(duplicated=1.0, echo_max_s=0.01)
        assert await channel.unary_unary(METHOD)(b"it", timeout=WITHIN_S) == b"did it"
        await proxy.settled()
        assert target.requests == [b"it", b"it"]
        assert proxy.tally.duplicated == 1


async def test_a_held_call_arrives_after_its_caller_has_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    sleep, held, over = asyncio.sleep, asyncio.Event(), asyncio.Event()

    async def hold(delay_s: float, *rest: Any) -> Any:
        if delay_s != HOLD_S:
            return await sleep(delay_s, *rest)
        held.set()
        # The time of the hold is over when the test says so, however long this process stands still meanwhile.
        return await over.wait()

    monkeypatch.setattr(asyncio, "sleep", hold)
    async with proxied() as (target, proxy, channel):
        proxy.mischief = Mischief(held=1.0, hold_s=HOLD_S)
        call = channel.unary_unary(METHOD)(b"it", timeout=WITHIN_S)
        async with asyncio.timeout(WITHIN_S):
            await held.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert target.requests == []
        over.set()
        await proxy.settled()
        assert target.requests == [b"it"]


async def test_jitter_lets_calls_overtake_each_other() -> None:
    async with proxied() as (target, proxy, channel):
        proxy.mischief = Mischief(jitter_s=0.05)
        call = channel.unary_unary(METHOD)
        await asyncio.gather(*(call(b"%d" % number, timeout=WITHIN_S) for number in range(50)))
        assert sorted(target.requests) != target.requests
        assert len(target.requests) == 50
        assert proxy.tally.overtaken > 0
