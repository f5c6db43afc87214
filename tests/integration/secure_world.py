"""One replica, one participant, etcd and Postgres, each a real process that speaks TLS and asks for certificates."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from orchestrator.embedded.authority import Authority, Certificate
from orchestrator.embedded.etcd import EtcdCluster, EtcdTls
from orchestrator.embedded.loopback import free_ports, release_ports
from orchestrator.embedded.postgres import Postgres
from orchestrator.embedded.processes import Process, inherited_environment
from orchestrator.pb.baton.v1 import cluster_pb2, cluster_pb2_grpc
from orchestrator.security.identity import identity_from
from orchestrator.security.tokens import token_hash
from tests.integration.secure_postgres import binaries, secure_postgres

SOON_S = 60.0
ISSUER = "https://login.example"
READER_TOKEN, METRICS_TOKEN, EXPIRED_TOKEN = (f"{name}-token-that-nobody-guesses" for name in ("r", "m", "e"))


ACCESS = f"""
callers:
  - {{name: replicas, certificate: replica, roles: [replica]}}
  - {{name: operator, certificate: operator, roles: [operator]}}
  - {{name: starter, certificate: starter, roles: [starter], definitions: [order]}}
  - {{name: reader, certificate: reader, token_sha256: {token_hash(READER_TOKEN)}, roles: [reader]}}
  - {{name: helper, certificate: helper, roles: [participant]}}
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
        return f"host=127.0.0.1 port={self.postgres_port} user=baton dbname=postgres connect_timeout=15"

    @property
    def log_dsn(self) -> str:
        """The saga log's; over TLS, where there is a Postgres that speaks it."""
        if self.postgres_port is None:
            return self.plain_dsn
        cert, key = libpq_files(self, "baton")
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
            else:
                process.wait_until(lambda: _listens(ports["participant"]), "does not listen", SOON_S)
        yield made


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def get(
    world: World, path: str, who: str | None = None, method: str = "GET", **headers: str
) -> tuple[int, str, dict[str, str]]:
    """The answer to an HTTP request; status 0 when the connection came to nothing."""
    request = urllib.request.Request(f"https://127.0.0.1:{world.ports['http']}{path}", method=method, headers=headers)
    handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=world.context(who)))
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=10) as response:
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


def libpq_files(world: World, user: str, valid_for: timedelta = timedelta(days=1)) -> tuple[Path, Path]:
    issued = world.ours.issue(user, file_name=f"{user}-{valid_for.total_seconds():.0f}", valid_for=valid_for)
    return issued.cert_file, issued.key_file
