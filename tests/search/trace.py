"""A trace in words, one line an action: who did what. A trace is made by replaying it, so every line is one that can
happen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tests.search.actions import Action, Game, Verb, moves
from tests.search.canonical import canonical
from tests.search.core import Plan, Shape
from tests.search.model_leader import called
from tests.search.search import Reduce
from tests.search.world import Answer, Call, Direction, Stage, Statement, Term, World

_ANSWERS = {Answer.OK: "the answer is yes", Answer.NO: "the answer is no", Answer.UNKNOWN: "nobody answered"}


def replay(game: Game, trace: Sequence[Action], reduce: Reduce = canonical) -> Iterator[tuple[World, Action, World]]:
    """Perform the actions one by one: the world before each, the action, the world after it.

    Raises LookupError at an action that cannot happen where the trace has it.
    """
    world = reduce(game, game.beginning())
    for action in trace:
        found = [move.world for move in moves(game, world) if move.action == action]
        if not found:
            raise LookupError(f"{action} cannot happen here")
        after = reduce(game, found[0])
        yield world, action, after
        world = after


def in_words(game: Game, trace: Sequence[Action], reduce: Reduce = canonical) -> list[str]:
    """The trace, numbered, one line an action."""
    steps = replay(game, trace, reduce)
    return [
        f"{number:3}. {describe(game, before, action, after)}"
        for number, (before, action, after) in enumerate(steps, start=1)
    ]


def describe(game: Game, before: World, action: Action, after: World) -> str:
    """One action in words."""
    if action.verb in _CLIENT:
        return _CLIENT[action.verb]
    match action.verb:
        case Verb.SERVE | Verb.SERVE_UNHEARD | Verb.SERVE_TWICE | Verb.LATE_SERVE:
            return _serving(game, before, action)
        case Verb.LATE_BEGIN | Verb.LATE_COMMIT:
            return _late_statement(game, action)
        case _:
            return f"leader {action.generation}: {_LEADER[action.verb](game, before, action, after)}"


_CLIENT = {
    Verb.START: "client: StartSaga; the saga is stored and acknowledged",
    Verb.START_UNHEARD: "client: StartSaga; the saga is stored, the acknowledgement is lost",
    Verb.START_UNSTORED: "client: StartSaga is acknowledged before the saga is stored",
    Verb.START_AGAIN: "client: StartSaga again, with the same request id; it is acknowledged",
    Verb.START_DUPLICATE: "network: a duplicate of StartSaga arrives",
    Verb.CANCEL: "client: asks that the saga be cancelled",
}


def _serving(game: Game, before: World, action: Action) -> str:
    if isinstance(action.message, Call):
        call, position = _call(action.message.position, action.message.direction), action.message.position
        return f"participant {position}: a call that nobody waits for arrives ({call}); it {action.words}"
    position, direction = called(game.core, Shape(before.terms[action.generation - 1].shape))
    end = {
        Verb.SERVE: f"; leader {action.generation} hears it",
        Verb.SERVE_UNHEARD: "; the answer is lost",
        Verb.SERVE_TWICE: f"; leader {action.generation} hears it; a duplicate of the call is still on its way",
    }[action.verb]
    return f"participant {position}: gets leader {action.generation}'s call ({_call(position, direction)})" + (
        f"; it {action.words}{end}"
    )


def _late_statement(game: Game, action: Action) -> str:
    if not isinstance(action.message, Statement):
        raise LookupError(f"{action} has no statement")
    rows = _rows(game, Plan(action.message.plan))
    done = "begins" if action.verb is Verb.LATE_BEGIN else "commits"
    return f"Postgres: {done} a statement of leader {action.generation} that nobody waits for ({rows})"


def _winning(game: Game, before: World, action: Action, after: World) -> str:
    others = [f"leader {number}" for number, term in enumerate(before.terms, start=1) if term.stage is not Stage.ENDED]
    rest = f", while {' and '.join(others)} still act{'s' if len(others) == 1 else ''}" if others else ""
    return f"a replica wins the key in etcd and becomes leader {action.generation}{rest}"


def _raising(game: Game, before: World, action: Action, after: World) -> str:
    if after.fence == before.fence:
        return "its raise comes too late: a later victory has raised the epoch; its term ends"
    return f"raises the epoch to {action.generation}{_then(game, action, after)}"


def _scanning_too_early(game: Game, before: World, action: Action, after: World) -> str:
    return f"scans the log before it has raised the epoch: the saga is {_state(game, before)}"


def _scanning(game: Game, before: World, action: Action, after: World) -> str:
    return f"scans the log: the saga is {_state(game, before)}{_then(game, action, after)}"


def _deciding(game: Game, before: World, action: Action, after: World) -> str:
    term, sent = _terms(before, action, after)
    because = _ANSWERS.get(term.answer, "nothing to wait for")
    if term.answer is Answer.UNKNOWN and not game.rules.unknown_is_unknown:
        because += ", which it takes for a no"
    cancelled = ", and it has heard of the cancellation" if action.verb is Verb.DECIDE_CANCELLED else ""
    rows = _rows(game, Plan(sent.plan)) if sent.stage is Stage.WRITING else "a write that the fence will refuse"
    early = "" if game.rules.intent_before_call else "; what it intends it calls at once"
    return f"{because}{cancelled}; sends {rows} to Postgres{early}"


def _beginning(game: Game, before: World, action: Action, after: World) -> str:
    term, begun = _terms(before, action, after)
    if begun.stage is Stage.ENDED:
        return "its statement finds that a later epoch holds the fence; its term ends"
    return f"Postgres begins its statement ({_rows(game, Plan(term.plan))})"


def _committing(game: Game, before: World, action: Action, after: World) -> str:
    term, _ = _terms(before, action, after)
    unheard = " unheard; it sends it again" if action.verb is Verb.COMMIT_UNHEARD else ""
    return f"Postgres commits its statement ({_rows(game, Plan(term.plan))}){unheard}{_then(game, action, after)}"


def _always(words: str) -> Callable[[Game, World, Action, World], str]:
    return lambda game, before, action, after: words


_LEADER: dict[Verb, Callable[[Game, World, Action, World], str]] = {
    Verb.WIN: _winning,
    Verb.SCAN_TOO_EARLY: _scanning_too_early,
    Verb.RAISE: _raising,
    Verb.SCAN: _scanning,
    Verb.ADMIT: _always("finds the pending saga"),
    Verb.DECIDE: _deciding,
    Verb.DECIDE_CANCELLED: _deciding,
    Verb.BEGIN: _beginning,
    Verb.COMMIT: _committing,
    Verb.COMMIT_UNHEARD: _committing,
    Verb.LOSE_CONNECTION: _always("loses its connection, the statement still on its way; it sends it again"),
    Verb.TIME_OUT: _always("waits no longer for its call, which is still on its way"),
    Verb.CRASH: _always("its process is killed"),
}


def _terms(before: World, action: Action, after: World) -> tuple[Term, Term]:
    """The acting leader's term before and after the action."""
    return before.terms[action.generation - 1], after.terms[action.generation - 1]


def _then(game: Game, action: Action, after: World) -> str:
    """Whom the leader calls next, if it does so at once."""
    term = after.terms[action.generation - 1]
    if term.stage is not Stage.CALLING:
        return ""
    return f"; calls the {_call(*called(game.core, Shape(term.shape)))}"


def _state(game: Game, world: World) -> str:
    return game.core.states[world.log].value if world.sagas else "not there"


def _call(position: int, direction: Direction) -> str:
    return f"{direction.name.lower()} of step {position}"


def _rows(game: Game, plan: Plan) -> str:
    rows = game.core.decided(plan).rows
    return " + ".join(f"{row.status}({row.position})" if row.position else str(row.status) for row in rows)
