"""Whether this replica could lead if it won: asked ahead of time, so that a takeover does not wait for the answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from orchestrator.leadership.port import MayCampaign
from orchestrator.leadership.pulse import Clock
from orchestrator.leadership.signal import Signal

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ReadinessPace:
    """How often to ask, in seconds: while the answer is yes, while it is no; and how long a yes counts."""

    interval_s: float = 1.0
    retry_s: float = 0.5
    fresh_s: float = 2.5


class Readiness:
    """Asks from time to time, but never while the replica leads: then the term itself finds out."""

    def __init__(self, may_campaign: MayCampaign, pace: ReadinessPace, signal: Signal, clock: Clock) -> None:
        self._may_campaign = may_campaign
        self._pace = pace
        self._signal = signal
        self._clock = clock
        self._asking = asyncio.Lock()
        self._ready_until_s = float("-inf")
        self.trouble: str | None = None

    def ready(self) -> bool:
        """Whether the last answer was yes, and is fresh."""
        return self._clock() < self._ready_until_s

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            async with self._asking:
                asked_at_s = self._clock()
                ready = await self._may_campaign()
                self._ready_until_s = asked_at_s + self._pace.fresh_s if ready else float("-inf")
            self._note(ready)
            self._signal.notify()
            await asyncio.sleep(self._pace.interval_s if ready else self._pace.retry_s)

    @asynccontextmanager
    async def resting(self) -> AsyncGenerator[None]:
        """Ask nothing within; afterwards the answer must be found out anew."""
        async with self._asking:
            try:
                yield
            finally:
                self._ready_until_s = float("-inf")

    def _note(self, ready: bool) -> None:
        if not ready and self.trouble is None:
            log.warning("not_campaigning", reason="this replica could not lead now", reaction="asking again")
        elif ready and self.trouble is not None:
            log.info("campaigning_again")
        self.trouble = None if ready else "not campaigning: this replica could not lead now (is Postgres reachable?)"
