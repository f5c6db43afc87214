"""Streams of events to any number of callers: each reads the log at its own pace, and one poller tells them of news.

A stream reads a page, hands it on, and reads the next when the caller has taken this one: however slow a caller is, it
holds one page, and what it has not seen waits in the log. Streams share a few reads at a time, so that many that catch
up leave the database to the others. At the end of the log they wait for the poller, which asks for the last place:
often while there is news, then ever less, and at once when the leader in this process has written something.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import structlog

from orchestrator.errors import LogUnavailable, Overloaded, Retryable
from orchestrator.events.model import Cursor, EventFilter, EventRecord
from orchestrator.events.port import CursorExpired, EventLog
from orchestrator.telemetry import Metrics

STREAMS_MAX = 500
# A stream that has nothing to send says so at such intervals: it lives, and has come so far.
PROGRESS_S = 5.0

_PAGE = 500
_READS_MAX = 2
_POLL_MIN_S = 0.02
_POLL_MAX_S = 0.25
_POLL_GROWTH = 1.3
# Between two polls lie at least so many times the duration of the last one.
_REST = 4.0
# A stream looks for itself so often: the poller asks for one order of all shards.
_LOOK_S = 2.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Progress:
    """An event, or that a stream has come as far as `cursor`."""

    event: EventRecord | None
    cursor: Cursor
    caught_up: bool


class EventStreams:
    """Streams events as long as `run` runs. Belongs to one event loop."""

    def __init__(self, events: EventLog, metrics: Metrics) -> None:
        self._log = events
        self._metrics = metrics
        self._count = 0
        self._listening = 0
        self._reads = asyncio.Semaphore(_READS_MAX)
        self._wake = asyncio.Event()
        self._news = asyncio.Event()
        self._closed = False

    def nudge(self) -> None:
        """The leader in this process has just written something."""
        if self._listening:
            self._wake.set()

    async def stream(
        self, after: Cursor, wanted: EventFilter, *, until_caught_up: bool = False
    ) -> AsyncGenerator[Progress]:
        """The wanted events behind `after`, from the past and as they come.

        Raises CursorExpired, LogUnavailable, Overloaded, and Retryable when this replica stops.
        """
        cursor, told_at_s = after, float("-inf")
        with self._counted():
            if cursor.expired(await self._log.horizon()):
                raise CursorExpired(cursor)
            while True:
                self._refuse_when_closed()
                # Before the page is read: what is written after that is news.
                news = self._news
                async with self._reads:
                    page = await self._log.page(cursor, wanted, _PAGE)
                if cursor.expired(page.horizon):
                    raise CursorExpired(cursor)
                for event in page.events:
                    yield Progress(event, event.cursor, False)
                cursor = page.end
                ends = page.last and until_caught_up
                if ends or time.monotonic() - told_at_s >= PROGRESS_S:
                    told_at_s = time.monotonic()
                    yield Progress(None, cursor, page.last)
                if ends:
                    return
                if page.last:
                    await self._until_news(news)

    async def run(self) -> None:
        """Ask for news as long as somebody waits for some, until cancelled."""
        known: Cursor | None = None
        pause_s = _POLL_MIN_S
        while True:
            if not self._listening:
                await self._wake.wait()
                pause_s = _POLL_MIN_S
            self._wake.clear()
            began_s = time.monotonic()
            head = await self._head() or known
            pause_s = _POLL_MIN_S if head != known else min(pause_s * _POLL_GROWTH, _POLL_MAX_S)
            if head != known:
                known = head
                self._announce()
            rest_s = _REST * (time.monotonic() - began_s)
            await asyncio.sleep(rest_s)
            if pause_s > rest_s:
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause_s - rest_s):
                        await self._wake.wait()

    def close(self) -> None:
        """Send everybody to another replica."""
        self._closed = True
        self._announce()

    async def _head(self) -> Cursor | None:
        try:
            return await self._log.head()
        except (LogUnavailable, Overloaded) as error:
            log.info("events_interrupted", error=str(error), reaction="asking again")
            return None

    async def _until_news(self, news: asyncio.Event) -> None:
        self._listening += 1
        self._wake.set()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await news.wait()
        finally:
            self._listening -= 1

    def _announce(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise Retryable("this replica stops; go on at another one, from the last cursor that you have seen")

    @contextmanager
    def _counted(self) -> Iterator[None]:
        if self._count >= STREAMS_MAX:
            raise Overloaded(f"{self._count} callers stream events from this replica already; ask another one")
        self._count += 1
        self._metrics.event_streams.set(self._count)
        try:
            yield
        finally:
            self._count -= 1
            self._metrics.event_streams.set(self._count)
