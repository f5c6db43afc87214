"""Asks a participant for the descriptors of its services, by gRPC server reflection.

Protocol: https://github.com/grpc/grpc/blob/master/doc/server-reflection.md. Version v1 is asked for first, then
v1alpha, whose messages are the same on the wire.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Collection, Iterable
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from orchestrator.errors import Rejected, Retryable
from orchestrator.failpoints import effects
from orchestrator.failpoints.armed import ARMED, strike
from orchestrator.security.dialer import PLAIN, Dialer

_VERSIONS = ("grpc.reflection.v1", "grpc.reflection.v1alpha")
_MESSAGE_BYTES_MAX = 16_000_000
_FILES_MAX = 2_000
_NAMED_MAX = 20

# Answers that another try a moment later may change.
_PASSING = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
    }
)


async def describe(
    address: str, services: Collection[str], timeout_s: float, dialer: Dialer = PLAIN
) -> FileDescriptorSet:
    """The files that define `services`, with everything that they import, within `timeout_s` seconds.

    Raises Rejected when the address does not resolve, when the server has no reflection or has no such service, and
    Retryable when it cannot be reached or does not answer in time.
    """
    try:
        async with asyncio.timeout(timeout_s):
            await _resolve(address)
            for version in _VERSIONS:
                async with _Conversation(address, version, dialer) as conversation:
                    if await conversation.understood():
                        return await _describe(conversation, address, services)
    except TimeoutError:
        raise Retryable(f"{address} gave no answer within {timeout_s:g} s") from None
    except grpc.aio.AioRpcError as error:
        text = f"{error.code().name}: {error.details()}"
        if error.code() in _PASSING:
            raise Retryable(f"{address} cannot be reached: {text}") from None
        raise Rejected(f"{address} does not answer reflection: {text}") from None
    raise Rejected(f"{address} has no server reflection; turn it on there, or apply with a descriptor set")


async def _resolve(address: str) -> None:
    if address.startswith("unix:"):
        return
    host, _, port = address.rpartition(":")
    try:
        if ARMED:
            await strike(effects.RESOLVE.before)
        await asyncio.get_running_loop().getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
        if ARMED:
            await strike(effects.RESOLVE.after)
    except (OSError, ValueError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise Rejected(f"{address} does not resolve: {reason}") from None


async def _describe(conversation: _Conversation, address: str, services: Collection[str]) -> FileDescriptorSet:
    files: dict[str, FileDescriptorProto] = {}
    for service in services:
        found = await conversation.ask(ServerReflectionRequest(file_containing_symbol=service))
        if found is None:
            raise Rejected(f"{address} has no service {service}; it has {await conversation.services()}")
        _keep(files, found, address)
    while missing := _missing(files):
        for name in missing:
            imported = await conversation.ask(ServerReflectionRequest(file_by_filename=name)) or _well_known(name)
            if imported is None:
                raise Rejected(f"{address} does not describe {name!r}, which its services import")
            _keep(files, imported, address)
            # A server may call a file by another name than its importers do.
            if name not in files:
                raise Rejected(f"{address} answers with other files when it is asked for {name!r}")
    return FileDescriptorSet(file=[files[name] for name in sorted(files)])


def _keep(files: dict[str, FileDescriptorProto], found: Iterable[bytes], address: str) -> None:
    for data in found:
        try:
            file = FileDescriptorProto.FromString(data)
        except DecodeError as error:
            raise Rejected(f"{address} describes its services by broken descriptors: {error}") from None
        files[file.name] = file
    if len(files) > _FILES_MAX:
        raise Rejected(f"{address} describes its services by more than {_FILES_MAX} files")


def _missing(files: dict[str, FileDescriptorProto]) -> list[str]:
    return sorted({name for file in files.values() for name in file.dependency if name not in files})


def _well_known(name: str) -> list[bytes] | None:
    """One of protobuf's own files, which some servers leave out."""
    if not name.startswith("google/protobuf/"):
        return None
    try:
        return [descriptor_pool.Default().FindFileByName(name).serialized_pb]
    except KeyError:
        return None


class _Conversation:
    """Questions to one server, each in a call of its own.

    On the wire such a call is a stream that is closed behind its only question. grpc.aio keeps the server's status of
    a call whose question goes with its beginning; in a call that writes later it puts INTERNAL in the place of a status
    that came before the question was written.
    """

    def __init__(self, address: str, version: str, dialer: Dialer) -> None:
        options = [("grpc.max_receive_message_length", _MESSAGE_BYTES_MAX), ("grpc.enable_http_proxy", 0)]
        self._channel = dialer.channel(address, options)
        self._ask: Any = self._channel.unary_stream(
            f"/{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=ServerReflectionRequest.SerializeToString,
            response_deserializer=ServerReflectionResponse.FromString,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def understood(self) -> bool:
        """Whether the server speaks this version."""
        try:
            await self.services()
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                return False
            raise
        return True

    async def services(self) -> str:
        """The services that the server has, for people."""
        answer = await self._exchange(ServerReflectionRequest(list_services=""))
        names = sorted(service.name for service in answer.list_services_response.service)
        more = f" and {len(names) - _NAMED_MAX} more" if len(names) > _NAMED_MAX else ""
        return (", ".join(names[:_NAMED_MAX]) or "none") + more

    async def ask(self, question: ServerReflectionRequest) -> list[bytes] | None:
        """The serialized files of an answer; None when the server knows nothing of that."""
        answer = await self._exchange(question)
        return list(answer.file_descriptor_response.file_descriptor_proto) or None

    async def _exchange(self, request: ServerReflectionRequest) -> Any:
        if ARMED:
            await strike(effects.REFLECT.before)
        call = self._ask(request)
        answer = await call.read()
        if ARMED:
            await strike(effects.REFLECT.after)
        if answer is grpc.aio.EOF:
            raise grpc.aio.AioRpcError(
                await call.code(),
                await call.initial_metadata(),
                await call.trailing_metadata(),
                details=await call.details(),
            )
        return answer
