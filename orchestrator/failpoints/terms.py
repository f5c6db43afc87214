"""What a failpoint is told to do: the terms, parsed and checked.

Pure but for the errors of the wires that it names. The notation is that of FreeBSD's fail(9), which etcd's gofail and
TiKV's fail-rs have taken over: terms in a row, each with an optional chance and count, of which the first that
applies is done.

    30*off->1*stop          nothing 30 times, then once: stop
    5%sleep(20ms)           one time in twenty: sleep
    error(DEADLINE_EXCEEDED)
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.errors import BatonError
from orchestrator.failpoints.effects import POINTS
from orchestrator.failpoints.wires import is_kind, kinds

DURATION_MAX_S = 600.0
# The value of BATON_FAILPOINTS that arms nothing, and lets the HTTP port arm failpoints.
ON = "on"

_UNITS_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0}
_TERM = re.compile(r"(?:(\d+(?:\.\d+)?)%)?(?:(\d+)\*)?([a-z]+)(?:\(([^()]*)\))?")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s)")


class BadTerms(BatonError):
    """The terms of a failpoint make no sense; the message says which, and what would."""


class Action(StrEnum):
    """What a failpoint can do."""

    OFF = "off"  # nothing: for counting
    LOG = "log"  # nothing but the line in the log that every strike writes
    EXIT = "exit"  # the process kills itself, as kill -9 does
    STOP = "stop"  # the process stops itself, as SIGSTOP does, until somebody sends SIGCONT
    SLEEP = "sleep"  # this task, or thread, pauses; all others go on
    BLOCK = "block"  # the thread pauses, and with it the main loop if it is its thread
    HOLD = "hold"  # as block, and no other thread of Python's runs either: the GIL is held
    ERROR = "error"  # what this effect raises when its other side is away, or refuses


_TIMED = (Action.SLEEP, Action.BLOCK, Action.HOLD)


@dataclass(frozen=True, slots=True)
class Term:
    """One thing to do: `times` of them at the most (None: without end), each with a `chance` of up to 1."""

    action: Action
    times: int | None = None
    chance: float = 1.0
    duration_s: float = 0.0
    kind: str = ""


class Terms:
    """The terms of one armed failpoint, with their counts. Threads may share it."""

    def __init__(self, point: str, text: str) -> None:
        self.text = text
        self._terms = parse(point, text)
        self._left = [term.times for term in self._terms]
        self._lock = threading.Lock()

    def choose(self, chance: float) -> Term | None:
        """What to do this time, by a `chance` drawn from [0, 1); None: nothing. Counts it."""
        with self._lock:
            for position, term in enumerate(self._terms):
                left = self._left[position]
                if left == 0 or chance >= term.chance:
                    continue
                if left is not None:
                    self._left[position] = left - 1
                return None if term.action is Action.OFF else term
        return None


def parse(point: str, text: str) -> tuple[Term, ...]:
    """The terms of one failpoint. Raises BadTerms."""
    if point not in POINTS:
        raise BadTerms(f"{point!r} is no failpoint; `baton failpoints` lists them")
    return tuple(_term(point, part.strip()) for part in text.split("->"))


def parse_all(text: str) -> Mapping[str, Terms]:
    """The failpoints of BATON_FAILPOINTS: `name=terms; name=terms`, or `on` for none yet. Raises BadTerms."""
    armed: dict[str, Terms] = {}
    for part in text.split(";"):
        if part.strip() in ("", ON):
            continue
        point, equals, terms = (word.strip() for word in part.partition("="))
        if not equals:
            raise BadTerms(f"{part.strip()!r} is not name=terms, such as term.append.before=exit")
        if point in armed:
            raise BadTerms(f"{point} stands there twice; join its terms by ->")
        armed[point] = Terms(point, terms)
    return armed


def _term(point: str, text: str) -> Term:
    match = _TERM.fullmatch(text)
    if match is None or match[3] not in list(Action):
        raise BadTerms(f"{point}: {text!r} is not [chance%][times*]action, with an action of {', '.join(Action)}")
    percent, times, word, argument = match.groups()
    action = Action(word)
    chance = 1.0 if percent is None else float(percent) / 100
    if chance > 1:
        raise BadTerms(f"{point}: {percent}% is more than always")
    if action in _TIMED:
        return Term(action, _times(times), chance, duration_s=_duration_s(point, action, argument))
    if action is Action.ERROR:
        wire = POINTS[point].wire
        if argument is not None and not is_kind(wire, argument):
            raise BadTerms(f"{point}: error({argument}) is unknown; it takes {kinds(wire)}")
        return Term(action, _times(times), chance, kind=argument or "")
    if argument is not None:
        raise BadTerms(f"{point}: {action} takes no argument")
    return Term(action, _times(times), chance)


def _times(text: str | None) -> int | None:
    return None if text is None else int(text)


def _duration_s(point: str, action: Action, text: str | None) -> float:
    match = _DURATION.fullmatch(text or "")
    if match is None:
        raise BadTerms(f"{point}: {action} needs a duration, such as {action}(500ms), in us, ms or s")
    duration_s = float(match[1]) * _UNITS_S[match[2]]
    if duration_s > DURATION_MAX_S:
        raise BadTerms(f"{point}: {text} is longer than {DURATION_MAX_S:g} s")
    return duration_s
