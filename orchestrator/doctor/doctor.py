"""Looks at everything at once, and gives all findings in order."""

from __future__ import annotations

import asyncio
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from orchestrator.config import Settings
from orchestrator.doctor.ask_etcd import EtcdLook, ask_etcd
from orchestrator.doctor.ask_files import open_files
from orchestrator.doctor.ask_others import ask_participants, ask_replicas
from orchestrator.doctor.ask_postgres import PostgresLook, ask_postgres
from orchestrator.doctor.finding import Area, Finding, failed, ok
from orchestrator.doctor.judge_settings import judge_settings
from orchestrator.sagalog.certificates import PostgresCertificates
from orchestrator.sagalog.definitions import PostgresDefinitions
from orchestrator.sagalog.pool import Pool
from orchestrator.security.assemble import Security
from orchestrator.telemetry import Metrics

_PYTHON_MIN = (3, 11)
_NEEDED = ("grpcio", "protobuf", "psycopg", "uvloop", "orjson")
_CONNECTIONS = 4


async def examine(settings: Settings, timeout_s: float) -> list[Finding]:
    """All findings, area by area. Each question to another process takes `timeout_s` at the most."""
    async with asyncio.TaskGroup() as group:
        postgres = group.create_task(ask_postgres(settings, timeout_s))
        etcd = group.create_task(ask_etcd(settings, timeout_s))
    security, file_findings = open_files(settings)
    return sorted(
        [
            *judge_versions(),
            *judge_settings(settings),
            *postgres.result().findings,
            *etcd.result().findings,
            *file_findings,
            *await _others(settings, security, postgres.result(), etcd.result(), timeout_s),
        ],
        key=lambda finding: list(Area).index(finding.area),
    )


def judge_versions() -> list[Finding]:
    """The versions of what runs here."""
    python = platform.python_version()
    if sys.version_info < _PYTHON_MIN:
        return [failed(Area.VERSIONS, f"Python {python} is too old", "run Baton with Python 3.11 or newer")]
    found = [ok(Area.VERSIONS, f"Baton {version('baton')} on Python {python}")]
    for name in _NEEDED:
        try:
            version(name)
        except PackageNotFoundError:
            text = f"the package {name} is not installed"
            found.append(failed(Area.VERSIONS, text, "install Baton with its dependencies: `pip install baton`"))
    return found


async def _others(
    settings: Settings, security: Security | None, postgres: PostgresLook, etcd: EtcdLook, timeout_s: float
) -> list[Finding]:
    pool = Pool(settings.dsn, "baton-doctor", _CONNECTIONS, timeout_s, Metrics(settings.cluster, settings.replica))
    try:
        async with asyncio.TaskGroup() as group:
            replicas = group.create_task(ask_replicas(etcd, version("baton"), postgres.fence, timeout_s))
            participants = group.create_task(_participants(pool, security))
        return [*replicas.result(), *participants.result()]
    finally:
        await pool.close()


async def _participants(pool: Pool, security: Security | None) -> list[Finding]:
    """Without the files by which a replica reaches participants nothing can be asked of them."""
    if security is None:
        return []
    return await ask_participants(PostgresDefinitions(pool), PostgresCertificates(pool), security.participants)
