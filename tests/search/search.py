"""The search: breadth first from the beginning, so that the first violation found has the shortest trace.

I6 is checked on the whole graph once it is explored: from every state the saga can come to its end by progress alone
(no fault, no leader overthrown in vain), found by going backwards from the states in which it has (Clarke, Emerson,
Sistla, "Automatic Verification of Finite-State Concurrent Systems", 1986: the operator EF).
"""

from __future__ import annotations

import gc
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.search import model_log
from tests.search.actions import Action, Game, moves
from tests.search.canonical import canonical
from tests.search.core import Shape, saga_key
from tests.search.invariants import Violation, violations
from tests.search.world import World

Reduce = Callable[[Game, World], World]


@dataclass(slots=True)
class Graph:
    """The states visited, in the order in which they were found, and how each was reached."""

    worlds: list[World] = field(default_factory=list)
    numbers: dict[World, int] = field(default_factory=dict)
    parents: array[int] = field(default_factory=lambda: array("q"))
    actions: list[Action | None] = field(default_factory=list)
    depths: array[int] = field(default_factory=lambda: array("i"))
    # Edges of progress, from the state sources[i] to targets[i].
    sources: array[int] = field(default_factory=lambda: array("q"))
    targets: array[int] = field(default_factory=lambda: array("q"))

    def add(self, world: World, parent: int, action: Action | None) -> tuple[int, bool]:
        """The number of `world`, and whether it is new."""
        known = self.numbers.setdefault(world, len(self.worlds))
        new = known == len(self.worlds)
        if new:
            self.worlds.append(world)
            self.parents.append(parent)
            self.actions.append(action)
            self.depths.append(0 if parent < 0 else self.depths[parent] + 1)
        return known, new

    def trace(self, number: int) -> tuple[Action, ...]:
        """The actions that lead from the beginning to this state."""
        found: list[Action] = []
        while (action := self.actions[number]) is not None:
            found.append(action)
            number = self.parents[number]
        return tuple(reversed(found))


@dataclass(frozen=True, slots=True)
class Result:
    """What a search found. `exhausted`: there is no further state within the bounds.

    `culprit` is the state that violates an invariant, `trace` the shortest way there.
    """

    states: int
    transitions: int
    depth: int
    seconds: float
    exhausted: bool
    violation: Violation | None
    culprit: World | None
    trace: tuple[Action, ...]
    graph: Graph


def search(game: Game, silent: frozenset[str] = frozenset(), reduce: Reduce = canonical) -> Result:
    """Visit every state that can be reached, until one violates an invariant that is not in `silent`."""
    # Millions of tuples and no cycle among them: the collector would walk them all again and again for nothing.
    collecting = gc.isenabled()
    gc.disable()
    try:
        return _search(game, silent, reduce)
    finally:
        if collecting:
            gc.enable()


def _search(game: Game, silent: frozenset[str], reduce: Reduce) -> Result:
    began_s = time.perf_counter()
    graph = Graph()
    graph.add(reduce(game, game.beginning()), -1, None)
    transitions = 0
    found: tuple[int, Violation] | None = None
    exhausted = True
    number = 0
    while number < len(graph.worlds) and found is None:
        if len(graph.worlds) >= game.bounds.states_max:
            exhausted = False
            break
        world = graph.worlds[number]
        for move in moves(game, world):
            transitions += 1
            after, new = graph.add(reduce(game, move.world), number, move.action)
            if move.progress:
                graph.sources.append(number)
                graph.targets.append(after)
            if new and (violation := next(violations(game, graph.worlds[after], silent), None)):
                found = (after, violation)
                break
        number += 1
    if found is None and exhausted and "I6" not in silent:
        found = _stuck(game, graph)
    seconds = time.perf_counter() - began_s
    if found is None:
        return Result(len(graph.worlds), transitions, graph.depths[-1], seconds, exhausted, None, None, (), graph)
    culprit, violation = found
    # Only I6 is judged on the whole space; any other violation has ended the search where it was found.
    exhausted = violation.invariant == "I6"
    depth, world, trace = graph.depths[-1], graph.worlds[culprit], graph.trace(culprit)
    return Result(len(graph.worlds), transitions, depth, seconds, exhausted, violation, world, trace, graph)


def seen(game: Game, result: Result) -> set[tuple[object, ...]]:
    """The states of the stores and the participants that a search has met, whatever the replicas remembered."""
    return {
        (saga_key(game.core.saga(Shape(w.log))), w.client, w.sagas, w.cancel, w.fence, w.participants)
        for w in result.graph.worlds
    }


def _stuck(game: Game, graph: Graph) -> tuple[int, Violation] | None:
    """The first state from which the saga cannot come to its end without a fault."""
    first, edges = _backwards(graph)
    ends = bytearray(len(graph.worlds))
    waiting = [number for number, world in enumerate(graph.worlds) if model_log.ended(game.core, world)]
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
    blocked = not any(move.progress for move in moves(game, graph.worlds[stuck]))
    what = "nothing can happen here but faults" if blocked else "no way leads to the end of the saga from here"
    return stuck, Violation("I6", what)


def _backwards(graph: Graph) -> tuple[array[int], array[int]]:
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
