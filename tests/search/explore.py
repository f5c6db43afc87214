"""The search itself: breadth first from the beginning, so that the first violation found has the shortest trace.

It knows nothing of sagas: a space says where it begins, what can happen next, and what speaks against a world.

I6 is checked on the whole graph once it is explored: from every state the saga can come to its end by progress alone
(no fault, no leader overthrown in vain), found by going backwards from the states in which it has (Clarke, Emerson,
Sistla, "Automatic Verification of Finite-State Concurrent Systems", 1986: the operator EF).
"""

from __future__ import annotations

import gc
import time
from array import array
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeVar


class Violation(NamedTuple):
    """An invariant that does not hold, and why."""

    invariant: str
    what: str


W = TypeVar("W", bound=Hashable)
A = TypeVar("A")


class Moved(Protocol[W, A]):
    """An action and the world behind it. `progress`: it needs neither a fault nor a leader overthrown in vain."""

    @property
    def action(self) -> A: ...

    @property
    def world(self) -> W: ...

    @property
    def progress(self) -> bool: ...


class Space(Protocol[W, A]):
    """What is searched."""

    @property
    def states_max(self) -> int:
        """Where the search is cut short."""

    def beginning(self) -> W:
        """The first world, in its canonical form."""

    def moves(self, world: W) -> Iterable[Moved[W, A]]:
        """Everything that can happen next."""

    def reduce(self, world: W) -> W:
        """The canonical form of a world."""

    def violations(self, world: W) -> Iterator[Violation]:
        """What speaks against a world."""

    def ended(self, world: W) -> bool:
        """Whether everything has come to its end here."""

    @property
    def judges_ends(self) -> bool:
        """Whether I6 is asked."""


@dataclass(slots=True)
class Graph(Generic[W, A]):
    """The states visited, in the order in which they were found, and how each was reached."""

    worlds: list[W] = field(default_factory=list)
    numbers: dict[W, int] = field(default_factory=dict)
    parents: array[int] = field(default_factory=lambda: array("q"))
    actions: list[A | None] = field(default_factory=list)
    depths: array[int] = field(default_factory=lambda: array("i"))
    # Edges of progress, from the state sources[i] to targets[i].
    sources: array[int] = field(default_factory=lambda: array("q"))
    targets: array[int] = field(default_factory=lambda: array("q"))

    def add(self, world: W, parent: int, action: A | None) -> tuple[int, bool]:
        """The number of `world`, and whether it is new."""
        known = self.numbers.setdefault(world, len(self.worlds))
        new = known == len(self.worlds)
        if new:
            self.worlds.append(world)
            self.parents.append(parent)
            self.actions.append(action)
            self.depths.append(0 if parent < 0 else self.depths[parent] + 1)
        return known, new

    def trace(self, number: int) -> tuple[A, ...]:
        """The actions that lead from the beginning to this state."""
        found: list[A] = []
        while (action := self.actions[number]) is not None:
            found.append(action)
            number = self.parents[number]
        return tuple(reversed(found))


@dataclass(frozen=True, slots=True)
class Result(Generic[W, A]):
    """What a search found. `exhausted`: there is no further state within the bounds.

    `culprit` is the state that violates an invariant, `trace` the shortest way there.
    """

    states: int
    transitions: int
    depth: int
    seconds: float
    exhausted: bool
    violation: Violation | None
    culprit: W | None
    trace: tuple[A, ...]
    graph: Graph[W, A]


def explore(space: Space[W, A]) -> Result[W, A]:
    """Visit every state that can be reached, until one violates an invariant."""
    # Millions of tuples and no cycle among them: the collector would walk them all again and again for nothing.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _explore(space)
    finally:
        if collecting:
            gc.enable()


def _explore(space: Space[W, A]) -> Result[W, A]:
    began_s = time.perf_counter()
    graph: Graph[W, A] = Graph()
    graph.add(space.beginning(), -1, None)
    transitions = 0
    found: tuple[int, Violation] | None = None
    exhausted = True
    number = 0
    states_max, reduce = space.states_max, space.reduce
    while number < len(graph.worlds) and found is None:
        if len(graph.worlds) >= states_max:
            exhausted = False
            break
        for move in space.moves(graph.worlds[number]):
            transitions += 1
            after, new = graph.add(reduce(move.world), number, move.action)
            if move.progress:
                graph.sources.append(number)
                graph.targets.append(after)
            if new and (violation := next(space.violations(graph.worlds[after]), None)):
                found = (after, violation)
                break
        number += 1
    if found is None and exhausted and space.judges_ends:
        found = _stuck(space, graph)
    seconds = time.perf_counter() - began_s
    if found is None:
        return Result(len(graph.worlds), transitions, graph.depths[-1], seconds, exhausted, None, None, (), graph)
    culprit, violation = found
    # Only I6 is judged on the whole space; any other violation has ended the search where it was found.
    exhausted = violation.invariant == "I6"
    depth, world, trace = graph.depths[-1], graph.worlds[culprit], graph.trace(culprit)
    return Result(len(graph.worlds), transitions, depth, seconds, exhausted, violation, world, trace, graph)


def _stuck(space: Space[W, A], graph: Graph[W, A]) -> tuple[int, Violation] | None:
    """The first state from which the saga cannot come to its end without a fault."""
    first, edges = _backwards(graph)
    ends = bytearray(len(graph.worlds))
    waiting = [number for number, world in enumerate(graph.worlds) if space.ended(world)]
    for number in waiting:
        ends[number] = 1
    while waiting:
        number = waiting.pop()
        for source in edges[first[number] : first[number + 1]]:
            if not ends[source]:
                ends[source] = 1
                waiting.append(source)
    stuck = ends.find(0)
    if stuck < 0:
        return None
    blocked = not any(move.progress for move in space.moves(graph.worlds[stuck]))
    what = "nothing can happen here but faults" if blocked else "no way leads to the end of the saga from here"
    return stuck, Violation("I6", what)


def _backwards(graph: Graph[W, A]) -> tuple[array[int], array[int]]:
    """The edges of progress by target: those into state n are edges[first[n]:first[n + 1]]."""
    first = array("q", bytes(8 * (len(graph.worlds) + 2)))
    for target in graph.targets:
        first[target + 2] += 1
    for number in range(2, len(first)):
        first[number] += first[number - 1]
    edges = array("q", bytes(8 * len(graph.targets)))
    for source, target in zip(graph.sources, graph.targets, strict=True):
        edges[first[target + 1]] = source
        first[target + 1] += 1
    return first, edges
