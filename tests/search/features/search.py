"""The search of a feature: its game as a space for explore.py."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from tests.search import explore
from tests.search.explore import Violation
from tests.search.features import invariants
from tests.search.features.feature import Feature
from tests.search.features.game import Action, Game, Move, canonical
from tests.search.features.moves import moves
from tests.search.features.world import World

Result: TypeAlias = explore.Result[World, Action]


@dataclass(frozen=True, slots=True)
class _Space:
    game: Game
    silent: frozenset[str]

    @property
    def states_max(self) -> int:
        return self.game.feature.states_max

    @property
    def judges_ends(self) -> bool:
        return "I6" not in self.silent

    def beginning(self) -> World:
        return self.game.beginning()

    def moves(self, world: World) -> Iterable[Move]:
        # Behind what must never happen nothing is of interest.
        return () if world.flaw is not None else moves(self.game, world)

    def reduce(self, world: World) -> World:
        return canonical(self.game, world)

    def violations(self, world: World) -> Iterator[Violation]:
        return invariants.violations(self.game, world, self.silent)

    def ended(self, world: World) -> bool:
        return invariants.ended(self.game, world)


def search(feature: Feature, silent: frozenset[str] = frozenset()) -> tuple[Game, Result]:
    """Visit every state that can be reached, until one violates an invariant that is not in `silent`."""
    game = Game(feature)
    return game, explore.explore(_Space(game, silent))
