"""The span of the call that started a saga: in the saga's trace, with a link to the trace of whoever called.

The saga has a trace of its own, since its caller may be long gone when it ends, and since every leader must find it by
the saga's id alone. The link leads from one to the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import grpc
import grpc.aio

from orchestrator.pb.baton.v1 import saga_pb2
from orchestrator.saga.model import SagaId
from orchestrator.tracing import ids
from orchestrator.tracing.sagas import SagaSpans
from orchestrator.tracing.span import Link, Side, Sink, Span

_ONE = "/baton.v1.SagaService/StartSaga"
_MANY = "/baton.v1.SagaService/StartSagas"

Context = grpc.aio.ServicerContext[Any, Any]


class TracedStarts(grpc.aio.ServerInterceptor):
    """Makes a span for every saga that a StartSaga or a StartSagas began."""

    def __init__(self, sagas: SagaSpans, sink: Sink, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._sagas = sagas
        self._sink = sink
        self._now_ns = now_ns

    async def intercept_service(self, continuation: Any, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Called by gRPC for every call."""
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method not in (_ONE, _MANY):
            return handler

        async def traced(request: Any, context: Context) -> Any:
            start_ns = self._now_ns()
            response = await handler.unary_unary(request, context)
            for saga_id in _begun(response):
                self.started(saga_id, handler_call_details.method, _caller(context), start_ns)
            return response

        return grpc.unary_unary_rpc_method_handler(traced, handler.request_deserializer, handler.response_serializer)

    def started(self, saga_id: str, method: str, caller: tuple[int, int] | None, start_ns: int) -> None:
        """A call that came at `start_ns` has begun this saga; `caller` is the trace and span that it came from."""
        identity = SagaId(UUID(saga_id))
        if not self._sagas.traced(identity):
            return
        links = (Link(*caller, "caller"),) if caller is not None else ()
        self._sink(
            Span(
                identity,
                ids.start_id(identity),
                ids.root_id(identity),
                method.rpartition("/")[2],
                Side.SERVER,
                start_ns,
                max(start_ns, self._now_ns()),
                {"baton.saga": saga_id, "rpc.system": "grpc", "rpc.method": method},
                None,
                links,
            )
        )


def _begun(response: Any) -> list[str]:
    """The ids of the sagas that a call has begun: not of those that an earlier one had."""
    match response:
        case saga_pb2.StartSagaResponse():
            return [] if response.existing else [response.saga.saga_id]
        case saga_pb2.StartSagasResponse():
            return [result.saga_id for result in response.results if not result.code and not result.existing]
        case _:
            return []


def _caller(context: Context) -> tuple[int, int] | None:
    for name, value in context.invocation_metadata() or ():
        if name == "traceparent" and isinstance(value, str):
            return ids.carried(value)
    return None
