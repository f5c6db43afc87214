"""When those who wait may come again: never more than so many in one second, however many there are.

Pure: times come in, in seconds since boot. What is remembered are seconds, not who comes in them.
"""

from __future__ import annotations


class Turns:
    """The seconds to come, and how many turns of each are taken. At most `per_s` are given for one."""

    def __init__(self, per_s: int) -> None:
        self._per_s = per_s
        self._taken: dict[int, int] = {}
        self._forgot_at_s = 0

    def take(self, at_s: float, now_s: float) -> float:
        """Take a turn no earlier than `at_s`: in that second, or in the first one behind it with a turn left."""
        self._forget(int(now_s))
        second = int(at_s)
        while self._taken.get(second, 0) >= self._per_s:
            second += 1
        self._taken[second] = self._taken.get(second, 0) + 1
        return at_s + (second - int(at_s))

    def _forget(self, now_s: int) -> None:
        """Drop the seconds that are over."""
        if now_s > self._forgot_at_s:
            self._forgot_at_s = now_s
            self._taken = {second: taken for second, taken in self._taken.items() if second >= now_s}
