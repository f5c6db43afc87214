"""Decides whether new sagas are taken: what is measured, against limits, with a gap between shutting and opening.

Pure: no clock, no chance, no I/O. Reads and sagas in flight are never held back, so a backlog that has shut the door
shrinks until the door opens again. It opens below a share of the limit, not at the limit itself: a door that opened
there would shut with the next saga, and every client would be told something else each time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Cause(StrEnum):
    """What can have reached its limit; also the label of the metric."""

    BACKLOG = "backlog"  # Sagas that wait in the log to be begun.
    AGE = "age"  # How long the oldest of them has waited.
    QUEUE = "queue"  # Starts that wait on this replica for their commit.
    COMMIT = "commit"  # The time of a commit on Postgres.
    POSTGRES = "postgres"  # How long Postgres has taken no write at all: away, read-only, or frozen.
    DISK = "disk"  # Postgres has no room for another row.
    MEMORY = "memory"  # What this process holds.


# What another replica may have room for: its callers need not wait long before they ask again.
_OF_THIS_REPLICA = frozenset({Cause.QUEUE, Cause.MEMORY})

_LOCAL_DELAY_S = 0.2
_DELAY_MIN_S = 0.5
_DELAY_MAX_S = 5.0

_SAYS = {
    Cause.BACKLOG: "{reading:,.0f} sagas wait to be begun (BATON_PENDING_MAX is {limit:,.0f})",
    Cause.AGE: "the oldest pending saga has waited {reading:.0f} s (BATON_PENDING_AGE_MAX_S is {limit:g})",
    Cause.QUEUE: "{reading:,.0f} starts wait for Postgres on this replica (BATON_INTAKE_QUEUE_MAX is {limit:,.0f})",
    Cause.COMMIT: "a commit on Postgres takes {reading:.1f} s (BATON_COMMIT_MAX_S is {limit:g})",
    Cause.POSTGRES: "Postgres has taken no write for {reading:.0f} s (BATON_WRITE_ABSENCE_MAX_S is {limit:g})",
    Cause.DISK: "Postgres has no disk space for new sagas",
    Cause.MEMORY: "this replica holds {reading:,.0f} bytes (its limit is {limit:,.0f})",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """The limit of each cause that has one, and the share of it below which the door opens again, in (0, 1]."""

    most: Mapping[Cause, float]
    reopen_share: float


def judge(shut_by: frozenset[Cause], readings: Mapping[Cause, float], limits: Limits) -> frozenset[Cause]:
    """The causes that shut the door now, after `shut_by`. Without a reading a cause stays as it was."""
    after = set()
    for cause, most in limits.most.items():
        reading = readings.get(cause)
        if reading is None:
            holds = cause in shut_by
        else:
            holds = reading > (most * limits.reopen_share if cause in shut_by else most)
        if holds:
            after.add(cause)
    return frozenset(after)


def explain(shut_by: frozenset[Cause], readings: Mapping[Cause, float], limits: Limits) -> str:
    """Why the door is shut, for whoever wanted in."""
    reasons = [
        _SAYS[cause].format(reading=readings.get(cause, 0.0), limit=limits.most.get(cause, 0.0))
        for cause in Cause
        if cause in shut_by
    ]
    return "no new sagas are taken now: " + "; ".join(reasons)


def retry_delay_s(shut_by: frozenset[Cause], shut_for_s: float, chance: float) -> float:
    """When to ask again, in seconds: the later, the longer the door has been shut; `chance` in [0, 1) spreads callers.

    Without that all who were refused in one moment would come back in one moment.
    """
    if shut_by <= _OF_THIS_REPLICA:
        return _LOCAL_DELAY_S * (0.5 + chance)
    return min(max(shut_for_s / 4, _DELAY_MIN_S), _DELAY_MAX_S) * (0.5 + chance)
