"""What a flow is: a definition, the input of its saga, and the courses of events that it is driven through."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.saga.definition import Definition
from orchestrator.saga.model import Json
from orchestrator.saga.parse import parse

from .cases import Case, cases

if TYPE_CHECKING:
    from .world import World


def of_definition(flow: Flow) -> Iterator[Case]:
    """The cases that any definition of plain steps has."""
    return cases(flow.definition)


@dataclass(frozen=True, slots=True)
class Flow:
    """A definition and the input of its saga.

    `children` are the definitions that its steps run. The saga starts `starts_after_s` seconds after it was stored.
    `breakers` puts its participants behind the leader's breakers, `relayed` has its events published. There are as many
    `sagas` of it; all of them are cancelled by one order `cancelled_when` this holds of the world.
    """

    definition: Definition
    input: Json
    cases: Callable[[Flow], Iterator[Case]] = of_definition
    children: tuple[Definition, ...] = ()
    starts_after_s: float = 0.0
    breakers: bool = False
    relayed: bool = False
    sagas: int = 1
    cancelled_when: Callable[[World], bool] | None = None
    # A version that the saga may be moved to meanwhile; it has every step of the first one.
    next: Definition | None = None
    # Attempts behind this one differ in nothing that the flow could show.
    attempts_told: int = 2

    def position(self, step: str) -> int:
        """The position of a step, counted from 1."""
        return [one.name for one in self.definition.steps].index(step) + 1

    @property
    def definitions(self) -> tuple[Definition, ...]:
        """All that its sagas run by, the versions of one the newest last."""
        return (self.definition, *(() if self.next is None else (self.next,)), *self.children)

    def definition_of(self, name: str) -> Definition:
        """The newest definition of this name: the flow's own or a child's. Raises KeyError."""
        return {one.name: one for one in self.definitions}[name]


def feature(
    text: str,
    of_flow: Callable[[Flow], Iterator[Case]],
    value: Json | None = None,
    *,
    children: tuple[str, ...] = (),
    starts_after_s: float = 0.0,
    breakers: bool = False,
    relayed: bool = False,
    sagas: int = 1,
    cancelled_when: Callable[[World], bool] | None = None,
    later: str = "",
    attempts_told: int = 2,
) -> Flow:
    """A flow for a feature of the language, with the cases that it calls for."""
    parsed = tuple(parse(child, 1) for child in children)
    return Flow(
        parse(text, 1),
        value or {},
        of_flow,
        parsed,
        starts_after_s,
        breakers,
        relayed,
        sagas,
        cancelled_when,
        parse(later, 2) if later else None,
        attempts_told,
    )
