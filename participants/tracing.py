"""The participant's part in a saga's trace: a span around each call that carries one, where OpenTelemetry is installed.

Which spans go where is the process's own affair: whoever sets up a tracer provider (by `opentelemetry-instrument`, or
in code) finds a span for each call of Baton in it, and what the servicer traces below. Without one, or without
OpenTelemetry, nothing is made; the `traceparent` is in the metadata of the servicer's context all the same.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

from participants.call import CallIdentity
from participants.status import OK, Answer

try:
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError:
    if not TYPE_CHECKING:
        trace = None

TRACEPARENT = "traceparent"


def traceparent_of(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """The trace context that a call carries; empty when it carries none."""
    for name, value in metadata:
        if name == TRACEPARENT and isinstance(value, str):
            return value
    return ""


async def within_trace(
    traceparent: str, method: str, call: CallIdentity | None, answer: Callable[[], Awaitable[Answer]]
) -> Answer:
    """Answer within a span below the caller's, if the caller has any; no payload and no message goes into it."""
    if trace is None or not traceparent:
        return await answer()
    above = TraceContextTextMapPropagator().extract({TRACEPARENT: traceparent})
    tracer = trace.get_tracer("baton.participant")
    with tracer.start_as_current_span(method, above, trace.SpanKind.SERVER, set_status_on_exception=False) as span:
        if span.is_recording():
            span.set_attributes({"rpc.system": "grpc", "rpc.method": method})
            if call is not None:
                span.set_attributes(
                    {
                        "baton.saga": call.saga_id,
                        "baton.step": call.step,
                        "baton.kind": call.kind.value,
                        "baton.attempt": call.attempt,
                        "baton.epoch": call.epoch,
                    }
                )
        given = await answer()
        if span.is_recording():
            span.set_attribute("rpc.grpc.status_code", given.code)
            if given.code != OK:
                span.set_status(trace.StatusCode.ERROR, given.status_code.name)
        return given
