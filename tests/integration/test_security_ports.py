"""Every port of a cluster, and whoever may not come in: no certificate, another authority's, the wrong role, expired.

One replica, one participant, etcd and Postgres, each a real process that speaks TLS and asks for certificates.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import jwt
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from orchestrator.embedded.authority import Authority, Certificate
from orchestrator.embedded.etcd import EtcdCluster, EtcdTls
from orchestrator.embedded.loopback import free_ports, release_ports
from orchestrator.embedded.postgres import Postgres
from orchestrator.embedded.processes import Process, inherited_environment
from orchestrator.leadership.beacon import parse_hello
from orchestrator.leadership.errors import CoordinatorError
from orchestrator.leadership.etcd import EtcdCoordinator
from orchestrator.leadership.etcd_transport import EtcdAccess
from orchestrator.pb.baton.v1 import audit_pb2, audit_pb2_grpc, cluster_pb2, cluster_pb2_grpc, saga_pb2, saga_pb2_grpc
from orchestrator.security.identity import identity_from
from orchestrator.security.tokens import token_hash
from participants.pb.shop.v1 import echo_pb2, echo_pb2_grpc
from tests.integration.secure_postgres import binaries, secure_postgres

SOON_S = 30.0
ISSUER = "https://login.example"
READER_TOKEN, METRICS_TOKEN, EXPIRED_TOKEN = (f"{name}-token-that-nobody-guesses" for name in ("r", "m", "e"))

ACCESS = f"""
callers:
  - {{name: replicas, certificate: replica, roles: [replica]}}
  - {{name: operator, certificate: operator, roles: [operator]}}
  - {{name: starter, certificate: starter, roles: [starter], definitions: [order]}}
  - {{name: reader, certificate: reader, token_sha256: {token_hash(READER_TOKEN)}, roles: [reader]}}
  - {{name: slow, certificate: slow, roles: [reader], limits: {{calls_per_s: 1, streams: 1}}}}
  - {{name: prometheus, token_sha256: {token_hash(METRICS_TOKEN)}, roles: [metrics]}}
  - {{name: former, token_sha256: {token_hash(EXPIRED_TOKEN)}, roles: [operator], expires: 2020-01-01}}
"""


@dataclass
class World:
    """Where everything listens, and the certificates."""

    folder: Path
    ours: Authority
    theirs: Authority
    etcd: EtcdCluster
    postgres_port: int | None
    plain_dsn: str
    ports: dict[str, int]
    issuer_key: ec.EllipticCurvePrivateKey
    log_path: Path

    def files(self, who: str | None) -> tuple[Path | None, Path | None]:
        """The certificate and key of `who`: nobody, somebody of another authority, or one whose time is over."""
        match who:
            case None:
                return None, None
            case "stranger":
                issued = self.theirs.issue("operator")
            case "expired":
                issued = self.ours.issue("operator", file_name="expired", valid_for=timedelta(minutes=-1))
            case _:
                issued = self.ours.issue(who)
        return issued.cert_file, issued.key_file

    def channel(self, port: str, who: str | None) -> grpc.aio.Channel:
        """A channel over TLS."""
        identity = identity_from(self.ours.ca_file, *self.files(who)).current()
        return grpc.aio.secure_channel(f"127.0.0.1:{self.ports[port]}", identity.channel_credentials())

    def context(self, who: str | None) -> ssl.SSLContext:
        """The same for sockets."""
        return identity_from(self.ours.ca_file, *self.files(who)).current().client_context()

    def token(self, **changes: Any) -> str:
        """A signed token of an operator, unless changed."""
        claims = {"iss": ISSUER, "aud": "baton", "sub": "ann", "exp": time.time() + 300, "baton_roles": ["operator"]}
        return jwt.encode({**claims, **changes}, self.issuer_key, "ES256", headers={"kid": "k"})

    @property
    def dsn(self) -> str:
        """Of the Postgres that speaks TLS, without certificates. Skips the test where there is none."""
        if self.postgres_port is None:
            pytest.skip("no Postgres with TLS on this host: `apt-get install postgresql` brings one")
        return f"host=127.0.0.1 port={self.postgres_port} user=baton dbname=postgres connect_timeout=5"

    @property
    def log_dsn(self) -> str:
        """The saga log's; over TLS, where there is a Postgres that speaks it."""
        if self.postgres_port is None:
            return self.plain_dsn
        cert, key = _libpq_files(self, "baton")
        return f"{self.dsn} sslmode=verify-full sslrootcert={self.ours.ca_file} sslcert={cert} sslkey={key}"

    def audited(self) -> list[dict[str, Any]]:
        """The audit events of the replica's log."""
        lines = self.log_path.read_text().splitlines()
        return [event for line in lines if line.startswith("{") and (event := json.loads(line))["event"] == "audit"]


def replica_settings(world: World, replica: Certificate) -> dict[str, str]:
    """A replica whose every link speaks TLS."""
    keys = world.folder / "jwks.json"
    public = json.loads(
        jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256).to_jwk(world.issuer_key.public_key())
    )
    keys.write_text(json.dumps({"keys": [{**public, "kid": "k", "alg": "ES256"}]}))
    access = world.folder / "access.yaml"
    access.write_text(ACCESS)
    files = {"CERT": replica.cert_file, "KEY": replica.key_file, "CA": world.ours.ca_file}
    return {
        **{f"BATON_TLS_{part}_FILE": str(file) for part, file in files.items()},
        **{f"BATON_ETCD_{part}_FILE": str(file) for part, file in files.items()},
        "BATON_ACCESS_FILE": str(access),
        "BATON_JWKS_FILE": str(keys),
        "BATON_JWT_ISSUER": ISSUER,
        "BATON_REPLICA": "r1",
        "BATON_ETCD_ENDPOINTS": ",".join(world.etcd.endpoints),
        "BATON_DSN": world.log_dsn,
        "BATON_API_LISTEN": f"127.0.0.1:{world.ports['api']}",
        "BATON_API_TOKEN_LISTEN": f"127.0.0.1:{world.ports['token']}",
        "BATON_HTTP_LISTEN": f"127.0.0.1:{world.ports['http']}",
        "BATON_PEER_LISTEN": f"127.0.0.1:{world.ports['peer']}",
        "BATON_FAILPOINTS": "on",
        "BATON_LOG_FORMAT": "json",
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("secure")
    ours, theirs = Authority(folder / "ours"), Authority(folder / "theirs")
    server = ours.issue("server")
    names = ("api", "token", "http", "peer", "participant")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    with contextlib.ExitStack() as stack:
        stack.callback(release_ports, tuple(ports.values()))
        postgres_port, plain_dsn = None, ""
        if binaries() is not None:
            postgres_port = stack.enter_context(secure_postgres(folder / "postgres", ours, server, "baton"))
        else:
            plain_dsn = stack.enter_context(Postgres(folder / "postgres", settings={"fsync": "off"})).dsn()
        tls = EtcdTls(server.cert_file, server.key_file, ours.ca_file)
        etcd = stack.enter_context(EtcdCluster(folder / "etcd", members=1, tls=tls, unsafe_no_fsync=True))
        key = ec.generate_private_key(ec.SECP256R1())
        log_path = folder / "replica.log"
        made = World(folder, ours, theirs, etcd, postgres_port, plain_dsn, ports, key, log_path)
        echo = {
            "PARTICIPANT_LISTEN": f"127.0.0.1:{ports['participant']}",
            "PARTICIPANT_TLS_CERT_FILE": str(server.cert_file),
            "PARTICIPANT_TLS_KEY_FILE": str(server.key_file),
            "PARTICIPANT_TLS_CA_FILE": str(ours.ca_file),
            "PARTICIPANT_TLS_CALLERS": "replica",
        }
        replica = ours.issue("replica", file_name="r1")
        for name, module, variables, path in (
            ("echo", ["participants", "echo"], echo, folder / "echo.log"),
            ("replica", ["orchestrator", "replica"], replica_settings(made, replica), log_path),
        ):
            environment = {**inherited_environment("BATON_", "PARTICIPANT_", "PG"), **variables}
            process = Process(name, [sys.executable, "-P", "-m", *module], environment, path)
            process.start()
            stack.callback(process.wait, SOON_S)
            stack.callback(process.kill)
            if name == "replica":
                process.wait_until(lambda: get(made, "/readyz")[0] == 200, "is not ready", SOON_S)
        yield made


def get(
    world: World, path: str, who: str | None = None, method: str = "GET", **headers: str
) -> tuple[int, str, dict[str, str]]:
    """The answer to an HTTP request; status 0 when the connection came to nothing."""
    request = urllib.request.Request(f"https://127.0.0.1:{world.ports['http']}{path}", method=method, headers=headers)
    handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=world.context(who)))
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=5) as response:
            return response.status, response.read().decode(), dict(response.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), dict(error.headers)
    except OSError:
        return 0, "", {}


async def code_of(call: Awaitable[Any]) -> grpc.StatusCode:
    """How a call ended."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def ask_api(channel: grpc.aio.Channel, token: str | None = None) -> grpc.StatusCode:
    """What a reader asks."""
    metadata = (("authorization", f"Bearer {token}"),) if token is not None else ()
    stub: Any = cluster_pb2_grpc.ClusterServiceStub(channel)  # type: ignore[no-untyped-call]
    return await code_of(stub.GetCluster(cluster_pb2.GetClusterRequest(), metadata=metadata, timeout=10))


NOBODYS = (None, "stranger", "expired")


@pytest.mark.parametrize("who", NOBODYS)
@pytest.mark.parametrize("port", ["api", "participant"])
async def test_grpc_ports_shake_hands_with_certificates_of_the_authority_alone(
    world: World, port: str, who: str | None
) -> None:
    async with world.channel(port, who) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)  # type: ignore[no-untyped-call]
        assert await code_of(health.Check(health_pb2.HealthCheckRequest(), timeout=10)) is grpc.StatusCode.UNAVAILABLE


async def test_a_certificate_that_nobody_listed_is_refused(world: World) -> None:
    async with world.channel("api", "somebody") as channel:
        assert await ask_api(channel) is grpc.StatusCode.UNAUTHENTICATED


async def test_plain_text_is_refused(world: World) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{world.ports['api']}") as channel:
        assert await ask_api(channel) is grpc.StatusCode.UNAVAILABLE


async def test_the_token_port_takes_valid_tokens_alone(world: World) -> None:
    async with world.channel("token", None) as channel:
        assert await ask_api(channel, READER_TOKEN) is grpc.StatusCode.OK
        assert await ask_api(channel, world.token()) is grpc.StatusCode.OK
        for token in (
            None,
            "nobodys-token-that-is-not-in-the-file",
            EXPIRED_TOKEN,
            world.token(exp=time.time() - 60),
            world.token(aud="another"),
            world.token(iss="https://another.example"),
            world.token()[:-6],
        ):
            assert await ask_api(channel, token) is grpc.StatusCode.UNAUTHENTICATED
        assert await ask_api(channel, METRICS_TOKEN) is grpc.StatusCode.PERMISSION_DENIED
        health: Any = health_pb2_grpc.HealthStub(channel)  # type: ignore[no-untyped-call]
        assert await code_of(health.Check(health_pb2.HealthCheckRequest(), timeout=10)) is grpc.StatusCode.OK


@pytest.mark.parametrize("who", ["stranger", "expired"])
async def test_another_authoritys_certificate_opens_the_token_port_for_nobody(world: World, who: str) -> None:
    async with world.channel("token", who) as channel:
        assert await ask_api(channel) is grpc.StatusCode.UNAUTHENTICATED


async def test_a_bad_token_is_not_made_good_by_a_certificate(world: World) -> None:
    async with world.channel("api", "operator") as channel:
        assert await ask_api(channel) is grpc.StatusCode.OK
        assert await ask_api(channel, EXPIRED_TOKEN) is grpc.StatusCode.UNAUTHENTICATED


def calls(channel: grpc.aio.Channel) -> dict[str, Callable[[], Awaitable[Any]]]:
    """A call for each role that the API asks for, none of which changes anything when it is let in."""
    sagas: Any = saga_pb2_grpc.SagaServiceStub(channel)  # type: ignore[no-untyped-call]
    definitions: Any = saga_pb2_grpc.DefinitionServiceStub(channel)  # type: ignore[no-untyped-call]
    return {
        "read": lambda: sagas.ListSagas(saga_pb2.ListSagasRequest(definition="order"), timeout=10),
        "start": lambda: sagas.StartSaga(
            saga_pb2.StartSagaRequest(definition="order", input_json="{}", request_id="a"), timeout=10
        ),
        "operate": lambda: definitions.ApplyDefinition(saga_pb2.ApplyDefinitionRequest(), timeout=10),
    }


@pytest.mark.parametrize(
    ("who", "may"),
    [("reader", {"read"}), ("starter", {"read", "start"}), ("operator", {"read", "start", "operate"})],
)
async def test_a_role_may_what_it_says_and_nothing_else(world: World, who: str, may: set[str]) -> None:
    async with world.channel("api", who) as channel:
        let_in = {
            name
            for name, call in calls(channel).items()
            if await code_of(call()) is not grpc.StatusCode.PERMISSION_DENIED
        }
    assert let_in == may


async def test_rights_to_one_definition_are_no_rights_to_others(world: World) -> None:
    async with world.channel("api", "starter") as channel:
        sagas: Any = saga_pb2_grpc.SagaServiceStub(channel)  # type: ignore[no-untyped-call]
        definitions: Any = saga_pb2_grpc.DefinitionServiceStub(channel)  # type: ignore[no-untyped-call]
        denied = grpc.StatusCode.PERMISSION_DENIED
        start = saga_pb2.StartSagaRequest(definition="refund", input_json="{}", request_id="a")
        assert await code_of(sagas.StartSaga(start, timeout=10)) is denied
        batch = await sagas.StartSagas(saga_pb2.StartSagasRequest(requests=[start]), timeout=10)
        assert [result.code for result in batch.results] == [denied.value[0]]
        assert await code_of(sagas.ListSagas(saga_pb2.ListSagasRequest(), timeout=10)) is denied
        assert await code_of(sagas.ListSagas(saga_pb2.ListSagasRequest(definition="refund"), timeout=10)) is denied
        asked = saga_pb2.GetDefinitionRequest(name="refund")
        assert await code_of(definitions.GetDefinition(asked, timeout=10)) is denied


async def test_who_asks_too_much_is_told_when_to_come_again(world: World) -> None:
    async with world.channel("api", "slow") as channel:
        stub: Any = cluster_pb2_grpc.ClusterServiceStub(channel)  # type: ignore[no-untyped-call]

        async def hurry() -> None:
            # A call a second: two in one breath are one too many, and a slow machine gets a few tries.
            for _ in range(50):
                await asyncio.gather(*(stub.GetCluster(cluster_pb2.GetClusterRequest(), timeout=10) for _ in range(3)))

        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await hurry()
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    status = rpc_status.from_call(refused.value)
    assert status is not None
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in status.details)
    assert 0 < retry.retry_delay.ToMilliseconds() <= 1000


async def test_the_participant_obeys_replicas_alone(world: World) -> None:
    for who, expected in (("replica", grpc.StatusCode.OK), ("operator", grpc.StatusCode.PERMISSION_DENIED)):
        async with world.channel("participant", who) as channel:
            stub: Any = echo_pb2_grpc.EchoServiceStub(channel)  # type: ignore[no-untyped-call]
            metadata = (
                ("baton-saga-id", "00000000-0000-7000-8000-000000000000"),
                ("baton-step", "s"),
                ("baton-kind", "action"),
                ("baton-epoch", "1"),
            )
            assert await code_of(stub.Do(echo_pb2.EchoRequest(), metadata=metadata, timeout=10)) is expected


def hello_from(world: World, who: str | None) -> bytes:
    """The first line of the beacon; empty when it hangs up instead."""
    try:
        with (
            socket.create_connection(("127.0.0.1", world.ports["peer"]), timeout=5) as plain,
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
    with socket.create_connection(("127.0.0.1", world.ports["peer"]), timeout=5) as plain:
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


async def test_every_action_of_an_operator_is_in_the_audit_log_and_every_try_of_others(world: World) -> None:
    asked = cluster_pb2.StepDownRequest(reason="for the audit")
    for who in ("reader", "operator"):
        async with world.channel("api", who) as channel:
            stub: Any = cluster_pb2_grpc.ClusterServiceStub(channel)  # type: ignore[no-untyped-call]
            await code_of(stub.StepDown(asked, timeout=10))
    async with world.channel("token", None) as channel:
        stub = cluster_pb2_grpc.ClusterServiceStub(channel)  # type: ignore[no-untyped-call]
        await code_of(stub.StepDown(asked, timeout=10))
    wanted = [("reader", "PERMISSION_DENIED"), ("operator", "OK"), ("nobody known", "UNAUTHENTICATED")]
    query = (
        "SELECT caller, outcome, replica, recognized_by FROM baton.audit_log WHERE action = 'ClusterService/StepDown'"
        " AND target->>'reason' = 'for the audit' ORDER BY at"
    )
    async with (
        asyncio.timeout(SOON_S),
        await psycopg.AsyncConnection.connect(world.log_dsn, autocommit=True) as connection,
    ):
        while len(rows := await (await connection.execute(query)).fetchall()) < len(wanted):
            await asyncio.sleep(0.02)
    assert [(caller, outcome) for caller, outcome, _, _ in rows] == wanted
    assert {replica for _, _, replica, _ in rows} == {"r1"}
    assert [by for _, _, _, by in rows] == ["certificate", "certificate", "nothing"]
    async with world.channel("api", "operator") as channel:
        audits: Any = audit_pb2_grpc.AuditServiceStub(channel)  # type: ignore[no-untyped-call]
        listed = await audits.ListAuditEntries(
            audit_pb2.ListAuditEntriesRequest(action="ClusterService/StepDown"), timeout=10
        )
    assert [(entry.caller, entry.outcome) for entry in reversed(listed.entries)][-len(wanted) :] == wanted
    async with world.channel("api", "reader") as channel:
        audits = audit_pb2_grpc.AuditServiceStub(channel)  # type: ignore[no-untyped-call]
        refused = audits.ListAuditEntries(audit_pb2.ListAuditEntriesRequest(), timeout=10)
        assert await code_of(refused) is grpc.StatusCode.PERMISSION_DENIED
    events = [event for event in world.audited() if event["target"] == {"reason": "for the audit"}]
    assert [(event["caller"], event["outcome"]) for event in events] == wanted


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
        cert, key = _libpq_files(world, "baton", valid_for=timedelta(minutes=-1))
        dsn += f" sslcert={cert} sslkey={key}"
    elif who == "stranger":
        issued = world.theirs.issue("baton")
        dsn += f" sslcert={issued.cert_file} sslkey={issued.key_file}"
    else:
        cert, key = _libpq_files(world, who)
        dsn += f" sslcert={cert} sslkey={key}"
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(dsn)


def _libpq_files(world: World, user: str, valid_for: timedelta = timedelta(days=1)) -> tuple[Path, Path]:
    issued = world.ours.issue(user, file_name=f"{user}-{valid_for.total_seconds():.0f}", valid_for=valid_for)
    return issued.cert_file, issued.key_file


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
