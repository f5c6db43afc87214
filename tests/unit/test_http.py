"""The HTTP port: what it answers, also when the main loop hangs, too many ask at once, or a client says nothing."""

from __future__ import annotations

import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from orchestrator.dashboard import http
from orchestrator.dashboard.http import CannotListen, HttpEndpoint
from orchestrator.failpoints.armed import ARMED, STRUCK, disarm, strike_in_thread
from orchestrator.telemetry import Metrics


@dataclass
class Replica:
    """What the endpoint asks, and the test sets."""

    metrics: Metrics = field(default_factory=lambda: Metrics("baton", "replica-1"))
    complaint: str | None = None
    waiting: tuple[str, ...] = ()
    leading: bool = False
    counts: dict[tuple[str, str], int] = field(default_factory=dict)


@pytest.fixture
def replica() -> Replica:
    return Replica()


@pytest.fixture
def endpoint(replica: Replica) -> Iterator[HttpEndpoint]:
    endpoint = HttpEndpoint(
        "127.0.0.1:0",
        replica.metrics,
        lambda: replica.complaint,
        lambda: replica.waiting,
        lambda: replica.counts,
        leading=lambda: replica.leading,
    )
    endpoint.start()
    yield endpoint
    endpoint.close()


def get(endpoint: HttpEndpoint, path: str, method: str = "GET") -> tuple[int, str]:
    request = urllib.request.Request(f"http://{endpoint.address}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_metrics_show_the_registry_and_the_sagas_as_they_were_counted_last(
    endpoint: HttpEndpoint, replica: Replica
) -> None:
    replica.metrics.epoch.set(42)
    replica.counts = {("order", "COMPLETED"): 7}
    status, body = get(endpoint, "/metrics")
    assert status == 200
    assert "baton_epoch 42.0" in body
    assert 'baton_sagas{definition="order",state="COMPLETED"} 7.0' in body
    replica.counts = {("order", "COMPLETED"): 8}
    assert 'state="COMPLETED"} 8.0' in get(endpoint, "/metrics?name=all")[1]


def test_health_is_what_the_main_loop_says_of_itself(endpoint: HttpEndpoint, replica: Replica) -> None:
    assert get(endpoint, "/healthz")[0] == 200
    replica.complaint = "the main loop has not beaten for 12.0 s"
    status, body = get(endpoint, "/healthz")
    assert status == 503
    assert json.loads(body) == {"healthy": False, "complaint": replica.complaint}


def test_a_replica_that_waits_is_not_ready_and_says_for_what(endpoint: HttpEndpoint, replica: Replica) -> None:
    replica.waiting = ("etcd: no endpoint answers", "Postgres: connection refused")
    status, body = get(endpoint, "/readyz")
    assert status == 503
    assert json.loads(body) == {"ready": False, "waiting_for": list(replica.waiting)}
    replica.waiting = ()
    assert get(endpoint, "/readyz") == (200, '{"ready": true, "waiting_for": []}\n')


def test_a_replica_says_whether_it_leads(endpoint: HttpEndpoint, replica: Replica) -> None:
    assert get(endpoint, "/leaderz") == (503, '{"leading": false}\n')
    replica.leading = True
    assert get(endpoint, "/leaderz") == (200, '{"leading": true}\n')


def test_other_paths_and_methods_are_refused(endpoint: HttpEndpoint) -> None:
    assert get(endpoint, "/secret")[0] == 404
    assert get(endpoint, "/metrics", "POST")[0] == 501
    assert get(endpoint, "/metrics", "HEAD") == (200, "")


def test_silent_clients_take_no_more_threads_than_the_bound(endpoint: HttpEndpoint) -> None:
    host, _, port = endpoint.address.rpartition(":")
    before = threading.active_count()
    silent = [socket.create_connection((host, int(port)), timeout=5) for _ in range(3 * http._REQUESTS_MAX)]
    try:
        # Those beyond the bound are hung up on: the last of them has been handled when it reads the end.
        assert silent[-1].recv(1) == b""
        assert threading.active_count() - before <= http._REQUESTS_MAX
    finally:
        for connection in silent:
            connection.close()


def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        endpoint = HttpEndpoint(listen, Metrics("baton", "x"), lambda: None, tuple, dict)
        with pytest.raises(CannotListen, match=listen):
            endpoint.start()


def test_closing_frees_the_port_and_starting_again_works(replica: Replica) -> None:
    endpoint = HttpEndpoint("127.0.0.1:0", replica.metrics, lambda: None, tuple, dict)
    endpoint.close()
    for _ in range(2):
        endpoint.start()
        assert get(endpoint, "/healthz")[0] == 200
        address = endpoint.address
        endpoint.close()
        host, _, port = address.rpartition(":")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)), timeout=5)


@pytest.fixture
def drilled(replica: Replica) -> Iterator[HttpEndpoint]:
    endpoint = HttpEndpoint(
        "127.0.0.1:0",
        replica.metrics,
        lambda: replica.complaint,
        lambda: replica.waiting,
        lambda: replica.counts,
        drills=True,
    )
    endpoint.start()
    yield endpoint
    endpoint.close()
    disarm()
    STRUCK.clear()


def ask(endpoint: HttpEndpoint, method: str, path: str, body: str = "") -> tuple[int, str]:
    request = urllib.request.Request(f"http://{endpoint.address}{path}", body.encode() or None, method=method)
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize("path", ["/failpoints", "/failpoints/term.append.before"])
def test_failpoints_are_unknown_to_a_replica_that_does_not_drill(
    endpoint: HttpEndpoint, method: str, path: str
) -> None:
    status, _ = ask(endpoint, method, path, "exit" if method == "PUT" else "")
    assert status == 404
    assert not ARMED
    assert "failpoint" not in get(endpoint, "/metrics")[1]


def test_a_replica_that_drills_has_failpoints_armed_looked_at_and_disarmed(drilled: HttpEndpoint) -> None:
    status, body = ask(drilled, "PUT", "/failpoints/term.append.before", "30*off->1*log")
    assert (status, json.loads(body)) == (200, {"armed": "30*off->1*log", "struck": 0})
    assert list(ARMED) == ["term.append.before"]
    for _ in range(40):
        strike_in_thread("term.append.before")
    everything = json.loads(ask(drilled, "GET", "/failpoints")[1])
    assert everything["armed"] == {"term.append.before": "30*off->1*log"}
    assert everything["struck"] == {"term.append.before": 1}
    assert "etcd.txn.after" in everything["known"]
    metrics = get(drilled, "/metrics")[1]
    assert "baton_failpoints_armed 1.0" in metrics
    assert 'baton_failpoint_strikes_total{failpoint="term.append.before"} 1.0' in metrics
    assert ask(drilled, "DELETE", "/failpoints") == (200, '{"disarmed": 1}\n')
    assert not ARMED


def test_a_replica_that_drills_refuses_what_makes_no_sense(drilled: HttpEndpoint) -> None:
    assert ask(drilled, "PUT", "/failpoints/term.append.before", "explode")[0] == 400
    assert ask(drilled, "PUT", "/failpoints/term.append.before")[0] == 400
    assert ask(drilled, "PUT", "/failpoints/nothing.such", "exit")[0] == 404
    assert ask(drilled, "PUT", "/failpoints", "exit")[0] == 405
    assert ask(drilled, "GET", "/failpointsandmore")[0] == 404
    assert not ARMED
