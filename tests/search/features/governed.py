"""The features by which people govern sagas from outside: moves to another version, and pauses of more than a saga."""

from __future__ import annotations

from uuid import UUID

from orchestrator.saga.events import Status as S
from orchestrator.saga.model import SagaState
from orchestrator.saga.pausing import Pause, PauseKind
from orchestrator.saga.signals import Verb
from tests.search.features.core import BEGINNING
from tests.search.features.feature import ONCE, RETRY, Feature, Told, definition, step

_FORTH = frozenset({S.EXECUTING, S.COMPLETED})
_BACK = frozenset({S.COMPENSATING, S.COMPENSATED, S.COMPENSATION_RETRYING})


def _undo(**request: str) -> dict[str, object]:
    return {"method": "t.S/Undo", "retry": ONCE, "request": request}


def _do(**request: str) -> dict[str, object]:
    return {"method": "t.S/Do", "request": request}


MOVES = Feature(
    "moves",
    "moves to versions that mend a step, call it otherwise, or have a step before it; what cannot be made parks the "
    "saga, which is moved and retried",
    (definition(step("a", retry=ONCE), step("b", action=_do(x="input.at"), compensation=_undo(x="results.a.no"))),),
    _FORTH
    | _BACK
    | {S.MOVED, S.HELD, S.COMPENSATION_HELD, S.COMPENSATION_FAILED, S.PARKED, S.RETRIED}
    | {S.FAILED, S.UNKNOWN, S.RETRYING, S.CANCELLED},
    70_000,
    versions=(
        definition(
            step("a", retry=RETRY, timeout="9s"),
            step("b", action=_do(x="input.at"), compensation=_undo(x="input.at")),
            version=2,
        ),
        definition(
            step("a", retry=ONCE),
            step("n", retry=ONCE),
            step("b", action=_do(x="input.at"), compensation=_undo(x="results.a.no")),
            version=3,
        ),
        definition(
            step("a", retry=ONCE),
            step("b", action=_do(y="input.at"), compensation=_undo(x="results.a.no")),
            version=4,
        ),
    ),
    told=(Told(Verb.MOVE, to=2), Told(Verb.MOVE, to=3), Told(Verb.MOVE, to=4), Told(Verb.RETRY)),
    told_max=2,
    refusals=frozenset("b"),
    holds=True,
    stubborn=False,
    generations=2,
    faults=1,
    ends=frozenset({SagaState.COMPLETED, SagaState.COMPENSATED, SagaState.FAILED}),
)

_PAUSES = tuple(
    Pause(UUID(int=number), kind, name, "kim", "it is known to be so", BEGINNING)
    for number, (kind, name) in enumerate([(PauseKind.DEFINITION, "searched"), (PauseKind.PARTICIPANT, "other:1")])
)

PAUSES = Feature(
    "pauses",
    "a pause of the definition and one of a participant, each at any moment; two steps side by side",
    (
        definition(
            step("a", after=[], retry=ONCE),
            step("b", after=[], retry=ONCE, service="other:1"),
        ),
    ),
    _FORTH | {S.HELD, S.COMPENSATING, S.COMPENSATION_HELD, S.COMPENSATED, S.FAILED, S.UNKNOWN},
    60_000,
    pauses=_PAUSES,
    silent=False,
    cancel=False,
    refusals=frozenset("b"),
    stubborn=False,
    generations=2,
    faults=1,
)
