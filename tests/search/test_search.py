"""The exhaustive search finds nothing wrong, in a space that is large, complete, and full of what it should meet."""

from __future__ import annotations

import pytest

from orchestrator.saga.events import Status
from orchestrator.saga.model import SagaState
from tests.search.__main__ import main
from tests.search.actions import Game, Verb, moves
from tests.search.bounds import Bounds
from tests.search.canonical import canonical, overtaken_silenced
from tests.search.mutations import Rules
from tests.search.search import Result, search, seen
from tests.search.trace import describe
from tests.search.world import Call, Client, Key, Stage, Statement

STATES_MIN = 100_000

# Terms in these stages have raised their epoch and not ended.
_ACTING = (Stage.RAISED, Stage.IDLE, Stage.DECIDING, Stage.WRITING, Stage.CALLING)


# What a saga whose steps do nothing but call, one after the other, can have in its log.
SEQUENTIAL = {
    Status.EXECUTING,
    Status.RETRYING,
    Status.COMPLETED,
    Status.FAILED,
    Status.UNKNOWN,
    Status.COMPENSATING,
    Status.COMPENSATION_RETRYING,
    Status.COMPENSATED,
    Status.COMPENSATION_FAILED,
    Status.CANCELLED,
    Status.PARKED,
}


@pytest.fixture(scope="module")
def wide() -> tuple[Game, Result]:
    """Every term acts to its end, overtaken or not: the space in which generations overlap as they like."""
    game = Game.of(Bounds(faults=1, cancel=False), Rules())
    return game, search(game, reduce=canonical)


@pytest.fixture(scope="module")
def deep() -> tuple[Game, Result]:
    """With cancellation and one more fault: enough to spend a budget of retries, and to park a saga."""
    game = Game.of(Bounds(faults=2), Rules())
    return game, search(game, reduce=overtaken_silenced)


def test_no_state_violates_an_invariant(wide: tuple[Game, Result]) -> None:
    _, result = wide
    assert result.violation is None
    assert result.exhausted
    assert result.states >= STATES_MIN


def test_one_more_fault_violates_nothing_either(deep: tuple[Game, Result]) -> None:
    _, result = deep
    assert result.violation is None
    assert result.exhausted
    assert result.states >= STATES_MIN / 2


def test_silencing_overtaken_leaders_hides_no_state_of_the_stores(wide: tuple[Game, Result]) -> None:
    game = Game.of(Bounds(faults=1, cancel=False), Rules())
    assert seen(game, search(game, reduce=overtaken_silenced)) == seen(*wide)


def test_three_generations_act_at_once(wide: tuple[Game, Result]) -> None:
    _, result = wide
    assert any(
        all(term.stage in _ACTING for term in world.terms[:3]) for world in result.graph.worlds if world.terms[2:]
    )


def test_the_search_meets_every_row_and_every_end_that_a_saga_can_have(deep: tuple[Game, Result]) -> None:
    game, result = deep
    assert game.core.statuses() == SEQUENTIAL
    assert {game.core.states[world.log] for world in result.graph.worlds} == set(SagaState)


def test_the_search_meets_what_networks_and_participants_do(deep: tuple[Game, Result]) -> None:
    _, result = deep
    worlds = result.graph.worlds
    messages = {(type(message), getattr(message, "begun", None)) for world in worlds for message in world.network}
    assert messages == {(Statement, True), (Statement, False), (Call, None)}
    assert {participant.action for world in worlds for participant in world.participants} == set(Key)
    assert {world.client for world in worlds} == set(Client)
    assert any(world.cancel for world in worlds)
    assert any(term.again for world in worlds for term in world.terms)


def test_everything_that_production_can_do_is_done_and_has_words(deep: tuple[Game, Result]) -> None:
    game, result = deep
    wanted = set(Verb) - {Verb.START_UNSTORED, Verb.START_DUPLICATE, Verb.SCAN_TOO_EARLY}
    met: dict[Verb, str] = {}
    for world in result.graph.worlds:
        for move in moves(game, world):
            if move.action.verb not in met:
                met[move.action.verb] = describe(game, world, move.action, move.world)
        if met.keys() == wanted:
            break
    assert met.keys() == wanted
    assert len(set(met.values())) == len(met)


def test_without_faults_and_rivals_a_saga_completes_or_is_compensated() -> None:
    game = Game.of(Bounds(generations=1, faults=0), Rules())
    result = search(game)
    ends = {game.core.states[world.log] for world in result.graph.worlds if game.core.terminal[world.log]}
    assert ends == {SagaState.COMPLETED, SagaState.COMPENSATED}
    assert result.violation is None


def test_a_search_that_was_cut_short_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--states-max", "500"]) == 0
    printed = capsys.readouterr().out
    assert "(bounded: there are more)" in printed
    assert "I6 needs the whole space" in printed


def test_the_command_prints_what_it_visited(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--generations", "2", "--faults", "0"]) == 0
    printed = capsys.readouterr().out
    assert "2 steps, 3 leaders, 2 generations, 0 faults" in printed
    assert "(exhausted)" in printed
    assert "I6 from every state" in printed
