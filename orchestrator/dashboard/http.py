"""The HTTP port of a replica: /metrics for Prometheus, /healthz, /readyz and /leaderz for whoever restarts and routes.

It runs in threads of its own, so that a scrape costs the main loop nothing and a main loop that hangs can still be
reported. Nothing here asks etcd or Postgres: the callables that it is given answer from what is known already.
"""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from orchestrator.dashboard import failpoints
from orchestrator.dashboard.door import CHALLENGE, Door, Visitor
from orchestrator.errors import BatonError
from orchestrator.security.assemble import Doors, open_doors
from orchestrator.security.audit import Record, nowhere
from orchestrator.security.caller import certificate_names
from orchestrator.telemetry import Metrics, sagas_by_state

_REQUESTS_MAX = 16
_REQUEST_TIMEOUT_S = 5.0
_STOP_TIMEOUT_S = 5.0
_BODY_BYTES_MAX = 4096

# Sagas by definition and state.
Counts = dict[tuple[str, str], int]


class CannotListen(BatonError):
    """The HTTP port could not be opened: choose another one with BATON_HTTP_LISTEN."""


class HttpEndpoint:
    """Serves the HTTP port at `listen` (host:port; port 0 takes a free one) from `start` to `close`.

    `healthy` answers None while the process is alive, else what is wrong with it; `waiting_for` names what the replica
    still waits for, nothing once it is ready; `counts` gives the sagas as they were counted last; `leading` says
    whether the replica leads (no, by default). All are called from other threads and must not block. With `drills`,
    operators may arm failpoints. `doors` say who is let in, and `record` hears of what operators do.
    """

    def __init__(
        self,
        listen: str,
        metrics: Metrics,
        healthy: Callable[[], str | None],
        waiting_for: Callable[[], tuple[str, ...]],
        counts: Callable[[], Counts],
        *,
        leading: Callable[[], bool] = bool,
        drills: bool = False,
        doors: Doors | None = None,
        record: Record = nowhere,
    ) -> None:
        self._listen = listen
        self._doors = doors or open_doors()
        self._door = Door(self._doors.gate, record)
        self._metrics = metrics
        self._healthy = healthy
        self._waiting_for = waiting_for
        self._leading = leading
        self._collectors: list[Collector] = [_SagaCounts(counts)]
        self._drills = drills
        if drills:
            self._collectors.append(failpoints.FailpointCounts())
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> str:
        """Where it listens, as host:port; once started, with the port that was taken for port 0."""
        if self._server is None:
            return self._listen
        return f"{self._listen.rpartition(':')[0]}:{self._server.server_address[1]}"

    def start(self) -> None:
        """Open the port and serve it. Raises CannotListen when the port is taken or the address is not ours."""
        try:
            server = _Server(self._listen, self._answer, self._doors)
        except OSError as error:
            raise CannotListen(f"BATON_HTTP_LISTEN: cannot listen on {self._listen}: {error.strerror}") from error
        for collector in self._collectors:
            self._metrics.registry.register(collector)
        self._server = server
        self._thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Close the port; does nothing when it is not open. Requests under way are not waited for."""
        server, thread = self._server, self._thread
        if server is None or thread is None:
            return
        self._server = self._thread = None
        server.shutdown()
        server.server_close()
        thread.join(_STOP_TIMEOUT_S)
        for collector in self._collectors:
            self._metrics.registry.unregister(collector)

    def _answer(self, request: _Request) -> tuple[HTTPStatus, str, bytes]:
        path = request.path
        refusal = self._door.refusal(request.method, path, request.visitor)
        if refusal is not None:
            return refusal.status, "text/plain; charset=utf-8", f"{refusal.text}\n".encode()
        if self._drills and f"{path}/".startswith(f"{failpoints.FOLDER}/"):
            return failpoints.answer(request.method, path, request.body)
        if request.method != "GET":
            return HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"nothing here takes that method\n"
        match path:
            case "/metrics":
                encode, content_type = choose_encoder(request.accept)
                return HTTPStatus.OK, content_type, encode(self._metrics.registry)
            case "/healthz":
                complaint = self._healthy()
                return self._state(request, complaint is None, "healthy", {"complaint": complaint})
            case "/readyz":
                waiting = self._waiting_for()
                return self._state(request, not waiting, "ready", {"waiting_for": list(waiting)})
            case "/leaderz":
                return self._state(request, self._leading(), "leading", {})
            case "/":
                return HTTPStatus.OK, "text/plain; charset=utf-8", b"/metrics\n/healthz\n/readyz\n/leaderz\n"
            case _:
                return HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"try /metrics, /healthz, /readyz, /leaderz\n"

    def _state(
        self, request: _Request, good: bool, name: str, reasons: dict[str, Any]
    ) -> tuple[HTTPStatus, str, bytes]:
        """Yes or no for everybody; the reasons, which name servers and what they said, for whoever is known."""
        status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
        body = {name: good, **(reasons if self._door.known(request.visitor) else {})}
        return status, "application/json", json.dumps(body).encode() + b"\n"


class _SagaCounts(Collector):
    """A collector that turns the last counts into the gauge of sagas by state, scrape by scrape."""

    def __init__(self, counts: Callable[[], Counts]) -> None:
        self._counts = counts

    def describe(self) -> Iterable[Metric]:
        """The gauge without values: registering must not ask for counts that do not exist yet."""
        return [sagas_by_state({})]

    def collect(self) -> Iterable[Metric]:
        """The gauge with the last counts."""
        return [sagas_by_state(self._counts())]


@dataclass(frozen=True, slots=True)
class _Request:
    """What a client asks; HEAD comes as GET, and the query is cut off the path."""

    method: str
    path: str
    accept: str
    body: bytes
    visitor: Visitor


_Answer = Callable[[_Request], tuple[HTTPStatus, str, bytes]]


class _Server(ThreadingHTTPServer):
    """One thread a request, and never more than a few: what comes beyond them is hung up on."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, listen: str, answer: _Answer, doors: Doors) -> None:
        self._doors = doors
        host, _, port = listen.rpartition(":")
        host = host.strip("[]")
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._free = threading.BoundedSemaphore(_REQUESTS_MAX)
        self.answer = answer
        super().__init__((host, int(port)), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve one connection in a thread of its own, if there is room for one more."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # the machine has no thread left; the next request may find one
            self._free.release()
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """The body of that thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve one connection: the handshake is made here, in its thread, within the deadline."""
        context = self._doors.context(ssl.CERT_OPTIONAL)
        if context is None:
            super().finish_request(request, client_address)
            return
        request.settimeout(_REQUEST_TIMEOUT_S)
        with context.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)
            with contextlib.suppress(OSError):
                secured.shutdown(socket.SHUT_WR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is no event worth a line in the log."""

    def server_bind(self) -> None:
        """Bind without the look-up of the host's name that the base class makes, which can take seconds."""
        # Not super()'s: HTTPServer.server_bind asks DNS for a name that nothing here uses.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])


class _Handler(BaseHTTPRequestHandler):
    """One request a connection, within a deadline."""

    timeout = _REQUEST_TIMEOUT_S
    server: _Server
    server_version = "baton"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer with a body."""
        self._reply("GET", with_body=True)

    def do_PUT(self) -> None:
        """Arm a failpoint, in drills."""
        self._reply("PUT", with_body=True)

    def do_DELETE(self) -> None:
        """Disarm failpoints, in drills."""
        self._reply("DELETE", with_body=True)

    def do_HEAD(self) -> None:
        """Answer with the headers alone."""
        self._reply("GET", with_body=False)

    def log_message(self, format: str, *args: Any) -> None:
        """Scrapes and probes come every few seconds: they are not logged."""

    def _reply(self, method: str, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        length = self.headers.get("Content-Length", "0")
        sent = self.rfile.read(min(int(length), _BODY_BYTES_MAX)) if method == "PUT" and length.isdigit() else b""
        request = _Request(method, path, self.headers.get("Accept", ""), sent, self._visitor())
        status, content_type, body = self.server.answer(request)
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        if status is HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", CHALLENGE)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def _visitor(self) -> Visitor:
        names: tuple[str, ...] = ()
        if isinstance(self.connection, ssl.SSLSocket):
            shown: Any = self.connection.getpeercert() or {}
            names = certificate_names(shown.get("subject"), shown.get("subjectAltName"))
        header = self.headers.get
        return Visitor(names, header("Authorization"), header("Origin"), header("Host"), str(self.client_address[0]))
