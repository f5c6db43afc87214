"""The two statements by which a leader begins a child saga, and has it undone (see term.sql).

Each is one step: it holds the fence, and the parent's row, from its beginning to its commit.
"""

from __future__ import annotations

from orchestrator.saga.model import SagaState
from orchestrator.saga.signals import Verb
from tests.search.features.game import Game
from tests.search.features.world import Call, Sort, World, told, with_row


def statement(game: Game, world: World, call: Call) -> tuple[str, World]:
    """What the leader hears of it, and the world behind it."""
    child = world.rows[1]
    step = game.cores[0].definition.step(call.position).name
    there = child.log >= 0
    state = game.cores[1].states[child.log] if there else None
    if call.sort is Sort.BEGIN_CHILD:
        if not there and _may_begin(game, world):
            return "accepted", with_row(world, 1, child._replace(log=game.cores[1].pending))
        if state in (SagaState.COMPLETED, SagaState.COMPENSATED):
            world = told(world, 0, game.number(Verb.CHILD, step, str(state)))
        return "accepted", world
    if state is None or state is SagaState.COMPENSATED:
        return "ok", world
    return "accepted", told(world, 1, game.number(Verb.UNDO))


def _may_begin(game: Game, world: World) -> bool:
    """A late statement cannot begin a child behind its parent's back."""
    return game.cores[0].states[world.rows[0].log] is SagaState.RUNNING
