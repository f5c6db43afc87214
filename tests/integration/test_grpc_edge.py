"""Calls to participants over real gRPC: every status, both ways of calling, and participants that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import grpc
import grpc.aio
import pytest

from orchestrator.driving import grpc_edge
from orchestrator.driving.grpc_edge import CallSettings, GrpcParticipants
from orchestrator.driving.port import Invocation
from orchestrator.pb.baton.participant.v1 import participant_pb2 as pb
from orchestrator.saga.commands import Refused, Succeeded, Unknown
from orchestrator.saga.definition import Method
from orchestrator.saga.mapping import Mapping
from orchestrator.saga.model import Epoch, Kind, SagaId
from orchestrator.telemetry import Metrics
from tests.unit.test_codec import CODEC

PATH = "/t.S/Do"
WITHIN_S = 30.0
EXCHANGE = "/baton.participant.v1.ParticipantService/Exchange"

Behaviour = Callable[[bytes, dict[str, str], grpc.aio.ServicerContext[Any, Any]], Awaitable[bytes]]


class Participant(grpc.GenericRpcHandler):
    """A server of t.S/Do that behaves as told; with `multiplexed` it offers the stream as well."""

    def __init__(self, behaviour: Behaviour, multiplexed: bool) -> None:
        self.behaviour = behaviour
        self.multiplexed = multiplexed
        self.streamed = 0
        self.unary = 0
        self._writing = asyncio.Lock()
        self.server = grpc.aio.server()
        self.server.add_generic_rpc_handlers((self,))
        self.port = self.server.add_insecure_port("127.0.0.1:0")

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        if details.method == PATH:
            return grpc.unary_unary_rpc_method_handler(self._do)
        if details.method == EXCHANGE and self.multiplexed:
            return grpc.stream_stream_rpc_method_handler(
                self._exchange, pb.CallBatch.FromString, pb.ReplyBatch.SerializeToString
            )
        return None

    async def _do(self, request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        self.unary += 1
        metadata = {key: str(value) for key, value in context.invocation_metadata() or ()}
        return await self.behaviour(request, metadata, context)

    async def _exchange(self, batches: AsyncIterator[pb.CallBatch], context: Any) -> None:
        await context.send_initial_metadata(())
        async with asyncio.TaskGroup() as group:
            async for batch in batches:
                for call in batch.calls:
                    self.streamed += 1
                    group.create_task(self._reply(call, context))

    async def _reply(self, call: pb.Call, context: Any) -> None:
        metadata = {
            "baton-saga-id": call.saga_id,
            "baton-step": call.step,
            "baton-kind": "action" if call.kind == pb.CALL_KIND_ACTION else "compensation",
            "baton-attempt": str(call.attempt),
            "baton-epoch": str(call.epoch),
        }
        reply = pb.Reply(id=call.id)
        try:
            reply.response = await self.behaviour(call.request, metadata, Aborting())  # type: ignore[arg-type]
        except Abort as abort:
            reply.code, reply.message = abort.args
        async with self._writing:
            await context.write(pb.ReplyBatch(replies=[reply]))


class Abort(Exception):
    pass


class Aborting:
    async def abort(self, code: grpc.StatusCode, details: str = "") -> None:
        raise Abort(code.value[0], details)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that is offered is used, however long it takes to open."""
    monkeypatch.setattr(grpc_edge, "OPEN_TIMEOUT_S", WITHIN_S)


@contextlib.asynccontextmanager
async def serving(behaviour: Behaviour, multiplexed: bool) -> AsyncIterator[Participant]:
    participant = Participant(behaviour, multiplexed)
    await participant.server.start()
    try:
        yield participant
    finally:
        await participant.server.stop(None)


@contextlib.asynccontextmanager
async def edge(metrics: Metrics | None = None, **settings: Any) -> AsyncIterator[GrpcParticipants]:
    calls = replace(CallSettings(calls_max=8, message_bytes_max=1_000_000, reply_bytes_max=10_000), **settings)
    participants = GrpcParticipants(lambda *_: CODEC, calls, metrics or Metrics("test", "r1"))
    try:
        yield participants
    finally:
        await participants.close()


def invocation(port: int, timeout_s: float = WITHIN_S, **request: Any) -> Invocation:
    return Invocation(
        saga_id=SagaId(UUID(int=5)),
        definition="test",
        version=1,
        step="s1",
        service=f"127.0.0.1:{port}",
        method=Method(PATH, Mapping({})),
        kind=Kind.ACTION,
        attempt=2,
        shard=0,
        epoch=Epoch(9),
        request=request,
        timeout_s=timeout_s,
    )


async def echo(request: bytes, metadata: dict[str, str], context: Any) -> bytes:
    return request


both = pytest.mark.parametrize("multiplexed", [False, True], ids=["unary", "multiplexed"])


@both
async def test_calls_are_counted_by_participant_and_status(multiplexed: bool) -> None:
    async def refuse_the_second(request: bytes, metadata: dict[str, str], context: Any) -> bytes:
        if b"second" in request:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such thing")
        return request

    metrics = Metrics("test", "r1")
    ask = metrics.registry.get_sample_value
    async with serving(refuse_the_second, multiplexed) as participant, edge(metrics) as participants:
        for text in ("first", "second", "third"):
            await participants.call(invocation(participant.port, text=text))
        labels = {"participant": f"127.0.0.1:{participant.port}"}
        assert ask("baton_calls_total", {**labels, "code": "OK"}) == 2
        assert ask("baton_calls_total", {**labels, "code": "NOT_FOUND"}) == 1
        assert ask("baton_call_duration_seconds_count", labels) == 3


@both
async def test_a_reply_is_a_success(multiplexed: bool) -> None:
    async with serving(echo, multiplexed) as participant, edge() as participants:
        outcome = await participants.call(invocation(participant.port, i64=2**62, text="é"))
        assert isinstance(outcome, Succeeded)
        assert (outcome.result["i64"], outcome.result["text"]) == (2**62, "é")
        assert (participant.streamed, participant.unary) == ((1, 0) if multiplexed else (0, 1))


async def test_the_stream_can_be_turned_off() -> None:
    async with serving(echo, multiplexed=True) as participant, edge(multiplexed=False) as participants:
        assert isinstance(await participants.call(invocation(participant.port)), Succeeded)
        assert (participant.streamed, participant.unary) == (0, 1)


@both
async def test_the_participant_learns_who_calls(multiplexed: bool) -> None:
    seen: dict[str, str] = {}

    async def look(request: bytes, metadata: dict[str, str], context: Any) -> bytes:
        seen.update(metadata)
        return request

    async with serving(look, multiplexed) as participant, edge() as participants:
        await participants.call(invocation(participant.port))
    wanted = {"saga-id": str(UUID(int=5)), "step": "s1", "kind": "action", "attempt": "2", "epoch": "9"}
    assert {key: seen[f"baton-{key}"] for key in wanted} == wanted
    if not multiplexed:
        assert seen["baton-idempotency-key"] == f"{UUID(int=5)}/s1/action"
        assert seen["baton-shard"] == "0"


@both
@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
async def test_every_status_is_a_refusal_or_unknown(code: grpc.StatusCode, multiplexed: bool) -> None:
    async def abort(request: bytes, metadata: dict[str, str], context: Any) -> bytes:
        await context.abort(code, "because")
        raise AssertionError

    refusals = {
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "UNAUTHENTICATED",
        "FAILED_PRECONDITION",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
    }
    async with serving(abort, multiplexed) as participant, edge() as participants:
        outcome = await participants.call(invocation(participant.port))
    assert outcome == (Refused if code.name in refusals else Unknown)(code.name, "because")


@both
async def test_a_participant_that_does_not_answer_in_time_is_unknown(multiplexed: bool) -> None:
    async def hang(request: bytes, metadata: dict[str, str], context: Any) -> bytes:
        await asyncio.Event().wait()
        return b""

    async with serving(hang, multiplexed) as participant, edge() as participants:
        outcome = await participants.call(invocation(participant.port, timeout_s=0.2))
    assert isinstance(outcome, Unknown)
    assert outcome.code == "DEADLINE_EXCEEDED"


async def test_a_participant_that_is_away_is_unknown_and_called_again_once_it_is_back() -> None:
    participant = Participant(echo, multiplexed=True)
    async with edge() as participants:
        async with serving(echo, multiplexed=True) as first:
            port = first.port
            assert isinstance(await participants.call(invocation(port)), Succeeded)
        outcome = await participants.call(invocation(port))
        assert isinstance(outcome, Unknown)
        assert outcome.code == "UNAVAILABLE"
        assert participant.server.add_insecure_port(f"127.0.0.1:{port}") == port
        await participant.server.start()
        try:
            async with asyncio.timeout(WITHIN_S):
                while not isinstance(await participants.call(invocation(port)), Succeeded):
                    await asyncio.sleep(0.05)
        finally:
            await participant.server.stop(None)


@both
async def test_calls_beyond_the_bound_wait_their_turn(multiplexed: bool) -> None:
    now = most = 0
    full = asyncio.Event()

    async def count(request: bytes, metadata: dict[str, str], context: Any) -> bytes:
        nonlocal now, most
        now += 1
        most = max(most, now)
        if now == 3:
            full.set()
        # The first ones wait for each other, however slowly they come; then there is time for one too many.
        await full.wait()
        await asyncio.sleep(0.005)
        now -= 1
        return request

    async with serving(count, multiplexed) as participant, edge(calls_max=3) as participants:
        outcomes = await asyncio.gather(*(participants.call(invocation(participant.port)) for _ in range(30)))
    assert all(isinstance(outcome, Succeeded) for outcome in outcomes)
    assert most == 3


@both
@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (b"\xff\xff\xff", "REPLY_UNREADABLE"),
        (b"\x0a\x03a\x00b", "REPLY_UNREADABLE"),
        (b"x" * 20_000, "REPLY_TOO_LARGE"),
    ],
    ids=["garbage", "nul", "huge"],
)
async def test_a_reply_that_cannot_be_kept_leaves_the_outcome_unknown(
    reply: bytes, code: str, multiplexed: bool
) -> None:
    async def answer(request: bytes, metadata: dict[str, str], context: Any) -> bytes:
        return reply

    async with serving(answer, multiplexed) as participant, edge() as participants:
        outcome = await participants.call(invocation(participant.port))
    assert isinstance(outcome, Unknown)
    assert outcome.code == code


async def test_a_request_that_cannot_be_made_calls_nobody() -> None:
    async with serving(echo, multiplexed=True) as participant, edge() as participants:
        outcome = await participants.call(invocation(participant.port, i64="three"))
        assert isinstance(outcome, Refused)
        assert outcome.code == "MAPPING"
        assert "i64" in outcome.message
        assert (participant.streamed, participant.unary) == (0, 0)


async def test_an_address_where_nobody_listens_is_unknown_at_once() -> None:
    async with edge() as participants:
        async with asyncio.timeout(WITHIN_S):
            outcome = await participants.call(invocation(1, timeout_s=2 * WITHIN_S))
    assert isinstance(outcome, Unknown)
    assert outcome.code == "UNAVAILABLE"
