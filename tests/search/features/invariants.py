"""What must hold in every state of a feature's search, beside what the observer sees happen."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.saga.definition import Work
from orchestrator.saga.model import Phase, Saga, SagaState
from tests.search.explore import Violation
from tests.search.features.game import Game
from tests.search.features.world import World

_PARKED = SagaState.FAILED

INVARIANTS = {
    "I1": "what is COMPLETED took effect as a whole and what is COMPENSATED not at all, late calls counted in",
    "I2": "no key takes effect twice",
    "I3": "no action takes effect after its compensation",
    "I4": "whatever took effect was intended, in the log, under the epoch of its call",
    "I6": "everything can come to its end by itself once the faults stop, every signal answered",
    "LOG": "the log folds, the saga's row agrees with it, no check of production's own speaks, who is parked knows why",
    "ORDER": "no step before those that it comes after; none undone before those that came after it",
    "PIVOT": "nothing is undone, and no saga turns back, once the pivot took effect",
    "STARTED": "nothing is compensated that was not begun; what is skipped is neither done nor undone",
    "TIMER": "no timer fires before its time or twice, none begins anew; no saga expires before its deadline",
    "ANSWER": "whoever tells a saga something hears what it led to, or why it led to nothing",
    "ORDERS": "no order settles a step while it is called",
    "PAUSE": "nothing is begun while the saga is paused",
    "MOVE": "what was begun is the same in the version that a saga is moved to; no key is called with two requests",
    "HELD": "nothing is called that a heeded pause holds, under whatever leader; what is held spends no attempt",
    "CHILD": "a child has ended as its parent has",
}


def violations(game: Game, world: World, silent: frozenset[str] = frozenset()) -> Iterator[Violation]:
    """What speaks against `world`, without the invariants in `silent`."""
    if world.flaw is not None and world.flaw[0] not in silent:
        yield Violation(*world.flaw)
    for number, row in enumerate(world.rows):
        if row.log < 0:
            continue
        saga = game.cores[number].saga(row.log)
        if "MOVE" not in silent and _lost(world, number, saga):
            yield Violation("MOVE", f"version {saga.definition.version} lacks a step that took effect")
        for name, what in _ledgers(game, world, number, saga):
            if name not in silent:
                yield Violation(name, what)
    if len(world.rows) > 1 and "CHILD" not in silent:
        for what in _child(game, world):
            yield Violation("CHILD", what)


def _lost(world: World, number: int, saga: Saga) -> bool:
    """Whether a step took effect that the version of the saga does not have."""
    beyond = world.participants[number][len(saga.definition.steps) :]
    return any(participant.done or participant.undone for participant in beyond)


def _ledgers(game: Game, world: World, number: int, saga: Saga) -> Iterator[tuple[str, str]]:
    """I1, I2, PIVOT and STARTED, of what the ledgers say at this moment."""
    turned = saga.state in (SagaState.COMPENSATING, SagaState.COMPENSATED)
    for position, participant in enumerate(world.participants[number][: len(saga.definition.steps)], start=1):
        step = saga.definition.step(position)
        effects = (participant.done, participant.undone)
        if step.work is not Work.CALL or effects == (0, 0):
            missing = step.work is Work.CALL and position not in saga.skipped and saga.state is SagaState.COMPLETED
            if missing and step.name not in game.feature.judged_by_people:
                yield "I1", f"the saga is COMPLETED, and {step.name} took no effect"
            continue
        if max(effects) > 1:
            yield "I2", f"the {'action' if effects[0] > 1 else 'compensation'} of {step.name} took effect twice"
        if step.pivot and turned:
            yield "PIVOT", f"the saga is {saga.state}, and its pivot {step.name} took effect"
        if step.name in game.feature.judged_by_people:
            continue
        if position in saga.skipped:
            yield "STARTED", f"{step.name} is skipped, and took effect"
        if saga.state is SagaState.COMPLETED and effects != (1, 0):
            yield "I1", f"the saga is COMPLETED, {step.name} was done {effects[0]} times and undone {effects[1]} times"
        if saga.state is SagaState.COMPENSATED and step.undoable and effects != (1, 1):
            yield "I1", f"the saga is COMPENSATED, {step.name} was done {effects[0]} times, undone {effects[1]} times"


def _child(game: Game, world: World) -> Iterator[str]:
    if game.cores[0].definition.step(game.step_of_child).name in game.feature.judged_by_people:
        return
    parent = game.cores[0].states[world.rows[0].log]
    child = None if world.rows[1].log < 0 else game.cores[1].states[world.rows[1].log]
    if parent is SagaState.COMPLETED and child is not SagaState.COMPLETED:
        yield f"the parent is COMPLETED, and its child is {child or 'not there'}"
    if parent is SagaState.COMPENSATED and child not in (None, SagaState.COMPENSATED):
        yield f"the parent is COMPENSATED, and its child is {child}"


def ended(game: Game, world: World) -> bool:
    """Whether every saga has ended, and everybody has an answer. A parent waits for whom its parked child needs."""
    parked = len(world.rows) > 1 and world.rows[1].log >= 0 and game.cores[1].states[world.rows[1].log] is _PARKED
    for number, row in enumerate(world.rows):
        if row.log < 0:
            continue
        if row.queue or world.drivers[number].plan >= 0:
            return False
        if not game.cores[number].ended[row.log] and not (parked and _waits(game.cores[number].saga(row.log))):
            return False
    return True


def _waits(saga: Saga) -> bool:
    return all(cursor.phase is Phase.WAITING for cursor in saga.open)
