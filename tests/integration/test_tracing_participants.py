"""A saga's trace goes on in the participants: by both ways of calling, to the spans that a servicer makes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from orchestrator.driving.grpc_edge import CallSettings, GrpcParticipants
from orchestrator.driving.port import Invocation
from orchestrator.saga.commands import Refused, Succeeded
from orchestrator.saga.definition import Method
from orchestrator.saga.mapping import Mapping
from orchestrator.telemetry import Metrics
from orchestrator.tracing.calls import TracedParticipants
from orchestrator.tracing.sagas import SagaSpans
from orchestrator.tracing.span import Span
from participants.pb.shop.v1 import echo_pb2, echo_pb2_grpc
from participants.server import Participant, Service
from participants.settings import ParticipantSettings

from .test_grpc_edge import both, invocation

PATH = "/shop.v1.EchoService/Do"


class Servicer(echo_pb2_grpc.EchoServiceServicer):
    """Makes a span of its own and remembers what the call carried."""

    def __init__(self) -> None:
        self.carried: list[str] = []

    async def Do(self, request: echo_pb2.EchoRequest, context: Any) -> echo_pb2.EchoResponse:
        self.carried.append(dict(context.invocation_metadata()).get("traceparent", ""))
        if request.text == "refuse":
            await context.abort(grpc.StatusCode.NOT_FOUND, "card 4111")
        with trace.get_tracer("shop").start_as_current_span("the effect"):
            return echo_pb2.EchoResponse(text=request.text)


class Codec:
    """The request as text."""

    def encode(self, request: dict[str, Any]) -> bytes:
        return echo_pb2.EchoRequest(**request).SerializeToString()

    def decode(self, response: bytes) -> dict[str, Any]:
        return {"text": echo_pb2.EchoResponse.FromString(response).text}


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """What the participant's process exports; a provider is set once in a process, so here the getter is replaced."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    return exporter


@asynccontextmanager
async def calling(
    servicer: Servicer, spans: list[Span], multiplexed: bool, share: float = 1.0
) -> AsyncIterator[tuple[TracedParticipants, Invocation]]:
    service = Service("echo", echo_pb2_grpc.add_EchoServiceServicer_to_server, lambda *_: servicer, "127.0.0.1:0")
    participant = Participant(service, ParticipantSettings())
    await participant.start()
    await participant.ready()
    codec: Any = Codec()
    edge = GrpcParticipants(lambda *_: codec, CallSettings(8, 1_000_000, 10_000, multiplexed), Metrics("test", "r1"))
    try:
        call = replace(invocation(participant.port), method=Method(PATH, Mapping({})))
        yield TracedParticipants(edge, SagaSpans(spans.append, share), spans.append), call
    finally:
        await edge.close()
        await participant.stop()


@both
async def test_the_trace_goes_on_in_the_participant(multiplexed: bool, exported: InMemorySpanExporter) -> None:
    spans: list[Span] = []
    servicer = Servicer()
    async with calling(servicer, spans, multiplexed) as (participants, call):
        assert await participants.call(replace(call, request={"text": "x"})) == Succeeded({"text": "x"})
    (attempt,) = spans
    effect, handling = exported.get_finished_spans()
    assert servicer.carried == [f"00-{call.saga_id.int:032x}-{attempt.id:016x}-01"]
    for span, name, parent in ((handling, PATH[1:], attempt.id), (effect, "the effect", handling.context.span_id)):
        assert span.name == name
        assert span.context.trace_id == call.saga_id.int
        assert span.parent is not None
        assert span.parent.span_id == parent
    assert handling.kind is trace.SpanKind.SERVER
    assert handling.attributes is not None
    assert handling.attributes["baton.saga"] == str(call.saga_id)
    assert handling.attributes["baton.epoch"] == call.epoch


@both
async def test_a_refusal_is_an_error_without_its_words(multiplexed: bool, exported: InMemorySpanExporter) -> None:
    spans: list[Span] = []
    async with calling(Servicer(), spans, multiplexed) as (participants, call):
        assert await participants.call(replace(call, request={"text": "refuse"})) == Refused("NOT_FOUND", "card 4111")
    (handling,) = exported.get_finished_spans()
    assert (handling.status.status_code, handling.status.description) == (trace.StatusCode.ERROR, "NOT_FOUND")
    assert "4111" not in handling.to_json()
    assert "4111" not in repr(spans)


async def test_what_is_not_sampled_is_not_traced_by_participants_either(exported: InMemorySpanExporter) -> None:
    spans: list[Span] = []
    servicer = Servicer()
    async with calling(servicer, spans, True, share=0.0) as (participants, call):
        await participants.call(replace(call, request={"text": "x"}))
    assert servicer.carried[0].endswith("-00")
    assert (spans, exported.get_finished_spans()) == ([], ())


async def test_without_a_trace_a_participant_makes_no_span_for_it(
    exported: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    servicer = Servicer()
    async with calling(servicer, [], True) as (participants, call):
        monkeypatch.setattr("participants.tracing.trace", None)
        await participants.call(replace(call, request={"text": "x"}))
    # Without OpenTelemetry in the kit, the servicer still sees what it would go on in.
    assert [text[:3] for text in servicer.carried] == ["00-"]
    assert [span.name for span in exported.get_finished_spans()] == ["the effect"]
