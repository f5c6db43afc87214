"""The relay's way to NATS JetStream. It needs the extra `nats` (`pip install 'baton[nats]'`).

Each event is one message in the structured mode of CloudEvents, with its id as Nats-Msg-Id: within the stream's
duplicate window JetStream drops what it has. A connection that failed is dropped, and the next publish makes a new one:
so no message waits in a client for a server to come back, to arrive behind those that were sent after it.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats.errors
import nats.js.errors
import orjson
import structlog
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import StorageType, StreamConfig

from orchestrator.events.cloudevent import CONTENT_TYPE, cloud_event
from orchestrator.events.model import EventRecord
from orchestrator.events.port import SinkUnavailable

# A stream that the relay makes drops repetitions for so long: longer than any failover takes.
DUPLICATE_WINDOW_S = 600.0

_UNFIT = re.compile(r"[^A-Za-z0-9_-]")
# What the headers of a message take of the largest message, with room to spare.
_HEADERS_BYTES = 2_000
_CLOSE_MAX_S = 1.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class JetStreamSettings:
    """Where to publish. `timeout_s` bounds each wait for the broker, in seconds."""

    servers: tuple[str, ...]
    stream: str
    subject: str
    source: str
    ca_file: Path | None
    payloads: bool
    timeout_s: float


class JetStreamSink:
    """Implements `Sink`."""

    def __init__(self, settings: JetStreamSettings) -> None:
        self._settings = settings
        self._client: Client | None = None
        self._jetstream: JetStreamContext | None = None
        self._lost = asyncio.Event()

    async def publish(self, events: Sequence[EventRecord]) -> None:
        """Publish events of different sagas at once. See `Sink.publish`."""
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                client, jetstream = await self._connected()
                bytes_max = client.max_payload - _HEADERS_BYTES
                await self._until_lost([self._publish(jetstream, event, bytes_max) for event in events])
        except (TimeoutError, nats.errors.Error, OSError) as error:
            await self.close()
            reason = str(error) or f"no answer within {self._settings.timeout_s:g} s"
            raise SinkUnavailable(f"the broker has not acknowledged events: {reason}") from error
        except asyncio.CancelledError:
            # Some are on their way: what comes next must not meet them on the same connection.
            await self.close()
            raise

    async def close(self) -> None:
        """Drop the connection; what is still on its way was not acknowledged, and is published again."""
        client, self._client, self._jetstream = self._client, None, None
        if client is None:
            return
        try:
            async with asyncio.timeout(_CLOSE_MAX_S):
                await client.close()
        except (TimeoutError, nats.errors.Error, OSError) as error:
            log.info("broker_not_closed", error=str(error))

    async def _until_lost(self, publishing: Sequence[Coroutine[Any, Any, None]]) -> None:
        """Run all of them; at once over when the connection is lost. Raises the first error of them."""
        work = asyncio.gather(*publishing, return_exceptions=True)
        lost = asyncio.create_task(self._lost.wait())
        try:
            await asyncio.wait((work, lost), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise nats.errors.ConnectionClosedError
            for error in work.result():
                if error is not None:
                    raise error
        finally:
            lost.cancel()
            work.cancel()
            await asyncio.gather(work, lost, return_exceptions=True)

    async def _publish(self, jetstream: JetStreamContext, event: EventRecord, bytes_max: int) -> None:
        settings = self._settings
        content = cloud_event(event, settings.source, payloads=settings.payloads)
        body = orjson.dumps(content)
        if len(body) > bytes_max:
            # Without its payload rather than never: a message that the broker refuses would hold up all that follow.
            content = cloud_event(event, settings.source)
            content["data"]["payload_omitted"] = f"{len(body)} bytes are more than the broker takes"
            body = orjson.dumps(content)
        headers = {"Nats-Msg-Id": event.id, "Content-Type": CONTENT_TYPE}
        await jetstream.publish(
            subject_of(settings.subject, event),
            body,
            timeout=settings.timeout_s,
            stream=settings.stream,
            headers=headers,
        )

    async def _connected(self) -> tuple[Client, JetStreamContext]:
        if self._client is not None and self._jetstream is not None and self._client.is_connected:
            return self._client, self._jetstream
        await self.close()
        settings = self._settings
        self._lost = lost = asyncio.Event()

        async def on_closed() -> None:
            lost.set()

        async def on_error(error: Exception) -> None:
            log.debug("broker_error", error=str(error))

        client = self._client = Client()
        await client.connect(
            list(settings.servers),
            name="baton-relay",
            allow_reconnect=False,
            # Each server is tried, and then it is over: the relay knows better when to try again.
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=max(1, int(settings.timeout_s)),
            closed_cb=on_closed,
            error_cb=on_error,
            tls=None if settings.ca_file is None else ssl.create_default_context(cafile=settings.ca_file),
        )
        self._jetstream = client.jetstream(timeout=settings.timeout_s)
        await self._have_stream(self._jetstream)
        return client, self._jetstream

    async def _have_stream(self, jetstream: JetStreamContext) -> None:
        """Make the stream unless it is there; one that is there is somebody's own, and stays as it is."""
        settings = self._settings
        try:
            await jetstream.stream_info(settings.stream)
        except nats.js.errors.NotFoundError:
            config = StreamConfig(
                name=settings.stream,
                subjects=[f"{settings.subject}.>"],
                storage=StorageType.FILE,
                duplicate_window=DUPLICATE_WINDOW_S,
            )
            await jetstream.add_stream(config)
            log.info("stream_made", stream=settings.stream, subjects=config.subjects)


def subject_of(prefix: str, event: EventRecord) -> str:
    """The subject of an event: PREFIX.DEFINITION.saga|step.WHAT, such as baton.events.order.saga.completed."""
    definition = _UNFIT.sub("_", event.definition)
    kind, _, what = event.type.removeprefix("baton.").partition(".v1.")
    return f"{prefix}.{definition}.{kind}.{_UNFIT.sub('_', what)}"
