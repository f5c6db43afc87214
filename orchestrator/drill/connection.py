"""One connection through a link: a socket to the client, a socket to the server, and a flow each way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, cast

from orchestrator.drill.flow import End, Flow, Weather
from orchestrator.drill.sockets import keep_packets, lose_packets, reset_on_close


class Toward(StrEnum):
    """A direction of a link."""

    SERVER = "server"
    CLIENT = "client"


BOTH = (Toward.SERVER, Toward.CLIENT)


@dataclass(slots=True)
class Tally:
    """What a link has done since it was made: the proof that a fault struck. Bytes are counted as they arrive."""

    accepted: int = 0
    resets: int = 0
    struck: int = 0
    bytes_toward: dict[Toward, int] = field(default_factory=lambda: dict.fromkeys(BOTH, 0))
    held_bytes: int = 0
    swallowed_bytes: int = 0
    delayed_bytes: int = 0


class Trap:
    """Waits for a request and then swallows its answer, `times` times in all.

    A connection whose client sends `request` is caught: from then on nothing reaches the client, and both sides are
    reset once the server has said `answer` (empty: anything). So the server has done what it was asked, and whoever
    asked cannot know.
    """

    def __init__(self, request: bytes, answer: bytes, times: int) -> None:
        self.request = request
        self.answer = answer
        self.left = times


class Keeper(Protocol):
    """The link, as its connections know it."""

    tally: Tally
    trap: Trap | None

    @property
    def weather(self) -> Mapping[Toward, Weather]:
        """What each direction does to what passes."""

    def server_ended(self, connection: Connection, how: End) -> None:
        """The server has ended its direction; the keeper hands the end on, with `Connection.pass_end`."""

    def over(self, connection: Connection) -> None:
        """Both sockets are closed."""


class Side(asyncio.Protocol):
    """One socket of a connection."""

    def __init__(
        self,
        received: Callable[[bytes], None],
        ended: Callable[[End], None],
        lost: Callable[[], None],
        regulate: Callable[[], None],
    ) -> None:
        self._received = received
        self._ended = ended
        self._lost = lost
        self._regulate = regulate
        self.transport: asyncio.Transport | None = None
        self.blocked = False
        self.gone = False
        self.told_end = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        if self.gone:  # given up while the connection was being made
            self.reset()

    def data_received(self, data: bytes) -> None:
        self._received(data)

    def eof_received(self) -> bool:
        self._ended(End.EOF)
        return True  # the other direction stays open

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self.gone = True
        if exc is not None:
            self._ended(End.RESET)
        self._lost()

    def pause_writing(self) -> None:
        self.blocked = True
        self._regulate()

    def resume_writing(self) -> None:
        self.blocked = False
        self._regulate()

    def deliver(self, data: bytes) -> None:
        """Send bytes; to a socket that is gone they are lost, as they would be."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def end(self, how: End) -> None:
        """Half-close, or reset."""
        if how is End.RESET:
            self.reset()
        elif self.transport is not None and not self.transport.is_closing() and not self.told_end:
            self.told_end = True
            try:
                self.transport.write_eof()
            except OSError:  # a reset came meanwhile, and asyncio has not read it yet
                self.reset()
            self._lost()

    def read(self, wanted: bool) -> None:
        """Read from the socket, or leave what comes to the kernel."""
        transport = self.transport
        if transport is None or transport.is_closing() or transport.is_reading() == wanted:
            return
        if wanted:
            transport.resume_reading()
        else:
            transport.pause_reading()

    def close(self) -> None:
        """Close in good order."""
        if self.transport is not None:
            self.transport.close()

    def reset(self) -> None:
        """Send a RST; whatever was still to be sent is lost."""
        self.gone = True
        if self.transport is not None:
            reset_on_close(self.transport.get_extra_info("socket"))
            self.transport.abort()

    def lose(self, losing: bool) -> None:
        """Drop every packet that arrives here, or no longer."""
        if self.transport is not None and not self.transport.is_closing():
            sock: Any = self.transport.get_extra_info("socket")
            (lose_packets if losing else keep_packets)(sock)


class Connection:
    """Made when a client was accepted; `client` and `server` become protocols of asyncio's transports."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self.client = Side(self._from_client, self._client_ended, self._side_lost, self._regulate)
        self.server = Side(self._from_server, self._server_ended, self._side_lost, self._regulate)
        # Held until the server is connected.
        self._flows = {
            Toward.SERVER: Flow(self.server, Weather(held=True), self._regulate),
            Toward.CLIENT: Flow(self.client, keeper.weather[Toward.CLIENT], self._regulate),
        }
        self._caught: Trap | None = None
        self._tail = b""
        self._ends: set[Side] = set()
        self._over = False

    @property
    def client_ended(self) -> bool:
        """Whether the client has ended its direction, or is gone."""
        return self.client in self._ends or self.client.gone

    def connected(self) -> None:
        """The server is there: what the client has said meanwhile goes to it."""
        self.change(Toward.SERVER)

    def change(self, toward: Toward) -> None:
        """Take over the link's weather in this direction."""
        if toward is Toward.CLIENT or self.server.transport is not None or self.server.gone:
            self._flows[toward].change(self._keeper.weather[toward])

    def lose(self, toward: Toward, losing: bool) -> None:
        """Lose every packet in this direction, or no longer."""
        (self.client if toward is Toward.SERVER else self.server).lose(losing)

    def reset(self, *sides: Toward) -> None:
        """Send a RST towards these sides; the others stay as they are, half open."""
        for toward in sides:
            side = self.server if toward is Toward.SERVER else self.client
            if not side.gone:
                self._keeper.tally.resets += 1
            side.reset()
            self._flows[toward].drop()
        self._side_lost()

    def heal(self) -> None:
        """Reset what cannot go on: a connection with swallowed bytes, or with one side gone."""
        if self._caught is not None:
            self.reset(*BOTH)
        for side, flow in ((self.client, Toward.SERVER), (self.server, Toward.CLIENT)):
            if side.gone and not self._flows[flow].queued_bytes and side not in self._ends:
                self.reset(flow)

    def pass_end(self, how: End) -> None:
        """Hand the end that the server has made on to the client."""
        self._flows[Toward.CLIENT].feed(how)

    def _from_client(self, data: bytes) -> None:
        self._count(Toward.SERVER, data)
        trap = self._keeper.trap
        if trap is not None and self._caught is None and trap.left > 0:
            # What is searched for may lie across two reads.
            seen = self._tail + data
            if trap.request in seen:
                trap.left -= 1
                self._caught, self._tail = trap, b""
            else:
                self._tail = _tail(seen, trap.request)
        self._flows[Toward.SERVER].feed(data)

    def _from_server(self, data: bytes) -> None:
        self._count(Toward.CLIENT, data)
        if self._caught is None:
            self._flows[Toward.CLIENT].feed(data)
            return
        self._keeper.tally.swallowed_bytes += len(data)
        seen = self._tail + data
        self._tail = _tail(seen, self._caught.answer)
        if self._caught.answer in seen:
            self._caught = None
            self._keeper.tally.struck += 1
            self.reset(*BOTH)

    def _count(self, toward: Toward, data: bytes) -> None:
        tally, weather = self._keeper.tally, self._keeper.weather[toward]
        tally.bytes_toward[toward] += len(data)
        if weather.held:
            tally.held_bytes += len(data)
        elif not weather.fair:
            tally.delayed_bytes += len(data)

    def _client_ended(self, how: End) -> None:
        self._ends.add(self.client)
        self._flows[Toward.SERVER].feed(how)

    def _server_ended(self, how: End) -> None:
        self._ends.add(self.server)
        self._keeper.server_ended(self, how)

    def _side_lost(self) -> None:
        """A socket is closed, or was told the end: close what has nothing left to do."""
        if self.client.told_end and self.server.told_end:
            self.client.close()
            self.server.close()
        if not self._over and all(side.gone and side.transport is None for side in (self.client, self.server)):
            self._over = True
            for flow in self._flows.values():
                flow.drop()
            self._keeper.over(self)

    def _regulate(self) -> None:
        """Read from a side only while there is room for what it sends."""
        self.client.read(not self.server.blocked and not self._flows[Toward.SERVER].full)
        self.server.read(not self.client.blocked and not self._flows[Toward.CLIENT].full)


def _tail(seen: bytes, wanted: bytes) -> bytes:
    """The end of `seen` in which `wanted` may have begun."""
    return seen[-(len(wanted) - 1) :] if len(wanted) > 1 else b""
