"""The standby's eye on the leader: reads its beats, tries fresh connections, and returns only with evidence.

What counts as evidence is decided in verdict.py; here it is gathered. The leader's peer address must lead to the
replica itself: a proxy that accepts connections in its place would make a cut network look like a frozen process.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Self

import structlog

from orchestrator.failpoints import effects
from orchestrator.failpoints.armed import ARMED, strike
from orchestrator.leadership.beacon import LINE_BYTES_MAX, parse_beat, parse_hello, split_address
from orchestrator.leadership.port import Member
from orchestrator.leadership.pulse import Clock, boottime_s
from orchestrator.leadership.verdict import Probe, Stream, Verdict, judge

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ObserverPace:
    """How long a standby waits for what, in seconds."""

    beat_interval_s: float = 0.1
    # Silence on the open stream after which a fresh connection is tried.
    beat_timeout_s: float = 0.5
    # A fresh connection must be accepted, and then say hello, within so long each.
    connect_timeout_s: float = 0.15
    hello_timeout_s: float = 0.15
    # A wait that took so much longer than planned means that we did not run ourselves.
    own_pause_s: float = 0.1
    # Between two fresh connections, doubled each time. The first is short: a dying process closes its stream of beats
    # a moment before, or after, its listening socket.
    retry_first_s: float = 0.001
    retry_max_s: float = 0.5


class Observer:
    """Observes one leader after another, for one standby."""

    def __init__(self, pace: ObserverPace, clock: Clock = boottime_s) -> None:
        self._pace = pace
        self._clock = clock
        self.last_sign_s: float | None = None

    async def observe(self, leader: Member) -> Verdict:
        """Watch this process of a leader and return when there is evidence that it does not run.

        Never returns while the leader answers, nor while it merely cannot be reached: cancel it when the key changes.
        """
        self.last_sign_s = None
        stream = Stream.NEVER
        connection: _Connection | None = None
        retry_s = 0.0
        try:
            while True:
                if connection is not None:
                    stream, beats = await self._listen(connection)
                    retry_s = 0.0 if beats else retry_s
                    if stream is Stream.LOST:
                        connection.close()
                        connection = None
                await asyncio.sleep(retry_s)
                retry_s = min(max(2 * retry_s, self._pace.retry_first_s), self._pace.retry_max_s)
                probe, fresh, own_pause = await self._probe(leader)
                if verdict := judge(stream, probe, own_pause=own_pause):
                    log.warning("leader accused", leader=leader.replica_id, verdict=verdict, stream=stream, probe=probe)
                    return verdict
                if fresh is not None:
                    self.last_sign_s = self._clock()
                    if connection is not None:
                        connection.close()
                    connection = fresh
        finally:
            if connection is not None:
                connection.close()

    async def _listen(self, connection: _Connection) -> tuple[Stream, int]:
        """Read beats until the stream ends or is silent for too long; also how many beats came.

        The wait is cut into short slices: one that took longer than it should tells that this process did not run,
        and then the silence is counted from the start.
        """
        beats = 0
        silent_since_s = self._clock()
        while True:
            asked_s = self._clock()
            try:
                async with asyncio.timeout(self._pace.beat_interval_s):
                    line = await connection.line()
            except TimeoutError:
                now_s = self._clock()
                if now_s - asked_s > self._pace.beat_interval_s + self._pace.own_pause_s:
                    silent_since_s = now_s
                elif now_s - silent_since_s >= self._pace.beat_timeout_s:
                    return Stream.SILENT, beats
                continue
            # The end of the stream is a sign as well: until then, the process had it open.
            silent_since_s = self.last_sign_s = self._clock()
            if line is None or parse_beat(line) is None:
                return Stream.LOST, beats
            beats += 1

    async def _probe(self, leader: Member) -> tuple[Probe, _Connection | None, bool]:
        """What a fresh connection meets; the connection itself if the leader lives; and whether we paused."""
        try:
            async with asyncio.timeout(self._pace.connect_timeout_s):
                connection = await _Connection.open(leader.peer_address)
        except ConnectionRefusedError:
            return Probe.REFUSED, None, False
        except (OSError, ValueError):
            return Probe.UNREACHABLE, None, False
        asked_s = self._clock()
        probe = Probe.UNREACHABLE
        try:
            async with asyncio.timeout(self._pace.hello_timeout_s):
                probe = _recognize(leader, await connection.line())
        except TimeoutError:
            probe = Probe.MUTE
        finally:
            if probe is not Probe.ALIVE:
                connection.close()
        own_pause = self._clock() - asked_s > self._pace.hello_timeout_s + self._pace.own_pause_s
        return probe, connection if probe is Probe.ALIVE else None, own_pause


def _recognize(leader: Member, line: bytes | None) -> Probe:
    hello = parse_hello(line) if line is not None else None
    if hello is None:
        return Probe.UNREACHABLE
    if hello.replica_id != leader.replica_id:
        return Probe.STRANGER
    return Probe.ALIVE if hello.incarnation == leader.incarnation else Probe.RESTARTED


class _Connection:
    """A connection to a beacon, read by lines."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, address: str) -> Self:
        """Connect. Raises OSError, and ValueError for what is no address."""
        host, port = split_address(address)
        if ARMED:
            await strike(effects.OBSERVE.before)
        connection = cls(*await asyncio.open_connection(host, port, limit=LINE_BYTES_MAX))
        if ARMED:
            await strike(effects.OBSERVE.after)
        return connection

    async def line(self) -> bytes | None:
        """The next line, None when the stream has ended or sends nonsense. May be cancelled without loss."""
        try:
            if ARMED:
                await strike(effects.HEAR.before)
            line = await self._reader.readuntil(b"\n")
            if ARMED:
                await strike(effects.HEAR.after)
            return line
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return None

    def close(self) -> None:
        """Hang up without waiting: nothing of ours is on its way."""
        self._writer.transport.abort()
