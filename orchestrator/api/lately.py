"""What the log said a moment ago: read at most once in a while, however many ask."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from orchestrator.errors import BatonError

T = TypeVar("T")


class Lately(Generic[T]):
    """A value that is `fresh_s` seconds old at the most. `read` is bounded in time, and raises BatonErrors."""

    def __init__(self, read: Callable[[], Awaitable[T]], fresh_s: float) -> None:
        self._read = read
        self._fresh_s = fresh_s
        self._known: tuple[T, float] | None = None
        self._asking: asyncio.Future[BatonError | None] | None = None

    async def get(self) -> T:
        """The value. Raises what `read` raises."""
        while True:
            if self._known is not None and time.monotonic() < self._known[1]:
                return self._known[0]
            if self._asking is None:
                return await self._ask()
            # Somebody is asking already; whatever comes of it is the answer for all who wait.
            asking = self._asking
            await asyncio.wait((asking,))
            if not asking.cancelled() and (error := asking.result()) is not None:
                raise error

    async def _ask(self) -> T:
        asking = self._asking = asyncio.get_running_loop().create_future()
        asked_at_s = time.monotonic()
        try:
            value = await self._read()
            self._known = (value, asked_at_s + self._fresh_s)
            asking.set_result(None)
            return value
        except BatonError as error:
            asking.set_result(error)
            raise
        finally:
            # When this caller has gone away, the next one asks.
            asking.cancel()
            self._asking = None
