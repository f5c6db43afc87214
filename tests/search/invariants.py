"""What must hold in every state. Each check is a function from a world to what speaks against it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from orchestrator.saga.model import SagaState
from tests.search import model_log
from tests.search.actions import Game
from tests.search.explore import Violation
from tests.search.world import Client, World


def all_or_nothing(game: Game, world: World) -> Iterator[str]:
    """I1: a completed saga took effect as a whole, a compensated one not at all, from the moment the log says so."""
    if not model_log.ended(game.core, world):
        return
    state = game.core.states[world.log]
    for position, participant in enumerate(world.participants, start=1):
        effects = (participant.done, participant.undone)
        if state is SagaState.COMPLETED and effects != (1, 0):
            yield f"the saga is COMPLETED, step {position} was done {effects[0]} times and undone {effects[1]} times"
        if state is SagaState.COMPENSATED and effects not in ((0, 0), (1, 1)):
            yield f"the saga is COMPENSATED, step {position} was done {effects[0]} times and undone {effects[1]} times"


def one_effect_a_key(game: Game, world: World) -> Iterator[str]:
    """I2: no key takes effect twice."""
    for position, participant in enumerate(world.participants, start=1):
        if participant.done > 1 or participant.undone > 1:
            what = "action" if participant.done > 1 else "compensation"
            yield f"the {what} of step {position} took effect twice"


def nothing_after_tombstone(game: Game, world: World) -> Iterator[str]:
    """I3: no action takes effect behind its compensation."""
    for position, participant in enumerate(world.participants, start=1):
        if participant.late:
            yield f"the action of step {position} took effect after its compensation"


def intents_first(game: Game, world: World) -> Iterator[str]:
    """I4: whatever took effect was intended, in the log, under the epoch of its call, before that was sent."""
    for position, participant in enumerate(world.participants, start=1):
        if participant.unintended:
            yield f"step {position} took effect by a call whose intent was not in the log when it was sent"


def epochs_in_order(game: Game, world: World) -> Iterator[str]:
    """I5: no row is committed under an epoch after the raise of the next."""
    if world.stale_rows:
        yield "a row was committed under an epoch after the next one was raised"


def acknowledged_once(game: Game, world: World) -> Iterator[str]:
    """I9: a saga that was acknowledged is stored, and once."""
    if world.client is Client.TOLD and world.sagas == 0:
        yield "StartSaga was acknowledged, and there is no saga"
    if world.sagas > 1:
        yield "one StartSaga is stored as two sagas"


def log_makes_sense(game: Game, world: World) -> Iterator[str]:
    """LOG: the log folds, the saga's row agrees with it, and production's own checks find nothing."""
    if world.defect:
        yield world.defect


CHECKS: dict[str, Callable[[Game, World], Iterator[str]]] = {
    "I1": all_or_nothing,
    "I2": one_effect_a_key,
    "I3": nothing_after_tombstone,
    "I4": intents_first,
    "I5": epochs_in_order,
    "I9": acknowledged_once,
    "LOG": log_makes_sense,
}
"""The checks of single states, by name. I6 (every saga can end) needs the whole graph: see explore.py."""


def violations(game: Game, world: World, silent: frozenset[str] = frozenset()) -> Iterator[Violation]:
    """What speaks against `world`, without the invariants in `silent`."""
    for name, check in CHECKS.items():
        if name not in silent:
            for what in check(game, world):
                yield Violation(name, what)
