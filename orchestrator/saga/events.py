"""What can happen to a saga. Each event is one row of the step log, and the log is nothing but events.

Pure: values only.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from orchestrator.saga.model import Epoch, Json

# The code of a row that says that nobody was called.
NOT_CALLED = "NOT_CALLED"

# The code of a row that says that what a call, or a condition, is made of cannot be made of this saga.
NOT_TO_BE_MADE = "MAPPING"

# The code of a row that says that nobody was called because of a pause: of the definition, or of the participant.
PAUSED = "PAUSED"

# Rows with these codes tell of attempts that surely reached no participant.
UNREACHED = frozenset({NOT_CALLED, PAUSED, NOT_TO_BE_MADE})


class Status(StrEnum):
    """What a row of the step log says."""

    __hash__ = str.__hash__  # The same number as an enumeration's own, without a call of Python for each look.

    EXECUTING = "executing"  # The intent of an attempt of the action; `retry_at` is when all attempts must be over.
    QUERYING = "querying"  # The intent to ask the status method whether the action took effect.
    ABSENT = "absent"  # The status method says that the action took no effect, and never will.
    RETRYING = "retrying"  # That attempt failed, or nobody knows; the next one is due at retry_at.
    REFUSED = "refused"  # The attempt took no effect, and the next one is due at retry_at.
    HELD = "held"  # The participant is not to be reached: that spends no attempt; the next one is due at retry_at.
    WAITING = "waiting"  # The step waits for an answer, an approval, a time or a child, until retry_at.
    SKIPPED = "skipped"  # The step is passed over: its condition does not hold, or an operator says so.
    COMPLETED = "completed"  # The action took effect.
    FAILED = "failed"  # The action was refused for good, and took no effect.
    UNKNOWN = "unknown"  # The attempts are used up and nobody knows whether the action took effect.
    COMPENSATING = "compensating"  # The intent of an attempt of the compensation.
    COMPENSATION_RETRYING = "compensation_retrying"
    COMPENSATION_HELD = "compensation_held"
    COMPENSATION_WAITING = "compensation_waiting"
    COMPENSATED = "compensated"
    COMPENSATION_FAILED = "compensation_failed"  # Its budget is spent; the other compensations still run.
    CANCELLED = "cancelled"  # Somebody asked that the saga be undone.
    EXPIRED = "expired"  # The saga's deadline has passed.
    UNDONE = "undone"  # A completed child saga is undone, since its parent turns back.
    PARKED = "parked"  # The saga needs a person.
    # What operators order: each row names who, why, and by which evidence.
    PAUSED = "paused"
    RESUMED = "resumed"
    RETRIED = "retried"  # Do not wait any longer; a parked saga goes on where it was parked.
    RESOLVED = "resolved"  # The compensation counts as done.
    FORCED = "forced"  # The action counts as done, with this result, and the saga goes forward.
    MOVED = "moved"  # From here on the saga goes by another version of its definition: `result` has "from" and "to".


@dataclass(frozen=True, slots=True)
class Order:
    """Who ordered something, why, and what shows that it is right."""

    by: str
    reason: str
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """One transition. `position` is 0 for an event of the saga as a whole; `sequence` counts from 1 in each saga."""

    sequence: int
    status: Status
    epoch: Epoch
    position: int = 0
    attempt: int = 0
    result: Json | None = None
    code: str | None = None
    message: str | None = None
    retry_at: datetime | None = None
    order: Order | None = None
