"""A participant with a barrier of its own, in memory, from which a test may take parts out, and put mistakes in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
from grpc_reflection.v1alpha import reflection

from participants.call import CallIdentity, Kind, identity_from_metadata
from participants.pb.shop.v1 import echo_pb2, echo_pb2_grpc

PRECONDITION, ABORTED = grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.ABORTED


@dataclass(slots=True)
class Flawed(echo_pb2_grpc.EchoServiceServicer):
    """`flaws` are words that the methods below look for; without any, it is safe."""

    flaws: frozenset[str] = frozenset()
    effects: int = 0
    answers: dict[str, tuple[str, str]] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    epochs: dict[int, int] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def Do(self, request: echo_pb2.EchoRequest, context: Any) -> echo_pb2.EchoResponse:
        if not any(name.startswith("baton-") for name, _ in context.invocation_metadata()):
            # A read, outside of any saga: how often something has taken effect.
            return echo_pb2.EchoResponse(text=str(self.effects))
        call = await self._identity(context)
        if "no lock" in self.flaws:
            return await self._do(call, request, context)
        async with self.lock:
            return await self._do(call, request, context)

    async def Undo(self, request: echo_pb2.EchoRequest, context: Any) -> echo_pb2.EchoResponse:
        call = await self._identity(context)
        async with self.lock:
            await self._admit(call, context)
            stored = await self._stored(call, request, context)
            if stored is not None:
                return stored
            if f"{call.saga_id}/action" not in self.answers and "no tombstone" not in self.flaws:
                if "undo refuses" in self.flaws:
                    await context.abort(grpc.StatusCode.NOT_FOUND, "there is nothing to undo")
                self.refused.add(call.saga_id)
            if call.saga_id in self.refused:
                self.answers[f"{call.saga_id}/{call.kind}"] = (request.text, "nothing to undo")
                return echo_pb2.EchoResponse(text="nothing to undo")
            return self._take_effect(call, request)

    async def _do(self, call: CallIdentity, request: echo_pb2.EchoRequest, context: Any) -> echo_pb2.EchoResponse:
        await self._admit(call, context)
        if call.saga_id in self.refused:
            code = ABORTED if "vague tombstone" in self.flaws else PRECONDITION
            await context.abort(code, "its compensation came first")
        if (stored := await self._stored(call, request, context)) is not None:
            return stored
        if "no lock" in self.flaws:
            # Others of the same key look as well, before the first one has stored its answer.
            await asyncio.sleep(0.01)
        return self._take_effect(call, request)

    async def _identity(self, context: Any) -> CallIdentity:
        call = identity_from_metadata(context.invocation_metadata())
        if call is None:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "this is for sagas")
        return call

    async def _admit(self, call: CallIdentity, context: Any) -> None:
        shard = 0 if "one epoch for all shards" in self.flaws else call.shard
        seen = self.epochs.get(shard, 0)
        if call.epoch < seen and "no epochs" not in self.flaws:
            if "stale is refused for good" in self.flaws:
                self.refused.add(call.saga_id)
            await context.abort(ABORTED, f"stale epoch: {call.epoch} < {seen}")
        self.epochs[shard] = max(seen, call.epoch)

    async def _stored(
        self, call: CallIdentity, request: echo_pb2.EchoRequest, context: Any
    ) -> echo_pb2.EchoResponse | None:
        key = f"{call.saga_id}/{call.kind}"
        if key not in self.answers or "no barrier" in self.flaws:
            return None
        asked, answer = self.answers[key]
        if "duplicate is an error" in self.flaws and call.kind is Kind.ACTION:
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, "there already")
        if asked != request.text and "any request" not in self.flaws:
            await context.abort(grpc.StatusCode.DATA_LOSS, "another request")
        if "wrong duplicate answer" in self.flaws:
            answer += " again"
        if "second effect" in self.flaws:
            self.effects += 1
        return echo_pb2.EchoResponse(text=answer)

    def _take_effect(self, call: CallIdentity, request: echo_pb2.EchoRequest) -> echo_pb2.EchoResponse:
        self.effects += 1
        answer = f"{call.kind} {self.effects}"
        self.answers[f"{call.saga_id}/{call.kind}"] = (request.text, answer)
        return echo_pb2.EchoResponse(text=answer)


@asynccontextmanager
async def flawed_participant(*flaws: str) -> AsyncIterator[tuple[str, Flawed]]:
    """Its address, and itself, until the end of the block."""
    servicer = Flawed(frozenset(flaws))
    server = grpc.aio.server()
    echo_pb2_grpc.add_EchoServiceServicer_to_server(servicer, server)
    reflection.enable_server_reflection(["shop.v1.EchoService", reflection.SERVICE_NAME], server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}", servicer
    finally:
        await server.stop(None)
