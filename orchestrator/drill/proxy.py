"""A TCP proxy of our own: links that can be cut, delayed, emptied and healed while they carry traffic.

A `Link` listens on a port and forwards to one target. In fair weather it is as good as no link: bytes pass as they
come, half-closes and resets are passed on, and while the target refuses connections the link refuses them too, so
that whoever draws conclusions from a refusal (a standby of its leader) draws the right ones.

Links live in the event loop of a `Proxy`, a thread of its own: a drill that is busy with a thousand starts holds up
its own loop, and must not hold up the cluster's connections with it. A thread and not a process, since faults are
made and counted by plain calls; what the two threads still share, the interpreter's lock, costs a few milliseconds
at the worst.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from orchestrator.drill.connection import BOTH, Connection, Tally, Toward, Trap
from orchestrator.drill.flow import FAIR, End, Weather
from orchestrator.drill.sockets import keep_packets, listen, lose_packets, outgoing
from orchestrator.errors import InvariantError

__all__ = ["BOTH", "Link", "Proxy", "Tally", "Toward", "Trap"]

_CONNECT_TIMEOUT_S = 10.0
_PROBE_TIMEOUT_S = 0.2
_ABSENT_INTERVAL_S = 0.02
_CALL_TIMEOUT_S = 10.0
# So that one burst of new connections does not keep the loop from those that are open.
_ACCEPTS_AT_ONCE = 64
_NICENESS = -10

_Result = TypeVar("_Result")


class Link:
    """One link to `target` (host and port). Belongs to the event loop and the task group it was made in.

    `listen_in` and `connect_in` are network namespaces (None: this process's own) for the two sides. Raises OSError
    when the port cannot be had.
    """

    def __init__(
        self,
        name: str,
        target: tuple[str, int],
        group: asyncio.TaskGroup,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        listen_in: Path | None = None,
        connect_in: Path | None = None,
    ) -> None:
        self.name = name
        self.target = self._home = target
        self.tally = Tally()
        self.trap: Trap | None = None
        self.weather: dict[Toward, Weather] = dict.fromkeys(BOTH, FAIR)
        self._group = group
        self._loop = asyncio.get_running_loop()
        self._listen_in = listen_in
        self._connect_in = connect_in
        self._connections: set[Connection] = set()
        self._lost: set[Toward] = set()
        self._cut = False
        self._absent = False
        self._closed = False
        self._passable = asyncio.Event()
        self._passable.set()
        self._listener: socket.socket | None = listen(host, port, listen_in)
        self.address: tuple[str, int] = self._listener.getsockname()
        self._loop.add_reader(self._listener, self._accept)

    @property
    def open_connections(self) -> int:
        """Connections with at least one socket open."""
        return len(self._connections)

    # The faults. Each is in force until `heal`.

    def cut(self) -> None:
        """Refuse new connections, and reset the open ones."""
        self._cut = True
        self._listen_or_not()
        self.reset()

    def reset(self, *toward: Toward) -> None:
        """Reset the open connections once, towards both sides or only one: the other stays half open."""
        for connection in tuple(self._connections):
            connection.reset(*(toward or BOTH))

    def delay(self, delay_s: float, jitter_s: float = 0.0, toward: Sequence[Toward] = BOTH) -> None:
        """Let everything take `delay_s` seconds, and up to `jitter_s` more at random; the order stays."""
        for direction in toward:
            now = self.weather[direction]
            self._set_weather(direction, Weather(delay_s, jitter_s, now.rate, now.held))

    def limit(self, rate: float, toward: Sequence[Toward] = BOTH) -> None:
        """Let at most `rate` bytes pass in a second, on each connection."""
        for direction in toward:
            now = self.weather[direction]
            self._set_weather(direction, Weather(now.delay_s, now.jitter_s, rate, now.held))

    def blackhole(self, toward: Sequence[Toward] = BOTH) -> None:
        """Accept and read, and pass nothing on, neither bytes nor ends: what is open hangs half open."""
        for direction in toward:
            now = self.weather[direction]
            self._set_weather(direction, Weather(now.delay_s, now.jitter_s, now.rate, held=True))

    def unplug(self, toward: Sequence[Toward] = BOTH) -> None:
        """Lose every packet, as a pulled cable does: nothing is acknowledged, and no new connection comes about.

        One way, the other way's acknowledgements still come from this proxy: for a loss that is true to the last
        packet, see namespaces.py.
        """
        self._lost = set(toward)
        self._set_losing(True)

    def swallow_answers(self, trap: Trap) -> None:
        """Reset connections right after the answer came, undelivered; see `Trap`, which links may share."""
        self.trap = trap

    def divert(self, target: tuple[str, int]) -> None:
        """Forward to another target. The open connections are reset: those that come instead go there."""
        self.target = target
        self.reset()

    def heal(self) -> None:
        """Be as good as no link again. Connections that have lost bytes or one of their ends are reset."""
        self.trap = None
        self._cut = False
        if self.target != self._home:
            self.divert(self._home)
        self._set_losing(False)
        self._lost = set()
        for connection in tuple(self._connections):
            connection.heal()
        for direction in BOTH:
            self._set_weather(direction, FAIR)
        self._listen_or_not()

    def close(self) -> None:
        """Refuse from now on, and reset what is open."""
        self._closed = True
        self._passable.set()
        self.cut()

    def _set_weather(self, toward: Toward, weather: Weather) -> None:
        self.weather[toward] = weather
        if toward is Toward.SERVER:
            (self._passable.clear if weather.held else self._passable.set)()
        for connection in tuple(self._connections):
            connection.change(toward)

    def _set_losing(self, losing: bool) -> None:
        if self._listener is not None and self._lost:
            (lose_packets if losing else keep_packets)(self._listener)
        for toward in self._lost:
            for connection in self._connections:
                connection.lose(toward, losing)

    # Connections.

    def _listen_or_not(self) -> None:
        wanted = not (self._cut or self._absent or self._closed)
        if wanted and self._listener is None:
            self._listener = listen(*self.address, self._listen_in)
            self._loop.add_reader(self._listener, self._accept)
            if self._lost:
                lose_packets(self._listener)
        elif not wanted and self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_AT_ONCE):
            if self._listener is None:
                return
            try:
                client, _ = self._listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.tally.accepted += 1
            connection = Connection(self)
            self._connections.add(connection)
            self._group.create_task(self._connect(connection, client))

    async def _connect(self, connection: Connection, client: socket.socket) -> None:
        await self._loop.connect_accepted_socket(lambda: connection.client, client)
        # A server that cannot be reached hears of no new connection.
        await self._passable.wait()
        try:
            server = await self._dial(_CONNECT_TIMEOUT_S)
        except OSError as error:  # TimeoutError is one
            if isinstance(error, ConnectionRefusedError):
                self._refuse_with_target()
            connection.reset(*BOTH)
            return
        await self._loop.create_connection(lambda: connection.server, sock=server)
        connection.connected()
        for toward in self._lost:
            connection.lose(toward, True)

    async def _dial(self, timeout_s: float) -> socket.socket:
        sock = outgoing(self._connect_in)
        try:
            async with asyncio.timeout(timeout_s):
                await self._loop.sock_connect(sock, self.target)
        except BaseException:
            sock.close()
            raise
        return sock

    def server_ended(self, connection: Connection, how: End) -> None:
        """Pass the server's end on, but look first: a client that connects again must find what the server is now."""
        if connection.client_ended or not self.weather[Toward.CLIENT].fair or self._closed:
            connection.pass_end(how)
        else:
            self._group.create_task(self._look_and_pass(connection, how))

    def over(self, connection: Connection) -> None:
        """Forget a connection."""
        self._connections.discard(connection)

    async def _look_and_pass(self, connection: Connection, how: End) -> None:
        if not await self._target_listens():
            self._refuse_with_target()
        connection.pass_end(how)

    def _refuse_with_target(self) -> None:
        if not self._absent and not self._closed:
            self._absent = True
            self._listen_or_not()
            self._group.create_task(self._await_target())

    async def _await_target(self) -> None:
        while not self._closed:
            await asyncio.sleep(_ABSENT_INTERVAL_S)
            if await self._target_listens():
                self._absent = False
                self._listen_or_not()
                return

    async def _target_listens(self) -> bool:
        """False only if the target refuses: one that does not answer listens, for all that is known."""
        try:
            (await self._dial(_PROBE_TIMEOUT_S)).close()
        except ConnectionRefusedError:
            return False
        except OSError:
            return True
        return True


class Proxy:
    """A thread with an event loop in which links live; a context manager whose methods any thread may call."""

    def __init__(self) -> None:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="drill-proxy", daemon=True)
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end = asyncio.Event()
        self._group = asyncio.TaskGroup()
        self._links: list[Link] = []

    def link(
        self,
        name: str,
        target: tuple[str, int],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        listen_in: Path | None = None,
        connect_in: Path | None = None,
    ) -> Link:
        """A new link. Call its methods by `do` or `ask`. Raises OSError when the port cannot be had."""

        def make() -> Link:
            link = Link(name, target, self._group, host=host, port=port, listen_in=listen_in, connect_in=connect_in)
            self._links.append(link)
            return link

        return self.do(make)

    def do(self, action: Callable[[], _Result]) -> _Result:
        """Run `action` in the proxy's loop and wait for it: it takes less than a millisecond. Raises what it raises."""
        return asyncio.run_coroutine_threadsafe(_call(action), self._running()).result(_CALL_TIMEOUT_S)

    async def ask(self, action: Callable[[], _Result]) -> _Result:
        """As `do`, without blocking the caller's loop."""
        async with asyncio.timeout(_CALL_TIMEOUT_S):
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_call(action), self._running()))

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._running().call_soon_threadsafe(self._end.set)
        self._thread.join(_CALL_TIMEOUT_S)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        # On a busy machine a proxy that does not run looks like a leader that is frozen. Linux counts threads singly.
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        async with self._group as group:
            idle = group.create_task(self._end.wait())
            self._started.set()
            await idle
            for link in self._links:
                link.close()
        # Transports that were reset close their sockets in the next round of the loop.
        await asyncio.sleep(0)

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise InvariantError("the proxy was used before it was entered")
        return self._loop


async def _call(action: Callable[[], _Result]) -> _Result:
    return action()
