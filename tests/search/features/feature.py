"""What a feature is to the search: definitions, what the world may do to them, and how far the search goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from orchestrator.saga.definition import Definition
from orchestrator.saga.events import Order, Status
from orchestrator.saga.model import SagaState
from orchestrator.saga.parse import parse
from orchestrator.saga.pausing import Pause
from orchestrator.saga.signals import Signal, Verb

Says = dict[str, Any]

# The delay does not grow, so that a saga that waits is the same saga whenever it waits.
RETRY: Says = {"retries": 1, "initial": "1s", "multiplier": 1, "jitter": 0}
ONCE: Says = {**RETRY, "retries": 0}
UNDO: Says = {"method": "t.S/Undo", "retry": RETRY}

_ORDER = Order("kim", "it is known to be so", "a receipt")


def step(name: str, **says: Any) -> Says:
    """A step that calls a participant, with a compensation and one retry of each, unless `says` has it otherwise."""
    entry: Says = {"name": name, "service": "participant:1", "action": {"method": "t.S/Do"}, "retry": RETRY}
    if not says.get("pivot") and "compensation" not in says:
        entry["compensation"] = UNDO
    entry |= says
    return {field: value for field, value in entry.items() if value is not None}


def definition(*steps: Says, version: int = 1, **says: Any) -> Definition:
    """A definition of these steps, read as production reads it."""
    return parse(yaml.safe_dump({"name": "searched", **says, "steps": list(steps)}), version)


@dataclass(frozen=True, slots=True)
class Told:
    """Something that somebody may tell a saga once, at any moment.

    `promised`: it is told to a paused saga, as often as it is paused, and that can be relied on. `to` is the version
    that a move goes to.
    """

    verb: Verb
    step: str = ""
    promised: bool = False
    to: int = 0

    @property
    def signal(self) -> Signal:
        """As the log has it."""
        code = "FAILED_PRECONDITION" if self.verb is Verb.FAIL else ""
        result = {"definition": "searched", "to": self.to} if self.to else {}
        return Signal(0, self.verb, self.step, result=result, code=code, order=_ORDER)


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature of the saga language, as the search has it.

    `definitions`: of the saga; a second one is that of the child saga which a step of the first runs. `versions`: the
    others that the first definition has. `pauses`: of definitions and participants, each once. `told`: what
    people and participants may say. `refusals`: steps whose participant may refuse the action. `results`: the ways to
    say yes. `holds`: participants may be away. `silent`: they may leave a call without an answer. `stubborn`:
    compensations may be refused for now. `start_age`: when the saga may begin. `attempts`: their numbers make a
    difference.

    The bounds: `generations` of leaders, `faults` (a commit or an answer lost, a compensation refused), `ages` that
    time goes on by itself (further on only while something waits for it), `told_max` things told that nobody has
    promised.
    `statuses`, `ends` and `states_min` are what the search must meet, lest it be about nothing.
    """

    name: str
    what: str
    definitions: tuple[Definition, ...]
    statuses: frozenset[Status]
    states_min: int
    versions: tuple[Definition, ...] = ()
    pauses: tuple[Pause, ...] = ()
    told: tuple[Told, ...] = ()
    refusals: frozenset[str] = frozenset()
    results: tuple[str, ...] = ("ok",)
    holds: bool = False
    silent: bool = True
    stubborn: bool = True
    cancel: bool = True
    start_age: int = 0
    attempts: bool = False
    generations: int = 3
    faults: int = 2
    ages: int = 0
    told_max: int = 9
    states_max: int = 2_000_000
    ends: frozenset[SagaState] = frozenset({SagaState.COMPLETED, SagaState.COMPENSATED})

    @property
    def judged_by_people(self) -> frozenset[str]:
        """Steps of which an operator may say what became of them: the ledgers need not bear that out."""
        return frozenset(told.step for told in self.told if told.verb in (Verb.SKIP, Verb.FORCE, Verb.RESOLVE))
