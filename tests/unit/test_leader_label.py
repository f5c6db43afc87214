"""The leader's label on its pod, against a Kubernetes of our own on loopback: HTTPS, its token, and its refusals."""

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator import leader_label
from orchestrator.__main__ import app
from orchestrator.dashboard.http import HttpEndpoint
from orchestrator.leader_label import Kubernetes, LabelNotSet, NotInKubernetes, PodLabel, keep, leads, page_beside
from orchestrator.telemetry import Metrics

_WITHIN_S = 60.0
_LABEL = PodLabel("baton", "baton-7d9-x2x", "baton-role", "leader")
_PATH = "/api/v1/namespaces/baton/pods/baton-7d9-x2x"

pytestmark = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl, which makes a certificate, is not here"
)


@dataclass
class FakeKubernetes:
    """One pod behind HTTPS, which takes a merge patch of its labels from whoever has the token."""

    folder: Path
    token: str = "first"
    labels: dict[str, str] = field(default_factory=lambda: {"app.kubernetes.io/name": "baton"})
    refuse: int | None = None
    patches: int = 0
    server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / "ca.crt", self.folder / "tls.key")
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()

    @property
    def client(self) -> Kubernetes:
        assert self.server is not None
        return Kubernetes("127.0.0.1", int(self.server.server_address[1]), self.folder)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_PATCH(self) -> None:
                fake.patches += 1
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, answer = fake.patched(
                    self.path, self.headers["Content-Type"], self.headers["Authorization"], body
                )
                told = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(told)))
                self.end_headers()
                self.wfile.write(told)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler

    def patched(self, path: str, content_type: str, authorization: str, body: object) -> tuple[int, object]:
        """What Kubernetes does with a patch, as far as it matters here."""
        if authorization != f"Bearer {self.token}":
            return 401, {"kind": "Status", "message": "Unauthorized"}
        if self.refuse is not None:
            return self.refuse, {"kind": "Status", "message": 'pods "baton-7d9-x2x" is forbidden'}
        if path != _PATH:
            return 404, {"kind": "Status", "message": "not found"}
        if content_type != "application/merge-patch+json":
            return 415, {"kind": "Status", "message": "unsupported"}
        match body:
            case {"metadata": {"labels": dict() as labels}} if list(body) == ["metadata"]:
                for key, value in labels.items():
                    if value is None:
                        self.labels.pop(key, None)
                    else:
                        self.labels[key] = value
        return 200, {"kind": "Pod", "metadata": {"labels": self.labels}}

    @property
    def shown(self) -> str | None:
        return self.labels.get("baton-role")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kubernetes")
    new = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=kubernetes"
    new += " -addext subjectAltName=IP:127.0.0.1 -keyout tls.key -out ca.crt"
    subprocess.run(new.split(), cwd=folder, check=True, capture_output=True, timeout=60)
    return folder


@pytest.fixture
def kubernetes(certificate: Path) -> Iterator[FakeKubernetes]:
    fake = FakeKubernetes(certificate)
    (certificate / "token").write_text("first\n")
    fake.start()
    yield fake
    fake.stop()


def until(condition: Callable[[], bool]) -> None:
    ends_at_s = time.monotonic() + _WITHIN_S
    while not condition():
        assert time.monotonic() < ends_at_s, "not in time"
        time.sleep(0.005)


@dataclass
class Keeper:
    """`keep` in a thread, and the replica beside it."""

    kubernetes: FakeKubernetes
    leading: bool = False
    stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Keeper:
        arguments = (_LABEL, self.kubernetes.client, lambda: self.leading, self.stop, 0.005)
        self.thread = threading.Thread(target=keep, args=arguments)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join(_WITHIN_S)
        assert not self.thread.is_alive()


def test_the_label_comes_with_leadership_and_goes_with_it(kubernetes: FakeKubernetes) -> None:
    with Keeper(kubernetes) as keeper:
        for _ in range(2):
            keeper.leading = True
            until(lambda: kubernetes.shown == "leader")
            keeper.leading = False
            until(lambda: kubernetes.shown is None)
    assert kubernetes.labels == {"app.kubernetes.io/name": "baton"}


def test_nothing_is_said_while_nothing_changes(kubernetes: FakeKubernetes) -> None:
    looks = 0

    def leading() -> bool:
        nonlocal looks
        looks += 1
        return True

    stop = threading.Event()
    thread = threading.Thread(target=keep, args=(_LABEL, kubernetes.client, leading, stop, 0.001))
    thread.start()
    until(lambda: looks > 20)
    assert kubernetes.patches == 1
    stop.set()
    thread.join(_WITHIN_S)


def test_a_container_that_starts_anew_takes_off_what_its_predecessor_left(kubernetes: FakeKubernetes) -> None:
    kubernetes.labels["baton-role"] = "leader"
    with Keeper(kubernetes):
        until(lambda: kubernetes.shown is None)


def test_the_label_is_taken_off_at_the_end(kubernetes: FakeKubernetes) -> None:
    with Keeper(kubernetes, leading=True):
        until(lambda: kubernetes.shown == "leader")
    assert kubernetes.shown is None


def test_a_label_that_somebody_took_away_comes_back(
    kubernetes: FakeKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leader_label, "_AGAIN_S", 0.01)
    with Keeper(kubernetes, leading=True):
        until(lambda: kubernetes.shown == "leader")
        kubernetes.labels.pop("baton-role")
        until(lambda: kubernetes.shown == "leader")


@pytest.mark.parametrize("status", [403, 500])
def test_a_refusal_is_waited_out(kubernetes: FakeKubernetes, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    monkeypatch.setattr(leader_label, "_RETRY_FIRST_S", 0.005)
    kubernetes.refuse = status
    with Keeper(kubernetes, leading=True):
        until(lambda: kubernetes.patches > 2)
        assert kubernetes.shown is None
        kubernetes.refuse = None
        until(lambda: kubernetes.shown == "leader")


def test_a_token_that_was_renewed_is_read_again(kubernetes: FakeKubernetes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leader_label, "_RETRY_FIRST_S", 0.005)
    kubernetes.token = "second"
    with Keeper(kubernetes, leading=True):
        until(lambda: kubernetes.patches > 1)
        assert kubernetes.shown is None
        (kubernetes.folder / "token").write_text("second\n")
        until(lambda: kubernetes.shown == "leader")


def test_a_refusal_says_what_and_why(kubernetes: FakeKubernetes) -> None:
    kubernetes.refuse = 403
    with pytest.raises(LabelNotSet, match=r"403 to PATCH /api/v1/.*/baton-7d9-x2x: pods .* is forbidden"):
        kubernetes.client.label("baton", "baton-7d9-x2x", "baton-role", "leader")


def test_a_server_of_another_authority_gets_no_token(kubernetes: FakeKubernetes, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    new = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=other"
    subprocess.run(
        [*new.split(), "-keyout", "other.key", "-out", "ca.crt"], cwd=other, check=True, capture_output=True, timeout=60
    )
    (other / "token").write_text("first")
    host = Kubernetes("127.0.0.1", kubernetes.client.port, other)
    with pytest.raises(LabelNotSet, match=r"out of reach: .*certificate verify failed"):
        host.label("baton", "baton-7d9-x2x", "baton-role", "leader")
    assert kubernetes.patches == 0


def test_nobody_there_is_no_leader() -> None:
    assert not leads("http://127.0.0.1:1/leaderz")


@pytest.mark.parametrize(("status", "leading"), [(200, True), (503, False), (401, False), (301, False)])
@pytest.mark.parametrize("secure", [False, True])
def test_the_replica_is_asked_in_the_clear_or_over_tls(
    certificate: Path, monkeypatch: pytest.MonkeyPatch, status: int, leading: bool, secure: bool
) -> None:
    monkeypatch.setattr(leader_label, "_REPLICA_TIMEOUT_S", _WITHIN_S)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/leaderz" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if secure:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate / "ca.crt", certificate / "tls.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        address = f"127.0.0.1:{server.server_address[1]}"
        assert leads(f"{'https' if secure else 'http'}://{address}/leaderz") is leading
    finally:
        server.shutdown()
        server.server_close()


def test_the_replica_beside_speaks_https_where_its_settings_name_a_certificate() -> None:
    assert page_beside({}) == "http://127.0.0.1:7480/leaderz"
    assert page_beside({"BATON_TLS_CERT_FILE": "/etc/baton/tls/tls.crt"}) == "https://127.0.0.1:7480/leaderz"


def test_outside_of_kubernetes_it_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(NotInKubernetes, match="KUBERNETES_SERVICE_HOST"):
        Kubernetes.from_environment({})
    inside = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    with pytest.raises(NotInKubernetes, match="token"):
        Kubernetes.from_environment(inside, tmp_path)
    for name in ("token", "ca.crt"):
        (tmp_path / name).touch()
    assert Kubernetes.from_environment(inside, tmp_path) == Kubernetes("10.96.0.1", 443, tmp_path)


def test_the_command_refuses_what_is_no_label_and_a_machine_that_is_no_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    pod = ["leader-label", "--pod", "p", "--namespace", "n"]
    for arguments, complaint in (([*pod, "--label", "leader"], "KEY=VALUE"), (pod, "KUBERNETES_SERVICE_HOST")):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 78
        assert complaint in result.output


def test_the_command_labels_beside_a_replica_and_takes_the_label_off_at_sigterm(kubernetes: FakeKubernetes) -> None:
    leading = threading.Event()
    metrics = Metrics("baton", "baton-7d9-x2x")
    replica = HttpEndpoint("127.0.0.1:0", metrics, lambda: None, tuple, dict, leading=leading.is_set)
    replica.start()
    environ = {
        **os.environ,
        "POD_NAME": _LABEL.pod,
        "POD_NAMESPACE": _LABEL.namespace,
        "KUBERNETES_SERVICE_HOST": kubernetes.client.host,
        "KUBERNETES_SERVICE_PORT": str(kubernetes.client.port),
    }
    arguments = ["--replica", f"http://{replica.address}/leaderz", "--interval", "0.05"]
    command = [sys.executable, "-m", "orchestrator", "leader-label", "--account", str(kubernetes.folder), *arguments]
    kubernetes.labels["baton-role"] = "leader"
    process = subprocess.Popen(command, env=environ)
    try:
        until(lambda: kubernetes.shown is None)
        leading.set()
        until(lambda: kubernetes.shown == "leader")
        process.send_signal(signal.SIGTERM)
        assert process.wait(_WITHIN_S) == 0
        assert kubernetes.shown is None
    finally:
        process.kill()
        process.wait(_WITHIN_S)
        replica.close()
