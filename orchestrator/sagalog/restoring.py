"""A saga as its rows tell it: for the leader that drives it, and for a replica that is asked about it. Pure.

A saga that was moved went by one version of its definition up to its move, and by another from there on. Each row is
folded under the version that was in force when it was written, so the fold says what the leader knew, whatever the
versions differ in. The saga's row names the version that is in force now, each row of a move the two that it lies
between.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.errors import CorruptLog
from orchestrator.saga.definition import Definition
from orchestrator.saga.events import Status
from orchestrator.saga.machine import fold
from orchestrator.saga.model import Saga, SagaState
from orchestrator.sagalog.port import StoredSaga


def versions(stored: StoredSaga) -> tuple[int, ...]:
    """The versions that a saga has gone by, the first one first. Raises CorruptLog when its rows contradict them."""
    found: list[int] = []
    for event in stored.events:
        if event.status is Status.MOVED:
            told = event.result or {}
            before, after = told.get("from"), told.get("to")
            if not isinstance(before, int) or not isinstance(after, int):
                raise CorruptLog(f"row {event.sequence} (moved) does not say from which version to which")
            found += [after] if found else [before, after]
    if stored.flaw is None and found and found[-1] != stored.version:
        raise CorruptLog(f"its row says that it goes by version {stored.version}, its log by version {found[-1]}")
    return tuple(found) or (stored.version,)


def restored(stored: StoredSaga, definitions: Mapping[int, Definition]) -> Saga:
    """The fold of a saga's events; `definitions` has its `versions`.

    Raises CorruptLog when its rows cannot be understood, or contradict its log.
    """
    if stored.flaw is not None:
        raise CorruptLog(stored.flaw)
    first = definitions[versions(stored)[0]]
    saga = Saga(
        stored.id,
        first,
        stored.input,
        stored.labels,
        stored.created_at,
        starts_at=stored.starts_at,
        parent=stored.parent,
    )
    saga = fold(saga, stored.events, definitions)
    if stored.state == SagaState.PENDING and saga.state is not SagaState.PENDING:
        raise CorruptLog(f"its row says that it is {stored.state}, its log that it is {saga.state}")
    return saga
