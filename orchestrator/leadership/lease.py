"""How long a lease in etcd can be relied on.

Pure: times are readings of CLOCK_BOOTTIME in seconds, passed in; nothing here reads a clock or talks to etcd.

The deadline counts from *before* the keep-alive was sent, because etcd may have begun the new term of the lease at
any moment between sending and answering, and it ends a margin early, because two clocks never run at quite the same
speed. CLOCK_BOOTTIME, unlike CLOCK_MONOTONIC, goes on while the machine sleeps, as etcd's clock does.

A lease is in one of three states:

    HELD      before the deadline
    IN_DOUBT  past the deadline, and etcd has not answered: it may have expired, it may have been renewed
    LOST      etcd has answered that it is gone

What they mean to a leader (rule R9): only LOST ends a term. IN_DOUBT means that no new call may start unless the
epoch was proven by a fenced write in Postgres since the deadline passed. Every intent is such a write, so a leader
that can reach Postgres goes on at full speed while etcd is away, and if another replica has been elected in the
meantime, that same write says so. A leader that can reach neither starts nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class LeaseState(StrEnum):
    """What is known of a lease at a moment."""

    HELD = "held"
    IN_DOUBT = "in_doubt"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease as this replica's own clock knows it. `deadline_s` is a reading of CLOCK_BOOTTIME, margin deducted."""

    id: int
    deadline_s: float
    lost: bool = False

    @classmethod
    def granted(cls, lease_id: int, asked_at_s: float, ttl_s: float, margin_s: float) -> Lease:
        """A new lease of `ttl_s` seconds, for which etcd was asked at `asked_at_s`."""
        return cls(lease_id, asked_at_s + ttl_s - margin_s)

    def renewed(self, sent_at_s: float, ttl_s: float, margin_s: float) -> Lease:
        """After etcd answered a keep-alive sent at `sent_at_s` with `ttl_s` left; 0 or less: the lease is gone.

        Answers may come in any order: a deadline never moves back, and what is lost stays lost.
        """
        if ttl_s <= 0:
            return replace(self, lost=True)
        return replace(self, deadline_s=max(self.deadline_s, sent_at_s + ttl_s - margin_s))

    def state(self, now_s: float) -> LeaseState:
        """The state at the reading `now_s` of the clock."""
        if self.lost:
            return LeaseState.LOST
        return LeaseState.HELD if now_s < self.deadline_s else LeaseState.IN_DOUBT

    def left_s(self, now_s: float) -> float:
        """Seconds for which the lease can still be relied on; 0 unless it is held."""
        return max(0.0, self.deadline_s - now_s) if not self.lost else 0.0
