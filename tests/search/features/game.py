"""The rules of a feature's search: its world at the beginning, its cores, and what a saga asks of its leader."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from typing import NamedTuple

from orchestrator.saga.commands import Ask, Begin, Command, Intend
from orchestrator.saga.commands import Call as Calls
from orchestrator.saga.definition import Definition, Work
from orchestrator.saga.model import Kind, Phase, SagaState
from orchestrator.saga.signals import Signal, Verb
from tests.search.features.core import Core
from tests.search.features.feature import Feature
from tests.search.features.participants import Serving, contradicts, kept, serve
from tests.search.features.world import ASLEEP, CHILD, Call, Participant, Row, Sort, Stop, World


class Action(NamedTuple):
    """One action: what, in which saga, and with what."""

    verb: str
    saga: int = 0
    detail: tuple[object, ...] = ()


class Move(NamedTuple):
    """An action and the world behind it. `progress`: it needs neither a fault nor somebody's whim."""

    action: Action
    world: World
    progress: bool = True


class Game:
    """One search of one feature."""

    def __init__(self, feature: Feature) -> None:
        self.feature = feature
        self.cores = tuple(
            Core(
                number,
                definition,
                attempts=feature.attempts,
                results=len(feature.results) > 1 or bool(feature.versions),
                start_age=0 if number else feature.start_age,
                versions=() if number else feature.versions,
            )
            for number, definition in enumerate(feature.definitions)
        )
        # What may stand in the log for a saga to heed, by number: what others say, then what the log itself tells.
        signals = [told.signal for told in feature.told]
        self.step_of_child = 0
        for position, step in enumerate(feature.definitions[0].steps, start=1):
            if step.answers_later:
                signals += [Signal(0, verb, step.name, {}, "ABORTED") for verb in (Verb.COMPLETE, Verb.FAIL)]
            if step.work is Work.CHILD:
                self.step_of_child = position
                ends = (SagaState.COMPLETED, SagaState.COMPENSATED, "REFUSED")
                signals += [Signal(0, Verb.CHILD, step.name, {"state": str(end)}) for end in ends]
                signals.append(Signal(0, Verb.UNDO))
        self.signals = tuple(signals)
        # By version, what comes after a step; and by position, the names that a step has in whatever version.
        several = [(one, *(() if number else feature.versions)) for number, one in enumerate(feature.definitions)]
        self.later = tuple({one.version: _later(one) for one in versions} for versions in several)
        self.names = tuple(tuple(map(_together, zip_longest(*map(_names, versions)))) for versions in several)
        self.serving = tuple(
            tuple(
                Serving(feature.results, not feature.refusals.isdisjoint(names), later, feature.stubborn)
                for names, later in zip_longest(of_saga, answered, fillvalue=False)
            )
            for of_saga, answered in zip(self.names, map(_answered, feature.definitions), strict=True)
        )

    def number(self, verb: Verb, step: str = "", state: str = "") -> int:
        """The number of a signal that the log itself, or a participant, tells."""
        for number in range(len(self.feature.told), len(self.signals)):
            signal = self.signals[number]
            if (signal.verb, signal.step) == (verb, step) and (signal.result or {}).get("state", "") == state:
                return number
        raise LookupError(f"nobody tells {verb} {step} {state}")

    def beginning(self) -> World:
        """The saga is stored; nobody leads."""
        rows = tuple(Row(-1 if number else core.pending) for number, core in enumerate(self.cores))
        participants = tuple((Participant(),) * len(names) for names in self.names)
        drivers = (ASLEEP,) * len(rows)
        intended = (0,) * len(rows)
        stops = (Stop(),) * len(self.feature.pauses)
        return World(0, 0, False, rows, drivers, participants, (), 0, intended, self.feature.faults, None, stops)

    def serving_of(self, call: Call) -> Serving:
        """What the participant of a call may do."""
        return self.serving[call.saga][call.position - 1]


def _names(definition: Definition) -> list[str]:
    return [step.name for step in definition.steps]


def _together(names: tuple[str | None, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in names if name is not None))


def _answered(definition: Definition) -> list[bool]:
    return [step.answers_later for step in definition.steps]


def _later(definition: Definition) -> tuple[frozenset[int], ...]:
    """For each step, by index, all that come after it, however far: found from what each says it comes after."""
    steps = range(1, len(definition.steps) + 1)
    found = {position: set(definition.step(position).after) for position in steps}
    for _ in steps:
        for before in found.values():
            before |= set().union(*(found[position] for position in before))
    return tuple(frozenset(other for other in steps if position in found[other]) for position in steps)


def efforts(game: Game, world: World, number: int) -> Iterator[Call]:
    """What the saga asks its leader for, as calls: each with what an observer sees of its intent in the log."""
    core, log = game.cores[number], world.rows[number].log
    for command in core.commands(log, world.epoch):
        found = _sort(command)
        if found is None or not isinstance(command, Calls | Ask | Begin):
            continue
        sort, kind = found
        cursor = core.saga(log).at(command.position)
        stands = (
            cursor is not None
            and (cursor.kind, cursor.phase, cursor.intent_epoch) == (kind, Phase.INTENDED, world.epoch)
            and cursor.asking == (sort is Sort.STATUS)
        )
        attempt = command.attempt if game.feature.attempts else 1
        yield Call(number, command.position, sort, attempt, stands, core.made(log, command.position, kind))


def _sort(command: Command) -> tuple[Sort, Kind] | None:
    match command:
        case Calls(_, kind, _):
            return (Sort.ACTION if kind is Kind.ACTION else Sort.COMPENSATION), kind
        case Ask():
            return Sort.STATUS, Kind.ACTION
        case Begin(_, kind, _):
            return (Sort.BEGIN_CHILD if kind is Kind.ACTION else Sort.UNDO_CHILD), kind
        case _:
            return None


def goes_on(game: Game, world: World, number: int) -> bool:
    """Whether a driver that has the saga in memory has anything to do for it but to wait."""
    commands = game.cores[number].commands(world.rows[number].log, world.epoch)
    return any(isinstance(command, Intend | Calls | Ask | Begin) for command in commands)


def settled(game: Game, world: World, call: Call) -> bool:
    """Whether such a call can change nothing any more, now or later."""
    if call.sort in CHILD:
        return False
    participant = world.participants[call.saga][call.position - 1]
    if contradicts(participant, call):
        return False
    return all(kept(served.after, call) == participant for served in serve(participant, call, game.serving_of(call)))


def canonical(game: Game, world: World) -> World:
    """The world without the messages that can change nothing, each kept once: it may come as often as it likes."""
    if not world.network:
        return world
    kept = tuple(sorted({call for call in world.network if not settled(game, world, call)}))
    return world if kept == world.network else world._replace(network=kept)
