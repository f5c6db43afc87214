"""Every change of a saga's state that there is: state before, what happened, state after.

`evolve` goes by it: an event whose change is not here is a corrupt log. A test walks through all that can happen and
reaches every entry and no other; the picture in docs/architecture.md is drawn from it (scripts/state_picture.py).

Pure: a table.
"""

from __future__ import annotations

from orchestrator.saga.events import Status
from orchestrator.saga.model import SagaState

_P, _R, _B = SagaState.PENDING, SagaState.RUNNING, SagaState.COMPENSATING
_DONE, _UNDONE, _PARKED = SagaState.COMPLETED, SagaState.COMPENSATED, SagaState.FAILED

TABLE: dict[tuple[SagaState, SagaState], str] = {
    (_P, _P): "moved paused resumed",
    (_P, _R): "executing forced skipped waiting",
    (_P, _DONE): "forced skipped",
    (_P, _UNDONE): "cancelled expired failed",
    (_P, _PARKED): "parked",
    (_R, _R): (
        "absent completed executing forced held moved paused querying refused resumed retried retrying skipped waiting"
    ),
    # A version in which nothing is left to do.
    (_R, _DONE): "completed forced moved skipped",
    (_R, _B): "cancelled expired failed unknown",
    (_R, _UNDONE): "cancelled expired failed unknown",
    (_R, _PARKED): "parked",
    (_B, _B): (
        "absent compensated compensating compensation_failed compensation_held compensation_retrying "
        "compensation_waiting completed failed moved paused resolved resumed retried unknown"
    ),
    (_B, _UNDONE): "compensated completed failed resolved unknown",
    (_B, _PARKED): "parked",
    # A child saga whose parent turns back.
    (_DONE, _B): "undone",
    (_DONE, _UNDONE): "undone",
    (_PARKED, _PARKED): "completed moved",
    (_PARKED, _P): "retried",
    (_PARKED, _R): "forced retried skipped",
    (_PARKED, _DONE): "forced retried skipped",
    (_PARKED, _B): "resolved retried",
    (_PARKED, _UNDONE): "resolved retried",
}

TRANSITIONS = frozenset(
    (before, Status(status), after) for (before, after), statuses in TABLE.items() for status in statuses.split()
)
