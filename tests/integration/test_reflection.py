"""Descriptors by server reflection: complete, from both versions of the protocol, and clear errors."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import grpc.aio
import pytest
from grpc_reflection.v1alpha import reflection, reflection_pb2
from grpc_reflection.v1alpha._async import ReflectionServicer

from orchestrator.driving.codec import Descriptors
from orchestrator.driving.reflection import describe
from orchestrator.errors import Rejected, Retryable
from orchestrator.pb.baton.v1 import saga_pb2  # noqa: F401  (its descriptors are what the servers describe)
from orchestrator.security.dialer import PLAIN, Dialer

SERVICE = "baton.v1.SagaService"
WITHIN_S = 30.0


@asynccontextmanager
async def serving(version: str | None, names: list[str] | None = None) -> AsyncIterator[str]:
    """A server with reflection of that version, or with none."""
    server = grpc.aio.server()
    servicer = ReflectionServicer(names or [SERVICE, reflection.SERVICE_NAME])
    if version is not None:
        handler = grpc.stream_stream_rpc_method_handler(
            servicer.ServerReflectionInfo,
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        handlers = {"ServerReflectionInfo": handler}
        service = f"grpc.reflection.{version}.ServerReflection"
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


class Closed(grpc.ServerInterceptor):  # type: ignore[misc]
    """Ends every call before it reads of it."""

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        def refuse(requests: object, context: grpc.ServicerContext) -> None:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "nobody may ask")

        return grpc.stream_stream_rpc_method_handler(refuse)


class Slow(Dialer):
    """Dials a busy client's calls: the loop stands still for a while just before a question is written."""

    def channel(self, *arguments: Any) -> Any:
        channel = super().channel(*arguments)
        for kind in ("unary_stream", "stream_stream"):
            setattr(channel, kind, partial(self._method, getattr(channel, kind)))
        return channel

    def _method(self, make: Any, path: str, request_serializer: Any, response_deserializer: Any) -> Any:
        def serialize(request: Any) -> bytes:
            time.sleep(0.2)
            return request_serializer(request)

        return make(path, request_serializer=serialize, response_deserializer=response_deserializer)


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_what_is_described_is_complete(version: str) -> None:
    async with serving(version) as address:
        found = await describe(address, [SERVICE], WITHIN_S)
    assert {"baton/v1/saga.proto", "google/protobuf/timestamp.proto"} <= {file.name for file in found.file}
    codec = Descriptors(found.SerializeToString()).method(SERVICE, "GetSaga")
    assert codec.request.descriptor.full_name == "baton.v1.GetSagaRequest"


async def test_a_server_without_reflection_is_named() -> None:
    async with serving(None) as address:
        with pytest.raises(Rejected, match=f"{address} has no server reflection"):
            await describe(address, [SERVICE], WITHIN_S)


async def test_what_a_server_says_that_turns_callers_away_is_told() -> None:
    # It ends a call at its beginning, which may be before the question is written.
    server = grpc.server(ThreadPoolExecutor(2), interceptors=[Closed()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        for dialer in (PLAIN, Slow()):
            with pytest.raises(Rejected, match="PERMISSION_DENIED: nobody may ask"):
                await describe(f"127.0.0.1:{port}", [SERVICE], WITHIN_S, dialer)
    finally:
        server.stop(None).wait()


async def test_a_service_that_is_not_there_is_named_with_those_that_are() -> None:
    async with serving("v1") as address:
        with pytest.raises(Rejected, match=r"has no service shop\.v1\.Nothing; it has baton\.v1\.SagaService"):
            await describe(address, ["shop.v1.Nothing"], WITHIN_S)


async def test_an_address_that_does_not_resolve_is_named() -> None:
    with pytest.raises(Rejected, match=r"no-such-host\.invalid:7501 does not resolve"):
        await describe("no-such-host.invalid:7501", [SERVICE], 2 * WITHIN_S)


async def test_a_server_that_is_away_may_be_asked_again() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(Retryable, match=f"{address} cannot be reached"):
        await describe(address, [SERVICE], WITHIN_S)


async def test_a_server_that_says_nothing_may_be_asked_again() -> None:
    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(hold, "127.0.0.1", 0) as silent:
        address = f"127.0.0.1:{silent.sockets[0].getsockname()[1]}"
        with pytest.raises(Retryable, match="no answer within"):
            await describe(address, [SERVICE], 0.3)
