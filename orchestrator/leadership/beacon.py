"""The beacon: where standbys watch this replica's process directly, faster than its lease (rule R10).

A TCP server in a thread of its own. Whoever connects gets a line that says which process this is, at once, and
then a beat every interval with the age of the main loop's last pulse. Nothing that arrives is understood; a client
that sends much, or does not read, is dropped. What a standby makes of it is in observer.py and verdict.py.

With TLS, a client is greeted when the handshake is done and its certificate is that of a replica; who does not get so
far soon is dropped. The kernel accepts or refuses it before that, so that its word means the same as without TLS.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
from dataclasses import dataclass
from typing import Any

import orjson
import structlog

from orchestrator.failpoints import effects
from orchestrator.failpoints.armed import ARMED, strike_in_thread
from orchestrator.leadership.closable import ClosableThread
from orchestrator.leadership.pulse import Pulse
from orchestrator.security.assemble import Doors, open_doors
from orchestrator.security.caller import certificate_names

# Longest line either side sends, bytes a client may send in all, clients at once.
LINE_BYTES_MAX = 512
_RECEIVED_BYTES_MAX = 4096
_CLIENTS_MAX = 64
_HANDSHAKE_MAX_S = 2.0
_PORT_MAX = 65535

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Hello:
    """Which process a standby has reached."""

    replica_id: str
    incarnation: str


def hello_line(hello: Hello) -> bytes:
    """The first line of a beacon's connection."""
    return orjson.dumps({"replica_id": hello.replica_id, "incarnation": hello.incarnation}) + b"\n"


def parse_hello(line: bytes) -> Hello | None:
    """The hello in a line, None for anything else."""
    match _json(line):
        case {"replica_id": str(replica_id), "incarnation": str(incarnation)}:
            return Hello(replica_id, incarnation)
        case _:
            return None


def beat_line(loop_age_s: float) -> bytes:
    """A beat, with the seconds since the main loop's last pulse."""
    return orjson.dumps({"loop_age_s": round(loop_age_s, 3)}) + b"\n"


def parse_beat(line: bytes) -> float | None:
    """The main loop's age in seconds that a beat tells, None for anything else."""
    match _json(line):
        case {"loop_age_s": float() | int() as age_s}:
            return float(age_s)
        case _:
            return None


def split_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port`; an IPv6 host may stand in brackets. Raises ValueError."""
    host, _, port = address.rpartition(":")
    if not 0 <= int(port) <= _PORT_MAX:
        raise ValueError(f"{address!r} names no port")
    return host.removeprefix("[").removesuffix("]"), int(port)


class Beacon(ClosableThread):
    """Serves beats on one address until closed. Raises OSError when the address cannot be listened on."""

    def __init__(
        self, listen: str, hello: Hello, pulse: Pulse, *, interval_s: float, doors: Doors | None = None
    ) -> None:
        super().__init__("beacon")
        self._doors = doors or open_doors()
        self._hello_line = hello_line(hello)
        self._pulse = pulse
        self._interval_s = interval_s
        host, port = split_address(listen)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=_CLIENTS_MAX)
        self._listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        # The bytes that each client has sent so far.
        self._clients: dict[socket.socket, int] = {}
        # Those whose handshake is not done, and when their time is over.
        self._strangers: dict[ssl.SSLSocket, float] = {}

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._listener.getsockname()[1])

    def close(self) -> None:
        """End the thread, within one beat, and cut every standby off."""
        super().close()
        for client in (*self._clients, *self._strangers):
            self._drop(client)
        self._selector.close()
        self._listener.close()

    def _run(self) -> None:
        clock = self._pulse.clock
        beat_at_s = clock() + self._interval_s
        while not self._closing.is_set():
            for key, _ in self._selector.select(max(0.0, beat_at_s - clock())):
                if key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.fileobj, ssl.SSLSocket) and key.fileobj in self._strangers:
                    self._shake_hands(key.fileobj)
                elif isinstance(key.fileobj, socket.socket):
                    self._discard_input(key.fileobj)
            if clock() >= beat_at_s:
                beat_at_s = clock() + self._interval_s
                line = beat_line(self._pulse.age_s())
                for client in list(self._clients):
                    self._send(client, line)
                for stranger in [s for s, ends_at_s in self._strangers.items() if clock() > ends_at_s]:
                    self._drop(stranger)

    def _accept(self) -> None:
        try:
            if ARMED:
                strike_in_thread(effects.ACCEPT.before)
            client, _ = self._listener.accept()
            if ARMED:
                strike_in_thread(effects.ACCEPT.after)
        except OSError as error:
            # The client has hung up again, or the process is out of file descriptors: either passes.
            log.warning("beacon could not accept a standby", reason=str(error))
            self._closing.wait(self._interval_s)
            return
        if len(self._clients) + len(self._strangers) >= _CLIENTS_MAX:
            client.close()
            return
        client.setblocking(False)
        context = self._doors.context(ssl.CERT_REQUIRED)
        if context is None:
            self._selector.register(client, selectors.EVENT_READ)
            self._greet(client)
            return
        stranger = context.wrap_socket(client, server_side=True, do_handshake_on_connect=False)
        self._strangers[stranger] = self._pulse.clock() + _HANDSHAKE_MAX_S
        self._selector.register(stranger, selectors.EVENT_READ)

    def _greet(self, client: socket.socket) -> None:
        self._clients[client] = 0
        self._send(client, self._hello_line)

    def _shake_hands(self, stranger: ssl.SSLSocket) -> None:
        try:
            stranger.do_handshake()
        except ssl.SSLWantReadError:
            self._selector.modify(stranger, selectors.EVENT_READ)
            return
        except ssl.SSLWantWriteError:
            self._selector.modify(stranger, selectors.EVENT_READ | selectors.EVENT_WRITE)
            return
        except OSError as error:
            log.warning("beacon refused a connection", reason=str(error))
            self._drop(stranger)
            return
        self._selector.modify(stranger, selectors.EVENT_READ)
        shown: Any = stranger.getpeercert() or {}
        names = certificate_names(shown.get("subject"), shown.get("subjectAltName"))
        if not self._doors.gate.is_replica(names):
            log.warning("beacon refused a connection", reason=f"no replica has a certificate for {', '.join(names)}")
            self._drop(stranger)
            return
        del self._strangers[stranger]
        self._greet(stranger)

    def _send(self, client: socket.socket, line: bytes) -> None:
        try:
            if ARMED:
                strike_in_thread(effects.BEAT.before)
            complete = client.send(line) == len(line)
            if ARMED:
                strike_in_thread(effects.BEAT.after)
        except OSError:
            complete = False
        if not complete:
            self._drop(client)

    def _discard_input(self, client: socket.socket) -> None:
        try:
            if ARMED:
                strike_in_thread(effects.DISCARD.before)
            received = len(client.recv(_RECEIVED_BYTES_MAX))
            if ARMED:
                strike_in_thread(effects.DISCARD.after)
        except ssl.SSLWantReadError:
            # A part of a record, or TLS's own.
            return
        except OSError:
            received = 0
        self._clients[client] += received
        if received == 0 or self._clients[client] > _RECEIVED_BYTES_MAX:
            self._drop(client)

    def _drop(self, client: socket.socket) -> None:
        self._selector.unregister(client)
        self._clients.pop(client, None)
        if isinstance(client, ssl.SSLSocket):
            self._strangers.pop(client, None)
        with contextlib.suppress(OSError):
            client.close()


def _json(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
