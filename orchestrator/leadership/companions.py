"""Streams of beats from every other replica, kept open before anybody needs them.

A leader can be found gone only by a standby that had a stream from it (verdict.py): without one, nobody could tell a
process that died from an address that was never right. So every replica keeps a stream from every other one, and one
that dies in the first moment of its term is found as fast as any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from orchestrator.leadership.peer import ObserverPace, PeerConnection, probe
from orchestrator.leadership.port import Member
from orchestrator.leadership.pulse import Clock
from orchestrator.security.dialer import PLAIN, Dialer


@dataclass(slots=True)
class Companion:
    """What is known of one process: the open stream, else whether it was open and `lost`; when it was last heard."""

    connection: PeerConnection | None = None
    lost: bool = False
    last_sign_s: float | None = None

    def hang_up(self) -> None:
        """Close the stream, if it is open."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None


class Companions:
    """The streams of one replica from the others, by incarnation."""

    def __init__(self, pace: ObserverPace, clock: Clock, dialer: Dialer = PLAIN) -> None:
        self._pace = pace
        self._dialer = dialer
        self._clock = clock
        self._kept: dict[str, tuple[Companion, asyncio.Task[None]]] = {}
        self._taken = ""

    async def run(self, others: Callable[[], Iterable[Member]]) -> None:
        """Keep a stream from each of the `others`, as they come and go, until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    self._follow(group, {member.incarnation: member for member in others()})
                    await asyncio.sleep(self._pace.beat_interval_s)
        finally:
            self._kept.clear()

    def last_sign_s(self, incarnation: str) -> float | None:
        """When this process was last heard, by CLOCK_BOOTTIME; None: never, or it is not kept now."""
        companion, _ = self._kept.get(incarnation, (Companion(), None))
        return companion.last_sign_s

    @asynccontextmanager
    async def taken(self, incarnation: str) -> AsyncGenerator[Companion]:
        """What is known of this process; its connection is the caller's, and nobody opens another, meanwhile."""
        self._taken = incarnation
        companion, keeping = self._kept.pop(incarnation, (Companion(), None))
        try:
            if keeping is not None:
                keeping.cancel()
                await asyncio.wait({keeping})
            yield companion
        finally:
            self._taken = ""
            companion.hang_up()

    def _follow(self, group: asyncio.TaskGroup, others: dict[str, Member]) -> None:
        others.pop(self._taken, None)
        for incarnation in self._kept.keys() - others.keys():
            companion, keeping = self._kept.pop(incarnation)
            keeping.cancel()
            companion.hang_up()
        for incarnation, member in others.items():
            if incarnation not in self._kept:
                companion = Companion()
                self._kept[incarnation] = (companion, group.create_task(self._keep(member, companion)))

    async def _keep(self, member: Member, companion: Companion) -> None:
        """Read the beats of one process, and connect again whenever its stream has ended."""
        while True:
            _, companion.connection, _ = await probe(member, self._pace, self._clock, self._dialer)
            while companion.connection is not None:
                companion.last_sign_s = self._clock()
                if await companion.connection.line() is None:
                    companion.hang_up()
                    companion.lost = True
            await asyncio.sleep(self._pace.retry_max_s)
