"""What the doctor says of participants: over TLS, with children, and where a definition demands certificates."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from orchestrator.certify.certificate import Certificate
from orchestrator.certify.contract import contract_hash
from orchestrator.doctor.ask_files import judge_end
from orchestrator.doctor.finding import Area, Finding, Severity
from orchestrator.driving.codec import Descriptors
from orchestrator.driving.reflection import describe
from orchestrator.driving.registry import Registry
from orchestrator.embedded.authority import Authority
from orchestrator.embedded.etcd import EtcdCluster
from orchestrator.sagalog.certificates import PostgresCertificates
from orchestrator.sagalog.definitions import PostgresDefinitions
from orchestrator.sagalog.pool import Pool
from orchestrator.telemetry import Metrics
from participants.pb.shop.v1 import echo_pb2
from tests.integration.test_doctor import look, migrated, participant, said
from tests.integration.test_participants_processes import START_MAX_S, Launcher

__all__ = ["migrated"]

PAIR = ("shop.v1.EchoService/Do", "shop.v1.EchoService/Undo")
_METHODS = "action: {method: shop.v1.EchoService/Do}, compensation: {method: shop.v1.EchoService/Undo}"


def strict(port: int) -> str:
    step = f"{{name: one, service: '127.0.0.1:{port}', {_METHODS}}}"
    return f"name: strict\ncertified: required\nsteps:\n  - {step}\n"


@pytest.fixture
async def pool(migrated: str) -> AsyncIterator[Pool]:
    found = Pool(migrated, "test", 2, 30.0, Metrics("test", "r1"))
    yield found
    await found.close()


async def test_participants_without_the_certificate_that_a_definition_demands_are_named_with_what_to_run(
    etcd: EtcdCluster, migrated: str, pool: Pool
) -> None:
    certificates = PostgresCertificates(pool)
    async with participant() as port:
        address = f"127.0.0.1:{port}"
        # As if it had been applied by a release that did not ask.
        await Registry(PostgresDefinitions(pool), describe).apply(strict(port))
        requests = "--request '{}' --compensation-request '{}'"
        command = f"run: baton certify {address} --action {PAIR[0]} --compensation {PAIR[1]} {requests} --record"

        async def told() -> Finding:
            findings = await look(etcd, migrated)
            assert "strict: version 1 fits" in said(findings, Area.PARTICIPANTS, Severity.OK)
            (found,) = (f for f in findings if f.area is Area.PARTICIPANTS and "certif" in f.text)
            return found

        missing = await told()
        assert missing.severity is Severity.FAILED
        assert "strict: step one runs without a certificate" in missing.text
        assert "never been certified" in missing.text
        assert missing.advice == command

        digest = contract_hash(
            Descriptors((await describe(address, ["shop.v1.EchoService"], 5.0)).SerializeToString()), *PAIR
        )
        good = Certificate(address, *PAIR, digest, True, True, (("late-action", "passed"),), datetime.now(UTC))
        for days, changes, severity, words in (
            (0, {}, Severity.OK, "are certified, as it demands"),
            (1, {"contract_hash": "other"}, Severity.FAILED, "have changed since it was certified"),
            (2, {"safe": False, "checks": (("late-action", "failed"),)}, Severity.FAILED, "found unsafe (late-action)"),
        ):
            fields = {name: getattr(good, name) for name in Certificate.__slots__} | changes
            await certificates.insert_certificate(Certificate(**{**fields, "at": good.at + timedelta(days=days)}))
            found = await told()
            assert found.severity is severity
            assert words in found.text
        assert found.advice == f"mend it, and {command}"
    # What the participant offered when the definition was applied counts while it is away.
    away = said(await look(etcd, migrated), Area.PARTICIPANTS, Severity.FAILED)
    assert "cannot be reached" in away
    assert "found unsafe (late-action)" in away


async def test_a_definition_that_runs_another_one_fits_its_participants(
    etcd: EtcdCluster, migrated: str, pool: Pool
) -> None:
    registry = Registry(PostgresDefinitions(pool), describe)
    async with participant() as port:
        step = f"{{name: one, service: '127.0.0.1:{port}', {_METHODS}}}"
        await registry.apply(f"name: child\nsteps:\n  - {step}\n")
        await registry.apply("name: parent\nsteps:\n  - {name: run, saga: {definition: child, input: {}}}\n")
        fitting = said(await look(etcd, migrated), Area.PARTICIPANTS, Severity.OK)
    assert "child: version 1 fits" in fitting
    assert "parent: version 1 fits" in fitting


async def test_participants_are_asked_over_tls_as_a_replica_would(
    etcd: EtcdCluster, migrated: str, pool: Pool, tmp_path: Path
) -> None:
    authority, launcher = Authority(tmp_path / "tls"), Launcher(tmp_path)
    echo, replica = authority.issue("echo"), authority.issue("replica")
    access = tmp_path / "access.yaml"
    access.write_text("callers: [{name: replicas, certificate: replica, roles: [replica]}]")
    try:
        process, port = launcher.start(
            "echo",
            tls_cert_file=str(echo.cert_file),
            tls_key_file=str(echo.key_file),
            tls_ca_file=str(authority.ca_file),
            tls_callers="replica",
        )
        process.wait_until(lambda: "participant serves" in process.log_path.read_text(), "does not serve", START_MAX_S)
        files = FileDescriptorSet()
        echo_pb2.DESCRIPTOR.CopyToProto(files.file.add())
        text = strict(port).replace("certified: required\n", "")
        await Registry(PostgresDefinitions(pool), describe).apply(text, files.SerializeToString())
        tls = {"tls_cert_file": replica.cert_file, "tls_key_file": replica.key_file, "tls_ca_file": authority.ca_file}
        found = await look(etcd, migrated, **tls, access_file=access)
        assert "strict: version 1 fits" in said(found, Area.PARTICIPANTS, Severity.OK)
        assert "the certificate is good until" in said(found, Area.SETTINGS, Severity.OK)
        assert "cannot be reached" in said(await look(etcd, migrated), Area.PARTICIPANTS, Severity.FAILED)
        broken = await look(etcd, migrated, **{**tls, "tls_key_file": access}, access_file=access)
        assert "access.yaml" in said(broken, Area.SETTINGS, Severity.FAILED)
    finally:
        launcher.close()


def test_a_certificate_that_has_ended_or_will_soon_is_named() -> None:
    day_s = 86_400.0
    assert judge_end(0.0, 1e9) == []
    for left_s, severity in ((-1.0, Severity.FAILED), (2 * day_s, Severity.WARNING), (30 * day_s, Severity.OK)):
        (found,) = judge_end(1e9 + left_s, 1e9)
        assert found.severity is severity
        assert bool(found.advice) == (severity is not Severity.OK)
