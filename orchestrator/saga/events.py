"""What can happen to a saga. Each event is one row of the step log, and the log is nothing but events.

Pure: values only.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from orchestrator.saga.model import Epoch, Json


class Status(StrEnum):
    """What a row of the step log says."""

    EXECUTING = "executing"  # The intent of an attempt of the action.
    RETRYING = "retrying"  # That attempt failed, or nobody knows; the next one is due at retry_at.
    COMPLETED = "completed"  # The action took effect.
    FAILED = "failed"  # The action was refused for good, and took no effect.
    UNKNOWN = "unknown"  # The attempts are used up and nobody knows whether the action took effect.
    COMPENSATING = "compensating"  # The intent of an attempt of the compensation.
    COMPENSATION_RETRYING = "compensation_retrying"
    COMPENSATED = "compensated"
    COMPENSATION_FAILED = "compensation_failed"  # Its budget is spent; the other compensations still run.
    CANCELLED = "cancelled"  # Somebody asked that the saga be undone.
    PARKED = "parked"  # The saga needs a person.


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
