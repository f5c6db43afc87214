"""The versions of a seed's definitions: the first ones, and second ones that somebody applies in the middle of a run.

A second version mends how long and how often something is tried, calls a step otherwise or elsewhere, has another
condition or delay, one step more or one less. Whatever it changes was begun by some sagas, and not yet by others.

It is drawn apart from the first ones, so that a seed has the same definitions with it and without it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from copy import deepcopy

from orchestrator.errors import Rejected
from orchestrator.saga.definition import Definition
from orchestrator.saga.lint import lint
from orchestrator.saga.parse import parse
from orchestrator.simulation.definitions import FLAGS, SERVICES, STEPS_MAX, Document, first_version, in_ms

# The name of a step that only the second version has.
_NEW = "n"

# What a request has that is made otherwise than in the first version, and what stands there.
EDITION = "edition"
_SECOND = "`2`"

# Changes one step, by its index; whether there was anything to change.
_Edit = Callable[[Document, int, random.Random], bool]


class Library:
    """The definitions that there are. Second versions are known from the moment in which somebody applies them."""

    def __init__(self, documents: Mapping[str, Document], editions: Mapping[str, Document]) -> None:
        self.first = {name: first_version(document) for name, document in documents.items()}
        self._second = {name: parse(json.dumps(document), 2) for name, document in editions.items()}
        self._written = {(name, 1): document for name, document in documents.items()}
        self._written |= {(name, 2): document for name, document in editions.items()}
        self._versions: dict[str, dict[int, Definition]] = {name: {1: one} for name, one in self.first.items()}

    @property
    def editions(self) -> tuple[str, ...]:
        """The definitions of which a second version is drawn, applied or not."""
        return tuple(self._second)

    def apply(self, name: str) -> None:
        """From now on there is the second version."""
        self._versions[name][2] = self._second[name]

    def versions(self, name: str) -> Mapping[int, Definition]:
        """All versions of a definition by their numbers."""
        return self._versions[name]

    def get(self, name: str, version: int) -> Definition | None:
        """One version, if it is there."""
        return self._versions.get(name, {}).get(version)

    def newest(self, name: str) -> Definition | None:
        """The newest version, if there is any."""
        versions = self._versions.get(name)
        return versions[max(versions)] if versions else None

    def written(self, definition: Definition, step: str) -> Document:
        """A step as it is written in a version of its definition."""
        document = self._written[definition.name, definition.version]
        found: Document = next(one for one in document["steps"] if one["name"] == step)
        return found


def draw_editions(documents: Mapping[str, Document], chance: random.Random) -> dict[str, Document]:
    """The second versions of one seed, by name: none at all in every other one."""
    if chance.random() < 0.5:
        return {}
    return {name: _edition(document, chance) for name, document in documents.items() if chance.random() < 0.85}


def _edition(first: Document, chance: random.Random) -> Document:
    document = {**first, "description": "the second version"}
    for edit in (_mend, *chance.choices(list(_EDITS), list(_EDITS.values()), k=chance.choice((0, 1, 1, 1, 2, 3)))):
        edited = deepcopy(document)
        # More often late steps: to what differs early hardly any saga can be moved.
        index = max(chance.randrange(len(edited["steps"])) for _ in range(chance.choice((1, 2))))
        if edit(edited, index, chance) and _fit(edited):
            document = edited
    return document


def _fit(document: Document) -> bool:
    """Whether it can be applied."""
    try:
        return not lint(parse(json.dumps(document), 2)).errors
    except Rejected:
        return False


# Edits.


def _mend(document: Document, index: int, chance: random.Random) -> bool:
    """How persistently it is tried, and for how long: that may differ in a step that has begun."""
    step = document["steps"][index]
    if "action" in step:
        step["timeout"] = chance.choice(("900ms", "1200ms"))
        retry = step.setdefault("retry", {"retries": 2})
        retry |= {"initial": in_ms(chance.uniform(0.05, 0.3)), "max": "1s"}
        if "retries" in retry:
            retry["retries"] = chance.choice((0, 1, 2, 4))
        if isinstance(undo := step.get("compensation"), dict):
            undo["retry"] |= {"retries": 12}
    return True


def _call_otherwise(document: Document, index: int, chance: random.Random) -> bool:
    step = document["steps"][index]
    if "action" not in step:
        return False
    step["action"]["request"][EDITION] = _SECOND
    return True


def _undo_otherwise(document: Document, index: int, chance: random.Random) -> bool:
    undo = document["steps"][index].get("compensation")
    if not isinstance(undo, dict):
        return False
    undo["request"][EDITION] = _SECOND
    return True


def _call_elsewhere(document: Document, index: int, chance: random.Random) -> bool:
    step = document["steps"][index]
    if "service" not in step:
        return False
    step["service"] = SERVICES[(SERVICES.index(step["service"]) + 1) % len(SERVICES)]
    return True


def _wait_otherwise(document: Document, index: int, chance: random.Random) -> bool:
    waiting = [step for step in document["steps"] if "delay" in step]
    if not waiting:
        return False
    chance.choice(waiting)["delay"] = in_ms(chance.uniform(0.1, 2.0))
    return True


def _another_condition(document: Document, index: int, chance: random.Random) -> bool:
    step = document["steps"][index]
    if step.pop("when", None) is None:
        step["when"] = chance.choice(list(FLAGS))
    return True


def _another_order(document: Document, index: int, chance: random.Random) -> bool:
    """The step comes after the one before it alone, or, if it does so, after none."""
    steps = document["steps"]
    before = [steps[index - 1]["name"]] if index else []
    steps[index]["after"] = [] if steps[index]["after"] == before else before
    return True


def _one_more(document: Document, index: int, chance: random.Random) -> bool:
    """A new step before this one, or behind all of them."""
    steps = document["steps"]
    if len(steps) > STEPS_MAX or any(step["name"] == _NEW for step in steps):
        return False
    request = {"order": "input.order", "big": "input.big"}
    new: Document = {"name": _NEW, "service": chance.choice(SERVICES), "timeout": "1s"}
    new["action"] = {"method": "shop.Service/Do", "request": request}
    if any(step.get("pivot") for step in (steps if chance.random() < 0.6 else steps[:index])):
        index = len(steps)
    else:
        new["compensation"] = {"method": "shop.Service/Undo", "request": request, "retry": {"retries": 12, "max": "3s"}}
        index = index if chance.random() < 0.4 else len(steps)
    new["after"] = [steps[-1]["name"]] if index == len(steps) else list(steps[index]["after"])
    if index < len(steps):
        steps[index]["after"] = [*steps[index]["after"], _NEW]
    steps.insert(index, new)
    return True


def _one_less(document: Document, index: int, chance: random.Random) -> bool:
    """Without its last step, if nothing else is left over."""
    if len(document["steps"]) < 2:
        return False
    document["steps"].pop()
    return True


def _another_frame(document: Document, index: int, chance: random.Random) -> bool:
    """How the saga as a whole is undone, or how long it may take."""
    if chance.random() < 0.5:
        document["compensate"] = "sequential" if document.get("compensate") == "parallel" else "parallel"
    else:
        document["within"] = in_ms(chance.uniform(9.0, 20.0))
    return True


_EDITS: dict[_Edit, float] = {
    _mend: 2,
    _call_otherwise: 4,
    _undo_otherwise: 5,
    _call_elsewhere: 3,
    _wait_otherwise: 2,
    _another_condition: 1,
    _another_order: 1,
    _one_more: 4,
    _one_less: 2,
    _another_frame: 2,
}
