"""When new starts of a definition are held: too many of its latest sagas had to be undone.

Pure: no clock, no I/O. The leader asks this of what has ended; api/start_holds.py refuses the starts. The idea is that
of a circuit breaker around a whole process: what is broken is tried on few customers, not on all.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.saga.definition import HoldStarts
from orchestrator.saga.model import SagaState


def turned_back(ended: Sequence[str]) -> int:
    """How many of these states are those of sagas that did not reach their goal: compensated, or parked."""
    return sum(state in (SagaState.COMPENSATED, SagaState.FAILED) for state in ended)


def starts_held(policy: HoldStarts, ended: Sequence[str]) -> bool:
    """Whether starts are to be held, by the states of the sagas that have ended, the latest first.

    The share is one of `of_last`, however few have ended: two sagas of two say little.
    """
    return turned_back(ended[: policy.of_last]) > policy.share * policy.of_last
