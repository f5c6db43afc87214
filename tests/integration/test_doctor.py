"""The doctor on real servers, with each thing broken in turn."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import grpc
import grpc.aio
import psycopg
import pytest
from google.protobuf import descriptor_pool
from grpc_reflection.v1alpha import reflection
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from orchestrator.config import Settings
from orchestrator.doctor.doctor import examine
from orchestrator.doctor.finding import Area, Finding, Severity
from orchestrator.driving.reflection import describe
from orchestrator.driving.registry import Registry
from orchestrator.embedded.etcd import EtcdCluster
from orchestrator.embedded.postgres import Postgres
from orchestrator.leadership.etcd import EtcdCoordinator
from orchestrator.leadership.etcd_transport import EtcdAccess
from orchestrator.leadership.keys import Keys, encode
from orchestrator.leadership.port import Member, Put, Txn
from orchestrator.pb.baton.etcd.v1 import maintenance_pb2
from orchestrator.sagalog.definitions import PostgresDefinitions
from orchestrator.sagalog.migrate import migrate
from orchestrator.sagalog.pool import Pool
from orchestrator.telemetry import Metrics
from participants.pb.shop.v1 import echo_pb2, echo_pb2_grpc

_TIMEOUT_S = 15.0
# Where some question is never answered.
_SHORT_S = 1.5
_SHORTER_S = 5.0
CLUSTER = "doctor"


def settings(etcd: EtcdCluster, dsn: str, **changes: object) -> Settings:
    found: dict[str, object] = {"cluster": CLUSTER, "dsn": dsn, "etcd_endpoints": ",".join(etcd.endpoints)}
    return Settings(**{**found, **changes})  # type: ignore[arg-type]


async def look(etcd: EtcdCluster, dsn: str, timeout_s: float = _TIMEOUT_S, **changes: object) -> list[Finding]:
    return await examine(settings(etcd, dsn, **changes), timeout_s)


def said(findings: list[Finding], area: Area, severity: Severity) -> str:
    assert all(finding.advice for finding in findings if finding.severity is not Severity.OK)
    return "\n".join(f.text for f in findings if f.area is area and f.severity is severity)


def execute(dsn: str, *statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


@pytest.fixture
def migrated(database: str) -> str:
    migrate(database)
    return database


async def test_sound_stores_are_told_apart_from_what_the_test_server_lacks(etcd: EtcdCluster, migrated: str) -> None:
    findings = await look(etcd, migrated)
    assert "3 of 3 endpoints answer" in said(findings, Area.ETCD, Severity.OK)
    sound = said(findings, Area.POSTGRES, Severity.OK)
    for text in ("migrations have run", "may read and write", "clocks", "connections are left", "a commit takes"):
        assert text in sound
    # The tests' Postgres runs without fsync, and says so.
    assert said(findings, Area.POSTGRES, Severity.FAILED).startswith("fsync is off")
    assert "no replica runs" in said(findings, Area.REPLICAS, Severity.WARNING)
    assert "no definition" in said(findings, Area.PARTICIPANTS, Severity.WARNING)


async def test_a_postgres_that_is_away_or_refuses_the_role_is_named(etcd: EtcdCluster, migrated: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        away = await look(etcd, make_conninfo(migrated, port=str(taken.getsockname()[1])), _SHORT_S)
    assert "no connection" in said(away, Area.POSTGRES, Severity.FAILED)
    wrong = await look(etcd, make_conninfo(migrated, dbname="nonsense"), _SHORTER_S)
    assert "nonsense" in said(wrong, Area.POSTGRES, Severity.FAILED)


async def test_a_schema_that_is_missing_old_or_too_new_is_named(etcd: EtcdCluster, database: str) -> None:
    assert "migrations have not run" in said(await look(etcd, database), Area.POSTGRES, Severity.FAILED)
    migrate(database)
    execute(database, "INSERT INTO baton.migration (number, name) VALUES (9999, 'later')")
    assert "migration 9999" in said(await look(etcd, database), Area.POSTGRES, Severity.FAILED)
    execute(database, "DELETE FROM baton.migration WHERE number IN (3, 9999)")
    assert "the first is 0003" in said(await look(etcd, database), Area.POSTGRES, Severity.FAILED)


async def test_a_database_that_takes_no_writes_is_named(etcd: EtcdCluster, postgres: Postgres, migrated: str) -> None:
    name = conninfo_to_dict(migrated)["dbname"]
    execute(postgres.dsn(), f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    assert "takes no writes" in said(await look(etcd, migrated, _SHORTER_S), Area.POSTGRES, Severity.FAILED)


async def test_rights_that_a_role_lacks_are_named(etcd: EtcdCluster, postgres: Postgres, migrated: str) -> None:
    execute(
        migrated,
        "CREATE ROLE reader LOGIN PASSWORD 'r'",
        "GRANT USAGE ON SCHEMA baton TO reader",
        "GRANT SELECT ON ALL TABLES IN SCHEMA baton TO reader",
    )
    try:
        found = await look(etcd, make_conninfo(migrated, user="reader", password="r"))
        assert "saga: INSERT, UPDATE" in said(found, Area.POSTGRES, Severity.FAILED)
        assert "later migrations" in said(found, Area.POSTGRES, Severity.WARNING)
        execute(migrated, "REVOKE USAGE ON SCHEMA baton FROM reader")
        found = await look(etcd, make_conninfo(migrated, user="reader", password="r"))
        assert "may not use the schema" in said(found, Area.POSTGRES, Severity.FAILED)
    finally:
        execute(migrated, "DROP OWNED BY reader", "DROP ROLE reader")


def _hang(findings: list[Finding]) -> bool:
    trouble = said(findings, Area.POSTGRES, Severity.FAILED)
    return "commits hang" in trouble and "a commit takes longer than" in trouble


async def test_a_commit_that_waits_for_a_standby_is_named(etcd: EtcdCluster, postgres: Postgres, migrated: str) -> None:
    execute(postgres.dsn(), "ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()")
    try:
        async with asyncio.timeout(60):
            # Both in one look: the settings may not have been read yet, and any question may take longer for once.
            while not _hang(await look(etcd, migrated, _SHORT_S)):
                await asyncio.sleep(0.1)
    finally:
        execute(
            postgres.dsn(),
            "SET synchronous_commit = off",
            "ALTER SYSTEM RESET synchronous_standby_names",
            "SELECT pg_reload_conf()",
        )


async def test_members_of_etcd_that_are_gone_are_named_until_the_quorum_is(etcd: EtcdCluster, migrated: str) -> None:
    first, second = etcd.members[:2]
    first.kill()
    first.wait(_TIMEOUT_S)
    try:
        async with asyncio.timeout(60):
            # The one that is gone may have led: the others take a moment to elect the next one.
            while "no quorum" in said(one_gone := await look(etcd, migrated), Area.ETCD, Severity.FAILED):
                await asyncio.sleep(0.1)
        assert f"{first.endpoint} does not answer" in said(one_gone, Area.ETCD, Severity.WARNING)
        assert "2 of 3 endpoints answer" in said(one_gone, Area.ETCD, Severity.OK)
        second.kill()
        second.wait(_TIMEOUT_S)
        two_gone = await look(etcd, migrated, _SHORT_S)
        assert "no quorum" in said(two_gone, Area.ETCD, Severity.FAILED)
    finally:
        for member in (first, second):
            if not member.alive:
                member.start()
        etcd.wait_healthy()


async def test_an_etcd_that_is_not_there_and_members_of_two_clusters_are_named(
    etcd: EtcdCluster, etcd_single: EtcdCluster, migrated: str
) -> None:
    nowhere = await look(etcd, migrated, etcd_endpoints="127.0.0.1:1")
    assert "127.0.0.1:1 does not answer" in said(nowhere, Area.ETCD, Severity.FAILED)
    mixed = await look(etcd, migrated, etcd_endpoints=f"{etcd.endpoints[0]},{etcd_single.endpoints[0]}")
    assert "different clusters" in said(mixed, Area.ETCD, Severity.FAILED)


async def test_an_etcd_that_stands_still_for_longer_than_a_replica_would_wait_is_waited_for(
    etcd_single: EtcdCluster, migrated: str
) -> None:
    (member,) = etcd_single.members
    member.suspend()
    waking = asyncio.get_running_loop().call_later(1.5, member.resume)
    try:
        found = await look(etcd_single, migrated)
    finally:
        waking.cancel()
        member.resume()
    assert "1 of 1 endpoints answer, and the cluster has a quorum" in said(found, Area.ETCD, Severity.OK)


async def test_an_alarm_of_etcd_is_named(etcd_single: EtcdCluster, migrated: str) -> None:
    async with grpc.aio.insecure_channel(etcd_single.endpoints[0]) as channel:
        call = channel.unary_unary(
            "/etcdserverpb.Maintenance/Alarm",
            request_serializer=maintenance_pb2.AlarmRequest.SerializeToString,
            response_deserializer=maintenance_pb2.AlarmResponse.FromString,
        )
        request = maintenance_pb2.AlarmRequest
        await call(request(action=request.ACTIVATE, alarm=maintenance_pb2.NOSPACE), timeout=_TIMEOUT_S)
        try:
            found = await look(etcd_single, migrated)
        finally:
            await call(request(action=request.DEACTIVATE, alarm=maintenance_pb2.NOSPACE), timeout=_TIMEOUT_S)
    assert "NOSPACE" in said(found, Area.ETCD, Severity.FAILED)
    assert said(await look(etcd_single, migrated), Area.ETCD, Severity.FAILED).count("NOSPACE") == 0


async def test_a_certificate_that_cannot_be_read_is_named(etcd: EtcdCluster, migrated: str) -> None:
    found = await look(etcd, migrated, etcd_ca_file="/nowhere/ca.crt")
    assert "/nowhere/ca.crt" in said(found, Area.ETCD, Severity.FAILED)


@contextmanager
def listening() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


async def test_replicas_that_cannot_be_reached_are_named(etcd: EtcdCluster, migrated: str) -> None:
    keys = Keys(CLUSTER, 0)
    coordinator = EtcdCoordinator(EtcdAccess(etcd.endpoints, call_timeout_s=_TIMEOUT_S))
    lease, _ = await coordinator.grant(60)
    try:
        with listening() as open_address:
            good = Member("good", "1", open_address, open_address, open_address, 1, "0.1.0")
            bad = Member("bad", "2", "127.0.0.1:1", open_address, open_address, 2, "0.1.0")
            puts = [Put(keys.replica(m.replica_id), encode(m), lease) for m in (good, bad)]
            await coordinator.txn(Txn((), (*puts, Put(keys.leader, encode(good), lease)), ()))
            found = await look(etcd, migrated)
    finally:
        await coordinator.revoke(lease)
        await coordinator.close()
    assert "2 replicas run: bad, good" in said(found, Area.REPLICAS, Severity.OK)
    assert "good leads" in said(found, Area.REPLICAS, Severity.OK)
    trouble = said(found, Area.REPLICAS, Severity.FAILED)
    assert trouble.count("cannot be reached") == 1
    assert "bad cannot be reached at 127.0.0.1:1 (peer)" in trouble


@asynccontextmanager
async def participant(service: bool = True, reflects: bool = True, port: int = 0) -> AsyncIterator[int]:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    names = [reflection.SERVICE_NAME]
    if service:
        echo_pb2_grpc.add_EchoServiceServicer_to_server(echo_pb2_grpc.EchoServiceServicer(), server)
        names.append(echo_pb2.DESCRIPTOR.services_by_name["EchoService"].full_name)
    if reflects:
        # Of the default pool, the servicer would describe all that this process has ever imported.
        pool = descriptor_pool.Default() if service else descriptor_pool.DescriptorPool()
        reflection.enable_server_reflection(names, server, pool=pool)
    taken = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield taken
    finally:
        await server.stop(None)


async def test_participants_that_are_away_or_do_not_fit_their_definition_are_named(
    etcd: EtcdCluster, migrated: str
) -> None:
    pool = Pool(migrated, "test", 2, _TIMEOUT_S, Metrics("test", "r1"))
    async with participant() as port:
        action = "{method: shop.v1.EchoService/Do}"
        step = f"{{name: one, service: '127.0.0.1:{port}', action: {action}, compensation: none}}"
        await Registry(PostgresDefinitions(pool), describe).apply(f"name: echo-once\nsteps:\n  - {step}\n")
        found = await look(etcd, migrated)
        assert "echo-once: version 1 fits" in said(found, Area.PARTICIPANTS, Severity.OK)
    await pool.close()
    found = await look(etcd, migrated)
    assert f"127.0.0.1:{port} cannot be reached" in said(found, Area.PARTICIPANTS, Severity.FAILED)
    async with participant(service=False, port=port):
        found = await look(etcd, migrated)
        assert "has no service shop.v1.EchoService" in said(found, Area.PARTICIPANTS, Severity.FAILED)
    async with participant(reflects=False, port=port):
        found = await look(etcd, migrated)
        assert "no server reflection" in said(found, Area.PARTICIPANTS, Severity.WARNING)


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    env = {**{k: v for k, v in os.environ.items() if not k.startswith("BATON_")}, **variables}
    argv = [sys.executable, "-m", "orchestrator", "doctor", *arguments]
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60)


def test_the_command_prints_findings_and_ends_with_their_status(etcd: EtcdCluster, migrated: str) -> None:
    variables = {
        "BATON_DSN": migrated,
        "BATON_ETCD_ENDPOINTS": ",".join(etcd.endpoints),
        "BATON_CLUSTER": CLUSTER,
    }
    done = run(**variables)
    assert done.returncode == 1, done.stderr
    assert "failed   fsync is off" in done.stdout
    assert "-> set fsync = on" in done.stdout
    answer = json.loads(run("--json", **variables).stdout)
    assert answer["ok"] is False
    assert {finding["area"] for finding in answer["findings"]} == {area.value for area in Area}
    refused = run("--json", BATON_LEASE_TTL_S="never")
    assert refused.returncode == 78
    (finding,) = json.loads(refused.stdout)["findings"]
    assert finding["text"].startswith("BATON_LEASE_TTL_S: ")
    assert "postgresql://" not in done.stdout + done.stderr
