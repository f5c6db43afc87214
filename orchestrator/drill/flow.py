"""One direction of one connection through a link: bytes in order, on their way for as long as the weather wants.

In fair weather bytes are handed on as they come. Else they queue, at most `QUEUED_BYTES_MAX` of them: then the source
is not read any more, and its own kernel tells it to wait. A TCP stream cannot lose bytes in the middle: what a
blackhole holds is delivered when the link heals, as a network's own repetitions would do it. Only swallowed bytes are
gone, and their connection ends with a reset.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

QUEUED_BYTES_MAX = 262_144


class End(Enum):
    """How a direction of a connection ends."""

    EOF = "eof"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class Weather:
    """What one direction of a link does to what passes. Times in seconds; `rate` in bytes a second, 0 for no limit."""

    delay_s: float = 0.0
    jitter_s: float = 0.0
    rate: float = 0.0
    held: bool = False

    @property
    def fair(self) -> bool:
        """Whether bytes pass at once."""
        return not self.held and self.delay_s == 0.0 and self.jitter_s == 0.0 and self.rate == 0.0


FAIR = Weather()


class Sink(Protocol):
    """Where a flow ends: one side of the connection."""

    def deliver(self, data: bytes) -> None:
        """Send bytes on."""

    def end(self, how: End) -> None:
        """Say that no more comes."""


class Flow:
    """The bytes of one direction. `regulate` is called whenever `full` may have changed."""

    def __init__(self, sink: Sink, weather: Weather, regulate: Callable[[], None]) -> None:
        self._sink = sink
        self._weather = weather
        self._regulate = regulate
        self._queue: deque[tuple[float, bytes | End]] = deque()
        self._queued_bytes = 0
        self._free_at_s = 0.0
        self._last_due_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    @property
    def full(self) -> bool:
        """Whether the source must not be read for now."""
        return self._queued_bytes >= QUEUED_BYTES_MAX

    @property
    def queued_bytes(self) -> int:
        """Bytes that are on their way."""
        return self._queued_bytes

    def feed(self, data: bytes | End) -> None:
        """Take what came from the source."""
        if self._weather.fair and not self._queue:
            self._release(data)
            return
        self._queue.append((self._due_s(data), data))
        self._queued_bytes += _size(data)
        self._regulate()
        self._arm()

    def change(self, weather: Weather) -> None:
        """The weather has changed, also for what is on its way: nothing waits longer than if it were sent now."""
        self._weather = weather
        now_s = self._last_due_s = self._free_at_s = self._loop.time()
        latest_s = now_s + weather.delay_s + weather.jitter_s
        waiting, self._queue = self._queue, deque()
        for due_s, data in waiting:
            self._queue.append((min(due_s, latest_s) if not weather.rate else self._due_s(data), data))
        self._arm()

    def drop(self) -> None:
        """Forget what is on its way."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._queue.clear()
        self._queued_bytes = 0

    def _due_s(self, data: bytes | End) -> float:
        weather = self._weather
        leaves_s = self._loop.time()
        if weather.rate:
            leaves_s = self._free_at_s = max(self._free_at_s, leaves_s) + _size(data) / weather.rate
        # Jitter is no licence to overtake: TCP keeps the order.
        self._last_due_s = max(self._last_due_s, leaves_s + weather.delay_s + weather.jitter_s * random.random())
        return self._last_due_s

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._queue and not self._weather.held:
            self._timer = self._loop.call_at(self._queue[0][0], self._pass_on)

    def _pass_on(self) -> None:
        self._timer = None
        now_s = self._loop.time()
        while self._queue and self._queue[0][0] <= now_s:
            _, data = self._queue.popleft()
            self._queued_bytes -= _size(data)
            self._release(data)
        self._regulate()
        self._arm()

    def _release(self, data: bytes | End) -> None:
        if isinstance(data, End):
            self._sink.end(data)
        else:
            self._sink.deliver(data)


def _size(data: bytes | End) -> int:
    return 0 if isinstance(data, End) else len(data)
