"""The gate of the features: with a rule of the core taken out, the search finds it, and the shortest way there.

If one of these tests fails, the search of that feature has become blind.
"""

from __future__ import annotations

from functools import cache

import pytest

from tests.search.__main__ import main
from tests.search.features.bugs import BUGS, seeded
from tests.search.features.catalogue import FEATURES
from tests.search.features.game import Game
from tests.search.features.invariants import INVARIANTS
from tests.search.features.search import Result, search
from tests.search.features.words import in_words, replay


@cache
def find(name: str) -> tuple[Game, Result]:
    with seeded(BUGS[name]):
        return search(FEATURES[BUGS[name].feature])


@pytest.mark.parametrize("name", BUGS)
def test_a_seeded_bug_is_found_by_its_feature(name: str) -> None:
    _, result = find(name)
    assert result.violation is not None
    assert result.violation.invariant == BUGS[name].speaks


@pytest.mark.parametrize("name", BUGS)
def test_the_way_to_a_seeded_bug_can_be_gone_again_and_told(name: str) -> None:
    game, result = find(name)
    with seeded(BUGS[name]):
        steps = list(replay(game, result.trace))
    worlds = [game.beginning(), *(after for _, _, after in steps)]
    assert worlds[-1] == result.culprit
    assert len(in_words(game, result.trace)) == len(result.trace)


def test_every_feature_finds_a_bug_of_its_own() -> None:
    assert {bug.feature for bug in BUGS.values()} == set(FEATURES)


def test_every_invariant_has_spoken() -> None:
    assert {bug.speaks for bug in BUGS.values()} == set(INVARIANTS)


def test_without_its_bug_the_core_is_whole_again() -> None:
    with seeded(BUGS["skipped-undone"]):
        assert search(FEATURES["conditions"])[1].violation is not None
    assert search(FEATURES["conditions"])[1].violation is None


def test_the_command_searches_a_feature_and_shows_a_bug(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--feature", "conditions"]) == 0
    assert "every invariant holds in every state" in capsys.readouterr().out
    assert main(["--bug", "cancelled-past-the-pivot"]) == 1
    printed = capsys.readouterr().out
    assert "PIVOT VIOLATED" in printed
    assert "a replica wins the key and raises the epoch to 1" in printed
