"""What the search leaves out makes no difference: the core's own fields, and the moves of overtaken leaders."""

from __future__ import annotations

from dataclasses import fields, replace

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.saga.commands import Call, Command
from orchestrator.saga.events import Event
from orchestrator.saga.machine import Moment, decide, next_command
from orchestrator.saga.model import Epoch, Saga
from tests.search.actions import Game
from tests.search.bounds import Bounds
from tests.search.canonical import canonical, overtaken_silenced
from tests.search.core import CLEARED, COMPARED, CONSTANT, OUTCOMES, Core, normal, saga_key
from tests.search.mutations import Mutation, Rules, rules_of
from tests.search.search import Reduce, search, seen
from tests.search.world import Answer, World

_CORE = Core(steps=3, retries=1)
_NOW = _CORE.saga(_CORE.pending).created_at


def outcome_of(saga: Saga, answer: Answer, epoch: int) -> Answer:
    """`answer` where the saga has called somebody, else the only outcome there can be."""
    if not isinstance(next_command(saga, Epoch(epoch)), Call):
        return Answer.READY
    return Answer.OK if answer is Answer.READY else answer


def asked(saga: Saga, epoch: int) -> Command | None:
    """What the saga asks for, but for the number of the attempt."""
    command = next_command(saga, Epoch(epoch))
    return replace(command, attempt=1) if isinstance(command, Call) else command


def rows(events: tuple[Event, ...]) -> list[tuple[str, int, int]]:
    return [(event.status.value, event.position, event.epoch) for event in events]


def test_every_field_of_a_saga_is_compared_or_cleared_or_constant() -> None:
    assert sorted([*COMPARED, *CLEARED, *CONSTANT]) == sorted(field.name for field in fields(Saga))


@given(st.lists(st.tuples(st.sampled_from(Answer), st.booleans(), st.booleans()), max_size=40))
def test_the_core_decides_alike_on_a_saga_and_on_its_normal_form(
    happenings: list[tuple[Answer, bool, bool]],
) -> None:
    whole = reduced = _CORE.saga(_CORE.pending)
    epoch = 1
    for answer, cancelled, failover in happenings:
        epoch += failover
        if whole.state.terminal:
            break
        assert outcome_of(whole, answer, epoch) is outcome_of(reduced, answer, epoch)
        outcome = OUTCOMES[outcome_of(whole, answer, epoch)]
        moment = Moment(Epoch(epoch), _NOW, 0.0)
        reason = "somebody asked" if cancelled else None
        whole, written = decide(whole, outcome, moment, reason)
        after, written_reduced = decide(reduced, outcome, moment, reason)
        reduced = normal(after)
        assert rows(written) == rows(written_reduced)
        assert saga_key(normal(whole)) == saga_key(reduced)
        assert asked(whole, epoch) == asked(reduced, epoch)


def stores(bounds: Bounds, reduce: Reduce) -> set[tuple[object, ...]]:
    game = Game.of(bounds, Rules())
    result = search(game, reduce=reduce)
    assert result.exhausted
    assert result.violation is None
    return seen(game, result)


def unreduced(game: Game, world: World) -> World:
    return world


def test_silencing_overtaken_leaders_hides_no_state_of_the_stores() -> None:
    bounds = Bounds(generations=2, faults=1)
    assert stores(bounds, overtaken_silenced) == stores(bounds, canonical)


def test_the_canonical_form_hides_no_state_of_the_stores() -> None:
    bounds = Bounds(steps=1, generations=2, faults=1)
    assert stores(bounds, canonical) == stores(bounds, unreduced)


def test_every_reduction_finds_the_same_violation_at_the_same_depth() -> None:
    bounds = Bounds(generations=2, faults=1)
    for mutation in (Mutation.FENCE_BY_EXISTS, Mutation.NO_TOMBSTONE, Mutation.UNKNOWN_IS_FAILURE):
        found = [search(Game.of(bounds, rules_of(mutation)), reduce=reduce) for reduce in (canonical, unreduced)]
        assert found[0].violation == found[1].violation
        assert len(found[0].trace) == len(found[1].trace)
