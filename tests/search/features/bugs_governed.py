"""The seeded bugs of moves and pauses, as in bugs.py."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from orchestrator.saga import evolve, moving, signals, whole
from orchestrator.saga.events import Event, Status
from orchestrator.saga.model import Cursor, Saga
from orchestrator.saga.script import Moment, Script
from orchestrator.saga.signals import Heeded, Signal, Verb
from tests.search.features import stops
from tests.search.features.seeds import Bug, Patch


def _moved_regardless() -> list[Patch]:
    return [(signals, "obstacles", lambda saga, to, now: [])]


def _doubt_is_no_call() -> list[Patch]:
    return [(moving, "reached", lambda cursor: cursor.reached)]


def _moved_in_name_alone() -> list[Patch]:
    return [(whole, "redefined", lambda saga, event, versions: saga)]


def _refused_and_written() -> list[Patch]:
    real = signals.heed

    def heed(saga: Saga, signal: Signal, moment: Moment, *rest: Any) -> Heeded | None:
        heeded = real(saga, signal, moment, *rest)
        if heeded is None or not heeded.refusal or signal.verb is not Verb.MOVE or saga.state.terminal:
            return heeded
        script = Script(saga, moment)
        script.add(Status.RETRIED, order=signal.order)
        return replace(heeded, saga=script.saga, events=tuple(script.events))

    return [(signals, "heed", heed)]


def _pauses_unread() -> list[Patch]:
    """A new leader drives before it has read the pauses."""
    real = stops.learned
    drives = lambda world: any(driver.awake for driver in world.drivers)  # noqa: E731
    return [(stops, "learned", lambda world: real(world) if drives(world) else world)]


def _never_let_go() -> list[Patch]:
    return [(stops, "let_go", lambda saga, pauses: ())]


def _released_once() -> list[Patch]:
    """A new leader takes it that what the former one released goes on."""
    real = stops._OVER
    return [(stops, "_OVER", real - {stops.Stage.RELEASED})]


def _holds_spend() -> list[Patch]:
    real = evolve._EVOLVE[Status.HELD]

    def held(saga: Saga, event: Event) -> Saga:
        after = real(saga, event)
        return replace(after, open=tuple(_spent(cursor, event) for cursor in after.open))

    return [(evolve._EVOLVE, Status.HELD, held)]


def _spent(cursor: Cursor, event: Event) -> Cursor:
    return replace(cursor, failures=cursor.failures + 1) if cursor.position == event.position else cursor


GOVERNED: dict[str, Bug] = {
    "moved-regardless": Bug("moves", "MOVE", "nothing keeps a saga from another version", _moved_regardless),
    "doubt-is-no-call": Bug("moves", "MOVE", "a call under way counts as not made", _doubt_is_no_call),
    "moved-in-name": Bug("moves", "LOG", "the row of a move changes no version", _moved_in_name_alone),
    "refused-and-written": Bug("moves", "MOVE", "a refused move leaves something behind", _refused_and_written),
    "pauses-unread": Bug("pauses", "HELD", "a new leader drives before it reads the pauses", _pauses_unread),
    "never-let-go": Bug("pauses", "I6", "nobody lets go on what a pause held", _never_let_go),
    "released-once": Bug("pauses", "I6", "a new leader releases nothing again", _released_once),
    "holds-spend": Bug("pauses", "HELD", "what a pause holds spends an attempt", _holds_spend),
}
