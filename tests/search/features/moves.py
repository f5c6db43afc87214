"""Everything that can happen next: to the leader, to Postgres, at the participants, by what others say, by time.

What may happen may happen at any moment, or never. A message that is still on its way is also a late one and a lost
one, and may arrive as often as it likes. A leader that was overthrown is dead, frozen, or goes on: what it can still do
is what it has sent.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.saga.commands import Intend, Wait
from orchestrator.saga.model import Saga, SagaState
from orchestrator.saga.progress import turnable
from orchestrator.saga.signals import Verb
from tests.search.features import observer, stops
from tests.search.features.children import statement
from tests.search.features.core import time_of
from tests.search.features.game import Action, Game, Move, efforts, goes_on, settled
from tests.search.features.participants import done, kept, serve
from tests.search.features.world import (
    ASLEEP,
    CHILD,
    Call,
    Driver,
    Key,
    Participant,
    Sort,
    World,
    told,
    with_driver,
    with_participant,
    with_row,
)


def moves(game: Game, world: World) -> Iterator[Move]:
    """Everything that can happen next in `world`."""
    yield from _elections(game, world)
    yield from _others(game, world)
    for call in world.network:
        yield from _late(game, world, call)
    if world.age < game.feature.ages or _awaited(game, world):
        yield Move(Action("time"), world._replace(age=world.age + 1))
    if world.epoch == 0:
        return
    if not world.scanned:
        yield Move(Action("scan"), _scan(game, world))
        return
    yield from stops.leader(game, world)
    for number, row in enumerate(world.rows):
        if row.log >= 0:
            yield from _driving(game, world, number)


def _awaited(game: Game, world: World) -> bool:
    """Whether a saga waits for a time that is still to come: then time goes on, whatever its bound."""
    rows = enumerate(world.rows)
    return any(row.log >= 0 and game.cores[number].awaits(row.log, world.age) for number, row in rows)


def _fault(action: Action, world: World) -> Move:
    return Move(action, world._replace(faults=world.faults - 1), progress=False)


# Leaders.


def _elections(game: Game, world: World) -> Iterator[Move]:
    """A replica wins the key and raises the epoch: nobody led, or the one that did is overthrown, dead or not."""
    if world.epoch < game.feature.generations:
        sent = tuple(call for driver in world.drivers for call in driver.calls if not fenced(call))
        kept = tuple(call for call in world.network if not fenced(call))
        after = world._replace(
            epoch=world.epoch + 1, scanned=False, drivers=(ASLEEP,) * len(world.rows), network=(*kept, *sent)
        )
        after = stops.unlearned(after)
        yield Move(Action("win", detail=(world.epoch + 1,)), after, progress=world.epoch == 0)


def fenced(call: Call) -> bool:
    """Whether it is a statement, which finds no fence row once its leader is overthrown."""
    return call.sort in CHILD


def _scan(game: Game, world: World) -> World:
    """The recovery scan: what has begun, and has something to do, is taken up (`Admission.recover`)."""
    world = stops.learned(world._replace(scanned=True))
    for number, row in enumerate(world.rows):
        if row.log >= 0:
            core = game.cores[number]
            begun = core.states[row.log] in (SagaState.RUNNING, SagaState.COMPENSATING)
            if begun and core.wake_at(row.log) is None:
                world = stops.begin(game, world, number, tuple(efforts(game, world, number)), Driver(awake=True))
    return world


def found(game: Game, world: World, number: int) -> bool:
    """Whether a look at the log finds it: it is new, due, told something, or to be cancelled (`Admission.admit`)."""
    row, core = world.rows[number], game.cores[number]
    saga = core.saga(row.log)
    if row.queue:
        return True
    if row.cancel and saga.state in (SagaState.PENDING, SagaState.RUNNING):
        return True
    if saga.state.terminal:
        return False
    if row.log == core.pending:
        return saga.starts_at is None or saga.starts_at <= time_of(world.age)
    at = core.wake_at(row.log)
    return saga.state is SagaState.PENDING if at is None else at <= time_of(world.age)


def _driving(game: Game, world: World, number: int) -> Iterator[Move]:
    driver, row = world.drivers[number], world.rows[number]
    if driver.plan >= 0:
        yield Move(Action("commit", number, (driver.plan,)), _commit(game, world, number))
        if world.faults and not driver.written:
            unheard = with_driver(_written(game, world, number), number, driver._replace(written=True))
            yield _fault(Action("commit unheard", number, (driver.plan,)), unheard)
        return
    for call in driver.calls:
        yield from _call(game, world, number, call)
    yield from _kept_back(game, world, number)
    if not driver.awake and not found(game, world, number):
        return
    for position in stops.free(game, world, number):
        yield from _decisions(game, world, number, "ready", position)
    yield from _heeding(game, world, number)
    core = game.cores[number]
    commands = core.commands(row.log, world.epoch)
    saga = core.saga(row.log)
    if any(isinstance(command, Intend) for command in commands):
        yield from _decisions(game, world, number, "ready", 0)
        return
    for command in commands:
        if isinstance(command, Wait) and not _paused(saga, command.position):
            # Its time may have come, or not: who wakes too early must not do anything.
            yield from _decisions(game, world, number, "ready", command.position)
    if row.cancel and turnable(saga):
        yield from _decisions(game, world, number, "ready", 0, cancelled_alone=True)


def _kept_back(game: Game, world: World, number: int) -> Iterator[Move]:
    """What the saga asked for was held, or could not be made; what is held is tried again after a long time."""
    for call, outcome in stops.kept_back(game, world, number):
        yield from _came(game, world, call, outcome)
    for cursor in game.cores[number].saga(world.rows[number].log).open:
        if cursor.paused:
            # Nobody relies on that.
            yield from _decisions(game, world, number, "ready", cursor.position, progress=False)


def _paused(saga: Saga, position: int) -> bool:
    cursor = saga.at(position)
    return cursor is not None and cursor.paused


def _decisions(
    game: Game,
    world: World,
    number: int,
    outcome: str,
    position: int,
    *,
    cancelled_alone: bool = False,
    fault: bool = False,
    progress: bool = True,
) -> Iterator[Move]:
    """The core decides, whether or not the leader has heard of a cancellation by then, and the write is sent."""
    row, driver = world.rows[number], world.drivers[number]
    plans = set()
    for cancelled in (False, True) if row.cancel else (False,):
        if cancelled_alone and not cancelled:
            continue
        plan = game.cores[number].decide(row.log, outcome, position, world.epoch, world.age, cancelled)
        if plan is not None and plan not in plans:
            plans.add(plan)
            after = observer.decided(game, with_driver(world, number, driver._replace(plan=plan)), number, plan)
            action = Action("decide", number, (outcome, position, plan))
            yield _fault(action, after) if fault else Move(action, after, progress)


def _heeding(game: Game, world: World, number: int) -> Iterator[Move]:
    """The first signal that need not wait is heeded."""
    row = world.rows[number]
    for cancelled in (False, True) if row.cancel else (False,):
        for signal in row.queue:
            plan = game.cores[number].heed(row.log, game.signals[signal], signal, world.epoch, world.age, cancelled)
            if plan is not None:
                after = with_driver(world, number, world.drivers[number]._replace(plan=plan))
                yield Move(Action("heed", number, (signal, plan)), observer.decided(game, after, number, plan))
                break


# The log.


def _written(game: Game, world: World, number: int) -> World:
    """The statement is committed: the rows, the saga's row, what was heard, and what a parent is told by it."""
    decided = game.cores[number].decided(world.drivers[number].plan)
    row = world.rows[number]
    queue = list(row.queue)
    if decided.heard >= 0 and decided.heard in queue:
        queue.remove(decided.heard)
        if game.signals[decided.heard].verb in (Verb.COMPLETE, Verb.FAIL):
            world = world._replace(posted=world.posted | 1 << len(game.feature.told) + decided.heard)
    world = observer.committed(game, world, number, decided)
    world = with_row(world, number, row._replace(log=decided.after, queue=tuple(queue)))
    if number == 0:
        return world
    step = game.cores[0].definition.step(game.step_of_child).name
    state = game.cores[number].states[decided.after]
    if decided.rows and state in (SagaState.COMPLETED, SagaState.COMPENSATED):
        world = told(world, 0, game.number(Verb.CHILD, step, str(state)))
    if decided.heard >= 0 and game.signals[decided.heard].verb is Verb.UNDO and decided.refusal:
        world = told(world, 0, game.number(Verb.CHILD, step, "REFUSED"))
    return world


def _commit(game: Game, world: World, number: int) -> World:
    """The leader hears that its statement is committed, and goes on with what the saga now asks for."""
    driver = world.drivers[number]
    if not driver.written:
        world = _written(game, world, number)
    asked = tuple(efforts(game, world, number))
    if not game.cores[number].commands(world.rows[number].log, world.epoch):
        # The saga has ended: whatever is under way is given up.
        left = tuple(call for call in driver.calls if call.sort not in CHILD)
        return with_driver(world._replace(network=(*world.network, *left)), number, ASLEEP)
    busy = {call.position for call in driver.calls}
    fresh = tuple(call for call in asked if call.position not in busy)
    awake = bool(driver.calls) or goes_on(game, world, number) or bool(stops.free(game, world, number))
    return stops.begin(game, world, number, fresh, Driver(awake, -1, False, driver.calls))


# Calls.


def _call(game: Game, world: World, number: int, call: Call) -> Iterator[Move]:
    """Every way in which a call that the leader waits for may end."""
    driver = world.drivers[number]
    rest = driver._replace(calls=tuple(other for other in driver.calls if other is not call))
    heard = with_driver(world, number, rest)
    if call.sort in CHILD:
        outcome, after = statement(game, heard, call)
        yield from _came(game, after, call, outcome)
        if world.faults:
            # Nobody hears of it, and it is sent again; the first one may also come later, once more.
            _, unheard = statement(game, world, call)
            yield _fault(Action("statement unheard", number, call), unheard._replace(network=(*world.network, call)))
        return
    participant = world.participants[call.saga][call.position - 1]
    for served in serve(participant, call, game.serving_of(call)):
        if served.fault and not world.faults:
            continue
        after = observer.served(game, heard, call, served.after)
        after = with_participant(after, number, call.position, kept(served.after, call))
        yield from _came(game, after, call, served.outcome, fault=served.fault)
    lost = heard if settled(game, world, call) else heard._replace(network=(*world.network, call))
    if game.feature.silent and world.faults:
        yield from _came(game, lost, call, "nobody knows", fault=True)
    if game.feature.holds:
        yield from _came(game, heard, call, "not called", progress=False)
        if world.faults:
            yield from _came(game, lost, call, "cut off", fault=True)


def _came(
    game: Game, world: World, call: Call, outcome: str, *, fault: bool = False, progress: bool = True
) -> Iterator[Move]:
    """The leader goes on with what came of a call, unless the saga waits for it no longer (`Driver._came`)."""
    row = world.rows[call.saga]
    saga = game.cores[call.saga].saga(row.log)
    if saga.at(call.position) is None or saga.state.terminal:
        action = Action("in vain", call.saga, (outcome, call.position, int(call.sort)))
        yield _fault(action, world) if fault else Move(action, world, progress)
        return
    yield from _decisions(game, world, call.saga, outcome, call.position, fault=fault, progress=progress)


def _late(game: Game, world: World, call: Call) -> Iterator[Move]:
    """A call, or a statement, that nobody waits for arrives; it may arrive again."""
    if call.sort in CHILD:
        _, after = statement(game, world, call)
        yield Move(Action("late", call.saga, call), after)
        return
    participant = world.participants[call.saga][call.position - 1]
    for served in serve(participant, call, game.serving_of(call)):
        if not served.fault:
            after = observer.served(game, world, call, served.after, awaited=False)
            after = with_participant(after, call.saga, call.position, kept(served.after, call))
            yield Move(Action("late", call.saga, call), after)


# What others do.


def _others(game: Game, world: World) -> Iterator[Move]:
    yield from stops.people(game, world)
    spent = (world.posted & (1 << len(game.feature.told)) - 1).bit_count() + world.rows[
        0
    ].cancel >= game.feature.told_max
    for bit, said in enumerate(game.feature.told):
        if said.promised:
            # Whoever has paused a saga resumes it: that is said when it is wanted, as often as it is.
            if game.cores[0].saga(world.rows[0].log).paused and bit not in world.rows[0].queue:
                yield Move(Action("tell", 0, (bit,)), told(world, 0, bit))
        elif not spent and not world.posted >> bit & 1:
            after = told(world._replace(posted=world.posted | 1 << bit), 0, bit)
            yield Move(Action("tell", 0, (bit,)), after, progress=False)
    row = world.rows[0]
    if game.feature.cancel and not spent and not row.cancel and not game.cores[0].ended[row.log]:
        yield Move(Action("cancel"), with_row(world, 0, row._replace(cancel=True)), progress=False)
    for position, participant in enumerate(world.participants[0], start=1):
        if game.serving[0][position - 1].answers_later:
            yield from _answers(game, world, position, participant)


def _answers(game: Game, world: World, position: int, participant: Participant) -> Iterator[Move]:
    """A participant that answers later does its work, or will not; it tells of it as often as it likes."""
    name = game.cores[0].definition.step(position).name
    call = Call(0, position, Sort.ACTION, 1, True)
    if participant.action is Key.ACCEPTED:
        after = observer.served(game, world, call, done(participant))
        yield Move(Action("work", 0, (position,)), with_participant(after, 0, position, done(participant)))
        refused = participant._replace(action=Key.REFUSED)
        yield Move(Action("give up", 0, (position,)), with_participant(world, 0, position, refused))
    verb = {Key.DONE: Verb.COMPLETE, Key.REFUSED: Verb.FAIL}.get(participant.action)
    waiting = {game.signals[number].step for number in world.rows[0].queue}
    if verb is not None and name not in waiting:
        number = game.number(verb, name)
        # Whoever was heard, or refused, need not tell again, though it may.
        heard = bool(world.posted >> len(game.feature.told) + number & 1)
        yield Move(Action("tell", 0, (number,)), told(world, 0, number), progress=not heard)
