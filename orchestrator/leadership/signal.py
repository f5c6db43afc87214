"""A condition that anybody may wait for: state changes, somebody notifies, everybody looks again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Signal:
    """Wakes all that wait, on one event loop. What is waited for is state, so that no change is ever missed."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        """Make everybody look at their condition again."""
        self._event.set()
        self._event = asyncio.Event()

    async def until(self, condition: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Wait until the condition holds, for at most `timeout_s`; whether it does."""
        try:
            async with asyncio.timeout(timeout_s):
                while not condition():
                    await self._event.wait()
        except TimeoutError:
            return condition()
        return True
