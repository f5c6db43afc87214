"""Counts the calls that a server has under way, and once shut sends new ones to another replica.

A gRPC server that is stopped answers calls which arrive in that moment with CANCELLED, and no standard retry policy
repeats those. UNAVAILABLE is repeated: so a replica that ends first refuses what is new and finishes what is old.
"""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn

import grpc
import grpc.aio

from orchestrator.errors import InvariantError

Context = grpc.aio.ServicerContext[Any, Any]


class Doorway(grpc.aio.ServerInterceptor):
    """An interceptor; belongs to one event loop."""

    def __init__(self) -> None:
        self._closed = False
        self._inside = 0
        self._empty = asyncio.Event()
        self._empty.set()

    def shut(self) -> None:
        """Refuse new calls from now on."""
        self._closed = True

    async def close(self, grace_s: float) -> None:
        """Refuse new calls from now on; return when no unary call is under way, at the latest after `grace_s`."""
        self.shut()
        try:
            async with asyncio.timeout(grace_s):
                await self._empty.wait()
        except TimeoutError:
            return

    async def intercept_service(self, continuation: Any, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Called by gRPC for every call."""
        if self._closed:
            return grpc.unary_unary_rpc_method_handler(_refuse)
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler

        # The type stubs of grpc call for a class of theirs; any callable does.
        on_done: Any = self._left

        async def counted(request: Any, context: Context) -> Any:
            if self._closed:
                # It came while the door was shut: nothing of it has been done.
                await _refuse(request, context)
            self._inside += 1
            self._empty.clear()
            # Not when the method returns: its answer must have left before the process may end.
            context.add_done_callback(on_done)
            return await handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(counted, handler.request_deserializer, handler.response_serializer)

    def _left(self, _: object) -> None:
        self._inside -= 1
        if not self._inside:
            self._empty.set()


async def _refuse(_: Any, context: Context) -> NoReturn:
    await context.abort(grpc.StatusCode.UNAVAILABLE, "this replica shuts down: ask another one")
    raise InvariantError("abort always raises")
