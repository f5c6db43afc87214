"""The simulated standby's eye: what it would meet at the leader's address, judged by the rules of verdict.py."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum

from orchestrator.leadership.port import Member
from orchestrator.leadership.signal import Signal
from orchestrator.leadership.verdict import Probe, Stream, Verdict, judge
from orchestrator.simulation.loop import SimulationLoop

BEAT_TIMEOUT_S = 0.5
PROBE_S = 0.15
OWN_PAUSE_S = 0.1


class Sight(StrEnum):
    """What there is to be seen of a process from another one."""

    ALIVE = "alive"
    GONE = "gone"
    RESTARTED = "restarted"
    FROZEN = "frozen"
    CUT = "cut"


# Looks from one replica at the process that a member was.
Look = Callable[[Member], Sight]

_PROBES = {
    Sight.ALIVE: Probe.ALIVE,
    Sight.GONE: Probe.REFUSED,
    Sight.RESTARTED: Probe.RESTARTED,
    Sight.FROZEN: Probe.MUTE,
    Sight.CUT: Probe.UNREACHABLE,
}


class RemoteEye:
    """Implements `Eye`. `changed` is notified whenever some process or link has changed."""

    def __init__(self, look: Look, changed: Signal, loop: SimulationLoop) -> None:
        self._look = look
        self._changed = changed
        self._loop = loop
        self.last_sign_s: float | None = None

    async def observe(self, leader: Member) -> Verdict:
        """Return only with evidence that this process does not run."""
        self.last_sign_s = None
        stream = Stream.NEVER
        while True:
            sight = self._look(leader)
            if sight is Sight.ALIVE:
                stream, self.last_sign_s = Stream.SILENT, self._loop.time()
                await self._changed.until(lambda: self._look(leader) is not Sight.ALIVE)
                self.last_sign_s = self._loop.time()
                continue
            if stream is Stream.SILENT and sight in (Sight.GONE, Sight.RESTARTED) and self._just_now():
                # The host closes the connections of a process that dies, and says so to whoever it can reach.
                stream = Stream.LOST
            waited_s = PROBE_S if stream is not Stream.SILENT else BEAT_TIMEOUT_S + PROBE_S
            began_s = self._loop.time()
            if stream is not Stream.LOST:
                with suppress(TimeoutError):
                    async with asyncio.timeout(waited_s):
                        await self._change_from(sight, leader)
            own_pause = self._loop.time() - began_s > waited_s + OWN_PAUSE_S
            sight = self._look(leader)
            if verdict := judge(stream, _PROBES[sight], own_pause=own_pause):
                return verdict
            if sight is not Sight.ALIVE and not own_pause:
                await self._change_from(sight, leader, 1.0)

    async def _change_from(self, sight: Sight, leader: Member, timeout_s: float | None = None) -> None:
        await self._changed.until(lambda: self._look(leader) is not sight, timeout_s)

    def _just_now(self) -> bool:
        return self.last_sign_s is not None and self._loop.time() - self.last_sign_s < OWN_PAUSE_S
