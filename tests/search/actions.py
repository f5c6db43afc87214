"""Everything that can happen next: every action of every replica, of Postgres, of the participants, of the network.

There is no time in this world. What may happen at all may happen at any moment, or never: so a message that is still on
its way is also a delayed and a lost one, and a replica that does nothing is also a stopped one that may yet wake.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from tests.search import model_leader, model_log
from tests.search.bounds import Bounds
from tests.search.core import Core, Plan, Shape
from tests.search.model_participant import serve
from tests.search.mutations import Rules
from tests.search.world import ENDED, WON, Answer, Call, Client, Message, Participant, Stage, Statement, World


class Verb(StrEnum):
    """What is done. The words of a trace stand in trace.py."""

    START = "start"
    START_UNHEARD = "start-unheard"
    START_UNSTORED = "start-unstored"
    START_AGAIN = "start-again"
    START_DUPLICATE = "start-duplicate"
    CANCEL = "cancel"
    WIN = "win"
    SCAN_TOO_EARLY = "scan-too-early"
    RAISE = "raise"
    SCAN = "scan"
    ADMIT = "admit"
    DECIDE = "decide"
    DECIDE_CANCELLED = "decide-cancelled"
    BEGIN = "begin"
    COMMIT = "commit"
    COMMIT_UNHEARD = "commit-unheard"
    LOSE_CONNECTION = "lose-connection"
    SERVE = "serve"
    SERVE_UNHEARD = "serve-unheard"
    SERVE_TWICE = "serve-twice"
    TIME_OUT = "time-out"
    CRASH = "crash"
    LATE_BEGIN = "late-begin"
    LATE_COMMIT = "late-commit"
    LATE_SERVE = "late-serve"


class Action(NamedTuple):
    """One action: what, by which generation (0: nobody's), on which message of nobody, and which way it goes."""

    verb: Verb
    generation: int = 0
    message: Message | None = None
    words: str = ""


class Move(NamedTuple):
    """An action and the world behind it. `progress`: it needs neither a fault nor a leader overthrown in vain."""

    action: Action
    world: World
    progress: bool


@dataclass(frozen=True, slots=True)
class Game:
    """The rules of a search: its bounds, its core, and the rules of correctness that hold in it."""

    bounds: Bounds
    core: Core
    rules: Rules

    @classmethod
    def of(cls, bounds: Bounds, rules: Rules) -> Game:
        """A game with a core of its own."""
        return cls(bounds, Core(bounds.steps, bounds.retries), rules)

    def beginning(self) -> World:
        """Nobody has asked for anything, nobody leads."""
        participants = (Participant(),) * self.bounds.steps
        return World(Client.NEW, 0, False, 0, self.core.pending, False, "", participants, (), (), self.bounds.faults)


def moves(game: Game, world: World) -> Iterator[Move]:
    """Everything that can happen next in `world`."""
    yield from _clients(game, world)
    yield from _elections(game, world)
    for epoch, term in enumerate(world.terms, start=1):
        match term.stage:
            case Stage.ENDED:
                continue
            case Stage.WON | Stage.SCANNED | Stage.RAISED | Stage.IDLE:
                yield from _beginnings(game, world, epoch)
            case Stage.DECIDING:
                yield from _decisions(game, world, epoch)
            case Stage.WRITING:
                yield from _writes(game, world, epoch)
            case Stage.CALLING:
                yield from _calls(game, world, epoch)
        if world.faults and epoch < game.bounds.generations:
            yield _fault(Action(Verb.CRASH, epoch), model_leader.crash(game.core, world, epoch))
    for message in dict.fromkeys(world.network):
        yield from _late(game, world, message)


def _fault(action: Action, world: World) -> Move:
    return Move(action, world._replace(faults=world.faults - 1), progress=False)


def _clients(game: Game, world: World) -> Iterator[Move]:
    if world.client is Client.NEW:
        stored = world._replace(sagas=1)
        yield Move(Action(Verb.START), stored._replace(client=Client.TOLD), progress=True)
        if not game.rules.answer_after_commit:
            yield Move(Action(Verb.START_UNSTORED), world._replace(client=Client.TOLD), progress=True)
        if world.faults:
            yield _fault(Action(Verb.START_UNHEARD), stored._replace(client=Client.UNHEARD))
        return
    # The request id is unique: what is stored once is found, and not stored again.
    repeated = world if game.rules.one_saga_a_request else world._replace(sagas=2)
    if world.client is Client.UNHEARD:
        yield Move(Action(Verb.START_AGAIN), repeated._replace(client=Client.TOLD), progress=True)
    elif world.faults and repeated != world:
        yield _fault(Action(Verb.START_DUPLICATE), repeated)
    if game.bounds.cancel and world.sagas and not world.cancel and not model_log.ended(game.core, world):
        yield Move(Action(Verb.CANCEL), world._replace(cancel=True), progress=True)


def _elections(game: Game, world: World) -> Iterator[Move]:
    """A replica without a term wins the key: it is vacant, or taken from a leader that seems gone or frozen."""
    living = sum(term.stage is not Stage.ENDED for term in world.terms)
    if len(world.terms) == game.bounds.generations or living == game.bounds.leaders:
        return
    vacant = not world.terms or world.terms[-1].stage is Stage.ENDED
    yield Move(Action(Verb.WIN, len(world.terms) + 1), world._replace(terms=(*world.terms, WON)), progress=vacant)


def _beginnings(game: Game, world: World, epoch: int) -> Iterator[Move]:
    stage = world.terms[epoch - 1].stage
    if stage is Stage.WON and not game.rules.raise_before_scan:
        yield _step(Verb.SCAN_TOO_EARLY, epoch, model_leader.scan_too_early(game.core, world, epoch, game.rules))
    elif stage is Stage.WON or stage is Stage.SCANNED:
        if not model_log.fence_locked(world, game.rules):
            yield _step(Verb.RAISE, epoch, model_leader.raise_epoch(game.core, world, epoch))
    elif stage is Stage.RAISED:
        yield _step(Verb.SCAN, epoch, model_leader.scan(game.core, world, epoch, game.rules))
    elif (found := model_log.pending(game.core, world)) is not None:
        yield _step(Verb.ADMIT, epoch, model_leader.take_up(game.core, world, epoch, found))


def _step(verb: Verb, epoch: int, world: World, words: str = "") -> Move:
    return Move(Action(verb, epoch, words=words), world, progress=True)


def _decisions(game: Game, world: World, epoch: int) -> Iterator[Move]:
    yield _step(Verb.DECIDE, epoch, model_leader.decide(game.core, world, epoch, False, game.rules))
    if world.cancel:
        after = model_leader.decide(game.core, world, epoch, True, game.rules)
        yield _step(Verb.DECIDE_CANCELLED, epoch, after)


def _writes(game: Game, world: World, epoch: int) -> Iterator[Move]:
    term = world.terms[epoch - 1]
    if not term.begun:
        if model_log.holds_fence(world, epoch, game.rules):
            after = model_leader.with_term(world, epoch, term._replace(begun=True))
        else:
            after = model_leader.with_term(world, epoch, ENDED)
        yield _step(Verb.BEGIN, epoch, after)
    else:
        yield _step(Verb.COMMIT, epoch, model_leader.hear_commit(game.core, world, epoch, game.rules))
        if world.faults:
            after = model_leader.commit_unheard(game.core, world, epoch, game.rules)
            yield _fault(Action(Verb.COMMIT_UNHEARD, epoch), after)
    if world.faults:
        yield _fault(Action(Verb.LOSE_CONNECTION, epoch), model_leader.lose_connection(world, epoch))


def _calls(game: Game, world: World, epoch: int) -> Iterator[Move]:
    term = world.terms[epoch - 1]
    position, direction = model_leader.called(game.core, Shape(term.shape))
    for served in serve(world.participants[position - 1], direction, term.intended, game.rules):
        if served.fault and not world.faults:
            continue
        after = with_participant(world, position, served.after)
        heard = model_leader.hear(after, epoch, served.answer)
        if served.fault:
            yield _fault(Action(Verb.SERVE, epoch, words=served.words), heard)
            continue
        yield _step(Verb.SERVE, epoch, heard, served.words)
        if world.faults:
            unheard = model_leader.hear(after, epoch, Answer.UNKNOWN)
            yield _fault(Action(Verb.SERVE_UNHEARD, epoch, words=served.words), unheard)
            twice = model_leader.with_message(heard, Call(1, position, direction, term.intended))
            yield _fault(Action(Verb.SERVE_TWICE, epoch, words=served.words), twice)
    if world.faults:
        yield _fault(Action(Verb.TIME_OUT, epoch), model_leader.give_up_call(game.core, world, epoch))


def _late(game: Game, world: World, message: Message) -> Iterator[Move]:
    """A message that nobody waits for is delivered after all."""
    rest = list(world.network)
    rest.remove(message)
    without = world._replace(network=tuple(rest))
    if isinstance(message, Call):
        participant = world.participants[message.position - 1]
        for served in serve(participant, message.direction, message.intended, game.rules):
            if not served.fault:
                after = with_participant(without, message.position, served.after)
                yield Move(Action(Verb.LATE_SERVE, 0, message, served.words), after, progress=True)
    elif message.begun:
        committed = model_log.commit(game.core, without, message.epoch, Plan(message.plan), message.lag, game.rules)
        yield Move(Action(Verb.LATE_COMMIT, message.epoch, message), committed.world, progress=True)
    elif model_log.holds_fence(world, message.epoch, game.rules):
        begun = model_leader.with_message(without, Statement(0, message.epoch, message.plan, message.lag, True))
        yield Move(Action(Verb.LATE_BEGIN, message.epoch, message), begun, progress=True)


def with_participant(world: World, position: int, participant: Participant) -> World:
    """The world in which the participant of this step is as given."""
    participants = world.participants
    return world._replace(participants=(*participants[: position - 1], participant, *participants[position:]))
