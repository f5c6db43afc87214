"""The search of steps that follow one another: the game of actions.py as a space for explore.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from tests.search import explore, model_log
from tests.search.actions import Action, Game, Move, moves
from tests.search.canonical import canonical
from tests.search.core import Shape, saga_key
from tests.search.explore import Violation
from tests.search.invariants import violations
from tests.search.world import World

Reduce = Callable[[Game, World], World]
Result: TypeAlias = explore.Result[World, Action]


@dataclass(frozen=True, slots=True)
class _Space:
    game: Game
    silent: frozenset[str]
    reducing: Reduce

    @property
    def states_max(self) -> int:
        return self.game.bounds.states_max

    @property
    def judges_ends(self) -> bool:
        return "I6" not in self.silent

    def beginning(self) -> World:
        return self.reduce(self.game.beginning())

    def moves(self, world: World) -> Iterator[Move]:
        return moves(self.game, world)

    def reduce(self, world: World) -> World:
        return self.reducing(self.game, world)

    def violations(self, world: World) -> Iterator[Violation]:
        return violations(self.game, world, self.silent)

    def ended(self, world: World) -> bool:
        return model_log.ended(self.game.core, world)


def search(game: Game, silent: frozenset[str] = frozenset(), reduce: Reduce = canonical) -> Result:
    """Visit every state that can be reached, until one violates an invariant that is not in `silent`."""
    return explore.explore(_Space(game, silent, reduce))


def seen(game: Game, result: Result) -> set[tuple[object, ...]]:
    """The states of the stores and the participants that a search has met, whatever the replicas remembered."""
    return {
        (saga_key(game.core.saga(Shape(w.log))), w.client, w.sagas, w.cancel, w.fence, w.participants)
        for w in result.graph.worlds
    }
