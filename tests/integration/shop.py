"""Participants within the test process, and clients that call them as Baton does: unary, and over the stream."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

import grpc.aio
from google.protobuf.message import Message

from participants.call import CallIdentity, Kind
from participants.pb.baton.participant.v1 import participant_pb2, participant_pb2_grpc
from participants.server import Participant, Service
from participants.settings import ParticipantSettings
from participants.status import number_of

# For what comes when it comes, on a machine on which every process may stand still for seconds.
TIMEOUT_S = 30.0
# A call that waits for another one, or for a connection, is not sent away meanwhile, unless that is the subject.
PATIENT = {"lock_wait_max_s": 20.0, "pool_wait_max_s": 20.0}


def action(saga_id: str, step: str = "step", **more: Any) -> CallIdentity:
    """The identity of an action, epoch 1 unless said otherwise."""
    return CallIdentity(saga_id, step, Kind.ACTION, **{"epoch": 1, **more})


def compensation(saga_id: str, step: str = "step", **more: int) -> CallIdentity:
    """The identity of a compensation, epoch 1 unless said otherwise."""
    return CallIdentity(saga_id, step, Kind.COMPENSATION, **{"epoch": 1, **more})


def metadata(call: CallIdentity) -> tuple[tuple[str, str], ...]:
    """What a unary call carries."""
    token = (("baton-answer-token", call.answer_token),) if call.answer_token else ()
    return (
        *token,
        ("baton-saga-id", call.saga_id),
        ("baton-step", call.step),
        ("baton-kind", call.kind.value),
        ("baton-epoch", str(call.epoch)),
        ("baton-shard", str(call.shard)),
        ("baton-attempt", str(call.attempt)),
    )


@dataclass(frozen=True, slots=True)
class Reply:
    """What a caller sees."""

    code: int
    message: str
    response: bytes
    accepted: bool = False

    @property
    def name(self) -> str:
        """The status code by its name."""
        return next(code.name for code in grpc.StatusCode if number_of(code) == self.code)


class Client(Protocol):
    """Calls one participant."""

    async def call(self, method: str, request: Message, call: CallIdentity | None, timeout_s: float = ...) -> Reply: ...


class UnaryClient:
    """Ordinary gRPC calls."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    async def call(
        self, method: str, request: Message, call: CallIdentity | None, timeout_s: float = TIMEOUT_S
    ) -> Reply:
        rpc: Any = self._channel.unary_unary(f"/{method}")
        started = rpc(request.SerializeToString(), metadata=metadata(call) if call else None, timeout=timeout_s)
        try:
            response = await started
        except grpc.aio.AioRpcError as error:
            return Reply(number_of(error.code()), error.details() or "", b"")
        return Reply(0, "", response, ("baton-accepted", "1") in tuple(await started.trailing_metadata()))


@dataclass(slots=True)
class ExchangeClient:
    """The multiplexed stream."""

    channel: grpc.aio.Channel
    waiting: dict[int, asyncio.Future[Reply]] = field(default_factory=dict)
    ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    # gRPC takes one message at a time.
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    stream: Any = None
    reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.stream = participant_pb2_grpc.ParticipantServiceStub(self.channel).Exchange()
        self.reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stream.cancel()
        if self.reader is not None:
            self.reader.cancel()
            await asyncio.gather(self.reader, return_exceptions=True)

    async def call(
        self, method: str, request: Message, call: CallIdentity | None, timeout_s: float = TIMEOUT_S
    ) -> Reply:
        number = next(self.ids)
        answered = self.waiting[number] = asyncio.get_running_loop().create_future()
        message = participant_pb2.Call(
            id=number,
            method=f"/{method}",
            request=request.SerializeToString(),
            timeout_ms=round(timeout_s * 1000),
        )
        if call is not None:
            message.saga_id, message.step, message.epoch, message.shard = (
                call.saga_id,
                call.step,
                call.epoch,
                call.shard,
            )
            message.attempt, message.answer_token = call.attempt, call.answer_token
            message.kind = (
                participant_pb2.CALL_KIND_ACTION if call.kind is Kind.ACTION else participant_pb2.CALL_KIND_COMPENSATION
            )
        async with self.writing:
            await self.stream.write(participant_pb2.CallBatch(calls=[message]))
        async with asyncio.timeout(TIMEOUT_S):
            return await answered

    async def _read(self) -> None:
        async for batch in self.stream:
            for reply in batch.replies:
                self.waiting.pop(reply.id).set_result(Reply(reply.code, reply.message, reply.response, reply.accepted))


@asynccontextmanager
async def running(service: Service, dsn: str, **settings: Any) -> AsyncIterator[Participant]:
    """A participant that serves, until the end of the block."""
    participant = Participant(service, ParticipantSettings(dsn=dsn, listen="127.0.0.1:0", **{**PATIENT, **settings}))
    await participant.start()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await participant.ready()
        yield participant
    finally:
        await participant.stop()


@asynccontextmanager
async def connected(port: int, form: str = "unary") -> AsyncIterator[Client]:
    """A client of the form `unary` or `exchange`."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        if form == "unary":
            yield UnaryClient(channel)
        else:
            async with ExchangeClient(channel) as client:
                yield client
