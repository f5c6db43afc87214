"""A connection to another replica's beacon: opened, recognized by its hello, and read by lines."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Self

from orchestrator.errors import BatonError
from orchestrator.failpoints import effects
from orchestrator.failpoints.armed import ARMED, strike
from orchestrator.leadership.beacon import LINE_BYTES_MAX, parse_hello, split_address
from orchestrator.leadership.port import Member
from orchestrator.leadership.pulse import Clock
from orchestrator.leadership.verdict import Probe
from orchestrator.security.dialer import PLAIN, Dialer


@dataclass(frozen=True, slots=True)
class ObserverPace:
    """How long a standby waits for what, in seconds."""

    beat_interval_s: float = 0.1
    # Silence on the open stream after which a fresh connection is tried.
    beat_timeout_s: float = 0.5
    # A fresh connection must be accepted, and then say hello, within so long each.
    connect_timeout_s: float = 0.15
    hello_timeout_s: float = 0.15
    # With TLS there is a handshake before the hello.
    handshake_timeout_s: float = 0.1
    # A wait that took so much longer than planned means that we did not run ourselves.
    own_pause_s: float = 0.1
    # Between two fresh connections, doubled each time. The first is short: a dying process closes its stream of beats
    # a moment before, or after, its listening socket.
    retry_first_s: float = 0.001
    retry_max_s: float = 0.5


async def probe(
    member: Member, pace: ObserverPace, clock: Clock, dialer: Dialer = PLAIN
) -> tuple[Probe, PeerConnection | None, bool]:
    """What a fresh connection meets; the connection itself if the process lives; and whether we paused.

    Whether it is accepted or refused is the kernel's word, with TLS as without: the handshake comes after it, and a
    process that does not run makes none, just as it says no hello. One that fails accuses nobody.
    """
    try:
        async with asyncio.timeout(pace.connect_timeout_s):
            connection = await PeerConnection.open(member.peer_address)
    except ConnectionRefusedError:
        return Probe.REFUSED, None, False
    except (OSError, ValueError):
        return Probe.UNREACHABLE, None, False
    hello_timeout_s = pace.hello_timeout_s + (pace.handshake_timeout_s if dialer.secure else 0.0)
    asked_s = clock()
    met = Probe.UNREACHABLE
    try:
        async with asyncio.timeout(hello_timeout_s):
            await connection.secure(dialer)
            met = _recognize(member, await connection.line())
    except TimeoutError:
        met = Probe.MUTE
    except (OSError, ValueError, BatonError):
        met = Probe.UNREACHABLE
    finally:
        if met is not Probe.ALIVE:
            connection.close()
    own_pause = clock() - asked_s > hello_timeout_s + pace.own_pause_s
    return met, connection if met is Probe.ALIVE else None, own_pause


def _recognize(member: Member, line: bytes | None) -> Probe:
    hello = parse_hello(line) if line is not None else None
    if hello is None:
        return Probe.UNREACHABLE
    if hello.replica_id != member.replica_id:
        return Probe.STRANGER
    return Probe.ALIVE if hello.incarnation == member.incarnation else Probe.RESTARTED


class PeerConnection:
    """A connection to a beacon, read by lines."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self._reader = reader
        self._writer = writer
        self._host = host

    @classmethod
    async def open(cls, address: str) -> Self:
        """Connect. Raises OSError, and ValueError for what is no address."""
        host, port = split_address(address)
        if ARMED:
            await strike(effects.OBSERVE.before)
        connection = cls(*await asyncio.open_connection(host, port, limit=LINE_BYTES_MAX), host)
        if ARMED:
            await strike(effects.OBSERVE.after)
        return connection

    async def secure(self, dialer: Dialer) -> None:
        """Make the TLS handshake, if the dialer speaks TLS. Raises OSError when either side refuses the other."""
        context = dialer.context()
        if context is not None:
            await self._writer.start_tls(context, server_hostname=dialer.server_name or self._host)

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
