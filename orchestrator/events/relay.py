"""Publishes every event to a broker, as long as this replica leads: at least once, and in order within each saga.

The relay reads a page behind its kept position, publishes it, and keeps the position once the broker has acknowledged
the page. It begins again at the kept position, in this process or in the next leader's: what was published and not
kept is published again under the same id, and a broker that knows ids drops it. A page goes in rounds of different
sagas, one after the other, so that a repetition disturbs no saga's order.

Its position is written without the fence: it only moves from where this relay believes it to be, over what the broker
has acknowledged. A leader that was overtaken without knowing may still publish what the next one publishes: before each
round it stops when it is not sure to lead, and the ids of the rest are known.

A broker or a log that is away delays the relay alone: its errors end here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

import structlog

from orchestrator.errors import LogUnavailable, Overloaded
from orchestrator.events.model import Cursor, EventFilter, EventPage, earliest, rounds
from orchestrator.events.port import CursorExpired, EventLog, Sink, SinkUnavailable
from orchestrator.telemetry import Metrics

# The name under which the relay's position is kept among the consumers'.
RELAY_CONSUMER = "baton.relay"

# After an error the relay waits so long, ever longer.
_PAUSE_MIN_S = 0.05
_PAUSE_MAX_S = 5.0
# Between two looks at the end of the log lies as much time as a look takes, and at least the first of these; without a
# nudge it grows to the second.
_REST_MIN_S = 0.005
_IDLE_MAX_S = 0.25
_IDLE_GROWTH = 1.5
# Somebody may have reset the relay: while there is nothing to do it reads its position so often.
_REREAD_S = 5.0
# A replica that does not lead, or is not sure, asks again after so long.
_DOUBT_S = 0.1

log = structlog.get_logger()


class Relay:
    """Relays events to `sink`, a page of at most `rows` at a time. `payloads` adds what participants said."""

    def __init__(self, events: EventLog, sink: Sink, metrics: Metrics, rows: int, *, payloads: bool) -> None:
        self._log = events
        self._sink = sink
        self._metrics = metrics
        self._rows = rows
        self._wanted = EventFilter(payloads=payloads)
        self._wake = asyncio.Event()
        self._cursor: Cursor | None = None
        self._read_at_s = 0.0
        self._idle_s = _REST_MIN_S
        self._oldest: datetime | None = None
        metrics.events_relay_lag_s.set_function(self._lag_s)

    def nudge(self) -> None:
        """The leader has written something."""
        self._wake.set()

    async def run(self, leading: Callable[[], bool]) -> None:
        """Relay until cancelled, whenever `leading` says that this replica leads for certain. Raises nothing."""
        pause_s, said = _PAUSE_MIN_S, ""
        try:
            while True:
                try:
                    await self._relay_page(leading)
                except (SinkUnavailable, LogUnavailable, Overloaded, CursorExpired) as error:
                    self._metrics.events_publish_errors.labels(type(error).__name__).inc()
                    if str(error) != said:
                        said = str(error)
                        log.warning("relay_interrupted", error=said, reaction="trying again")
                except Exception:
                    # A defect of the relay must not end the term of a leader that drives sagas.
                    self._metrics.events_publish_errors.labels("defect").inc()
                    log.exception("relay_defect", reaction="trying again")
                else:
                    if said:
                        log.info("relay_resumed")
                    pause_s, said = _PAUSE_MIN_S, ""
                    continue
                self._cursor = None
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, _PAUSE_MAX_S)
        finally:
            self._cursor = self._oldest = None
            await self._sink.close()

    async def _relay_page(self, leading: Callable[[], bool]) -> None:
        """Publish the next page and keep the position behind it; wait a while if there is nothing more."""
        if not leading():
            self._cursor = self._oldest = None
            await asyncio.sleep(_DOUBT_S)
            return
        began_s = time.monotonic()
        self._wake.clear()
        cursor = self._cursor or await self._position()
        page = await self._log.page(cursor, self._wanted, self._rows)
        if cursor.expired(page.horizon):
            raise CursorExpired(cursor)
        self._oldest = page.events[0].transition.at if page.events else None
        if not await self._publish(page, leading):
            self._cursor = None
            return
        if page.end != cursor:
            self._idle_s = _REST_MIN_S
            self._cursor = await self._log.advance(RELAY_CONSUMER, cursor, page.end)
        if page.last:
            self._oldest = None
            await self._rest(time.monotonic() - began_s)

    async def _publish(self, page: EventPage, leading: Callable[[], bool]) -> bool:
        """Publish a page round by round; False when it is no longer certain that this replica leads."""
        for events in rounds(page.events):
            if not leading():
                return False
            await self._sink.publish(events)
            self._metrics.events_published.inc(len(events))
        return True

    async def _position(self) -> Cursor:
        """The kept position; the first time, before all events that are kept."""
        kept = await self._log.consumer(RELAY_CONSUMER)
        if kept is None:
            kept = await self._log.commit(RELAY_CONSUMER, earliest(await self._log.horizon()))
        self._cursor, self._read_at_s = kept, time.monotonic()
        return kept

    async def _rest(self, took_s: float) -> None:
        if time.monotonic() - self._read_at_s > _REREAD_S:
            self._cursor = None
        rest_s = max(_REST_MIN_S, took_s)
        await asyncio.sleep(rest_s)
        if self._idle_s > rest_s:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._idle_s - rest_s):
                    await self._wake.wait()
        self._idle_s = min(self._idle_s * _IDLE_GROWTH, _IDLE_MAX_S)

    def _lag_s(self) -> float:
        return 0.0 if self._oldest is None else max(0.0, (datetime.now(UTC) - self._oldest).total_seconds())
