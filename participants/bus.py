"""The broker of the choreography: NATS JetStream, which keeps what is published, and delivers it until it is handled.

It needs the extra `nats` (`pip install 'baton[nats]'`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NoReturn

import nats
import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, StorageType, StreamConfig

from participants.happening import Happening, decode

STREAM = "SHOP"
SUBJECT = "shop.events."

_TIMEOUT_S = 5.0
_BATCH = 32
_FETCH_S = 2.0
# What was delivered and is neither acknowledged nor refused by then is delivered again.
_ACK_WAIT_S = 4.0
_AGAIN_S = 0.5
_DUPLICATE_WINDOW_S = 600.0

Handle = Callable[[Happening], Awaitable[None]]

log = structlog.get_logger()


class Bus:
    """A connection that comes back by itself. `open` it first, on the event loop that uses it."""

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self._name = name
        self._client = Client()
        self._jetstream: JetStreamContext = self._client.jetstream(timeout=_TIMEOUT_S)

    async def open(self) -> None:
        """Wait until the broker is there, and have the stream."""
        while True:
            try:
                await self._connect()
                return
            except (TimeoutError, OSError, nats.errors.Error) as error:
                log.warning("the broker is away, waiting", error=str(error) or "no answer")
                await asyncio.sleep(_AGAIN_S)

    async def publish(self, happenings: Sequence[tuple[str, str, bytes]]) -> None:
        """Publish (id, type, body) of each; return when the broker has all. Raises nats.errors.Error, TimeoutError."""
        async with asyncio.timeout(_TIMEOUT_S):
            await asyncio.gather(
                *(
                    self._jetstream.publish(
                        SUBJECT + type_, body, stream=STREAM, headers={"Nats-Msg-Id": event_id}, timeout=_TIMEOUT_S
                    )
                    for event_id, type_, body in happenings
                )
            )

    async def consume(self, type_: str, handle: Handle) -> NoReturn:
        """Hand every happening of this type to `handle`, at least once, until cancelled; many at a time."""
        durable = f"{self._name}-{type_.replace('.', '-')}"
        config = ConsumerConfig(ack_wait=_ACK_WAIT_S, max_ack_pending=10_000)
        while True:
            try:
                subscription = await self._jetstream.pull_subscribe(
                    SUBJECT + type_, durable=durable, stream=STREAM, config=config
                )
                while True:
                    try:
                        messages = await subscription.fetch(_BATCH, timeout=_FETCH_S)
                    except TimeoutError:
                        # Nothing came.
                        continue
                    await asyncio.gather(*(self._deliver(message, handle) for message in messages))
            except (OSError, nats.errors.Error) as error:
                log.warning("the broker was lost, trying again", type=type_, error=str(error) or type(error).__name__)
                await asyncio.sleep(_AGAIN_S)

    async def listen(self, types: str, hear: Callable[[Any], Awaitable[None]]) -> None:
        """Have `hear` called with every message of these types (`order.*`) from now on; nothing is acknowledged."""
        await self._client.subscribe(SUBJECT + types, cb=hear)

    async def close(self) -> None:
        """Drop the connection."""
        if self._client.is_connected or self._client.is_reconnecting:
            await self._client.close()

    async def _connect(self) -> None:
        async def on_error(error: Exception) -> None:
            log.debug("broker error", error=str(error))

        if not self._client.is_connected:
            async with asyncio.timeout(_TIMEOUT_S):
                await self._client.connect(
                    self._url, name=self._name, error_cb=on_error, max_reconnect_attempts=-1, reconnect_time_wait=1
                )
        try:
            await self._jetstream.stream_info(STREAM)
        except nats.js.errors.NotFoundError:
            config = StreamConfig(
                name=STREAM,
                subjects=[f"{SUBJECT}>"],
                storage=StorageType.FILE,
                duplicate_window=_DUPLICATE_WINDOW_S,
            )
            await self._jetstream.add_stream(config)

    async def _deliver(self, message: Any, handle: Handle) -> None:
        try:
            await handle(decode(message.data))
        except ValueError as error:
            # It will never be understood: others must not wait behind it.
            log.error("not understood, dropped", subject=message.subject, error=str(error))
            await message.term()
        except Exception as error:
            # Whatever the reason: what is not acknowledged comes again.
            log.warning("not handled, comes again", subject=message.subject, error=f"{type(error).__name__}: {error}")
            await message.nak(delay=_AGAIN_S)
        else:
            await message.ack()
