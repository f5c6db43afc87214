"""The model of a leader: what driving/term.py and driver.py do around the core, one step a function.

The core decides by itself; here stands only when it is asked, what is durable by then, and what a lost connection, a
fence or a timeout does to the term.
"""

from __future__ import annotations

from orchestrator.errors import InvariantError
from orchestrator.saga import commands
from orchestrator.saga.model import Kind
from tests.search import model_log
from tests.search.core import Core, Plan, Shape
from tests.search.mutations import Rules
from tests.search.world import ENDED, IDLE, RAISED, Answer, Call, Direction, Stage, Statement, Term, World


def with_term(world: World, epoch: int, term: Term) -> World:
    """The world in which generation `epoch` stands at `term`."""
    return world._replace(terms=(*world.terms[: epoch - 1], term, *world.terms[epoch:]))


def with_message(world: World, message: Statement | Call) -> World:
    """The world with one more message that nobody waits for."""
    return world._replace(network=tuple(sorted((*world.network, message))))


def called(core: Core, shape: Shape) -> tuple[int, Direction]:
    """What a saga that asks for a call asks for: the step, and which of its two methods."""
    cursor = core.saga(shape).cursor
    if cursor is None:
        raise InvariantError("a saga without a cursor calls nobody")
    return cursor.position, Direction.ACTION if cursor.kind is Kind.ACTION else Direction.COMPENSATION


def intended(core: Core, world: World, epoch: int, position: int, direction: Direction) -> bool:
    """The observer's question for I4: whether the log now has an intent of this call under this epoch."""
    cursor = core.saga(Shape(world.log)).cursor
    kind = Kind.ACTION if direction is Direction.ACTION else Kind.COMPENSATION
    return cursor is not None and (cursor.position, cursor.kind, cursor.intent_epoch) == (position, kind, epoch)


def take_up(core: Core, world: World, epoch: int, shape: Shape, lag: int = 0) -> World:
    """Drive the saga as it is known now: ask the core what it wants (`Driver.drive`)."""
    match core.next_command(shape, epoch):
        case None:
            term = IDLE
        case commands.Call():
            stands = intended(core, world, epoch, *called(core, shape))
            term = Term(Stage.CALLING, shape, lag, intended=stands)
        case commands.Intend() | commands.Wait():
            term = Term(Stage.DECIDING, shape, lag)
    return with_term(world, epoch, term)


def scan(core: Core, world: World, epoch: int, rules: Rules) -> World:
    """The recovery scan (`Term._scan`): take up what is unfinished."""
    return _start(core, world, epoch, model_log.unfinished(core, world, rules), 0)


def scan_too_early(core: Core, world: World, epoch: int, rules: Rules) -> World:
    """Read what is unfinished before the epoch is raised, which production never does (R2)."""
    found = model_log.unfinished(core, world, rules)
    return with_term(world, epoch, Term(Stage.SCANNED, -1 if found is None else found))


def raise_epoch(core: Core, world: World, epoch: int) -> World:
    """Raise the epoch (`Leader._raise_epoch`); a victory that was overtaken ends the term."""
    after = model_log.raised(world, epoch)
    if after is None:
        return with_term(world, epoch, ENDED)
    term = world.terms[epoch - 1]
    if term.stage is Stage.WON:
        return with_term(after, epoch, RAISED)
    return _start(core, after, epoch, None if term.shape < 0 else Shape(term.shape), term.lag)


def _start(core: Core, world: World, epoch: int, found: Shape | None, lag: int) -> World:
    return with_term(world, epoch, IDLE) if found is None else take_up(core, world, epoch, found, lag)


def decide(core: Core, world: World, epoch: int, cancelled: bool, rules: Rules) -> World:
    """Decide on what is known, and send what follows to the log."""
    term = world.terms[epoch - 1]
    answer = Answer.NO if term.answer is Answer.UNKNOWN and not rules.unknown_is_unknown else term.answer
    plan = core.decide(Shape(term.shape), answer, epoch, cancelled)
    if not rules.intent_before_call:
        world = _call_at_once(core, world, epoch, plan)
    return with_term(world, epoch, Term(Stage.WRITING, lag=term.lag, plan=plan))


def _call_at_once(core: Core, world: World, epoch: int, plan: Plan) -> World:
    after = core.decided(plan).after
    if not isinstance(core.next_command(after, epoch), commands.Call):
        return world
    position, direction = called(core, after)
    stands = intended(core, world, epoch, position, direction)
    return with_message(world, Call(1, position, direction, stands))


def hear_commit(core: Core, world: World, epoch: int, rules: Rules) -> World:
    """The statement commits and says so: go on with the saga as it now is in the log (`PostgresTermLog._commit`)."""
    term = world.terms[epoch - 1]
    plan = Plan(term.plan)
    decided = core.decided(plan)
    world, written = model_log.commit(core, world, epoch, plan, term.lag, rules)
    if written != len(decided.rows) and not term.again:
        defect = world.defect or "rows were in the log before they were written"
        return with_term(world._replace(defect=defect), epoch, ENDED)
    return take_up(core, world, epoch, decided.after, max(0, term.lag - len(decided.rows)))


def commit_unheard(core: Core, world: World, epoch: int, rules: Rules) -> World:
    """The statement commits and its acknowledgement is lost: the same rows are sent again."""
    term = world.terms[epoch - 1]
    world, _ = model_log.commit(core, world, epoch, Plan(term.plan), term.lag, rules)
    return _repeat(world, epoch)


def lose_connection(world: World, epoch: int) -> World:
    """The connection is lost: the statement may still arrive or commit, and the same rows are sent again."""
    return _repeat(_leave_statement(world, epoch), epoch)


def _repeat(world: World, epoch: int) -> World:
    return with_term(world, epoch, world.terms[epoch - 1]._replace(begun=False, again=True))


def _leave_statement(world: World, epoch: int) -> World:
    term = world.terms[epoch - 1]
    return with_message(world, Statement(0, epoch, term.plan, term.lag, term.begun))


def _leave_call(core: Core, world: World, epoch: int) -> World:
    term = world.terms[epoch - 1]
    return with_message(world, Call(1, *called(core, Shape(term.shape)), term.intended))


def hear(world: World, epoch: int, answer: Answer) -> World:
    """The participant has answered, or nobody knows."""
    term = world.terms[epoch - 1]
    return with_term(world, epoch, Term(Stage.DECIDING, term.shape, term.lag, answer))


def give_up_call(core: Core, world: World, epoch: int) -> World:
    """The call's time is over while it is still on its way."""
    return hear(_leave_call(core, world, epoch), epoch, Answer.UNKNOWN)


def crash(core: Core, world: World, epoch: int) -> World:
    """The process is gone, its memory with it; what it has sent may still arrive."""
    stage = world.terms[epoch - 1].stage
    if stage is Stage.WRITING:
        world = _leave_statement(world, epoch)
    elif stage is Stage.CALLING:
        world = _leave_call(core, world, epoch)
    return with_term(world, epoch, ENDED)
