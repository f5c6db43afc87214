"""A subscription to Baton's events: goes on at the next replica when one fails, and where it was when it starts again.

An event is handed on until it has been handled; only then is the position kept, and not for each event. So every event
is handled at least once; the inbox (inbox.py) makes that once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NoReturn

import grpc
import grpc.aio
import structlog

from participants.pb.baton.v1 import events_pb2 as pb
from participants.pb.baton.v1 import events_pb2_grpc
from participants.tls import Certificates

# A replica says at least every five seconds how far a stream has come; one that is silent for longer is frozen.
SILENCE_MAX_S = 12.0

_COMMIT_INTERVAL_S = 1.0
_CALL_S = 5.0
_PAUSE_MIN_S = 0.05
_PAUSE_MAX_S = 5.0

_OPTIONS = (("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", 16_000_000))

Handle = Callable[[pb.Event], Awaitable[None]]

log = structlog.get_logger()


class Subscription:
    """Streams the events that `wanted` asks for to `handle`; `wanted.consumer` is the name the position is kept under.

    `replicas` are addresses of Baton's API, host:port. With `certificates` (see `certificates_of`) it speaks TLS, and
    shows the participant's own, whose name the replicas' file of callers gives the role `reader`.
    """

    def __init__(
        self,
        replicas: Sequence[str],
        wanted: pb.StreamEventsRequest,
        handle: Handle,
        certificates: Certificates | None = None,
    ) -> None:
        if not replicas or not wanted.consumer:
            raise ValueError("a subscription needs a replica to ask, and a name to keep its position under")
        self._replicas = tuple(replicas)
        self._wanted = wanted
        self._handle = handle
        self._certificates = certificates

    async def run(self) -> NoReturn:
        """Handle events until cancelled."""
        pause_s, number = _PAUSE_MIN_S, 0
        while True:
            replica = self._replicas[number % len(self._replicas)]
            began_s = time.monotonic()
            try:
                await self._follow(replica)
            except (grpc.aio.AioRpcError, TimeoutError) as error:
                # Refused for good (a position that retention has overtaken, say) needs a person, who mends it there.
                what = error.details() if isinstance(error, grpc.aio.AioRpcError) else "it is silent"
                log.warning("event stream lost", replica=replica, error=what, consumer=self._wanted.consumer)
            number += 1
            pause_s = _PAUSE_MIN_S if time.monotonic() - began_s > _PAUSE_MAX_S else min(pause_s * 2, _PAUSE_MAX_S)
            await asyncio.sleep(pause_s)

    async def _follow(self, replica: str) -> None:
        """Stream from one replica, as long as it answers. Raises AioRpcError and TimeoutError."""
        # One channel for each stream: the next one has the certificates of its moment.
        async with self._channel(replica) as channel:
            stub: Any = events_pb2_grpc.EventServiceStub(channel)
            stream = stub.StreamEvents(self._wanted)
            kept_at_s, cursor, kept = time.monotonic(), "", ""
            try:
                while True:
                    async with asyncio.timeout(SILENCE_MAX_S):
                        answer = await stream.read()
                    if answer is grpc.aio.EOF:
                        return
                    if answer.HasField("event"):
                        await self._until_handled(answer.event)
                    cursor = answer.cursor
                    if time.monotonic() - kept_at_s > _COMMIT_INTERVAL_S or answer.caught_up:
                        await self._keep(stub, cursor)
                        kept_at_s, kept = time.monotonic(), cursor
            finally:
                stream.cancel()
                if cursor != kept:
                    await self._keep(stub, cursor)

    def _channel(self, replica: str) -> grpc.aio.Channel:
        if self._certificates is None:
            return grpc.aio.insecure_channel(replica, options=_OPTIONS)
        return grpc.aio.secure_channel(replica, self._certificates.for_calls(), options=_OPTIONS)

    async def _keep(self, stub: Any, cursor: str) -> None:
        request = pb.CommitPositionRequest(consumer=self._wanted.consumer, cursor=cursor)
        await stub.CommitPosition(request, timeout=_CALL_S)

    async def _until_handled(self, event: pb.Event) -> None:
        """Hand the event on until it is handled: what follows it must not be handled first."""
        pause_s = _PAUSE_MIN_S
        while True:
            try:
                await self._handle(event)
                return
            except Exception as error:
                # Whatever the reason: an event that is passed over is lost, and one that is tried again is not.
                log.error(
                    "event not handled", id=event.id, error=f"{type(error).__name__}: {error}", again_in_s=pause_s
                )
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _PAUSE_MAX_S)
