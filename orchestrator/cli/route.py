"""Which endpoint to ask next: one that has not failed just now. And how long to wait when all of them have."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

# How long an endpoint that failed is asked only when nothing better is left.
_PENALTY_S = 1.0


class Route:
    """The order in which a client asks its endpoints. Not for several threads.

    With `spread` each question goes to the next endpoint; without, all go to one until it fails.
    """

    def __init__(
        self, endpoints: tuple[str, ...], *, spread: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if not endpoints:
            raise ValueError("a client needs at least one endpoint, host:port")
        self.endpoints = endpoints
        self._spread = spread
        self._clock = clock
        self._at = 0
        self._penalized_until_s = dict.fromkeys(endpoints, float("-inf"))

    def next(self) -> str:
        """The endpoint to ask now: the first in turn without a penalty, else the one whose penalty ends first."""
        now_s = self._clock()
        count = len(self.endpoints)
        for offset in range(count):
            index = (self._at + offset) % count
            if self._penalized_until_s[self.endpoints[index]] <= now_s:
                break
        else:
            index = min(range(count), key=lambda i: self._penalized_until_s[self.endpoints[i]])
        self._at = (index + 1) % count if self._spread else index
        return self.endpoints[index]

    def failed(self, endpoint: str) -> None:
        """The endpoint did not answer, or not as it should."""
        self._penalized_until_s[endpoint] = self._clock() + _PENALTY_S

    def succeeded(self, endpoint: str) -> None:
        """The endpoint answered: an earlier failure is forgotten."""
        self._penalized_until_s[endpoint] = float("-inf")


class Backoff:
    """Pauses that double, with full jitter on the upper half, so that clients that failed together spread out."""

    def __init__(self, first_s: float = 0.02, max_s: float = 0.5) -> None:
        self._pause_s = first_s
        self._max_s = max_s

    def next_s(self) -> float:
        """The next pause, in seconds."""
        pause_s, self._pause_s = self._pause_s, min(self._pause_s * 2, self._max_s)
        return pause_s * (0.5 + random.random() / 2)
