"""A breaker for one participant: whether it may be called now, and how long to wait if not.

    CLOSED --(misses in a row)--> OPEN --(its time is over)--> HALF OPEN --(one call reached it)--> RAMP --> CLOSED

While it is open nobody calls. Then one call tries; when it gets through, calls are let in at a rate that doubles, so
that what has waited does not fall upon a participant that has just come back. Chance spreads the waits (M. Nygard,
"Release It!", 2018; M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015). Where very many are
held they wait longer, so that asking in vain keeps nobody else from work.

Pure: the time comes in, in seconds since boot, and chance in [0, 1).
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.driving.turns import Turns


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When a breaker opens, how long it stays open, and how calls come back. Times are in seconds.

    It opens after `misses` in a row. The wait doubles from `first_s` to `most_s`. Then `ramp` calls are let in during
    `ramp_step_s`, twice as many in the next, until there were `ramp_steps`. Of those that are held no more than
    `turns_per_s` ask again in one second: each time costs them two rows of the log.
    """

    misses: int = 3
    first_s: float = 0.5
    most_s: float = 30.0
    ramp: int = 8
    ramp_step_s: float = 0.25
    ramp_steps: int = 8
    turns_per_s: int = 250


class Breaker:
    """The breaker of one participant."""

    def __init__(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        self._turns = Turns(policy.turns_per_s)
        self._misses = 0
        self._open_until_s = 0.0
        self._trying = False
        self._ramp_since_s: float | None = None
        self._ramp_step = -1
        self._let_in = 0

    @property
    def open(self) -> bool:
        """Whether calls are held: the participant has not been reached since it was missed."""
        return self._misses >= self._policy.misses

    def wait_s(self, now_s: float, chance: float) -> float | None:
        """None: call now, and say with `reached` or `missed` what came of it. Else how long to wait, in seconds."""
        if self.open:
            if now_s < self._open_until_s or self._trying:
                return self._turn_s(max(self._open_until_s - now_s, self._policy.first_s), now_s, chance)
            self._trying = True
            return None
        return self._ramp_wait_s(now_s, chance)

    def reached(self, now_s: float) -> None:
        """A call got through, whatever the participant said."""
        if self.open:
            self._ramp_since_s, self._ramp_step, self._let_in = now_s, -1, 0
        self._misses, self._trying = 0, False

    def come_back(self, now_s: float) -> None:
        """Let calls in by and by, as after an outage, because many may have waited for something else."""
        if not self.open:
            self._ramp_since_s, self._ramp_step, self._let_in = now_s, -1, 0

    def unheard(self) -> None:
        """A call was given up before it could say anything."""
        self._trying = False

    def missed(self, now_s: float, chance: float) -> float:
        """A call did not get through; how long its caller is to wait, in seconds.

        What was under way when the breaker opened says nothing new when it fails as well.
        """
        if self.open and not self._trying:
            return self._turn_s(max(self._open_until_s - now_s, self._policy.first_s), now_s, chance)
        self._misses += 1
        self._trying = False
        self._ramp_since_s = None
        beyond = max(0, min(self._misses - self._policy.misses, 32))
        pause_s = min(self._policy.most_s, self._policy.first_s * 2.0**beyond)
        if self.open:
            self._open_until_s = max(self._open_until_s, now_s + pause_s)
        return self._spread(pause_s, chance)

    def _ramp_wait_s(self, now_s: float, chance: float) -> float | None:
        if self._ramp_since_s is None:
            return None
        step = int((now_s - self._ramp_since_s) / self._policy.ramp_step_s)
        if step >= self._policy.ramp_steps:
            self._ramp_since_s = None
            return None
        if step != self._ramp_step:
            self._ramp_step, self._let_in = step, 0
        if self._let_in < self._policy.ramp * 2**step:
            self._let_in += 1
            return None
        next_s = self._ramp_since_s + (step + 1) * self._policy.ramp_step_s
        return self._turn_s(next_s - now_s + self._policy.ramp_step_s, now_s, chance)

    def _turn_s(self, wait_s: float, now_s: float, chance: float) -> float:
        """At least the wait, and until there is a turn."""
        return self._turns.take(now_s + self._spread(wait_s, chance), now_s) - now_s

    @staticmethod
    def _spread(wait_s: float, chance: float) -> float:
        """Between the wait and half as much again."""
        return wait_s * (1 + chance / 2)
