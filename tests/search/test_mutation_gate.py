"""The gate: with any rule of correctness taken out, the search finds what breaks, and the shortest way there.

If one of these tests fails, the search has become blind: the model no longer contains what the rule protects from.
"""

from __future__ import annotations

from functools import cache

import pytest

from tests.search import model_log
from tests.search.__main__ import main
from tests.search.actions import Action, Game, Verb, moves
from tests.search.bounds import Bounds
from tests.search.canonical import overtaken_silenced
from tests.search.invariants import CHECKS, violations
from tests.search.mutations import RULE, Fence, Mutation, Rules, rules_of
from tests.search.search import Result, search
from tests.search.trace import in_words, replay

BOUNDS = Bounds(faults=1)

# The invariant that speaks first, and those that speak when it is silenced, one after the other.
SPEAKS: dict[Mutation, tuple[str, ...]] = {
    Mutation.SCAN_BEFORE_RAISE: ("LOG", "I4", "I1"),
    Mutation.NO_FENCE: ("I5", "LOG", "I4", "I1"),
    Mutation.FENCE_BY_EXISTS: ("I5", "LOG", "I4", "I1"),
    Mutation.NO_INTENT: ("I4", "I1"),
    Mutation.NO_TOMBSTONE: ("I3", "I1"),
    Mutation.NO_IDEMPOTENCY: ("I2", "I3", "I1"),
    Mutation.UNKNOWN_IS_FAILURE: ("I1",),
    Mutation.STATE_OUT_OF_ORDER: ("LOG",),
    Mutation.REQUEST_ID_NOT_UNIQUE: ("I9",),
    Mutation.ANSWER_BEFORE_COMMIT: ("I9",),
    Mutation.SCAN_FORGETS: ("I6",),
}


@cache
def find(mutation: Mutation) -> tuple[Game, Result]:
    game = Game.of(BOUNDS, rules_of(mutation))
    return game, search(game, reduce=overtaken_silenced)


def first(trace: tuple[Action, ...], verb: Verb, generation: int) -> int:
    return next(n for n, action in enumerate(trace) if (action.verb, action.generation) == (verb, generation))


@pytest.mark.parametrize("mutation", Mutation)
def test_a_rule_taken_out_is_noticed(mutation: Mutation) -> None:
    game, result = find(mutation)
    assert result.violation is not None
    assert result.violation.invariant == SPEAKS[mutation][0]
    steps = list(replay(game, result.trace, overtaken_silenced))
    assert steps[-1][2] == result.culprit
    assert len(in_words(game, result.trace, overtaken_silenced)) == len(result.trace)


@pytest.mark.parametrize("mutation", [m for m in Mutation if SPEAKS[m][0] not in ("I6", "I9")])
def test_a_trace_leads_to_its_violation_and_not_before(mutation: Mutation) -> None:
    game, result = find(mutation)
    offences = [list(violations(game, after)) for _, _, after in replay(game, result.trace, overtaken_silenced)]
    assert result.violation in offences[-1]
    assert not any(offences[:-1])


@pytest.mark.parametrize(
    ("mutation", "silent", "speaks"),
    [(mutation, names[:n], names[n]) for mutation, names in SPEAKS.items() for n in range(1, len(names))],
)
def test_a_rule_taken_out_breaks_more_than_one_thing(mutation: Mutation, silent: tuple[str, ...], speaks: str) -> None:
    result = search(Game.of(BOUNDS, rules_of(mutation)), frozenset(silent), overtaken_silenced)
    assert result.violation is not None
    assert result.violation.invariant == speaks


def test_every_rule_that_guards_money_loses_it_when_taken_out() -> None:
    rules = ("R2", "R3", "R4", "R5", "R7")
    guarded = {mutation for mutation, (rule, _) in RULE.items() if rule in rules} - {Mutation.STATE_OUT_OF_ORDER}
    assert {mutation for mutation, names in SPEAKS.items() if names[-1] == "I1"} == guarded


def test_a_saga_that_is_stuck_has_no_way_on() -> None:
    game, result = find(Mutation.SCAN_FORGETS)
    assert result.culprit is not None
    reached, waiting = {result.culprit}, [result.culprit]
    while waiting:
        world = waiting.pop()
        assert not model_log.ended(game.core, world)
        new = {overtaken_silenced(game, move.world) for move in moves(game, world) if move.progress} - reached
        reached |= new
        waiting += new


def test_every_invariant_has_spoken() -> None:
    assert {name for names in SPEAKS.values() for name in names} == {*CHECKS, "I6"}


def test_a_fence_that_is_only_looked_at_lets_old_rows_in_behind_the_new_leaders_scan() -> None:
    rules = rules_of(Mutation.FENCE_BY_EXISTS)
    result = search(Game.of(BOUNDS, rules), frozenset({"I5"}), overtaken_silenced)
    raised, scanned = first(result.trace, Verb.RAISE, 2), first(result.trace, Verb.SCAN, 2)
    begun, committed = first(result.trace, Verb.BEGIN, 1), first(result.trace, Verb.COMMIT, 1)
    assert begun < raised < scanned < committed


def test_the_lock_on_the_fence_keeps_old_rows_out() -> None:
    assert Rules().fence is Fence.FOR_SHARE
    result = search(Game.of(Bounds(generations=2, faults=1), Rules()))
    assert result.violation is None
    assert result.exhausted


def test_the_command_tells_the_shortest_trace_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--mutation", "unknown-is-failure", "--faults", "1"]) == 1
    printed = capsys.readouterr().out
    assert "without R7: a call without an answer counts as refused" in printed
    assert "I1 VIOLATED: the saga is COMPENSATED, step 1 was done 1 times and undone 0 times" in printed
    assert "leader 1: nobody answered, which it takes for a no; sends failed(1) to Postgres" in printed
