"""Faults at an exact place: the leader dies, stops, hangs, or is told a lie at one of its failpoints.

What a leader that hangs costs: a standby accuses one whose whole process is silent for half a second and then does not
greet a fresh connection either, because that cannot be told from one that is frozen. A main loop alone that hangs
silences nothing, and costs the leadership only when it is no longer vouched for (BATON_LOOP_STALL_MAX_S) and the lease
has run out.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Sequence

from orchestrator.drill.arena import Arena
from orchestrator.drill.arming import arm, struck, struck_at, until_stopped, until_struck
from orchestrator.drill.crash_points import AT_TAKEOVER, PROVE, UNDER_LOAD, Crash, crash_at_takeover, crash_under_load
from orchestrator.drill.fault import Fault, Measure
from orchestrator.embedded.cluster import Cluster

_WITHIN_S = 30.0
_GAP_S = 0.1
_FROZEN_GAP_S = 1.0
_FENCE_WAIT_S = 0.2
# The stall that is allowed, the lease that was renewed in its last moment, and etcd's look at its leases.
_STALLED_GAP_S = 1.5 + 2.0 + 1.0
# Both standbys accuse a frozen leader, and each may do so once in so long: strikes that come faster would wait for the
# lease to end.
_RATION_S = 5.0
# Beyond the hang itself: what waited is written, and the calls that were cut short are made again.
_CATCH_UP_S = 1.0
# Leaders that die for one crash at a takeover: about three, since the armed standby wins every other time.
_DEATHS_AT_TAKEOVER = 6
# A passing that is chosen among so many, so that it is not always the first after the arming.
_PASSINGS = 20


def _crashes(
    points: Sequence[str], crash: Callable[[Cluster, str], Awaitable[Crash]]
) -> Callable[[Arena], Awaitable[None]]:
    """Crashes at one point after another."""
    turn = itertools.cycle(points)

    async def strike(arena: Arena) -> None:
        await arena.leader()
        point = next(turn)
        died = await crash(arena.cluster, point)
        arena.tell(f"at {point}, after {died.deaths - 1} other deaths")
        arena.struck(died.leader, died.died_at)

    return strike


def _stopped(*points: str) -> Callable[[Arena], Awaitable[None]]:
    """The leader stops at one of the points, another one leads, and then it wakes."""
    turn = itertools.cycle(points)

    async def strike(arena: Arena) -> None:
        leader = await arena.leader()
        point = next(turn)
        await arm(leader.replica, point, f"{arena.chance.randrange(_PASSINGS)}*off->1*stop")
        await until_stopped(leader.replica, point, _WITHIN_S)
        arena.struck(leader, struck_at(leader.replica, point))
        try:
            await arena.cluster.wait_leader(above_epoch=leader.epoch)
            await arena.driven(10)
        finally:
            leader.replica.resume()
        await arena.keep(_RATION_S)

    return strike


def _hangs(terms: str, outage_s: float, keep_s: float) -> Callable[[Arena], Awaitable[None]]:
    """The leader hangs in the middle of its work; who leads after `keep_s` seconds decides what that costs."""

    async def strike(arena: Arena) -> None:
        leader = await arena.leader()
        point = "term.append.before"
        before = await struck(leader.replica, point)
        await arm(leader.replica, point, f"{arena.chance.randrange(_PASSINGS)}*off->1*{terms}")
        await until_struck(leader.replica, point, _WITHIN_S, before)
        arena.struck(leader, struck_at(leader.replica, point))
        arena.outage(outage_s)
        await arena.keep(keep_s)

    return strike


def _lies(*points: str) -> Callable[[Arena], Awaitable[None]]:
    """An effect that has happened is reported as a failure of unknown outcome, once."""
    turn = itertools.cycle(points)

    async def strike(arena: Arena) -> None:
        leader = await arena.leader()
        point = next(turn)
        before = await struck(leader.replica, point)
        await arm(leader.replica, point, f"{arena.chance.randrange(_PASSINGS)}*off->1*error")
        await until_struck(leader.replica, point, _WITHIN_S, before)
        arena.struck(leader, struck_at(leader.replica, point))

    return strike


_UNDER_LOAD = (*UNDER_LOAD, *PROVE)

FAULTS: tuple[Fault, ...] = (
    Fault(
        2,
        "crash-under-load",
        "the leader is killed before, inside and after each effect, one after another",
        _crashes(_UNDER_LOAD, crash_under_load),
        bound_s=_GAP_S,
        repetitions=len(_UNDER_LOAD),
    ),
    Fault(
        2,
        "crash-at-takeover",
        "the leader is killed, and its successor before and after each effect of the takeover, one after another",
        _crashes(AT_TAKEOVER, crash_at_takeover),
        bound_s=2 * _GAP_S,
        changes_max=_DEATHS_AT_TAKEOVER,
        repetitions=len(AT_TAKEOVER),
        reason="once at each failpoint of a takeover",
    ),
    Fault(
        6,
        "stop-inside-transaction",
        "the leader stops in a half-sent pipeline: Postgres has executed its write, and holds the fence row for it",
        _stopped("term.append.inside"),
        bound_s=_FROZEN_GAP_S + _FENCE_WAIT_S,
    ),
    Fault(
        7,
        "stop-before-call",
        "the leader stops between the intent and the call, and calls when another one leads",
        _stopped("call.action.before", "call.compensation.before"),
        bound_s=_FROZEN_GAP_S,
    ),
    Fault(
        7,
        "stop-after-call",
        "the leader stops between the call and its result, and writes the result when another one leads",
        _stopped("call.action.after", "call.compensation.after", "term.append.before"),
        bound_s=_FROZEN_GAP_S,
    ),
    Fault(
        18,
        "outcome-unknown",
        "what the leader did is reported to it as a lost connection: a write, a call, a start",
        _lies("term.append.after", "call.action.after", "call.compensation.after", "intake.start.after"),
        measure=Measure.NONE,
        changes_max=0,
    ),
    Fault(
        20,
        "loop-blocked-1s",
        "the leader's main loop hangs for 1 s: it is vouched for, and goes on leading",
        _hangs("block(1s)", 1.0, 3.0),
        measure=Measure.PAUSE,
        bound_s=_CATCH_UP_S,
        changes_max=0,
    ),
    Fault(
        20,
        "loop-blocked-5s",
        "the leader's main loop hangs for 5 s: its lease is renewed no more, and runs out",
        _hangs("block(5s)", 0.0, 6.0),
        bound_s=_STALLED_GAP_S,
    ),
    Fault(
        20,
        "gil-held-half-a-second",
        "no thread of the leader's runs for 0.5 s: its beats come late, and nobody is accused",
        _hangs("hold(500ms)", 0.5, 2.0),
        measure=Measure.PAUSE,
        bound_s=_CATCH_UP_S,
        changes_max=0,
    ),
    Fault(
        20,
        "gil-held-1s",
        "no thread of the leader's runs for 1 s, as if it were frozen: one standby may take over",
        _hangs("hold(1s)", 0.0, 3.0),
        measure=Measure.PAUSE,
        bound_s=_FROZEN_GAP_S + _CATCH_UP_S,
    ),
)
