"""A stopwatch for bounds on time: what it measures is the code's own, and not the machine's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

_TICK_S = 0.01
# A loop that did not come round for longer stood still, with its whole process or for want of a processor.
_ROUND_MAX_S = 0.05


@dataclass
class OwnTime:
    """Seconds in which the event loop went round; a time in which it stood still counts as one round."""

    passed_s: float = 0.0

    async def _count(self) -> None:
        last_s = time.monotonic()
        while True:
            await asyncio.sleep(_TICK_S)
            now_s = time.monotonic()
            self.passed_s += min(now_s - last_s, _ROUND_MAX_S)
            last_s = now_s


@asynccontextmanager
async def own_time() -> AsyncIterator[OwnTime]:
    """Counts within the block. A wait for something that never comes takes its time here as on any clock."""
    measured = OwnTime()
    counting = asyncio.create_task(measured._count())
    try:
        yield measured
    finally:
        counting.cancel()
        await asyncio.gather(counting, return_exceptions=True)
