"""Pauses of definitions and participants: who asks for them, what a leader does about them, which calls they hold.

A statement that says what a leader goes by, or has let go on, is one step under the fence.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.saga.pausing import Pauses, let_go
from tests.search.features import observer
from tests.search.features.game import Action, Game, Move, efforts
from tests.search.features.world import UNMADE, Call, Driver, Stage, Stop, World, with_driver

_IN_FORCE = frozenset({Stage.STORED, Stage.HEEDED})
_OVER = frozenset({Stage.ENDED, Stage.RELEASED})


def known(game: Game, world: World) -> Pauses:
    """The pauses that the leader goes by."""
    stops = zip(world.stops, game.feature.pauses, strict=True)
    return Pauses(pause for stop, pause in stops if stop.known)


def learned(world: World) -> World:
    """The leader has read the pauses, and goes by what the log says."""
    stops = tuple(stop._replace(known=stop.stage in _IN_FORCE) for stop in world.stops)
    return world._replace(stops=stops)


def unlearned(world: World) -> World:
    """Another leader, which knows of no pause and has let go on nothing."""
    return world._replace(stops=tuple(Stop(stop.stage) for stop in world.stops))


def people(game: Game, world: World) -> Iterator[Move]:
    """Somebody pauses something once, and will end that."""
    for number, stop in enumerate(world.stops):
        if stop.stage is Stage.NONE:
            yield Move(Action("pause", detail=(number,)), _with(world, number, stage=Stage.STORED), progress=False)
        elif stop.stage in _IN_FORCE:
            yield Move(Action("end", detail=(number,)), _with(world, number, stage=Stage.ENDED))


def leader(game: Game, world: World) -> Iterator[Move]:
    """The leader looks, says what it goes by, and lets go on what is over."""
    if learned(world) != world:
        yield Move(Action("look"), learned(world))
    for number, stop in enumerate(world.stops):
        if stop.known and stop.stage is Stage.STORED:
            yield Move(Action("go by", detail=(number,)), _with(world, number, stage=Stage.HEEDED))
        if not stop.known and not stop.freed and stop.stage in _OVER:
            after = _with(_taken_up(game, world), number, stage=Stage.RELEASED, freed=True)
            yield Move(Action("release", detail=(number,)), after)


def free(game: Game, world: World, number: int) -> tuple[int, ...]:
    """The steps of a saga that wait for the end of a pause, and that the leader knows of no pause for."""
    return let_go(game.cores[number].saga(world.rows[number].log), known(game, world)) if world.stops else ()


def begin(game: Game, world: World, number: int, asked: tuple[Call, ...], driver: Driver) -> World:
    """The leader begins what the saga asks for, but for what is held, and what cannot be made of the saga."""
    definition = game.cores[number].saga(world.rows[number].log).definition
    holds = known(game, world)
    made = tuple(
        call
        for call in asked
        if call.made != UNMADE and holds.holding(definition.name, definition.step(call.position).service) is None
    )
    world = observer.begun(game, world, number, made)
    return with_driver(world, number, driver._replace(calls=tuple(sorted((*driver.calls, *made)))))


def kept_back(game: Game, world: World, number: int) -> Iterator[tuple[Call, str]]:
    """What the saga asks for and nobody has begun: why."""
    if not world.stops and not game.feature.versions:
        return
    busy = {call.position for call in world.drivers[number].calls}
    for call in efforts(game, world, number):
        if call.position not in busy:
            yield call, "not to be made" if call.made == UNMADE else "paused"


def _taken_up(game: Game, world: World) -> World:
    """What sleeps because of a pause is taken up; it goes on unless another one holds it."""
    for number, driver in enumerate(world.drivers):
        if not driver.awake and driver.plan < 0 and free(game, world, number):
            world = with_driver(world, number, driver._replace(awake=True))
    return world


def _with(world: World, number: int, **changes: object) -> World:
    stop = world.stops[number]._replace(**changes)  # type: ignore[arg-type]
    return world._replace(stops=(*world.stops[:number], stop, *world.stops[number + 1 :]))
