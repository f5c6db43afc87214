"""Every other port, and whoever may not come in: the heartbeat, HTTP, etcd, Postgres; and the health check."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import ssl
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from orchestrator.leadership.beacon import parse_hello
from orchestrator.leadership.errors import CoordinatorError
from orchestrator.leadership.etcd import EtcdCoordinator
from orchestrator.leadership.etcd_transport import EtcdAccess
from tests.integration.secure_world import EXPIRED_TOKEN, METRICS_TOKEN, NOBODYS, SOON_S, World, get, libpq_files, world

__all__ = ["world"]


def hello_from(world: World, who: str | None) -> bytes:
    """The first line of the beacon; empty when it hangs up instead."""
    try:
        with (
            socket.create_connection(("127.0.0.1", world.ports["peer"]), timeout=20) as plain,
            world.context(who).wrap_socket(plain, server_hostname="127.0.0.1") as secured,
        ):
            return secured.recv(512)
    except (ssl.SSLError, ConnectionError):
        return b""


@pytest.mark.parametrize("who", [*NOBODYS, "operator", "reader", "somebody"])
def test_the_heartbeat_is_told_to_replicas_alone(world: World, who: str | None) -> None:
    assert hello_from(world, who) == b""
    hello = parse_hello(hello_from(world, "replica"))
    assert hello is not None
    assert hello.replica_id == "r1"


def test_the_heartbeat_is_not_told_in_plain_text(world: World) -> None:
    with socket.create_connection(("127.0.0.1", world.ports["peer"]), timeout=20) as plain:
        plain.sendall(b"hello\n" * 10)
        with contextlib.suppress(ConnectionError):
            assert b"replica_id" not in plain.recv(512)


@pytest.mark.parametrize("who", ["stranger", "expired"])
def test_the_http_port_hangs_up_on_certificates_that_do_not_count(world: World, who: str) -> None:
    assert get(world, "/metrics", who)[0] == 0
    assert get(world, "/healthz", who)[0] == 0


def test_pages_ask_who_reads_them(world: World) -> None:
    for path in ("/metrics", "/", "/failpoints", "/sagas"):
        status, _, headers = get(world, path)
        assert status == 401
        assert "Bearer" in headers["WWW-Authenticate"]
    bearer = {"Authorization": f"Bearer {METRICS_TOKEN}"}
    assert get(world, "/metrics", **bearer)[0] == 200
    for path in ("/", "/failpoints", "/sagas"):
        assert get(world, path, **bearer)[0] == 403
    assert get(world, "/metrics", "reader")[0] == 200
    assert get(world, "/metrics", "starter")[0] == 403  # bound to one definition
    assert get(world, "/metrics", "somebody")[0] == 401
    assert get(world, "/metrics", Authorization=f"Bearer {EXPIRED_TOKEN}")[0] == 401
    assert get(world, "/metrics", Authorization=f"Bearer {world.token(exp=1)}")[0] == 401


def test_a_browser_may_send_the_token_as_a_password(world: World) -> None:
    for password, expected in ((METRICS_TOKEN, 200), ("wrong-and-long-enough-to-be-one", 401)):
        encoded = base64.b64encode(f"any:{password}".encode()).decode()
        assert get(world, "/metrics", Authorization=f"Basic {encoded}")[0] == expected
    assert get(world, "/metrics", Authorization="Basic %%%")[0] == 401


def test_probes_get_yes_or_no_and_only_who_is_known_the_reasons(world: World) -> None:
    assert json.loads(get(world, "/healthz")[1]) == {"healthy": True}
    assert json.loads(get(world, "/readyz")[1]) == {"ready": True}
    assert json.loads(get(world, "/healthz", "reader")[1]) == {"healthy": True, "complaint": None}


def test_failpoints_are_for_operators_and_not_for_other_sites(world: World) -> None:
    path = "/failpoints/reflection.ask.before"
    assert get(world, path, "reader", "DELETE")[0] == 403
    assert get(world, path, None, "DELETE")[0] == 401
    assert get(world, path, "operator", "DELETE", Origin="https://evil.example")[0] == 403
    assert get(world, path, "operator", "DELETE")[0] == 200
    outcomes = [event["outcome"] for event in world.audited() if event["action"] == f"DELETE {path}"]
    assert outcomes == ["FORBIDDEN", "UNAUTHORIZED", "FORBIDDEN", "LET_IN"]


@pytest.mark.parametrize("who", NOBODYS)
async def test_etcd_shakes_hands_with_certificates_of_the_authority_alone(world: World, who: str | None) -> None:
    access = EtcdAccess.from_files(world.etcd.endpoints, "", "", world.ours.ca_file, *world.files(who))
    coordinator = EtcdCoordinator(access)
    try:
        with pytest.raises(CoordinatorError):
            await coordinator.range("/baton/")
    finally:
        await coordinator.close()


@pytest.mark.parametrize("who", [*NOBODYS, "reader", "plain"])
def test_postgres_takes_the_certificate_of_its_user_alone(world: World, who: str | None) -> None:
    dsn = f"{world.dsn} sslrootcert={world.ours.ca_file} sslmode={'disable' if who == 'plain' else 'verify-full'}"
    if who is None or who == "plain":
        dsn += " sslcert=/nonexistent"
    elif who == "expired":
        cert, key = libpq_files(world, "baton", valid_for=timedelta(minutes=-1))
        dsn += f" sslcert={cert} sslkey={key}"
    elif who == "stranger":
        issued = world.theirs.issue("baton")
        dsn += f" sslcert={issued.cert_file} sslkey={issued.key_file}"
    else:
        cert, key = libpq_files(world, who)
        dsn += f" sslcert={cert} sslkey={key}"
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(dsn)


@pytest.mark.parametrize(
    ("prefix", "arguments"), [("BATON", ("http", "http", "/readyz")), ("PARTICIPANT", ("grpc", "participant"))]
)
def test_the_containers_health_check_speaks_tls_where_the_server_does(
    world: World, prefix: str, arguments: tuple[str, ...]
) -> None:
    kind, port, *rest = arguments
    issued = world.ours.issue("server", file_name="health")
    tls = {f"{prefix}_TLS_CERT_FILE": str(issued.cert_file), f"{prefix}_TLS_KEY_FILE": str(issued.key_file)}
    script = Path(__file__).parents[2] / "deploy" / "docker" / "healthcheck.py"
    command = [sys.executable, "-IS", str(script), kind, str(world.ports[port]), *rest]

    def check(environment: dict[str, str]) -> int:
        return subprocess.run(command, env=environment, capture_output=True, timeout=SOON_S).returncode

    assert check(tls) == 0
    assert check({}) != 0
