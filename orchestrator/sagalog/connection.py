"""Connections to Postgres that cannot hang: every wait has an end, and the end comes at once.

psycopg answers a cancelled or timed-out query by asking the server to cancel it, and waits for seconds for the
answer. A server that is frozen gives none, and a leader that must stop cannot wait. So a statement that lasts too
long, or whose task is cancelled, has its socket shut down: psycopg then sees a lost connection, immediately.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Mapping, Sequence
from functools import partial
from typing import Any

import orjson
import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.types.json import set_json_loads

from orchestrator.errors import LogUnavailable
from orchestrator.failpoints import effects
from orchestrator.failpoints.armed import ARMED, strike
from orchestrator.sagalog.hosts import connect_to_any, hosts_of
from orchestrator.sagalog.level import LEVEL_OPTION
from orchestrator.sagalog.queries import Statement

Cursor = psycopg.AsyncCursor[tuple[Any, ...]]


async def execute(
    connection: psycopg.AsyncConnection,
    statement: Statement,
    timeout_s: float,
    parameters: Mapping[str, Any] | Sequence[Any] | None = None,
) -> Cursor:
    """Run one statement; its rows are in memory when this returns.

    Raises psycopg.Error: an OperationalError after `timeout_s` seconds, and ReadOnlySqlTransaction when the server
    takes no writes any more, also for a statement that only reads. The connection is lost after the former, and also
    when the caller is cancelled.
    """
    if ARMED:
        await strike(statement.effect.before)
    running = asyncio.ensure_future(_run(connection, statement, parameters))
    timer = asyncio.get_running_loop().call_later(timeout_s, sever, connection)
    try:
        cursor = await asyncio.shield(running)
    except asyncio.CancelledError:
        sever(connection)
        await asyncio.gather(running, return_exceptions=True)
        raise
    finally:
        timer.cancel()
    if ARMED:
        await strike(statement.effect.after)
    if _read_only(connection):
        # Another server takes the writes now, or will soon: what this one says grows old without anybody noticing.
        raise psycopg.errors.ReadOnlySqlTransaction("the server has turned read-only: another one has the saga log")
    return cursor


def _read_only(connection: psycopg.AsyncConnection) -> bool:
    """Whether the server has said, at the latest with its last answer, that it takes no writes (Postgres 14)."""
    said = connection.pgconn.parameter_status
    return b"on" in (said(b"default_transaction_read_only"), said(b"in_hot_standby"))


def _run(
    connection: psycopg.AsyncConnection, statement: Statement, parameters: Mapping[str, Any] | Sequence[Any] | None
) -> Awaitable[Cursor]:
    if ARMED and statement.effect.inside in ARMED:
        return _run_in_halves(connection, statement, parameters)
    return connection.execute(statement.text, parameters)


async def _run_in_halves(
    connection: psycopg.AsyncConnection, statement: Statement, parameters: Mapping[str, Any] | Sequence[Any] | None
) -> Cursor:
    """Have the statement executed, pass its failpoint `inside`, and only then send the message that commits it."""
    async with connection.pipeline():
        cursor = await connection.execute(statement.text, parameters)
        # The first fetch waits for the answer: what was sent is flushed by it, and not yet committed.
        if await cursor.fetchone() is not None:
            await cursor.scroll(0, mode="absolute")
        await strike(statement.effect.inside)
    return cursor


def sever(connection: psycopg.AsyncConnection) -> None:
    """Shut the connection's socket down, so that whoever waits for the server stops waiting."""
    if not connection.closed:
        with socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
            # The peer may have closed it first.
            try:
                duplicate.shutdown(socket.SHUT_RDWR)
            except OSError:
                return


async def connect(dsn: str, application: str, timeout_s: float) -> psycopg.AsyncConnection:
    """Open a connection to a Postgres that takes writes, in autocommit: to the first such host of `dsn`.

    A peer that vanishes is noticed by keepalives and by unacknowledged data; the server ends a statement, and a
    transaction left open, by itself. Raises LogUnavailable after `timeout_s` seconds, or when every host refuses.
    """
    try:
        async with asyncio.timeout(timeout_s):
            hosts = hosts_of(_conninfo(dsn, application, timeout_s))
            return await connect_to_any(hosts, partial(_connect_to, timeout_s))
    except (TimeoutError, psycopg.Error, OSError) as error:
        reason = str(error).strip() or f"no answer within {timeout_s} s"
        raise LogUnavailable(f"cannot connect to Postgres: {reason}") from error


async def _connect_to(timeout_s: float, host: str) -> psycopg.AsyncConnection:
    if ARMED:
        await strike(effects.CONNECT.before)
    connection = await psycopg.AsyncConnection.connect(host, autocommit=True)
    try:
        # What is read must be fit to be written again: Postgres spells 1e23 as an integer, which orjson cannot write.
        set_json_loads(_json, connection)
        if connection.info.server_version >= 170000:
            await connection.execute(f"SET transaction_timeout = {int(timeout_s * 1000)}".encode())
        if ARMED:
            await strike(effects.CONNECT.after)
    except BaseException:
        sever(connection)
        await connection.close()
        raise
    return connection


def _json(text: str | bytes) -> Any:
    """A value of the log. What no double holds, and Baton never writes, must not keep anybody from reading the rest."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)


def _conninfo(dsn: str, application: str, timeout_s: float) -> str:
    timeout_ms = int(timeout_s * 1000)
    limits = f"-c statement_timeout={timeout_ms} -c idle_in_transaction_session_timeout={timeout_ms}"
    return make_conninfo(
        dsn,
        application_name=application[:63],
        connect_timeout=max(2, int(timeout_s)),
        target_session_attrs="read-write",
        keepalives_idle=2,
        keepalives_interval=1,
        keepalives_count=3,
        tcp_user_timeout=timeout_ms,
        options=f"{limits} {LEVEL_OPTION}",
    )
