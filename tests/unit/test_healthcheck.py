"""The containers' health check, against a real gRPC server and a real HTTP server."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

SCRIPT = Path(__file__).resolve().parents[2] / "deploy" / "docker" / "healthcheck.py"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script, with the patience that a busy machine may want."""
    hurried = SCRIPT.read_text()
    patient = hurried.replace("_TIMEOUT_S = 2.0", "_TIMEOUT_S = 60.0")
    assert patient != hurried
    made = tmp_path_factory.mktemp("healthcheck") / SCRIPT.name
    made.write_text(patient)
    return made


Check = Callable[..., tuple[int, str]]


@pytest.fixture
def check(script: Path) -> Check:
    def run(*arguments: str) -> tuple[int, str]:
        # As the containers run it: the standard library alone.
        command = [sys.executable, "-IS", str(script), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        return done.returncode, done.stderr

    return run


@pytest.fixture
def servicer() -> health.HealthServicer:
    return health.HealthServicer()


@pytest.fixture
def grpc_port(servicer: health.HealthServicer) -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield str(port)
    server.stop(None).wait()


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 503)
        self.end_headers()
        self.wfile.write(b"the main loop hangs")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def http_port() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield str(server.server_address[1])
        server.shutdown()
        thread.join()


def test_grpc_server_that_serves_is_healthy(grpc_port: str, servicer: health.HealthServicer, check: Check) -> None:
    servicer.set("", SERVING)
    assert check("grpc", grpc_port) == (0, "")


def test_grpc_server_that_waits_is_not(grpc_port: str, servicer: health.HealthServicer, check: Check) -> None:
    servicer.set("", NOT_SERVING)
    status, complaint = check("grpc", grpc_port)
    assert status == 1
    assert "does not serve" in complaint


def test_answer_200_is_healthy(http_port: str, check: Check) -> None:
    assert check("http", http_port, "/healthz") == (0, "")


def test_any_other_answer_is_not_and_is_shown(http_port: str, check: Check) -> None:
    status, complaint = check("http", http_port, "/readyz")
    assert status == 1
    assert "503" in complaint
    assert "the main loop hangs" in complaint


@pytest.mark.parametrize("arguments", [("grpc", "1"), ("http", "1", "/healthz")])
def test_nobody_there_is_not_healthy(arguments: tuple[str, ...], check: Check) -> None:
    status, complaint = check(*arguments)
    assert status == 1
    assert "no answer" in complaint


def test_wrong_arguments_are_told_the_right_ones(check: Check) -> None:
    status, complaint = check("ftp")
    assert status == 1
    assert "healthcheck.py http PORT PATH" in complaint
