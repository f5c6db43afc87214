"""The pulse of the main loop: the proof, for threads that speak to other processes, that this replica really runs.

The thread that renews the lease and the one that sends beats to the standbys would both go on happily while the main
loop hangs. So the main loop beats here, and they vouch for no more than the age of the last beat.
"""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]


def boottime_s() -> float:
    """CLOCK_BOOTTIME in seconds: monotonic, and it goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Pulse:
    """When the main loop last beat. One writer, any number of reading threads: a float is replaced as a whole."""

    def __init__(self, clock: Clock = boottime_s) -> None:
        self.clock = clock
        self._beat_at_s = clock()

    def beat(self) -> float:
        """Beat, and return the seconds since the last beat."""
        now_s = self.clock()
        since_s = now_s - self._beat_at_s
        self._beat_at_s = now_s
        return since_s

    def age_s(self) -> float:
        """Seconds since the main loop last beat."""
        return max(0.0, self.clock() - self._beat_at_s)
