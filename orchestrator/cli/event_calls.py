"""The event stream for clients: it goes on at the next replica when one fails, from the last cursor that was seen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator

import grpc
import grpc.aio

from orchestrator.cli.calls import Calls, Method, retried
from orchestrator.cli.errors import refused
from orchestrator.cli.route import Backoff
from orchestrator.pb.baton.v1 import events_pb2, events_pb2_grpc

# A replica that says nothing for so long is frozen: it says where the stream is every five seconds.
SILENCE_MAX_S = 12.0

_Events = events_pb2_grpc.EventServiceStub

_COMMIT = Method(_Events, "CommitPosition", events_pb2.CommitPositionResponse)
_CONSUMERS = Method(_Events, "ListConsumers", events_pb2.ListConsumersResponse)
_RESET = Method(_Events, "ResetConsumer", events_pb2.ResetConsumerResponse)
# Repeated, it finds that the consumer is gone, which reads like a mistake.
_DELETE = Method(_Events, "DeleteConsumer", events_pb2.DeleteConsumerResponse, repeatable=False)


class EventCalls:
    """Streams events and keeps positions, over the endpoints of `calls`; `deadline_s` bounds a time without answer."""

    def __init__(self, calls: Calls, deadline_s: float) -> None:
        self._calls = calls
        self._deadline_s = deadline_s

    async def stream(self, request: events_pb2.StreamEventsRequest) -> AsyncGenerator[events_pb2.StreamEventsResponse]:
        """What `request` asks for, over any number of replicas: each event at least once, in order within a saga.

        Raises ApiUnavailable when no replica has answered for the deadline, and CallRefused.
        """
        asked = events_pb2.StreamEventsRequest()
        asked.CopyFrom(request)
        heard_at_s, backoff = time.monotonic(), Backoff()
        while True:
            endpoint = self._calls.route.next()
            stream = self._calls.stub(endpoint, _Events).StreamEvents(asked)
            try:
                while True:
                    async with asyncio.timeout(SILENCE_MAX_S):
                        answer = await stream.read()
                    if answer is grpc.aio.EOF:
                        return
                    heard_at_s, backoff = time.monotonic(), Backoff()
                    self._calls.route.succeeded(endpoint)
                    asked.after, asked.consumer, asked.latest = answer.cursor, "", False
                    yield answer
            except TimeoutError:
                self._calls.route.failed(endpoint)
            except grpc.aio.AioRpcError as error:
                if not retried(error):
                    raise refused(error) from None
                self._calls.note_failure(endpoint, error)
                if time.monotonic() - heard_at_s > self._deadline_s:
                    raise self._calls.unavailable(error, self._deadline_s) from None
                await asyncio.sleep(backoff.next_s())
            finally:
                stream.cancel()

    async def commit(self, consumer: str, cursor: str) -> str:
        """Keep that everything up to `cursor` is handled; returns what is kept now."""
        request = events_pb2.CommitPositionRequest(consumer=consumer, cursor=cursor)
        return (await self._calls.unary(_COMMIT, request, self._deadline_s)).cursor

    async def consumers(self) -> list[events_pb2.Consumer]:
        """All consumers, by name."""
        answer = await self._calls.unary(_CONSUMERS, events_pb2.ListConsumersRequest(), self._deadline_s)
        return list(answer.consumers)

    async def reset(self, request: events_pb2.ResetConsumerRequest) -> str:
        """Set a consumer to a place; returns the cursor."""
        return (await self._calls.unary(_RESET, request, self._deadline_s)).cursor

    async def delete(self, consumer: str) -> None:
        """Forget a consumer."""
        await self._calls.unary(_DELETE, events_pb2.DeleteConsumerRequest(consumer=consumer), self._deadline_s)
