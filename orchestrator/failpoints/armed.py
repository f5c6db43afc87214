"""The failpoints that are armed in this process, and what happens where one strikes.

None is, unless BATON_FAILPOINTS asks: then the code passes each one at the cost of looking at an empty mapping:

    if ARMED:
        await strike(effects.TXN.before)
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import random
import signal
import time
from collections import Counter
from typing import assert_never

import structlog

from orchestrator.failpoints.effects import POINTS
from orchestrator.failpoints.terms import Action, Term, Terms, parse_all
from orchestrator.failpoints.wires import failure

# By the name of the failpoint. A process has one set, as it has one life to lose.
ARMED: dict[str, Terms] = {}
# How often each has struck.
STRUCK: Counter[str] = Counter()

log = structlog.get_logger()


def arm(point: str, text: str) -> None:
    """Arm one failpoint, in place of what it was told before. Raises BadTerms."""
    ARMED[point] = Terms(point, text)
    log.warning("failpoint_armed", failpoint=point, terms=text)


def arm_all(text: str) -> None:
    """Arm what BATON_FAILPOINTS says, and say loudly that this process is not for production. Raises BadTerms."""
    armed = parse_all(text)
    log.warning("failpoints_on", reaction="for drills only: unset BATON_FAILPOINTS in production", armed=len(armed))
    for point, terms in armed.items():
        arm(point, terms.text)


def disarm(point: str = "") -> int:
    """Disarm one failpoint, or all; returns how many were armed."""
    gone = [name for name in tuple(ARMED) if point in ("", name)]
    for name in gone:
        ARMED.pop(name, None)
        log.warning("failpoint_disarmed", failpoint=name)
    return len(gone)


async def strike(point: str) -> None:
    """Pass a failpoint in a task. Raises what its effect raises when the other side is away, if it is told to."""
    term = _chosen(point)
    if term is None:
        return
    if term.action is Action.SLEEP:
        await asyncio.sleep(term.duration_s)
    else:
        _act(point, term)


def strike_in_thread(point: str) -> None:
    """Pass a failpoint in a thread without a loop; see `strike`."""
    term = _chosen(point)
    if term is not None:
        _act(point, term)


def _chosen(point: str) -> Term | None:
    armed = ARMED.get(point)
    term = None if armed is None else armed.choose(random.random())
    if term is not None:
        STRUCK[point] += 1
        # Before it acts: an exit leaves no time for a word afterwards.
        log.warning("failpoint_strikes", failpoint=point, action=term.action, terms=armed.text if armed else "")
    return term


def _act(point: str, term: Term) -> None:
    match term.action:
        case Action.EXIT:
            os.kill(os.getpid(), signal.SIGKILL)
        case Action.STOP:
            os.kill(os.getpid(), signal.SIGSTOP)
        case Action.SLEEP | Action.BLOCK:
            time.sleep(term.duration_s)
        case Action.HOLD:
            # A PyDLL does not let the GIL go while it calls, unlike everything else that waits.
            ctypes.PyDLL(None).usleep(ctypes.c_uint(int(term.duration_s * 1e6)))
        case Action.ERROR:
            raise failure(POINTS[point].wire, term.kind, f"failpoint {point}")
        case Action.OFF | Action.LOG:
            return
        case _:
            assert_never(term.action)
