"""The trace of a feature's search in words, one line an action, and what a search has found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from tests.search.features.game import Action, Game, canonical
from tests.search.features.moves import moves
from tests.search.features.search import Result
from tests.search.features.world import Call, Sort, World

_SORTS = {
    Sort.ACTION: "the action of",
    Sort.COMPENSATION: "the compensation of",
    Sort.STATUS: "the question about",
    Sort.BEGIN_CHILD: "the statement that begins the child of",
    Sort.UNDO_CHILD: "the statement that undoes the child of",
}


def replay(game: Game, trace: Sequence[Action]) -> Iterator[tuple[World, Action, World]]:
    """Perform the actions one by one: the world before each, the action, the world after it.

    Where one action may end in several ways the trace goes on with the one from which all that follows can happen.
    Raises LookupError at an action that cannot happen where the trace has it.
    """
    worlds = [game.beginning()]
    for number in range(len(trace)):
        found = _way(game, worlds[-1], trace, number)
        if found is None:
            raise LookupError(f"{trace[number]} cannot happen here")
        yield worlds[-1], trace[number], found
        worlds.append(found)


def _way(game: Game, world: World, trace: Sequence[Action], number: int) -> World | None:
    for move in moves(game, world):
        if move.action == trace[number]:
            after = canonical(game, move.world)
            if number + 1 == len(trace) or _way(game, after, trace, number + 1) is not None:
                return after
    return None


def in_words(game: Game, trace: Sequence[Action]) -> list[str]:
    """The trace, numbered, one line an action."""
    return [f"{number:3}. {describe(game, action)}" for number, action in enumerate(trace, start=1)]


def describe(game: Game, action: Action) -> str:
    """One action in words."""
    whose = ("the parent: ", "the child: ")[action.saga] if len(game.cores) > 1 and action.verb in _OF_A_SAGA else ""
    return whose + _WORDS[action.verb](game, action)


def _winning(game: Game, action: Action) -> str:
    return f"a replica wins the key and raises the epoch to {action.detail[0]}; who led is dead, frozen, or goes on"


def _working(game: Game, action: Action) -> str:
    done = "does what it accepted" if action.verb == "work" else "will not do what it accepted"
    return f"the participant of {_step(game, action.saga, action.detail[0])} {done}"


def _arriving(game: Game, action: Action) -> str:
    call = Call(*action.detail)  # type: ignore[arg-type]
    how = "arrives, and nobody waits for it" if action.verb == "late" else "is done, and the leader does not hear so"
    return f"{_SORTS[call.sort]} {_step(game, call.saga, call.position)} {how}"


def _deciding(game: Game, action: Action) -> str:
    if action.verb == "heed":
        return f"the leader heeds {_signal(game, action.detail[0])}; it sends {_plan(game, action)}"
    step = _step(game, action.saga, action.detail[1])
    return f"{step}{': ' if step else ''}{action.detail[0]}; the leader sends {_plan(game, action)}"


def _committing(game: Game, action: Action) -> str:
    unheard = "" if action.verb == "commit" else ", and the leader does not hear so"
    return f"Postgres commits {_plan(game, action)}{unheard}"


_WORDS: dict[str, Callable[[Game, Action], str]] = {
    "win": _winning,
    "scan": lambda game, action: "the leader scans the log",
    "pause": lambda game, action: f"somebody pauses {_pause(game, action)}",
    "end": lambda game, action: f"somebody ends the pause of {_pause(game, action)}",
    "look": lambda game, action: "the leader reads which pauses are in force",
    "go by": lambda game, action: f"the leader says in the log that it goes by the pause of {_pause(game, action)}",
    "release": lambda game, action: f"the leader lets go on what the pause of {_pause(game, action)} held",
    "time": lambda game, action: "time goes on",
    "cancel": lambda game, action: "somebody asks that the saga be cancelled",
    "tell": lambda game, action: f"somebody tells the saga: {_signal(game, action.detail[0])}",
    "work": _working,
    "give up": _working,
    "late": _arriving,
    "statement unheard": _arriving,
    "in vain": lambda game, action: (
        f"{_step(game, action.saga, action.detail[1])}: {action.detail[0]}, which nobody waits for"
    ),
    "decide": _deciding,
    "heed": _deciding,
    "commit": _committing,
    "commit unheard": _committing,
}

_OF_A_SAGA = frozenset({"late", "statement unheard", "in vain", "decide", "heed", "commit", "commit unheard"})


def _pause(game: Game, action: Action) -> str:
    pause = game.feature.pauses[int(str(action.detail[0]))]
    return f"{pause.kind} {pause.name}"


def _signal(game: Game, number: object) -> str:
    signal = game.signals[int(str(number))]
    told = signal.result or {}
    state = told.get("state") or told.get("to", "")
    return " ".join(filter(None, (signal.verb.value, signal.step, str(state))))


def _step(game: Game, saga: int, position: object) -> str:
    number = int(str(position))
    return " or ".join(game.names[saga][number - 1]) if number else ""


def _plan(game: Game, action: Action) -> str:
    decided = game.cores[action.saga].decided(int(str(action.detail[-1])))
    rows = [f"{row.status} {_step(game, action.saga, row.position)}".rstrip() for row in decided.rows]
    if decided.defect:
        return f"nothing: {decided.defect}"
    return ", ".join(rows) or f"a refusal: {decided.refusal}"


def summary(game: Game, result: Result) -> list[str]:
    """What a search has found, in lines."""
    feature = game.feature
    extent = "exhausted" if result.exhausted else "bounded: there are more"
    if result.violation is not None:
        extent = "ended at the first violation"
    states = Counter(game.cores[0].states[world.rows[0].log].value for world in result.graph.worlds)
    lines = [
        f"{feature.name}: {feature.what}",
        f"{feature.generations} generations, {feature.faults} faults, "
        f"{'with' if feature.cancel else 'without'} cancellation",
        f"{result.states:,} states, {result.transitions:,} transitions, depth {result.depth}, "
        f"{result.seconds:.1f} s ({extent})",
        "saga in the log: " + ", ".join(f"{count:,} {state}" for state, count in sorted(states.items())),
    ]
    if result.violation is None:
        rest = "" if result.exhausted else "; I6 needs the whole space"
        return [*lines, f"every invariant holds in every state{rest}"]
    return [*lines, f"{result.violation.invariant} VIOLATED: {result.violation.what}", *in_words(game, result.trace)]
