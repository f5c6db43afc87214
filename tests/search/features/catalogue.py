"""The features of the saga language that are searched, one entry each: what is searched of it, and how far.

To add one, add an entry; what the world does that it does not do yet goes into moves.py, what must hold into
observer.py or invariants.py, and a seeded bug of the core that this feature must find into bugs.py.
"""

from __future__ import annotations

from orchestrator.saga.events import Status
from orchestrator.saga.model import SagaState
from orchestrator.saga.signals import Verb
from tests.search.features.feature import ONCE, RETRY, UNDO, Feature, Told, definition, step
from tests.search.features.governed import MOVES, PAUSES

S = Status

_FORTH = frozenset({S.EXECUTING, S.COMPLETED})
_BACK = frozenset({S.COMPENSATING, S.COMPENSATED, S.COMPENSATION_RETRYING})
_TRIED = frozenset({S.RETRYING, S.UNKNOWN})
_GIVEN_UP = frozenset({S.COMPENSATION_FAILED, S.PARKED})

_STATUS = {"method": "t.S/Status"}

PIVOT = Feature(
    "pivot",
    "two steps that can be undone, the pivot, one behind it; a cancellation at any moment",
    (definition(step("a"), step("b", retry=ONCE), step("p", pivot=True), step("r", retry=RETRY, compensation=None)),),
    _FORTH | _BACK | _TRIED | _GIVEN_UP | {S.FAILED, S.REFUSED, S.CANCELLED},
    17_000,
    refusals=frozenset("bpr"),
    faults=3,
)

PARALLEL = Feature(
    "parallel",
    "two steps side by side between two others; independent compensations run together",
    (
        definition(
            step("a", retry=ONCE, compensation=UNDO),
            step("b", after=["a"], retry=ONCE),
            step("c", after=["a"], retry=ONCE),
            step("d", after=["b", "c"], retry=ONCE),
            compensate="parallel",
        ),
    ),
    _FORTH | _BACK | _GIVEN_UP | {S.FAILED, S.UNKNOWN, S.CANCELLED},
    37_000,
    refusals=frozenset("bcd"),
    stubborn=False,
    generations=2,
    faults=2,
)

CONDITIONS = Feature(
    "conditions",
    "a step that runs or is passed over by an earlier one's result, and one whose condition may be impossible to judge",
    (
        definition(
            step("a", retry=ONCE),
            step("b", when="results.a.more", retry=ONCE),
            step("c", when="!(results.a.more) || starts_with(results.a.more, 'x')", retry=ONCE),
        ),
    ),
    _FORTH | _BACK | {S.SKIPPED, S.FAILED, S.UNKNOWN, S.CANCELLED},
    18_000,
    refusals=frozenset("c"),
    results=("ok", "ok, more is true", "ok, more is a word"),
    faults=1,
)

DELAY = Feature(
    "delay",
    "a start at a later time, a delay, a step, a wait until a date, a step",
    (
        definition(
            {"name": "d", "delay": "50s"},
            step("a", retry=ONCE),
            {"name": "u", "delay": {"until": "input.at"}},
            step("b", retry=ONCE),
        ),
    ),
    _FORTH | _BACK | _GIVEN_UP | {S.WAITING, S.FAILED, S.UNKNOWN, S.CANCELLED},
    16_000,
    refusals=frozenset("b"),
    start_age=1,
    ages=3,
    faults=2,
)

STARTING = Feature(
    "starting",
    "a start at a later time, and what a saga may be told before it",
    (definition(step("a", retry=ONCE), step("b", retry=ONCE), within="150s"),),
    _FORTH | _BACK | {S.PAUSED, S.RESUMED, S.SKIPPED, S.RETRIED, S.EXPIRED, S.UNKNOWN, S.CANCELLED},
    12_000,
    told=(Told(Verb.RETRY), Told(Verb.PAUSE), Told(Verb.RESUME, promised=True), Told(Verb.SKIP, "a")),
    told_max=1,
    stubborn=False,
    start_age=1,
    generations=2,
    faults=1,
)

ANSWERS = Feature(
    "answers",
    "a step that is answered later, within a time and with heartbeats; late, double and contradicting answers",
    (definition(step("a", answer="later", within="150s", heartbeat="50s"), step("b", retry=ONCE)),),
    _FORTH | _BACK | _TRIED | {S.WAITING, S.FAILED, S.CANCELLED},
    46_000,
    told=(Told(Verb.HEARTBEAT, "a"),),
    refusals=frozenset("b"),
    stubborn=False,
    generations=2,
    faults=1,
)

APPROVAL = Feature(
    "approval",
    "a step, a person's approval within a time, a step; two people say yes, one says no",
    (definition(step("a", retry=ONCE), {"name": "ok", "approval": {}, "within": "50s"}, step("b", retry=ONCE)),),
    _FORTH | _BACK | {S.WAITING, S.FAILED, S.UNKNOWN, S.CANCELLED},
    37_000,
    told=(Told(Verb.APPROVE, "ok"), Told(Verb.APPROVE, "ok"), Told(Verb.REJECT, "ok")),
    refusals=frozenset("b"),
    stubborn=False,
    told_max=3,
    generations=2,
    faults=1,
)

DEADLINE = Feature(
    "deadline",
    "a deadline of the saga, and times that a step and its compensation may take",
    (
        definition(
            step("a", within="50s", compensation={**UNDO, "within": "150s"}),
            step("b", within="150s"),
            within="150s",
        ),
    ),
    _FORTH | _BACK | _TRIED | _GIVEN_UP | {S.EXPIRED, S.HELD, S.COMPENSATION_HELD, S.FAILED},
    38_000,
    refusals=frozenset("b"),
    holds=True,
    stubborn=False,
    cancel=False,
    generations=2,
    ages=3,
    faults=2,
)

UNKNOWN = Feature(
    "unknown",
    "outcomes that nobody knows: one step asks its status method, one is compensated at once, one is repeated",
    (
        definition(
            step("a", on_unknown="query", status=_STATUS),
            step("b", on_unknown="compensate"),
            step("c"),
        ),
    ),
    _FORTH | _BACK | _TRIED | _GIVEN_UP | {S.QUERYING, S.ABSENT, S.FAILED, S.CANCELLED},
    29_000,
    refusals=frozenset("ac"),
    stubborn=False,
    attempts=True,
    faults=2,
)

HOLDS = Feature(
    "holds",
    "participants that are away: calls that were never made, calls that were cut off, for as long as a step may take",
    (definition(step("a", within="50s"), step("b")),),
    _FORTH | _BACK | _TRIED | _GIVEN_UP | {S.HELD, S.RETRIED, S.COMPENSATION_HELD, S.FAILED, S.CANCELLED},
    72_000,
    refusals=frozenset("b"),
    told=(Told(Verb.RETRY),),
    holds=True,
    stubborn=False,
    generations=2,
    ages=1,
)

CHILDREN = Feature(
    "children",
    "a step that runs another definition as a saga of its own, and one behind it that may turn both back",
    (
        definition({"name": "kid", "saga": {"definition": "other"}}, step("b", retry=ONCE)),
        definition(step("x", retry=ONCE)),
    ),
    _FORTH | _BACK | _GIVEN_UP | {S.WAITING, S.COMPENSATION_WAITING, S.UNDONE, S.FAILED, S.UNKNOWN, S.CANCELLED},
    53_000,
    refusals=frozenset("bx"),
    stubborn=False,
    generations=2,
    faults=2,
)

ORDERS = Feature(
    "orders",
    "what operators order, each once at any moment: pause, resume, retry, skip, force, resolve",
    (definition(step("a", compensation={**UNDO, "retry": ONCE}), step("b", retry=ONCE)),),
    _FORTH
    | _BACK
    | _TRIED
    | _GIVEN_UP
    | {S.PAUSED, S.RESUMED, S.RETRIED, S.SKIPPED, S.FORCED, S.RESOLVED, S.FAILED, S.CANCELLED},
    57_000,
    told=(
        Told(Verb.PAUSE),
        Told(Verb.RESUME, promised=True),
        Told(Verb.RESUME),
        Told(Verb.RETRY),
        Told(Verb.SKIP, "b"),
        Told(Verb.FORCE, "b"),
        Told(Verb.RESOLVE, "a"),
    ),
    refusals=frozenset("b"),
    told_max=2,
    generations=2,
    faults=1,
)

BESIDE = Feature(
    "beside",
    "steps side by side, one of them answered later and within a time, and one behind both",
    (
        definition(
            step("a", after=[], answer="later", within="50s", retry=ONCE),
            step("b", after=[], retry=ONCE),
            step("c", after=["a", "b"], retry=ONCE),
        ),
    ),
    _FORTH | _BACK | {S.WAITING, S.FAILED, S.UNKNOWN, S.CANCELLED},
    36_000,
    refusals=frozenset("bc"),
    stubborn=False,
    generations=2,
    faults=1,
)

_BEHIND = {"after": ["p"], "retry": ONCE}
_PARKING = frozenset({S.PARKED, S.RETRIED, S.SKIPPED, S.WAITING})

PARKED_PARENT = Feature(
    "parked-parent",
    "behind the pivot, a child saga beside a step that parks the saga; it is retried, or that step is skipped",
    (
        definition(
            step("p", pivot=True, retry=ONCE),
            {"name": "kid", "after": ["p"], "saga": {"definition": "other"}},
            step("b", **_BEHIND, compensation=None),
        ),
        definition(step("x", retry=ONCE)),
    ),
    _FORTH | _PARKING | {S.FAILED, S.REFUSED, S.COMPENSATING, S.COMPENSATED},
    10_000,
    told=(Told(Verb.RETRY), Told(Verb.SKIP, "b")),
    told_max=1,
    refusals=frozenset("bx"),
    cancel=False,
    stubborn=False,
    generations=2,
    faults=0,
    ends=frozenset({SagaState.COMPLETED, SagaState.FAILED}),
)

PARKED_ANSWERS = Feature(
    "parked-answers",
    "behind the pivot, a step answered later beside one that parks the saga; it is retried, or that step is skipped",
    (
        definition(
            step("p", pivot=True, retry=ONCE),
            step("a", answer="later", **_BEHIND, compensation=None),
            step("b", **_BEHIND, compensation=None),
        ),
    ),
    _FORTH | _PARKING,
    10_000,
    told=(Told(Verb.RETRY), Told(Verb.SKIP, "b")),
    told_max=1,
    refusals=frozenset("b"),
    cancel=False,
    generations=2,
    faults=1,
    ends=frozenset({SagaState.COMPLETED, SagaState.FAILED}),
)

FEATURES: dict[str, Feature] = {
    feature.name: feature
    for feature in (
        PIVOT,
        PARALLEL,
        CONDITIONS,
        DELAY,
        STARTING,
        ANSWERS,
        APPROVAL,
        DEADLINE,
        UNKNOWN,
        HOLDS,
        CHILDREN,
        ORDERS,
        BESIDE,
        PARKED_PARENT,
        PARKED_ANSWERS,
        MOVES,
        PAUSES,
    )
}
