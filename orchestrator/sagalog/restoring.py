"""A saga as its rows tell it: for the leader that drives it, and for a replica that is asked about it. Pure."""

from __future__ import annotations

from orchestrator.errors import CorruptLog
from orchestrator.saga.definition import Definition
from orchestrator.saga.machine import fold
from orchestrator.saga.model import Saga, SagaState
from orchestrator.sagalog.port import StoredSaga


def restored(stored: StoredSaga, definition: Definition) -> Saga:
    """The fold of a saga's events. Raises CorruptLog when its rows cannot be understood, or contradict its log."""
    if stored.flaw is not None:
        raise CorruptLog(stored.flaw)
    saga = Saga(stored.id, definition, stored.input, stored.labels, stored.created_at, starts_at=stored.starts_at)
    saga = fold(saga, stored.events)
    if stored.state == SagaState.PENDING and saga.state is not SagaState.PENDING:
        raise CorruptLog(f"its row says that it is {stored.state}, its log that it is {saga.state}")
    return saga
