"""What a saga is at one moment: the fold of its log.

    PENDING --> RUNNING --> COMPLETED
       |           |
       |           v
       +----> COMPENSATING --> COMPENSATED
                   |
                   +---------> FAILED (parked: a compensation could not be done, and a person is needed)

Pure: values only. How they change stands in machine.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NewType
from uuid import UUID

from orchestrator.saga.definition import Definition

SagaId = NewType("SagaId", UUID)
Epoch = NewType("Epoch", int)

# A JSON object, as Python has it.
Json = dict[str, Any]


class SagaState(StrEnum):
    """The state of a whole saga."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPENSATING = "COMPENSATING"
    COMPLETED = "COMPLETED"
    COMPENSATED = "COMPENSATED"
    FAILED = "FAILED"

    @property
    def terminal(self) -> bool:
        """Whether nothing will ever happen to the saga again by itself."""
        return self in (SagaState.COMPLETED, SagaState.COMPENSATED, SagaState.FAILED)


class Kind(StrEnum):
    """The two directions of a step."""

    ACTION = "action"
    COMPENSATION = "compensation"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a step, or a saga, did not succeed. `code` is a gRPC status by name, or a reason of Baton's own."""

    step: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Cursor:
    """The one step and direction that the saga is at, and how far it has come there.

    `attempt` counts intents from 1; `failures` counts attempts whose failure was logged, which alone spend the
    retry budget: a failover repeats an attempt without spending it. `doubtful` says that some earlier attempt of
    the action may have taken effect although nobody knows. `retry_at` is set while the saga waits.
    """

    position: int
    kind: Kind
    attempt: int
    failures: int
    intent_epoch: Epoch
    doubtful: bool
    retry_at: datetime | None


@dataclass(frozen=True, slots=True)
class Saga:
    """A saga as its log tells it. Positions count the definition's steps from 1.

    `to_compensate` is a stack: its last entry is compensated first. `results` holds each completed action's reply.
    """

    id: SagaId
    definition: Definition
    input: Json
    labels: dict[str, str]
    created_at: datetime
    state: SagaState = SagaState.PENDING
    sequence: int = 0
    cursor: Cursor | None = None
    results: tuple[tuple[int, Json], ...] = ()
    executed: tuple[int, ...] = ()
    to_compensate: tuple[int, ...] = ()
    compensated: tuple[int, ...] = ()
    uncompensated: tuple[int, ...] = ()
    failure: Failure | None = None
    cancel_reason: str | None = None

    @property
    def current_step(self) -> str | None:
        """The name of the step that the saga is at."""
        return None if self.cursor is None else self.definition.step(self.cursor.position).name
