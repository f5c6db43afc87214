"""Calls participants over gRPC: by the multiplexed stream where it is offered, else call by call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

import grpc
import grpc.aio
import structlog
from prometheus_client import Counter

from orchestrator.driving.codec import MethodCodec
from orchestrator.driving.exchange import Exchange, ExchangeLost, NotOffered, open_exchange
from orchestrator.driving.port import Answer, Invocation
from orchestrator.driving.purge import purge
from orchestrator.driving.scalars import WrongType
from orchestrator.driving.status_table import BY_NUMBER, is_refusal
from orchestrator.failpoints import effects
from orchestrator.failpoints.armed import ARMED, strike
from orchestrator.keeping.port import Purged, Watermark
from orchestrator.pb.baton.participant.v1 import participant_pb2 as pb
from orchestrator.saga.commands import Accepted, Refused, Succeeded, Unknown
from orchestrator.saga.model import Kind
from orchestrator.security.dialer import PLAIN, Dialer
from orchestrator.telemetry import Metrics

OPEN_TIMEOUT_S = 1.0
REOPEN_S = 1.0

# What a participant said: the status, its message, the serialized response, and whether it answers later.
_Said = tuple[grpc.StatusCode, str, bytes, bool]

# Trailing metadata of a unary call that was accepted: the answer comes later, by the token of the call.
_ACCEPTED = "baton-accepted"

# Finds the codec of a method of a definition version that is in use.
Codecs = Callable[[str, int, str], MethodCodec]

_KINDS = {Kind.ACTION: pb.CALL_KIND_ACTION, Kind.COMPENSATION: pb.CALL_KIND_COMPENSATION}
_EFFECTS = {Kind.ACTION: effects.ACTION, Kind.COMPENSATION: effects.COMPENSATION}

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class CallSettings:
    """Bounds of the calls to participants; `multiplexed` says whether the stream is used where it is offered."""

    calls_max: int
    message_bytes_max: int
    reply_bytes_max: int
    multiplexed: bool = True


class GrpcParticipants:
    """Implements `Participants`. Each address has one channel, and a bound on the calls in flight."""

    def __init__(self, codecs: Codecs, settings: CallSettings, metrics: Metrics, dialer: Dialer = PLAIN) -> None:
        self._dialer = dialer
        # Lines whose certificates were replaced, until their last call has ended.
        self._retired: list[_Line] = []
        self._codecs = codecs
        self._settings = settings
        self._metrics = metrics
        self._lines: dict[str, _Line] = {}

    def warm(self, services: Iterable[str]) -> None:
        """Connect to these addresses ahead of the first call."""
        for service in services:
            self._line(service).warm()

    async def call(self, invocation: Invocation) -> Answer:
        """Call the participant; see `Participants.call`."""
        codec = self._codecs(invocation.definition, invocation.version, invocation.method.path)
        try:
            request = codec.encode(invocation.request)
        except WrongType as error:
            return Refused("MAPPING", f"the request of {invocation.method.path} cannot be made: {error}")
        line = self._line(invocation.service)
        if self._retired:
            await self._close_retired()
        line.calls += 1
        try:
            code, message, response, accepted = await line.timed_call(invocation, request)
        finally:
            line.calls -= 1
        if code is not grpc.StatusCode.OK:
            verdict = Refused if is_refusal(code) else Unknown
            return verdict(code.name, message)
        if accepted:
            if invocation.answers_later:
                return Accepted()
            return Unknown("ACCEPTED_UNASKED", "it answers later, and the step's definition has no `answer: later`")
        if len(response) > self._settings.reply_bytes_max:
            limit = self._settings.reply_bytes_max
            return Unknown("REPLY_TOO_LARGE", f"{len(response)} bytes; the limit is {limit}")
        try:
            return Succeeded(_storable(codec.decode(response)))
        except ValueError as error:
            # It did something, and nobody can read what: the step is compensated in the end.
            return Unknown("REPLY_UNREADABLE", str(error))

    async def purge(self, service: str, watermark: Watermark, timeout_s: float) -> Purged | None:
        """Let a participant forget sagas; see `Barriers.purge`."""
        line = self._line(service)
        line.calls += 1
        try:
            return await line.purge(watermark, timeout_s)
        finally:
            line.calls -= 1

    async def close(self) -> None:
        """End all streams and channels."""
        for line in (*self._lines.values(), *self._retired):
            await line.close()
        self._lines.clear()
        self._retired.clear()

    def _line(self, service: str) -> _Line:
        line = self._lines.get(service)
        if line is not None and line.generation != self._dialer.generation:
            self._retired.append(line)
            line = None
        if line is None:
            line = self._lines[service] = _Line(service, self._settings, self._metrics, self._dialer)
        return line

    async def _close_retired(self) -> None:
        idle = [line for line in self._retired if not line.calls]
        self._retired = [line for line in self._retired if line not in idle]
        for line in idle:
            await line.close()


class _Line:
    """The connection to one participant address."""

    def __init__(self, address: str, settings: CallSettings, metrics: Metrics, dialer: Dialer) -> None:
        self._address = address
        self.generation = dialer.generation
        self._channel = dialer.channel(address, _channel_options(settings.message_bytes_max))
        # Calls under way, or waiting for their turn.
        self.calls = 0
        self._permits = asyncio.Semaphore(settings.calls_max)
        self._in_flight = metrics.calls_in_flight.labels(address)
        self._call_s = metrics.call_s.labels(address)
        self._calls = metrics.calls
        self._by_code: dict[grpc.StatusCode, Counter] = {}
        self._methods: dict[str, grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = {}
        self._exchange: Exchange | None = None
        self._offered = settings.multiplexed
        self._opening: asyncio.Task[None] | None = None
        self._open_again_s = 0.0

    def warm(self) -> None:
        """Begin to open the stream, if that is not under way and has not just failed."""
        due = self._offered and asyncio.get_running_loop().time() >= self._open_again_s
        if due and self._opening is None and (self._exchange is None or self._exchange.lost):
            self._opening = asyncio.create_task(self._open())

    async def timed_call(self, invocation: Invocation, request: bytes) -> _Said:
        began_s = time.perf_counter()
        answer = await self.call(invocation, request)
        self._call_s.observe(time.perf_counter() - began_s)
        count = self._by_code.get(answer[0])
        if count is None:
            count = self._by_code[answer[0]] = self._calls.labels(self._address, answer[0].name)
        count.inc()
        return answer

    async def call(self, invocation: Invocation, request: bytes) -> _Said:
        async with self._permits:
            self._in_flight.inc()
            try:
                exchange = await self._ready_exchange()
                effect = effects.STATUS if invocation.asks else _EFFECTS[invocation.kind]
                if ARMED:
                    await strike(effect.before)
                if exchange is not None:
                    answer = await self._multiplexed(exchange, invocation, request)
                else:
                    answer = await self._unary(invocation, request)
                if ARMED:
                    await strike(effect.after)
                return answer
            except grpc.aio.AioRpcError as error:
                return error.code(), error.details() or "", b"", False
            finally:
                self._in_flight.dec()

    async def _ready_exchange(self) -> Exchange | None:
        if self._exchange is not None and not self._exchange.lost:
            return self._exchange
        if not self._offered:
            return None
        self.warm()
        if self._opening is not None:
            # Shielded: the opening goes on for the others when this call's saga is cancelled.
            await asyncio.shield(self._opening)
        return self._exchange if self._exchange is not None and not self._exchange.lost else None

    async def _open(self) -> None:
        try:
            self._exchange = await open_exchange(self._channel, OPEN_TIMEOUT_S)
        except NotOffered:
            self._offered = False
        except ExchangeLost as error:
            # Until it is tried again, calls go one by one, and find out for themselves.
            self._open_again_s = asyncio.get_running_loop().time() + REOPEN_S
            log.info("participant_stream_lost", participant=self._address, error=str(error))
        finally:
            self._opening = None

    async def _multiplexed(self, exchange: Exchange, invocation: Invocation, request: bytes) -> _Said:
        call = pb.Call(
            method=invocation.method.path,
            request=request,
            saga_id=str(invocation.saga_id),
            step=invocation.step,
            kind=_KINDS[invocation.kind],
            attempt=invocation.attempt,
            epoch=invocation.epoch,
            shard=invocation.shard,
            timeout_ms=max(1, int(invocation.timeout_s * 1000)),
            answer_token=invocation.answer_token,
            traceparent=invocation.traceparent,
        )
        try:
            reply = await exchange.call(call, invocation.timeout_s)
        except ExchangeLost as error:
            return grpc.StatusCode.UNAVAILABLE, str(error), b"", False
        except TimeoutError:
            return grpc.StatusCode.DEADLINE_EXCEEDED, f"no answer within {invocation.timeout_s} s", b"", False
        code = BY_NUMBER.get(reply.code, grpc.StatusCode.UNKNOWN)
        return code, reply.message, reply.response, reply.accepted

    async def _unary(self, invocation: Invocation, request: bytes) -> _Said:
        path = invocation.method.path
        method = self._methods.get(path)
        if method is None:
            method = self._methods[path] = self._channel.unary_unary(path)
        call = method(request, timeout=invocation.timeout_s, metadata=call_metadata(invocation))
        response = await call
        accepted = invocation.answers_later and dict(await call.trailing_metadata() or ()).get(_ACCEPTED) == "1"
        return grpc.StatusCode.OK, "", response, accepted

    async def purge(self, watermark: Watermark, timeout_s: float) -> Purged | None:
        return await purge(self._channel, self._address, watermark, timeout_s)

    async def close(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
            with suppress(asyncio.CancelledError):
                await self._opening
        if self._exchange is not None:
            await self._exchange.close()
        await self._channel.close()


def call_metadata(invocation: Invocation) -> tuple[tuple[str, str], ...]:
    """The metadata of a unary call, as docs/participants.md publishes it."""
    token = (("baton-answer-token", invocation.answer_token),) if invocation.answer_token else ()
    trace = (("traceparent", invocation.traceparent),) if invocation.traceparent else ()
    return (
        *token,
        *trace,
        ("baton-saga-id", str(invocation.saga_id)),
        ("baton-step", invocation.step),
        ("baton-kind", invocation.kind.value),
        ("baton-attempt", str(invocation.attempt)),
        ("baton-idempotency-key", invocation.idempotency_key),
        ("baton-epoch", str(invocation.epoch)),
        ("baton-shard", str(invocation.shard)),
    )


def _channel_options(message_bytes_max: int) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", message_bytes_max),
        ("grpc.max_send_message_length", message_bytes_max),
        # A participant that comes back is found within a second, not within gRPC's two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
        # A peer that vanished without a word: gRPC's own limit for the answer to a ping is a minute.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 2000),
        ("grpc.http2.ping_timeout_ms", 2000),
    ]


def _storable(result: dict[str, object]) -> dict[str, object]:
    """Check that the log can keep `result`. Raises ValueError."""
    pending: list[object] = [result]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending.extend(value.keys())
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
        elif isinstance(value, str) and "\x00" in value:
            raise ValueError("the reply has a NUL character in a text, which the log cannot keep")
        elif isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
            raise ValueError("the reply has a number that JSON does not know (NaN or infinity)")
    return result
