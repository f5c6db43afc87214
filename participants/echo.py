"""A participant without Postgres and barrier that answers at once, to measure what the orchestrator itself costs."""

from __future__ import annotations

from typing import Any

import grpc.aio

from participants.dispatch import instant, plain
from participants.pb.shop.v1 import echo_pb2, echo_pb2_grpc
from participants.server import Service

Context = grpc.aio.ServicerContext[Any, Any]


class EchoServicer(echo_pb2_grpc.EchoServiceServicer):
    """Gives back what it gets."""

    @plain
    @instant
    async def Do(self, request: echo_pb2.EchoRequest, context: Context) -> echo_pb2.EchoResponse:
        """The action."""
        return echo_pb2.EchoResponse(text=request.text)

    @plain
    @instant
    async def Undo(self, request: echo_pb2.EchoRequest, context: Context) -> echo_pb2.EchoResponse:
        """The compensation."""
        return echo_pb2.EchoResponse(text=request.text)


SERVICE = Service(
    name="echo",
    register=echo_pb2_grpc.add_EchoServiceServicer_to_server,
    servicer=lambda _database, _settings: EchoServicer(),
    listen="127.0.0.1:7505",
)
