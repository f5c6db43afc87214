"""When a standby may say that the leader does not run, and how often.

Pure: what was seen goes in, what to do comes out.

A standby takes the leader's key over before its lease ends only on positive evidence, something that a broken
network cannot produce (rule R10). Silence is no evidence: it looks the same from either end of a cut cable. A host
that *refuses* a connection, or that accepts one in its kernel while the process behind it says nothing, can be
reached, and tells of the process.

Two things are looked at: the stream of beats that the standby had open (`Stream`), and what a fresh connection to
the same address met (`Probe`). The table below is the whole decision; what is not in it accuses nobody, and the
standby waits for the leader's key to vanish. A wrong verdict costs one failover, never safety.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Stream(StrEnum):
    """The stream of beats from this very process, as the standby knows it."""

    NEVER = "never"  # it could not be opened yet
    SILENT = "silent"  # it is open, and no beat came for the beat timeout
    LOST = "lost"  # it was open, and it ended


class Probe(StrEnum):
    """What a fresh connection to the leader's address met."""

    ALIVE = "alive"  # the same process said hello
    RESTARTED = "restarted"  # the same replica said hello, as another process
    STRANGER = "stranger"  # another replica said hello: a reused or a mistaken address
    MUTE = "mute"  # the kernel accepted, and nobody said hello in time
    REFUSED = "refused"  # the host answers that nobody listens
    UNREACHABLE = "unreachable"  # no answer, no route, cut off in between, or nonsense


class Verdict(StrEnum):
    """What a standby holds against the leader."""

    GONE = "gone"  # its process has ended
    FROZEN = "frozen"  # its process exists, and does not run


_EVIDENCE = {
    (Stream.LOST, Probe.REFUSED): Verdict.GONE,
    (Stream.LOST, Probe.STRANGER): Verdict.GONE,
    # The same replica in a new process: whoever held the key under that name is dead. This needs no former stream, so
    # that a cluster which restarts as a whole does not wait for the lease of its past.
    (Stream.LOST, Probe.RESTARTED): Verdict.GONE,
    (Stream.SILENT, Probe.RESTARTED): Verdict.GONE,
    (Stream.NEVER, Probe.RESTARTED): Verdict.GONE,
    (Stream.SILENT, Probe.MUTE): Verdict.FROZEN,
}


def judge(stream: Stream, probe: Probe, *, own_pause: bool) -> Verdict | None:
    """The verdict on the leader, or None: accuse nobody.

    `own_pause` says that this process itself did not run for a part of the time: then a silence proves nothing, and
    a frozen leader must be observed again from the start.
    """
    verdict = _EVIDENCE.get((stream, probe))
    return None if verdict is Verdict.FROZEN and own_pause else verdict


@dataclass(frozen=True, slots=True)
class Allowance:
    """A token bucket: `burst` accusations at once, and one more every `refill_s` seconds."""

    burst: int
    refill_s: float
    tokens: float
    counted_at_s: float

    @classmethod
    def full(cls, burst: int, refill_s: float, now_s: float) -> Allowance:
        """A full bucket at the reading `now_s` of a clock."""
        return cls(burst, refill_s, burst, now_s)

    def spend(self, now_s: float) -> tuple[Allowance, bool]:
        """The bucket after one accusation at `now_s`, and whether that one is allowed."""
        tokens = min(float(self.burst), self.tokens + max(0.0, now_s - self.counted_at_s) / self.refill_s)
        allowed = tokens >= 1
        return Allowance(self.burst, self.refill_s, tokens - 1 if allowed else tokens, now_s), allowed
