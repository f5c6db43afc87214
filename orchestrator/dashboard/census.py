"""How many sagas there are by definition and state, counted now and then, and only while somebody scrapes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from orchestrator.errors import LogUnavailable, Overloaded

# Sagas by definition and state.
Counts = dict[tuple[str, str], int]

_TICK_S = 0.5
_INTERVAL_S = 5.0
# Counting takes no more than this share of the time, however long one count is.
_SHARE = 0.05
# Nobody has scraped for so long: nobody will.
_IDLE_S = 120.0

log = structlog.get_logger()


class Census:
    """Keeps the last counts for scrapes, which must not wait for Postgres. `count` raises LogUnavailable."""

    def __init__(self, count: Callable[[], Awaitable[Counts]]) -> None:
        self._count = count
        self._counts: Counts = {}
        self._asked_at_s = time.monotonic()

    def latest(self) -> Counts:
        """The counts of a few seconds ago. May be called from any thread."""
        self._asked_at_s = time.monotonic()
        return self._counts

    async def run(self) -> None:
        """Count until cancelled. When Postgres is away the last counts stay."""
        due_at_s = 0.0
        while True:
            began_s = time.monotonic()
            if began_s >= due_at_s and began_s - self._asked_at_s < _IDLE_S:
                try:
                    # Replaced as a whole, so that a scrape never sees half of it.
                    self._counts = await self._count()
                except (LogUnavailable, Overloaded) as error:
                    log.info("sagas_not_counted", error=str(error))
                took_s = time.monotonic() - began_s
                due_at_s = time.monotonic() + max(_INTERVAL_S, took_s / _SHARE)
            await asyncio.sleep(_TICK_S)
