"""The multiplexed stream: many calls in one message each way, each meaning what its unary call means.

One task reads, each call that waits for something has a task of its own, one task writes. Replies gather while a
message is being written and then go out together, so a busy stream batches and an idle one does not delay.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from participants.call import CallIdentity, Kind
from participants.dispatch import Dispatcher, Inbound, Method, method_of
from participants.pb.baton.participant.v1 import participant_pb2, participant_pb2_grpc
from participants.status import Answer, Refusal, number_of, refused
from participants.tracing import TRACEPARENT

Stream = grpc.aio.ServicerContext[participant_pb2.CallBatch, participant_pb2.ReplyBatch]

# About what fits one HTTP/2 frame many times over, and keeps a message far below the limit of its size.
_REPLIES_MAX = 512
_REPLY_BYTES_MAX = 1_000_000
_READY_MAX = 10_000


class Methods:
    """The unary methods of the servicers that have been registered, looked up by the name that a call carries."""

    def __init__(self) -> None:
        self._handlers: list[grpc.GenericRpcHandler] = []
        self._found: dict[str, Method] = {}

    def add_generic_rpc_handlers(self, handlers: tuple[grpc.GenericRpcHandler, ...]) -> None:
        """Called by the generated `add_..._to_server` functions, to which this stands in for a server."""
        self._handlers.extend(handlers)

    def add_registered_method_handlers(self, _service: str, _handlers: Any) -> None:
        """Called by the generated functions as well; the generic handlers hold the same methods."""

    @property
    def services(self) -> tuple[str, ...]:
        """The full names of the services."""
        named = (handler for handler in self._handlers if isinstance(handler, grpc.ServiceRpcHandler))
        return tuple(str(handler.service_name()) for handler in named)

    def find(self, name: str) -> Method | None:
        """The unary method of this name, such as `/shop.v1.PaymentService/Charge`; None if there is none."""
        if (method := self._found.get(name)) is not None:
            return method
        for handlers in self._handlers:
            handler = handlers.service(_Details(name))
            method = method_of(name.removeprefix("/"), handler) if handler is not None else None
            if method is not None:
                self._found[name] = method
                return method
        return None


class Exchange(participant_pb2_grpc.ParticipantServiceServicer):
    """The servicer of the multiplexed stream, for any set of registered methods."""

    def __init__(self, methods: Methods, dispatcher: Dispatcher, calls_max: int) -> None:
        self._methods = methods
        self._dispatcher = dispatcher
        self._calls_max = calls_max
        self._closing = asyncio.Event()

    def close(self) -> None:
        """End every stream once the calls that were taken have been answered."""
        self._closing.set()

    async def Exchange(self, requests: object, stream: Stream) -> None:
        """Serve one stream until the caller ends it or this participant shuts down."""
        # The caller waits for this: by it, it knows that the stream is offered, before its first call.
        await stream.send_initial_metadata(())
        await _Session(self._methods, self._dispatcher, self._calls_max, stream).serve(self._closing)


class _Session:
    """One open stream."""

    def __init__(self, methods: Methods, dispatcher: Dispatcher, calls_max: int, stream: Stream) -> None:
        self._methods = methods
        self._dispatcher = dispatcher
        self._stream = stream
        self._slots = asyncio.Semaphore(calls_max)
        self._ready: list[participant_pb2.Reply] = []
        self._wake = asyncio.Event()
        # Closed while the caller does not take its replies: then no further calls are taken either.
        self._room = asyncio.Event()
        self._room.set()
        self._finished = False

    async def serve(self, closing: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as session:
            writer = session.create_task(self._write())
            async with asyncio.TaskGroup() as calls:
                reader = calls.create_task(self._read(calls))
                watcher = calls.create_task(_cancel_when(closing, reader))
                reader.add_done_callback(lambda _: watcher.cancel())
            self._finished = True
            self._wake.set()
            await writer

    async def _read(self, calls: asyncio.TaskGroup) -> None:
        find, ready = self._methods.find, self._ready
        while isinstance(batch := await self._stream.read(), participant_pb2.CallBatch):
            await self._room.wait()
            for call in batch.calls:
                method = find(call.method)
                if method is None:
                    ready.append(_unknown_method(call))
                elif method.instant:
                    ready.append(_instant_reply(method, call))
                else:
                    await self._slots.acquire()
                    calls.create_task(self._serve_call(method, call))
            if ready:
                self._wake.set()
            if len(ready) > _READY_MAX:
                self._room.clear()

    async def _serve_call(self, method: Method, call: participant_pb2.Call) -> None:
        try:
            answer = await self._answer(method, call)
        finally:
            self._slots.release()
        self._ready.append(
            participant_pb2.Reply(
                id=call.id,
                code=answer.code,
                message=answer.message,
                response=answer.response,
                accepted=answer.accepted,
            )
        )
        self._wake.set()

    async def _answer(self, method: Method, call: participant_pb2.Call) -> Answer:
        try:
            identity = _identity(call)
        except Refusal as refusal:
            return refused(refusal)
        remaining_s = call.timeout_ms / 1000 if call.timeout_ms > 0 else None
        metadata = ((TRACEPARENT, call.traceparent),) if call.traceparent else ()
        return await self._dispatcher.answer(method, Inbound(identity, call.request, metadata, "exchange", remaining_s))

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._ready:
                count, size = 0, 0
                for reply in self._ready[:_REPLIES_MAX]:
                    size += len(reply.response)
                    if count and size > _REPLY_BYTES_MAX:
                        break
                    count += 1
                batch = participant_pb2.ReplyBatch(replies=self._ready[:count])
                del self._ready[:count]
                await self._stream.write(batch)
            self._room.set()
            if self._finished:
                return


async def _cancel_when(closing: asyncio.Event, reader: asyncio.Task[None]) -> None:
    await closing.wait()
    reader.cancel()


_KINDS: dict[int, Kind] = {
    participant_pb2.CALL_KIND_ACTION: Kind.ACTION,
    participant_pb2.CALL_KIND_COMPENSATION: Kind.COMPENSATION,
}


def _identity(call: participant_pb2.Call) -> CallIdentity | None:
    if not call.saga_id and not call.step and not call.kind:
        return None
    kind = _KINDS.get(call.kind)
    if not call.saga_id or not call.step or kind is None or call.epoch < 0 or call.shard < 0:
        raise Refusal(
            grpc.StatusCode.INVALID_ARGUMENT, "a call needs saga_id, step, kind, and an epoch and shard of 0 or more"
        )
    return CallIdentity(call.saga_id, call.step, kind, call.epoch, call.attempt, call.shard, call.answer_token)


def _instant_reply(method: Method, call: participant_pb2.Call) -> participant_pb2.Reply:
    """Run a coroutine that does not wait to its end, on the spot."""
    try:
        request = method.decode(call.request)
    except DecodeError as error:
        code = number_of(grpc.StatusCode.INVALID_ARGUMENT)
        return participant_pb2.Reply(id=call.id, code=code, message=f"{method.name}: request: {error}")
    coroutine: Any = method.behaviour(request, None)  # type: ignore[arg-type]  # has no use for a context
    try:
        coroutine.send(None)
    except StopIteration as returned:
        return participant_pb2.Reply(id=call.id, response=method.encode(returned.value))
    coroutine.close()
    raise TypeError(f"{method.name} is marked @instant but waits for something")


def _unknown_method(call: participant_pb2.Call) -> participant_pb2.Reply:
    code = number_of(grpc.StatusCode.UNIMPLEMENTED)
    return participant_pb2.Reply(id=call.id, code=code, message=f"this participant has no unary method {call.method}")


class _Details:
    """What a generic handler wants to know of a call."""

    invocation_metadata: tuple[tuple[str, str | bytes], ...] = ()

    def __init__(self, method: str) -> None:
        self.method = method
