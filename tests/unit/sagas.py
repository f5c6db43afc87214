"""Sagas for the tests of the pure core."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from orchestrator.saga.definition import Definition
from orchestrator.saga.machine import Moment
from orchestrator.saga.model import Epoch, Saga, SagaId
from orchestrator.saga.parse import parse

EPOCH = Epoch(7)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def moment(epoch: int = EPOCH, chance: float = 0.0) -> Moment:
    return Moment(Epoch(epoch), NOW, chance)


def definition(*compensations: bool, retries: int = 1) -> Definition:
    """A definition of one step for each of `compensations`, which says whether the step has one."""
    lines = ["name: test", "steps:"]
    for number, compensation in enumerate(compensations, start=1):
        undo = f"{{method: t.S/Undo, retry: {{retries: {retries}}}}}" if compensation else "none"
        lines.append(
            f"  - {{name: s{number}, service: 'h:1', action: {{method: t.S/Do}}, compensation: {undo}, "
            f"retry: {{retries: {retries}}}}}"
        )
    return parse("\n".join(lines), 1)


def new_saga(*compensations: bool, retries: int = 1) -> Saga:
    """A pending saga; three steps that can all be compensated unless told otherwise."""
    steps = compensations or (True, True, True)
    return Saga(SagaId(UUID(int=1)), definition(*steps, retries=retries), {}, {}, NOW)
