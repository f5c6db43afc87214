"""The definitions that a seed draws: random graphs of steps that use every feature of the saga language.

Which features a seed uses at all, and how much, is drawn first (swarm testing, as for the faults). A definition is
written as its author would write it, and read by the production parser and linter: what they refuse is a defect here.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import InvariantError
from orchestrator.saga.definition import Definition
from orchestrator.saga.lint import lint
from orchestrator.saga.parse import parse

SERVICES = ("stock:1", "money:1", "parcel:1")
DEFINITIONS = 5
STEPS_MAX = 6
NAMES = "abcdef"

# What every call is told, and every child is given: an order says itself where it fails (orders.py).
_TOLD = ("order", "refuse", "stubborn", "tries", "big")
_GIVEN = (*_TOLD, "flags", "until")

# The conditions over the input alone; the others read whether the result of an earlier step is `big`.
FLAGS = {"input.flags.p": ("p", True), "input.flags.q": ("q", True), "!(input.flags.p)": ("p", False)}

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Taste:
    """How likely the definitions of a seed use each feature, where they can."""

    side_by_side: float
    pivot: float
    condition: float
    delay: float
    later: float
    approval: float
    child: float
    query: float
    compensate: float
    deadline: float
    limit: float
    codes: float
    nothing_to_undo: float
    undo_together: float
    # That a compensation has a small budget, so that its saga is parked.
    short: float


def draw_taste(chance: random.Random) -> Taste:
    """The taste of one seed: half of the features rarely or never, the others often."""
    names = Taste.__slots__
    return Taste(**{name: chance.choice((0.0, 0.1, 0.2, 0.4)) for name in names})


def draw_documents(chance: random.Random) -> dict[str, Document]:
    """The definitions of one seed by name, as they are written. Later ones may run earlier ones as children."""
    taste = draw_taste(chance)
    drawn: dict[str, Document] = {}
    for number in range(DEFINITIONS):
        author = _Author(chance, taste, _childless(drawn, number))
        drawn[f"d{number}"] = author.document(f"d{number}")
    return drawn


def first_version(document: Document) -> Definition:
    """A drawn definition as it is read. Raises InvariantError when the linter refuses it."""
    definition = parse(json.dumps(document), 1)
    if errors := lint(definition).errors:
        raise InvariantError(f"a definition was drawn that the linter refuses: {errors} {document}")
    return definition


def _childless(drawn: dict[str, Document], number: int) -> list[str]:
    """What a definition may run: those before it, and unless it is the last one, only what runs nothing itself."""
    if number < DEFINITIONS - 1:
        return [name for name, earlier in drawn.items() if all("saga" not in step for step in earlier["steps"])]
    return list(drawn)


class _Author:
    """Writes one definition."""

    def __init__(self, chance: random.Random, taste: Taste, children: list[str]) -> None:
        self._chance = chance
        self._taste = taste
        self._children = children
        self._waits_s = 0.0
        self._calls: list[str] = []

    def _likes(self, likely: float) -> bool:
        return self._chance.random() < likely

    def document(self, name: str) -> Document:
        count = self._chance.randint(1, STEPS_MAX)
        pivot = self._chance.randint(1, count) if self._likes(self._taste.pivot * 1.5) else 0
        before: dict[str, set[str]] = {}
        steps: list[Document] = []
        for number in range(1, count + 1):
            after = self._after(number, pivot)
            before[NAMES[number - 1]] = set(after).union(*(before[earlier] for earlier in after))
            steps.append(self._step(number, pivot, after, before[NAMES[number - 1]]))
        document: Document = {"name": name, "steps": steps}
        if self._likes(self._taste.undo_together * 2.5):
            document["compensate"] = "parallel"
        if self._likes(self._taste.deadline):
            document["within"] = in_ms(self._waits_s + self._chance.choice((6.5, 9.0, 14.0)))
        return document

    def _after(self, number: int, pivot: int) -> list[str]:
        """The steps that this one comes after: with a pivot, all others come before it or behind it."""
        if number == pivot:
            return list(NAMES[: number - 1])
        behind = pivot and number > pivot
        names = NAMES[pivot - 1 : number - 1] if behind else NAMES[: number - 1]
        if not names:
            return []
        if not self._likes(self._taste.side_by_side * 2):
            return [names[-1]]
        after = [name for name in names if self._chance.random() < 1.2 / len(names)]
        return after or ([names[0]] if behind else [])

    def _step(self, number: int, pivot: int, after: list[str], before: set[str]) -> Document:
        behind = bool(pivot) and number > pivot
        step: Document = {"name": NAMES[number - 1], "after": after}
        if number == pivot:
            step["pivot"] = True
        if self._likes(self._taste.condition):
            read = sorted(before & set(self._calls))
            conditions = [*FLAGS, *(f"results.{name}.big || `false`" for name in read)]
            step["when"] = self._chance.choice(conditions)
        if self._likes(self._taste.delay / 2):
            return step | self._delay()
        if not behind and self._likes(self._taste.approval / 2):
            within = {"within": in_ms(self._chance.uniform(1.0, 6.0))} if self._likes(0.5) else {}
            return step | {"approval": {"question": "Is it to be done?"}} | within
        if self._children and self._likes(self._taste.child):
            return step | self._child(number < pivot)
        self._calls.append(step["name"])
        return step | self._call(step["name"], number, pivot, before)

    def _delay(self) -> Document:
        if self._likes(0.4):
            return {"delay": {"until": "input.until"}}
        seconds = self._chance.uniform(0.05, 1.0) if self._likes(0.5) else self._chance.uniform(1.5, 5.0)
        self._waits_s += seconds
        return {"delay": in_ms(seconds)}

    def _child(self, before_pivot: bool) -> Document:
        given = {name: f"input.{name}" for name in _GIVEN}
        child = {"definition": self._chance.choice(self._children), "version": self._chance.choice((0, 1))}
        step: Document = {"saga": {**child, "input": given}}
        if self._likes(self._taste.nothing_to_undo):
            step |= {"compensation": "none", **({"reason": "it may stay"} if before_pivot else {})}
        if self._likes(self._taste.limit / 2):
            step["within"] = in_ms(self._chance.uniform(3.0, 6.0))
        return step

    def _call(self, name: str, number: int, pivot: int, before: set[str]) -> Document:
        taste, behind = self._taste, bool(pivot) and number > pivot
        step: Document = {"service": self._chance.choice(SERVICES), "timeout": "1s", "retry": self._retry()}
        request = {told: f"input.{told}" for told in _TOLD}
        read = sorted(before & set(self._calls))
        if read:
            request["follows"] = f"results.{self._chance.choice(read)}.reference || 'nothing'"
        step["action"] = {"method": "shop.Service/Do", "request": request}
        undone = not behind and (number != pivot or self._likes(0.3)) and not self._likes(taste.nothing_to_undo)
        if undone:
            step["compensation"] = self._compensation(name)
        elif not behind and number != pivot:
            step |= {"compensation": "none", "reason": "nothing has to be undone"}
        if self._likes(taste.later):
            step |= {"answer": "later", "within": in_ms(self._chance.uniform(2.0, 6.0))}
            if self._likes(0.5):
                step["heartbeat"] = in_ms(self._chance.uniform(0.8, 1.8))
        elif self._likes(taste.limit):
            beside = step["retry"] if self._likes(0.5) else step
            beside["within"] = in_ms(self._chance.uniform(1.0, 4.0))
        if self._likes(taste.query):
            step |= {
                "on_unknown": "query",
                "status": {"method": "shop.Service/Ask", "request": {"order": "input.order"}},
            }
        elif undone and self._likes(taste.compensate):
            step["on_unknown"] = "compensate"
        return step

    def _compensation(self, name: str) -> Document:
        told = {told: f"input.{told}" for told in _TOLD}
        retry: Document = {"retries": 12, "initial": "100ms", "max": "3s"}
        if self._likes(self._taste.short):
            retry["retries"] = self._chance.randint(0, 2)
        undo: Document = {
            "method": "shop.Service/Undo",
            "request": {**told, "was": f"results.{name}.reference"},
            "retry": retry,
        }
        if self._likes(self._taste.limit / 2):
            undo["within"] = in_ms(self._chance.uniform(4.0, 9.0))
        return undo

    def _retry(self) -> Document:
        chance = self._chance
        retries = chance.choice((0, 1, 2, 2, 4))
        retry: Document = {
            "initial": in_ms(chance.uniform(0.05, 0.3)),
            "max": "1s",
            "multiplier": chance.choice((1, 2, 3)),
            "jitter": chance.choice((0, 0.2, 1)),
            **({"attempts": retries + 1} if chance.random() < 0.5 else {"retries": retries}),
        }
        if self._likes(self._taste.codes):
            retry |= chance.choice(({"final": ["DEADLINE_EXCEEDED"]}, {"transient": ["FAILED_PRECONDITION"]}))
        return retry


def in_ms(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"
