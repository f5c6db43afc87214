"""A proxy for calls to a participant: it duplicates them, holds them back, and lets later ones overtake earlier ones.

A TCP stream has none of these faults, so a proxy of bytes cannot make them; a network of several connections, a mesh
that repeats calls, or a participant behind a queue can. Calls pass as bytes, whatever their method: unary ones as they
are, those of the multiplexed stream one by one as the unary calls that they stand for. A call that was taken is
delivered even if its caller has given up, or is dead, long before.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from orchestrator.pb.baton.participant.v1 import participant_pb2 as pb

_EXCHANGE = "/baton.participant.v1.ParticipantService/Exchange"
_DELIVERY_TIMEOUT_S = 30.0
# Calls that wait or are under way; more are refused, as a full queue does.
_CALLS_MAX = 10_000
_REPLIES_MAX = 10_000
_OPTIONS = (("grpc.enable_http_proxy", 0), ("grpc.so_reuseport", 0))

_KINDS = {pb.CALL_KIND_ACTION: "action", pb.CALL_KIND_COMPENSATION: "compensation"}


@dataclass(frozen=True, slots=True)
class Mischief:
    """What happens to calls, by chance in [0, 1]; times in seconds.

    Every call is late by up to `jitter_s`, so that calls overtake each other. `duplicated` ones are delivered a second
    time, up to `echo_max_s` later. Of the actions `held` ones are held back for `hold_s`, by their idempotency key:
    every attempt of such a step is, so that its compensation arrives first if the caller gives up in time.
    """

    duplicated: float = 0.0
    echo_max_s: float = 1.0
    held: float = 0.0
    hold_s: float = 60.0
    jitter_s: float = 0.0


@dataclass(slots=True)
class CallTally:
    """What the proxy has done: calls taken, and what befell them; `overtaken` had a later call delivered before."""

    taken: int = 0
    duplicated: int = 0
    held: int = 0
    late: int = 0
    overtaken: int = 0


@dataclass(frozen=True, slots=True)
class _Reply:
    code: grpc.StatusCode
    message: str
    response: bytes


class CallProxy:
    """Stands before the participant at `target` (host:port); an async context manager. `address` is its own.

    Without `mischief` calls pass as they are.
    """

    def __init__(self, target: str, seed: int = 0) -> None:
        self.mischief = Mischief()
        self.tally = CallTally()
        self.address = ""
        self._target = target
        self._seed = seed
        self._chance = random.Random(seed)
        self._channel: grpc.aio.Channel | None = None
        self._methods: dict[str, grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = {}
        self._deliveries: set[asyncio.Task[_Reply]] = set()
        self._latest_delivered = 0
        self._stack = AsyncExitStack()

    async def settled(self) -> None:
        """Wait until every call that was taken has been delivered, held ones included."""
        while self._deliveries:
            await asyncio.wait(tuple(self._deliveries))

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(self._target, options=_OPTIONS)
        self._stack.push_async_callback(self._channel.close)
        server = grpc.aio.server(options=_OPTIONS)
        server.add_generic_rpc_handlers((_Handlers(self._unary, self._exchange, self._other_stream),))
        self.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        self._stack.push_async_callback(server.stop, None)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for delivery in self._deliveries:
            delivery.cancel()
        await asyncio.gather(*self._deliveries, return_exceptions=True)
        await self._stack.aclose()

    async def _unary(self, method: str, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        carried = context.invocation_metadata() or ()
        metadata = tuple((name, value) for name, value in carried if name.startswith("baton-") or name == "traceparent")
        reply = await self._take(method, request, metadata)
        if reply.code is not grpc.StatusCode.OK:
            await context.abort(reply.code, reply.message)
        return reply.response

    async def _exchange(
        self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext[bytes, bytes]
    ) -> AsyncIterator[bytes]:
        """The multiplexed stream: each of its calls is taken by itself, and answered when it was."""
        replies: asyncio.Queue[pb.Reply | None] = asyncio.Queue(_REPLIES_MAX)

        async def answer(call: pb.Call) -> None:
            reply = await self._take(call.method, call.request, _metadata(call))
            number = int(reply.code.value[0])
            await replies.put(pb.Reply(id=call.id, code=number, message=reply.message, response=reply.response))

        async def read(group: asyncio.TaskGroup) -> None:
            async for data in requests:
                for call in pb.CallBatch.FromString(data).calls:
                    group.create_task(answer(call))
            await replies.put(None)

        await context.send_initial_metadata(())
        async with asyncio.TaskGroup() as group:
            group.create_task(read(group))
            while (reply := await replies.get()) is not None:
                yield pb.ReplyBatch(replies=[reply]).SerializeToString()

    async def _other_stream(
        self, method: str, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext[bytes, bytes]
    ) -> AsyncIterator[bytes]:
        """Any other stream, such as reflection, passes as it is."""
        stream: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = self._connected().stream_stream(method)
        async for answer in stream(requests):
            yield answer

    async def _take(self, method: str, request: bytes, metadata: tuple[tuple[str, Any], ...]) -> _Reply:
        if len(self._deliveries) >= _CALLS_MAX:
            return _Reply(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls are held back", b"")
        self.tally.taken += 1
        number, mischief, chance = self.tally.taken, self.mischief, self._chance.random
        if chance() < mischief.duplicated:
            self.tally.duplicated += 1
            self._deliver(number, method, request, metadata, mischief.echo_max_s * chance())
        wait_s = mischief.jitter_s * chance()
        if self._holds(metadata, mischief.held):
            self.tally.held += 1
            wait_s = mischief.hold_s
        # Shielded: the caller may give up, what it has sent is on its way.
        return await asyncio.shield(self._deliver(number, method, request, metadata, wait_s))

    def _holds(self, metadata: tuple[tuple[str, Any], ...], share: float) -> bool:
        carried = dict(metadata)
        if carried.get("baton-kind", "action") != "action":
            return False
        return random.Random(f"{self._seed}/{carried.get('baton-idempotency-key', '')}").random() < share

    def _deliver(
        self, number: int, method: str, request: bytes, metadata: tuple[tuple[str, Any], ...], wait_s: float
    ) -> asyncio.Task[_Reply]:
        delivery = asyncio.create_task(self._delivered(number, method, request, metadata, wait_s))
        self._deliveries.add(delivery)
        delivery.add_done_callback(self._deliveries.discard)
        return delivery

    async def _delivered(
        self, number: int, method: str, request: bytes, metadata: tuple[tuple[str, Any], ...], wait_s: float
    ) -> _Reply:
        if wait_s:
            await asyncio.sleep(wait_s)
            self.tally.late += 1
        self.tally.overtaken += number < self._latest_delivered
        self._latest_delivered = max(self._latest_delivered, number)
        call = self._methods.get(method)
        if call is None:
            call = self._methods[method] = self._connected().unary_unary(method)
        try:
            response = await call(request, timeout=_DELIVERY_TIMEOUT_S, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            return _Reply(error.code(), error.details() or "", b"")
        return _Reply(grpc.StatusCode.OK, "", response)

    def _connected(self) -> grpc.aio.Channel:
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(self._target, options=_OPTIONS)
        return self._channel


class _Handlers(grpc.GenericRpcHandler):
    """Serves every method there is, in bytes: streams by the name, all else as unary calls."""

    def __init__(self, unary: Callable[..., Any], exchange: Callable[..., Any], stream: Callable[..., Any]) -> None:
        self._unary = unary
        self._exchange = exchange
        self._stream = stream

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        method = handler_call_details.method
        if method == _EXCHANGE:
            return grpc.stream_stream_rpc_method_handler(self._exchange)
        if method.startswith("/grpc.reflection."):
            return grpc.stream_stream_rpc_method_handler(partial(self._stream, method))
        return grpc.unary_unary_rpc_method_handler(partial(self._unary, method))


def _metadata(call: pb.Call) -> tuple[tuple[str, str], ...]:
    """What the unary call would carry, as docs/participants.md publishes it."""
    if not call.saga_id:
        return ()
    kind = _KINDS.get(call.kind, "")
    return (
        ("baton-saga-id", call.saga_id),
        ("baton-step", call.step),
        ("baton-kind", kind),
        ("baton-attempt", str(call.attempt)),
        ("baton-idempotency-key", f"{call.saga_id}/{call.step}/{kind}"),
        ("baton-epoch", str(call.epoch)),
        ("baton-shard", str(call.shard)),
        *((("traceparent", call.traceparent),) if call.traceparent else ()),
    )
