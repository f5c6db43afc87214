"""What the simulated clients order: definitions of two to four steps, and the inputs that make some of them fail."""

from __future__ import annotations

import random
from functools import cache

from orchestrator.driving.registry import Compiled, Registry
from orchestrator.errors import NotFound
from orchestrator.saga.definition import Definition
from orchestrator.saga.parse import parse
from orchestrator.simulation.postgres import NewSaga
from orchestrator.simulation.term_log import Line

SERVICES = ("stock:1", "money:1", "parcel:1")
NOBODY_KNOWS = 99

_STEP = """
  - name: {name}
    service: {service}
    timeout: 1s
    retry: {{retries: {retries}, initial: 100ms, max: 1s}}
    action: {{method: shop.Service/Do, request: {{order: input.order, refuse: input.refuse}}}}
    compensation: {compensation}
"""
_UNDO = (
    "{{method: shop.Service/Undo, request: {{order: input.order, was: results.{name}.reference}}, "
    "retry: {{retries: 12, initial: 100ms, max: 3s}}}}"
)

# Name, address, retries of the action, whether it can be undone.
_Shape = tuple[str, str, int, bool]
_SHAPES: dict[str, tuple[_Shape, ...]] = {
    "pair": (("reserve", SERVICES[0], 2, True), ("charge", SERVICES[1], 2, True)),
    "trio": (("reserve", SERVICES[0], 1, True), ("charge", SERVICES[1], 2, True), ("ship", SERVICES[2], 4, False)),
    "hasty": (("charge", SERVICES[1], 0, True), ("reserve", SERVICES[0], 0, True), ("ship", SERVICES[2], 0, True)),
    "long": (
        ("reserve", SERVICES[0], 2, True),
        ("charge", SERVICES[1], 1, True),
        ("pack", SERVICES[2], 1, True),
        ("ship", SERVICES[2], 2, True),
    ),
}


@cache
def definitions() -> dict[str, Definition]:
    """All definitions by name, each in version 1."""
    return {name: parse(_text(name, shape), 1) for name, shape in _SHAPES.items()}


def _text(name: str, shape: tuple[_Shape, ...]) -> str:
    lines = [f"name: {name}", "steps:"]
    for step, service, retries, undone in shape:
        compensation = _UNDO.format(name=step) if undone else "none"
        lines.append(_STEP.format(name=step, service=service, retries=retries, compensation=compensation))
    return "\n".join(lines)


def order(number: int, chance: random.Random, unknown_versions: bool) -> NewSaga:
    """One order: every fourth or so is refused at some step; few ask for a version that nobody knows."""
    name = chance.choice(list(_SHAPES))
    steps = _SHAPES[name]
    refuse = chance.choice(steps)[0] if chance.random() < 0.25 else ""
    version = NOBODY_KNOWS if unknown_versions and chance.random() < 0.05 else 1
    return NewSaga(f"request-{number}", name, version, {"order": f"o{number}", "refuse": refuse})


class RemoteRegistry(Registry):
    """The definitions as a replica finds them: a version is read from Postgres once and kept."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._kept: dict[tuple[str, int], Compiled] = {}

    async def get(self, name: str, version: int) -> Compiled:
        """One version. Raises NotFound, LogUnavailable."""
        compiled = self._kept.get((name, version))
        if compiled is None:
            definition = await self._line.read(lambda _: definitions().get(name))
            if definition is None or version != definition.version:
                raise NotFound(f"there is no version {version} of definition {name!r}")
            compiled = self._kept[name, version] = Compiled(definition, {})
        return compiled

    def services(self) -> set[str]:
        """The addresses of all participants."""
        return set(SERVICES)
