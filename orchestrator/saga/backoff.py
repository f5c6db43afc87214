"""How long to wait between two attempts. Pure: chance comes in as a number."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with jitter (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).

    `retries` counts the attempts after the first. Delays are in seconds. `jitter` is the share of a delay that
    chance may take away, so that sagas which failed together do not come back together.

    `within_s` says that the time for all attempts is a part of the policy: it may stand instead of a count, and is not
    spent by an outage of the participant either. Without it, whatever bounds the step bounds its outages as well.

    `final` and `transient` are gRPC codes by name that overrule the published table (docs/participants.md): a final
    one is not tried again, a transient one is.
    """

    retries: int = 3
    initial_s: float = 1.0
    multiplier: float = 2.0
    max_s: float = 30.0
    jitter: float = 0.2
    final: frozenset[str] = frozenset()
    transient: frozenset[str] = frozenset()
    within_s: float | None = None

    def exhausted(self, failures: int) -> bool:
        """Whether `failures` failed attempts leave no further attempt."""
        return failures > self.retries

    def delay_s(self, failures: int, chance: float) -> float:
        """Seconds to wait after the `failures`-th failed attempt; `chance` is uniform in [0, 1)."""
        # The exponent is bounded so that a policy of very many retries cannot overflow a float.
        full_s = min(self.max_s, self.initial_s * self.multiplier ** min(failures - 1, 64))
        return full_s * (1 - self.jitter * chance)


ACTION_RETRY = RetryPolicy()

# A compensation must be done, whatever it takes: it outlasts an outage of some minutes before a person is called.
COMPENSATION_RETRY = RetryPolicy(retries=12, initial_s=1.0, multiplier=2.0, max_s=30.0, jitter=0.2)
