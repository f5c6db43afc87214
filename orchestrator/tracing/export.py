"""Sends spans to a collector by OTLP, from a thread of its own; the one file that needs OpenTelemetry.

Whoever makes a span appends it to a queue, and that is all. What the queue has no room for is dropped and counted, and
so is what the collector did not take: sagas never wait for their traces.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from orchestrator.tracing.span import Side, Span

# About 20 MB of spans at the most; some seconds of a leader that drives as fast as it can.
QUEUE_MAX = 20_000
# A batch is made in Python, and holds the interpreter while it is: small enough that nobody feels it.
BATCH_MAX = 256
INTERVAL_S = 0.5
EXPORT_TIMEOUT_S = 5.0

_SCOPE = InstrumentationScope("baton")
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_SIDES = {Side.INTERNAL: SpanKind.INTERNAL, Side.CLIENT: SpanKind.CLIENT, Side.SERVER: SpanKind.SERVER}

# Told of so many spans that were sent, or lost and why.
Count = Callable[[str, int], None]


def otlp(endpoint: str) -> SpanExporter:
    """The exporter to a collector at this URL; its certificate is checked if the scheme is https."""
    # It logs each failure at length. We count them instead, and /metrics shows it.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    return OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_TIMEOUT_S)


def resource(cluster: str, replica: str) -> Resource:
    """Who made the spans."""
    return Resource({"service.name": "baton", "service.namespace": cluster, "service.instance.id": replica})


class Export:
    """A bounded queue and the thread that empties it. `add` belongs to one thread, and never waits."""

    def __init__(self, exporter: SpanExporter, of: Resource, count: Count, queue_max: int = QUEUE_MAX) -> None:
        self._exporter = exporter
        self._resource = of
        self._count = count
        self._queue_max = queue_max
        self._queue: deque[Span] = deque()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="baton-tracing", daemon=True)
        self._thread.start()

    def add(self, span: Span) -> None:
        """Have a span sent, unless too many wait."""
        if len(self._queue) >= self._queue_max:
            self._count("dropped", 1)
            return
        self._queue.append(span)
        if len(self._queue) >= BATCH_MAX:
            self._wake.set()

    def close(self, grace_s: float) -> None:
        """Send what is left, for `grace_s` seconds at the most; what is left then is dropped and counted."""
        deadline_s = time.monotonic() + grace_s
        self._closing.set()
        self._wake.set()
        self._thread.join(max(0.0, deadline_s - time.monotonic()))
        # Ends the wait of an export that is being repeated.
        self._exporter.shutdown()
        left = len(self._queue)
        self._queue.clear()
        if left:
            self._count("dropped", left)

    def _run(self) -> None:
        while True:
            self._wake.wait(INTERVAL_S)
            self._wake.clear()
            while batch := self._batch():
                self._send(batch)
            if self._closing.is_set():
                return

    def _batch(self) -> list[Span]:
        batch: list[Span] = []
        while len(batch) < BATCH_MAX:
            try:
                batch.append(self._queue.popleft())
            except IndexError:
                break
        return batch

    def _send(self, batch: Sequence[Span]) -> None:
        try:
            result = self._exporter.export([readable(span, self._resource) for span in batch])
        except Exception:
            # Whatever an exporter does not foresee costs these spans and nothing else: the thread must go on.
            result = SpanExportResult.FAILURE
        self._count("sent" if result is SpanExportResult.SUCCESS else "failed", len(batch))


def readable(span: Span, of: Resource) -> ReadableSpan:
    """The span as exporters take it.

    A tracer would give the span an id of chance; here the id says what the span is of, so it is made directly.
    """
    trace = span.saga.int
    return ReadableSpan(
        name=span.name,
        context=_context(trace, span.id),
        parent=_context(trace, span.parent) if span.parent else None,
        resource=of,
        attributes=span.attributes,
        links=[Link(_context(link.trace, link.span), {"baton.relation": link.relation}) for link in span.links],
        kind=_SIDES[span.side],
        status=Status(StatusCode.ERROR, span.failed) if span.failed is not None else Status(StatusCode.OK),
        start_time=span.start_ns,
        end_time=span.end_ns,
        instrumentation_scope=_SCOPE,
    )


def _context(trace: int, span: int) -> SpanContext:
    return SpanContext(trace, span, is_remote=False, trace_flags=_SAMPLED)
