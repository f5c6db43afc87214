"""What an observer sees happen that must never happen, at the moment when it does: at an effect, a decision, a commit.

It goes by the log, the ledgers and the definition alone, and trusts no decision of the core.
"""

from __future__ import annotations

from orchestrator.saga.definition import Work
from orchestrator.saga.events import PAUSED, Status
from orchestrator.saga.model import Kind, Phase, Saga
from orchestrator.saga.pausing import Pauses
from orchestrator.saga.signals import NEEDS_EVIDENCE, Verb
from tests.search.features.core import Decided, time_of
from tests.search.features.game import Game
from tests.search.features.participants import contradicts
from tests.search.features.world import UNMADE, Call, Participant, Sort, Stage, World

# What may be heeded without a word: it changes nothing, and nobody waits for an answer to it.
_SILENT = frozenset({Verb.HEARTBEAT, Verb.CHILD, Verb.UNDO, Verb.RETRY})


# A saga that turns back is paused no longer.
_TURNING = (Status.CANCELLED, Status.EXPIRED, Status.FAILED, Status.UNKNOWN)


def flawed(world: World, invariant: str, what: str) -> World:
    """The world with what was seen; the first thing stays."""
    return world if world.flaw is not None else world._replace(flaw=(invariant, what))


def served(game: Game, world: World, call: Call, after: Participant, *, awaited: bool = True) -> World:
    """A call is served, and the participant is `after` behind it. `awaited`: its leader still waits for it."""
    before = world.participants[call.saga][call.position - 1]
    name = game.cores[call.saga].saga(world.rows[call.saga].log).definition.step(call.position).name
    forced = name in game.feature.judged_by_people
    if contradicts(before, call):
        return flawed(world, "MOVE", f"another request of {name} comes under a key that was heard before")
    if call.sort is Sort.COMPENSATION and not forced and not world.intended[call.saga] >> call.position & 1:
        return flawed(world, "STARTED", f"step {name} is compensated, and its action was never intended")
    if before.done == after.done and before.undone == after.undone:
        return world
    if not call.intended:
        world = flawed(world, "I4", f"{name} took effect by a call whose intent was not in the log when it was sent")
    if call.sort is Sort.COMPENSATION:
        return _undone(game, world, call, name, awaited=awaited)
    return _done(game, world, call, name, before)


def _done(game: Game, world: World, call: Call, name: str, before: Participant) -> World:
    if before.compensation:
        return flawed(world, "I3", f"the action of {name} took effect after its compensation")
    saga = game.cores[call.saga].saga(world.rows[call.saga].log)
    for position in saga.definition.step(call.position).after:
        if position not in saga.executed and position not in saga.skipped:
            earlier = saga.definition.step(position).name
            return flawed(world, "ORDER", f"{name} took effect before {earlier}, which it comes after, had ended")
    return world


def _undone(game: Game, world: World, call: Call, name: str, *, awaited: bool) -> World:
    """A compensation takes effect: nothing that came after the step is left, and the pivot was never passed."""
    saga = game.cores[call.saga].saga(world.rows[call.saga].log)
    participants = world.participants[call.saga]
    pivot = saga.definition.pivot
    if pivot and participants[pivot - 1].done:
        return flawed(world, "PIVOT", f"{name} is undone, and the pivot took effect")
    if not awaited:
        # It was in order when it was sent: what came after may have been given up then, and is tried again now.
        return world
    excused = {*saga.uncompensated, *_judged(game, saga)}
    for position in game.later[call.saga][saga.definition.version][call.position - 1]:
        later = participants[position - 1]
        undoable = saga.definition.step(position).compensation is not None
        if later.done > later.undone and undoable and position not in excused:
            other = saga.definition.step(position).name
            return flawed(world, "ORDER", f"{name} is undone before {other}, which came after it")
    return world


def _judged(game: Game, saga: Saga) -> set[int]:
    names = game.feature.judged_by_people
    return {position for position, step in enumerate(saga.definition.steps, start=1) if step.name in names}


def decided(game: Game, world: World, number: int, plan: int) -> World:
    """The core has decided, under the time that it was told."""
    found = game.cores[number].decided(plan)
    if found.defect:
        return flawed(world, "LOG", found.defect)
    if found.refusal and (found.rows or found.before != found.after):
        return flawed(world, "MOVE", "a signal is refused, and the saga is not what it was")
    if found.heard < 0 or found.refusal:
        return world
    signal = game.signals[found.heard]
    if not found.rows and signal.verb not in _SILENT:
        return flawed(world, "ANSWER", f"{signal.verb} {signal.step} changed nothing, and nobody is told why")
    steps = game.cores[number].saga(found.before).definition.steps
    called = {steps[call.position - 1].name for call in world.drivers[number].calls}
    if signal.verb in NEEDS_EVIDENCE and signal.step in called:
        return flawed(world, "ORDERS", f"{signal.verb} settles {signal.step} while it is called")
    return world


def committed(game: Game, world: World, number: int, found: Decided) -> World:
    """A decision is in the log."""
    core = game.cores[number]
    before, after = core.saga(found.before), core.saga(found.after)
    begun = world.intended[number]
    paused = before.paused
    for row in found.rows:
        if row.status in (Status.PAUSED, Status.RESUMED, *_TURNING):
            paused = row.status is Status.PAUSED
        elif paused and row.status in (Status.EXECUTING, Status.QUERYING, Status.COMPENSATING):
            world = flawed(world, "PAUSE", f"step {row.position} is begun ({row.status}) while the saga is paused")
        if row.status is Status.EXECUTING:
            begun |= 1 << row.position
        early = before.starts_at is not None and time_of(found.age) < before.starts_at
        if early and row.status in (Status.EXECUTING, Status.WAITING):
            world = flawed(world, "TIMER", f"step {row.position} is begun before the saga was to start")
        world = _timer(world, before, row.status, row.position, found)
        if row.status is Status.MOVED:
            world = _moved(game, world, before, found)
        if row.status in (Status.HELD, Status.COMPENSATION_HELD) and row.code == PAUSED:
            world = _held(world, before, after, row.position)
    if begun != world.intended[number]:
        several = world.intended
        world = world._replace(intended=(*several[:number], begun, *several[number + 1 :]))
    both = {*after.skipped} & {*after.executed, *after.to_compensate, *after.compensated, *after.uncompensated}
    if both:
        world = flawed(world, "STARTED", f"step {min(both)} is skipped, and done or undone as well")
    return world


def _timer(world: World, before: Saga, status: Status, position: int, found: Decided) -> World:
    """Timers fire at their time, and no failover puts them off; a deadline turns nothing back before it."""
    now = time_of(found.age)
    if status is Status.EXPIRED and (before.deadline is None or now < before.deadline):
        return flawed(world, "TIMER", "the saga expired before its deadline")
    if position == 0:
        return world
    step, cursor = before.definition.step(position), before.at(position)
    if step.work is not Work.DELAY or cursor is None or cursor.phase is not Phase.WAITING:
        return world
    if status is Status.WAITING:
        return flawed(world, "TIMER", f"the timer of {step.name} began anew")
    if status is Status.COMPLETED and cursor.retry_at is not None and now < cursor.retry_at:
        return flawed(world, "TIMER", f"the timer of {step.name} fired before its time")
    return world


def _moved(game: Game, world: World, before: Saga, found: Decided) -> World:
    """A saga goes on under another version: whatever was begun is there as it was, and asked for as it was."""
    core = game.cores[0]
    new = core.saga(found.after).definition
    for position, participant in enumerate(world.participants[0], start=1):
        if not world.intended[0] >> position & 1:
            continue
        old = before.definition.step(position)
        if position > len(new.steps) or (old.name, old.after) != (new.step(position).name, new.step(position).after):
            return flawed(world, "MOVE", f"{old.name} was begun, and is not where it was in version {new.version}")
        if core.made(found.before, position, Kind.COMPENSATION) == UNMADE:
            continue  # It was never undone, and may be made otherwise.
        if not participant.done and before.at(position) is None:
            continue  # It was refused, and nobody calls it again.
        if participant.heard not in (0, core.made(found.after, position, Kind.ACTION)):
            return flawed(world, "MOVE", f"{old.name} was called, and is another call in version {new.version}")
    return world


def begun(game: Game, world: World, number: int, calls: tuple[Call, ...]) -> World:
    """A leader begins calls: none that is held by a pause that the log says is gone by."""
    definition = game.cores[number].saga(world.rows[number].log).definition
    for stop, pause in zip(world.stops, game.feature.pauses, strict=True):
        for call in calls:
            step = definition.step(call.position)
            if stop.stage is Stage.HEEDED and Pauses([pause]).holding(definition.name, step.service) is not None:
                return flawed(world, "HELD", f"{step.name} is called, and the log says that {pause.name} is paused")
    return world


def _held(world: World, before: Saga, after: Saga, position: int) -> World:
    """A call was not made because of a pause: no attempt is spent, and nobody is less sure of it than before."""
    earlier, later = before.at(position), after.at(position)
    if earlier is None or later is None or (earlier.failures, earlier.doubtful) == (later.failures, later.doubtful):
        return world
    return flawed(world, "HELD", f"an attempt of step {position} is spent, and it was not made")
