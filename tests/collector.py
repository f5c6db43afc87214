"""A collector of traces, as far as tests need one: OTLP's own service over gRPC, which keeps what it receives."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2

WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Received:
    """A span, with who sent it."""

    span: trace_pb2.Span
    resource: dict[str, str]

    @property
    def attributes(self) -> dict[str, str | int | bool]:
        return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in self.span.attributes}


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what it receives; answers while `open` is set."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.endpoint = ""
        self.open = threading.Event()
        self.open.set()

    def Export(self, request, context):  # type: ignore[no-untyped-def]
        self.open.wait(WITHIN_S)
        for part in request.resource_spans:
            resource = {item.key: item.value.string_value for item in part.resource.attributes}
            for scope in part.scope_spans:
                self.received.extend(Received(span, resource) for span in scope.spans)
        return trace_service_pb2.ExportTraceServiceResponse()


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that listens."""
    collector = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(4))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    collector.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield collector
    finally:
        collector.open.set()
        server.stop(None).wait(WITHIN_S)
