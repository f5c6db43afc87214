"""Asks Postgres what judge_postgres.py judges, and what of the saga log the other looks need."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from orchestrator.config import Settings
from orchestrator.doctor.finding import Area, Finding, failed, ok
from orchestrator.doctor.judge_postgres import (
    Room,
    Schema,
    Server,
    judge_room,
    judge_schema,
    judge_server,
    judge_standbys,
)
from orchestrator.sagalog.connection import sever
from orchestrator.sagalog.hosts import connect_to_any, hosts_of
from orchestrator.sagalog.migrate import migrations

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)
_REPLICAS = 3

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class PostgresLook:
    """What was found; `fence` is the epoch and its holder, None before the first term or without an answer."""

    findings: list[Finding] = field(default_factory=list)
    fence: tuple[int, str] | None = None


async def ask_postgres(settings: Settings, timeout_s: float) -> PostgresLook:
    """Look at Postgres. Each statement takes `timeout_s` at the most."""
    findings: list[Finding] = []
    fence = None
    try:
        connection = await _connect(settings.dsn, timeout_s)
    except (psycopg.Error, OSError) as error:
        text = f"no connection: {_said(error)}"
        advice = "start Postgres, or mend BATON_DSN: the host, the port, the database, the role, its password"
        return PostgresLook([failed(Area.POSTGRES, text, advice)])
    try:
        fence = await _look(_Session(connection, timeout_s), settings, findings)
    except psycopg.Error as error:
        text = f"a question was not answered: {_said(error)}"
        findings.append(failed(Area.POSTGRES, text, "see Postgres' log; ask again"))
    finally:
        await connection.close()
    return PostgresLook(findings, fence)


async def _connect(dsn: str, timeout_s: float) -> psycopg.AsyncConnection:
    """To the host that takes writes; if there is none, to any that answers, so that it can be said why."""
    wanted = make_conninfo(dsn, application_name="baton-doctor", connect_timeout=max(2, int(timeout_s)))

    async def connect(host: str) -> psycopg.AsyncConnection:
        return await psycopg.AsyncConnection.connect(host, autocommit=True)

    try:
        return await connect_to_any(hosts_of(make_conninfo(wanted, target_session_attrs="read-write")), connect)
    except psycopg.OperationalError:
        return await connect_to_any(hosts_of(make_conninfo(wanted, target_session_attrs="any")), connect)


class _Session:
    """A connection on which no statement takes longer than `timeout_s`: the next one then fails, too."""

    def __init__(self, connection: psycopg.AsyncConnection, timeout_s: float) -> None:
        self._connection = connection
        self.timeout_s = timeout_s

    async def rows(self, name: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """What a query of doctor.sql finds. Raises psycopg.Error."""
        # Postgres' own timeouts do not end a commit that waits for a standby.
        timer = asyncio.get_running_loop().call_later(self.timeout_s, sever, self._connection)
        try:
            cursor = await self._connection.execute(_queries()[name], parameters)
            return await cursor.fetchall()
        finally:
            timer.cancel()


async def _look(session: _Session, settings: Settings, findings: list[Finding]) -> tuple[int, str] | None:
    """Add to the findings; returns the fence."""
    server = await _server(session)
    findings += judge_server(server)
    (standbys,) = await session.rows("standbys")
    findings += judge_standbys(server, *standbys)
    (room,) = await session.rows("room")
    findings += judge_room(Room(*room), _REPLICAS, settings.log_pool_max)
    ((has_migrations, may_create, may_use),) = await session.rows("schema")
    applied = await _applied(session) if has_migrations and may_use else ()
    rights = tuple(str(row[0]) for row in await session.rows("rights"))
    ((may_emit,),) = await session.rows("functions")
    ships = tuple(migration.number for migration in migrations())
    findings += judge_schema(Schema(applied, ships, may_create, may_use, rights, may_emit))
    fences = await session.rows("fence", {"shard": settings.shard}) if applied and not rights else []
    if not (server.in_recovery or server.read_only) and may_emit:
        findings.append(await _write(session))
    return (int(fences[0][0]), str(fences[0][1])) if fences else None


async def _server(session: _Session) -> Server:
    # Once before: the first statement of a connection takes longer.
    await session.rows("server")
    began_s = time.monotonic()
    asked_at_s = time.time()
    (row,) = await session.rows("server")
    round_trip_s = time.monotonic() - began_s
    version, recovery, read_only, user, database, now_s, *durability = row
    skew_s = now_s - (asked_at_s + round_trip_s / 2)
    return Server(version, recovery, read_only, user, database, skew_s, round_trip_s, *durability)


async def _applied(session: _Session) -> tuple[int, ...]:
    """None where the role may not read them; the missing right is a finding of its own."""
    try:
        return tuple(row[0] for row in await session.rows("migrations"))
    except psycopg.errors.InsufficientPrivilege:
        return ()


async def _write(session: _Session) -> Finding:
    """The last question: a commit that hangs takes the connection with it."""
    began_s = time.monotonic()
    try:
        await session.rows("write")
    except psycopg.Error as error:
        if time.monotonic() - began_s >= session.timeout_s:
            text = f"a commit takes longer than {session.timeout_s:g} s"
            return failed(Area.POSTGRES, text, "look at Postgres' disk, its load, and its synchronous standbys")
        advice = "make room on the disk" if isinstance(error, psycopg.errors.DiskFull) else "see Postgres' log"
        return failed(Area.POSTGRES, f"a write failed: {_said(error)}", advice)
    return ok(Area.POSTGRES, f"a commit takes {(time.monotonic() - began_s) * 1000:.1f} ms")


@cache
def _queries() -> dict[str, bytes]:
    text = (files(__package__) / "doctor.sql").read_text(encoding="utf-8")
    _, *parts = _NAME.split(text)
    return {name: _without_comments(body.splitlines()) for name, body in zip(parts[::2], parts[1::2], strict=True)}


def _without_comments(lines: Iterable[str]) -> bytes:
    return "\n".join(line for line in lines if not line.startswith("--")).strip().rstrip(";").encode()


def _said(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
