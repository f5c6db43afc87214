"""Whoever adds what an older leader cannot read thinks of the level."""

from __future__ import annotations

from orchestrator.saga.events import Status
from orchestrator.saga.model import SagaState
from orchestrator.sagalog.level import READING_LEVEL

_STATUSES = {
    1: "executing retrying completed failed unknown compensating compensation_retrying compensated compensation_failed"
    " cancelled parked",
    2: "querying absent refused held waiting skipped compensation_held compensation_waiting expired undone paused"
    " resumed retried resolved forced moved",
}
_STATES = {1: "PENDING RUNNING COMPENSATING COMPLETED COMPENSATED FAILED"}


def test_every_status_and_state_belongs_to_a_level() -> None:
    """If this fails: raise READING_LEVEL, unless no release has had it yet, and add what is new to its line here."""
    assert max(_STATUSES) == READING_LEVEL
    assert {status.value for status in Status} == set(" ".join(_STATUSES.values()).split())
    assert {state.value for state in SagaState} == set(" ".join(_STATES.values()).split())
