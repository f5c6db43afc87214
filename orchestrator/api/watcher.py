"""Tells those who watch sagas, or wait for their end, what the log has: one poller for all of a replica's watchers.

Sagas are driven elsewhere, so the log is asked, and only while somebody watches: often while there is news, then ever
less. When the leader is in this process it nudges the poller, which then asks at once. The poller never takes more than
a fifth of the time.

Every watcher has room for one page of transitions. While it has not taken them, the log is not asked on its behalf:
however slow it is, it holds no memory, and what it has not seen yet waits in the log.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import structlog

from orchestrator.api.port import SagaReader
from orchestrator.errors import LogUnavailable, Overloaded, Retryable
from orchestrator.saga.model import SagaId
from orchestrator.sagalog.records import News, TransitionRecord, is_terminal

WATCHERS_MAX = 20_000
_PAGE = 32
_POLL_MIN_S = 0.02
_POLL_MAX_S = 0.2
_POLL_GROWTH = 1.3
_NUDGED_MIN_S = 0.002
# Between two polls lie at least so many times the duration of the last one.
_REST = 4.0

log = structlog.get_logger()


@dataclass(eq=False, slots=True)
class _Watch:
    """One watcher: what it is to be given next, and the sequence up to which it was given everything."""

    saga_id: SagaId
    after: int
    page: deque[TransitionRecord] = field(default_factory=deque)
    over: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, news: News) -> None:
        """Take what is new, if there is room."""
        if self.page:
            return
        for transition in news.transitions:
            if transition.sequence > self.after:
                self.page.append(transition)
                self.after = transition.sequence
        # A page that is not full is the last one, also when the log lacks rows that the saga's row has counted.
        whole = self.after >= news.last or len(news.transitions) < _PAGE
        self.over = whole and is_terminal(news.state)
        if self.page or self.over:
            self.changed.set()


class Watcher:
    """Watches sagas for any number of callers, as long as `run` runs."""

    def __init__(self, reader: SagaReader) -> None:
        self._reader = reader
        self._watches: dict[SagaId, set[_Watch]] = {}
        self._ends: dict[SagaId, set[asyncio.Future[bool]]] = {}
        self._count = 0
        self._wake = asyncio.Event()
        self._closed = False

    def nudge(self, saga_id: SagaId) -> None:
        """The leader in this process has just written this saga."""
        if saga_id in self._watches or saga_id in self._ends:
            self._wake.set()

    async def watch(self, saga_id: SagaId, after: int) -> AsyncGenerator[TransitionRecord]:
        """The saga's transitions behind sequence `after`, from the past and as they come, until it is terminal.

        Raises Overloaded, and Retryable when this replica stops.
        """
        watch = _Watch(saga_id, after)
        with self._counted():
            watches = self._watches.setdefault(saga_id, set())
            watches.add(watch)
            try:
                while True:
                    self._refuse_when_closed()
                    self._wake.set()
                    await watch.changed.wait()
                    watch.changed.clear()
                    while watch.page:
                        yield watch.page.popleft()
                    if watch.over:
                        return
            finally:
                watches.discard(watch)
                if not watches and self._watches.get(saga_id) is watches:
                    del self._watches[saga_id]

    async def ended(self, saga_id: SagaId, timeout_s: float) -> bool:
        """Whether the saga is terminal within `timeout_s` seconds; False at once when this replica stops.

        Raises Overloaded.
        """
        with self._counted():
            if self._closed:
                return False
            end: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            ends = self._ends.setdefault(saga_id, set())
            ends.add(end)
            self._wake.set()
            try:
                done, _ = await asyncio.wait((end,), timeout=timeout_s)
                return bool(done) and end.result()
            finally:
                ends.discard(end)
                if not ends and self._ends.get(saga_id) is ends:
                    del self._ends[saga_id]

    async def run(self) -> None:
        """Poll for as long as somebody watches, until cancelled."""
        pause_s = _POLL_MIN_S
        while True:
            if not self._watches and not self._ends:
                await self._wake.wait()
                pause_s = _POLL_MIN_S
            self._wake.clear()
            began_s = time.monotonic()
            moved = await self._poll()
            took_s = time.monotonic() - began_s
            pause_s = _POLL_MIN_S if moved else min(pause_s * _POLL_GROWTH, _POLL_MAX_S)
            rest_s = max(_NUDGED_MIN_S, _REST * took_s)
            await asyncio.sleep(rest_s)
            if pause_s > rest_s:
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause_s - rest_s):
                        await self._wake.wait()
                        pause_s = _POLL_MIN_S

    def close(self) -> None:
        """Let everybody go: who waits is answered with what there is, who watches is sent to another replica."""
        self._closed = True
        for ends in self._ends.values():
            for end in ends:
                if not end.done():
                    end.set_result(False)
        for watches in self._watches.values():
            for watch in watches:
                watch.changed.set()

    async def _poll(self) -> bool:
        """Ask the log once; whether there was any news."""
        try:
            return await self._poll_watches() | await self._poll_ends()
        except (LogUnavailable, Overloaded) as error:
            log.info("watch_interrupted", error=str(error), reaction="asking again")
            return False

    async def _poll_watches(self) -> bool:
        known = {
            saga_id: min(hungry)
            for saga_id, watches in self._watches.items()
            if (hungry := [watch.after for watch in watches if not watch.page and not watch.over])
        }
        if not known:
            return False
        found = await self._reader.news(known, _PAGE)
        for news in found:
            for watch in self._watches.get(news.saga_id, ()):
                watch.take(news)
        return bool(found)

    async def _poll_ends(self) -> bool:
        if not self._ends:
            return False
        ended = await self._reader.ended(list(self._ends))
        for saga_id in ended:
            for end in self._ends.get(saga_id, ()):
                if not end.done():
                    end.set_result(True)
        return bool(ended)

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise Retryable("this replica stops; watch on at another one, from the last sequence that you have seen")

    @contextmanager
    def _counted(self) -> Iterator[None]:
        if self._count >= WATCHERS_MAX:
            raise Overloaded(f"{self._count} callers watch sagas on this replica already")
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1
