"""What the simulated clients order: sagas of their seed's definitions, and the inputs that make some of them fail."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

from orchestrator.driving.registry import Compiled, Registry
from orchestrator.errors import FieldViolation, NotFound
from orchestrator.saga.definition import Definition, Work
from orchestrator.saga.model import Json
from orchestrator.sagalog.memory_rows import MIDNIGHT
from orchestrator.simulation.definitions import SERVICES
from orchestrator.simulation.editions import Library
from orchestrator.simulation.loop import BEGINNING_S
from orchestrator.simulation.postgres import NewSaga
from orchestrator.simulation.term_log import Line

NOBODY_KNOWS = 99
# More tries than any compensation has.
FOR_EVER = 1_000


def order(
    number: int, chance: random.Random, definitions: Mapping[str, Definition], start_s: float, unknown_versions: bool
) -> NewSaga:
    """One order, to be placed `start_s` seconds after the beginning.

    Every fourth or so is refused at some step, by a call of its own or of a child; at some the participant is slow to
    undo. Few ask for a version that nobody knows.
    """
    definition = chance.choice(list(definitions.values()))
    places = list(_places(definition, definitions)) or [""]
    value: Json = {
        "order": f"o{number}",
        "refuse": chance.choice(places) if chance.random() < 0.3 else "",
        "stubborn": chance.choice(places) if chance.random() < 0.15 else "",
        "tries": FOR_EVER if chance.random() < 0.15 else 2,
        "big": chance.random() < 0.5,
        "flags": {"p": chance.random() < 0.6, "q": chance.random() < 0.6},
        "until": (MIDNIGHT + timedelta(seconds=BEGINNING_S + start_s + chance.uniform(0.0, 6.0))).isoformat(),
    }
    version = NOBODY_KNOWS if unknown_versions and chance.random() < 0.05 else 1
    later_s = chance.uniform(0.1, 5.0) if chance.random() < 0.12 else None
    return NewSaga(f"request-{number}", definition.name, version, value, later_s)


def _places(definition: Definition, definitions: Mapping[str, Definition]) -> Iterator[str]:
    """Every call of a definition and of its children, as an order names it."""
    for step in definition.steps:
        if step.work is Work.CALL:
            yield f"{definition.name}.{step.name}"
        elif step.child is not None:
            yield from _places(definitions[step.child.definition], definitions)


@dataclass(frozen=True, slots=True)
class _Known(Compiled):
    """A definition whose methods need no codecs: the participants of the simulation take JSON values."""

    def check_input(self, value: Json, labels: dict[str, str]) -> tuple[FieldViolation, ...]:
        return ()


class RemoteRegistry(Registry):
    """The definitions as a replica finds them: a version is read from Postgres once and kept."""

    def __init__(self, line: Line, library: Library) -> None:
        self._line = line
        self._library = library
        self._kept: dict[tuple[str, int], Compiled] = {}

    async def get(self, name: str, version: int) -> Compiled:
        """One version. Raises NotFound, LogUnavailable."""
        compiled = self._kept.get((name, version))
        if compiled is None:
            definition = await self._line.read(lambda _: self._library.get(name, version))
            if definition is None:
                raise NotFound(f"there is no version {version} of definition {name!r}")
            compiled = self._kept[name, version] = _Known(definition, {})
        return compiled

    async def newest(self, name: str) -> Compiled:
        """The newest version, which is asked for every time. Raises NotFound, LogUnavailable."""
        definition = await self._line.read(lambda _: self._library.newest(name))
        if definition is None:
            raise NotFound(f"there is no definition {name!r}")
        return await self.get(name, definition.version)

    def services(self) -> set[str]:
        """The addresses of all participants."""
        return set(SERVICES)
