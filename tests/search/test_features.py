"""Each feature of the saga language, searched: nothing is wrong, in a space that is complete and lacks nothing."""

from __future__ import annotations

import pytest

from tests.search.features.catalogue import FEATURES
from tests.search.features.feature import Feature
from tests.search.features.game import Game
from tests.search.features.moves import moves
from tests.search.features.search import Result, search
from tests.search.features.words import describe


@pytest.fixture(params=FEATURES, scope="module")
def found(request: pytest.FixtureRequest) -> tuple[Feature, Game, Result]:
    game, result = search(FEATURES[request.param])
    return FEATURES[request.param], game, result


def test_no_state_of_a_feature_violates_an_invariant(found: tuple[Feature, Game, Result]) -> None:
    feature, _, result = found
    assert result.violation is None
    assert result.exhausted
    assert result.states >= feature.states_min


def test_the_search_of_a_feature_meets_every_row_and_every_end_that_it_has(found: tuple[Feature, Game, Result]) -> None:
    feature, game, result = found
    assert set().union(*(core.statuses for core in game.cores)) == feature.statuses
    ends = {game.cores[0].states[world.rows[0].log] for world in result.graph.worlds}
    assert ends >= feature.ends


def test_a_feature_is_searched_with_a_leader_overthrown_at_every_point(found: tuple[Feature, Game, Result]) -> None:
    """Wherever an epoch is not the last, another leader may take over; and its calls go on without it."""
    feature, game, result = found
    worlds = result.graph.worlds
    for world in worlds:
        if world.epoch < feature.generations:
            assert next(iter(moves(game, world))).action.verb == "win"
    assert {world.epoch for world in worlds} == set(range(feature.generations + 1))
    last = [world for world in worlds if world.epoch == feature.generations]
    assert any(world.network for world in last), "what an overthrown leader has sent is still under way"
    unheard = any(driver.written for world in worlds for driver in world.drivers)
    assert unheard == (feature.faults > 0), "a commit that nobody heard of"


def test_everything_that_can_happen_has_words(found: tuple[Feature, Game, Result]) -> None:
    feature, game, result = found
    met: dict[str, str] = {}
    for world in result.graph.worlds[:3000]:
        for move in moves(game, world):
            met.setdefault(move.action.verb, describe(game, move.action))
    assert {"win", "scan", "decide", "commit", "late"} <= met.keys()
    assert ("commit unheard" in met) == (feature.faults > 0)
    assert len(set(met.values())) == len(met)
