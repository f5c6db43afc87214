"""The containers' health check, against a real gRPC server and a real HTTP server."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent import futures
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

SCRIPT = Path(__file__).resolve().parents[2] / "deploy" / "docker" / "healthcheck.py"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def _check(*arguments: str) -> tuple[int, str]:
    # As the containers run it: the standard library alone.
    command = [sys.executable, "-IS", str(SCRIPT), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    return done.returncode, done.stderr


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


def test_grpc_server_that_serves_is_healthy(grpc_port: str, servicer: health.HealthServicer) -> None:
    servicer.set("", SERVING)
    assert _check("grpc", grpc_port) == (0, "")


def test_grpc_server_that_waits_is_not(grpc_port: str, servicer: health.HealthServicer) -> None:
    servicer.set("", NOT_SERVING)
    status, complaint = _check("grpc", grpc_port)
    assert status == 1
    assert "does not serve" in complaint


def test_answer_200_is_healthy(http_port: str) -> None:
    assert _check("http", http_port, "/healthz") == (0, "")


def test_any_other_answer_is_not_and_is_shown(http_port: str) -> None:
    status, complaint = _check("http", http_port, "/readyz")
    assert status == 1
    assert "503" in complaint
    assert "the main loop hangs" in complaint


@pytest.mark.parametrize("arguments", [("grpc", "1"), ("http", "1", "/healthz")])
def test_nobody_there_is_not_healthy(arguments: tuple[str, ...]) -> None:
    status, complaint = _check(*arguments)
    assert status == 1
    assert "no answer" in complaint


def test_wrong_arguments_are_told_the_right_ones() -> None:
    status, complaint = _check("ftp")
    assert status == 1
    assert "healthcheck.py http PORT PATH" in complaint
