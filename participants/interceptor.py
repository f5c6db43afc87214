"""The gRPC server interceptor that puts ordinary unary servicers behind the barrier."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from participants.call import identity_from_metadata
from participants.dispatch import Dispatcher, Inbound, Method, method_of
from participants.status import OK, Answer, Refusal, refused

DOMAIN = "participant.baton"

# Trailing metadata of a call that will be answered later.
ACCEPTED = (("baton-accepted", "1"),)


class BarrierInterceptor(grpc.aio.ServerInterceptor):
    """Hands every unary call to the dispatcher, which runs the servicer within the barrier's transaction.

    Streaming methods, gRPC's own services (health, reflection) and `@instant` methods, which have no effect, pass as
    they are.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._guarded: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """The guarded handler of the method that is called."""
        name = handler_call_details.method
        if (guarded := self._guarded.get(name)) is not None:
            return guarded
        handler = await continuation(handler_call_details)
        if handler is None or name.startswith("/grpc."):
            return handler
        method = method_of(name.removeprefix("/"), handler)
        if method is None or method.instant:
            return handler
        # Only methods that exist get here, so this stays as small as the service is.
        self._guarded[name] = guarded = self._guard(method)
        return guarded

    def _guard(self, method: Method) -> grpc.RpcMethodHandler[Any, Any]:
        async def behaviour(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
            metadata: Any = context.invocation_metadata() or ()
            try:
                call = identity_from_metadata(metadata)
            except Refusal as refusal:
                answer = refused(refusal)
            else:
                inbound = Inbound(call, request, metadata, context.peer(), context.time_remaining())
                answer = await self._dispatcher.answer(method, inbound)
            if answer.code == OK:
                if answer.accepted:
                    context.set_trailing_metadata(ACCEPTED)
                return answer.response
            return await _abort(context, answer)

        # Bytes in, bytes out: a stored answer is sent as it was stored.
        as_any: Any = behaviour  # the stubs know synchronous servers alone
        return grpc.unary_unary_rpc_method_handler(as_any)


async def _abort(context: grpc.aio.ServicerContext[bytes, bytes], answer: Answer) -> NoReturn:
    if answer.reason is None:
        await context.abort(answer.status_code, answer.message)
    detail = AnyMessage()
    detail.Pack(ErrorInfo(reason=answer.reason.value, domain=DOMAIN))
    await context.abort_with_status(
        rpc_status.to_status(Status(code=answer.code, message=answer.message, details=[detail]))
    )
