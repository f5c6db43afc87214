"""Connections to Postgres that cannot hang: every wait has an end, and the end comes at once.

psycopg answers a cancelled or timed-out query by asking the server to cancel it, and waits for seconds for the
answer. A server that is frozen gives none, and a leader that must stop cannot wait. So a statement that lasts too
long, or whose task is cancelled, has its socket shut down: psycopg then sees a lost connection, immediately.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg

from orchestrator.errors import LogUnavailable

Cursor = psycopg.AsyncCursor[tuple[Any, ...]]


async def execute(
    connection: psycopg.AsyncConnection,
    statement: str,
    timeout_s: float,
    parameters: Mapping[str, Any] | Sequence[Any] | None = None,
) -> Cursor:
    """Run one statement; its rows are in memory when this returns.

    Raises psycopg.Error; an OperationalError after `timeout_s` seconds. The connection is lost then, and also when
    the caller is cancelled.
    """
    running = asyncio.ensure_future(connection.execute(statement.encode(), parameters))
    timer = asyncio.get_running_loop().call_later(timeout_s, sever, connection)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        sever(connection)
        await asyncio.gather(running, return_exceptions=True)
        raise
    finally:
        timer.cancel()


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
    """Open a connection to a Postgres that takes writes, in autocommit. Raises LogUnavailable after `timeout_s`.

    A peer that vanishes is noticed by keepalives and by unacknowledged data; the server ends a statement, and a
    transaction left open, by itself.
    """
    timeout_ms = int(timeout_s * 1000)
    try:
        async with asyncio.timeout(timeout_s):
            connection = await psycopg.AsyncConnection.connect(
                dsn,
                autocommit=True,
                application_name=application[:63],
                connect_timeout=max(2, int(timeout_s)),
                target_session_attrs="read-write",
                keepalives_idle=2,
                keepalives_interval=1,
                keepalives_count=3,
                tcp_user_timeout=timeout_ms,
                options=f"-c statement_timeout={timeout_ms} -c idle_in_transaction_session_timeout={timeout_ms}",
            )
            if connection.info.server_version >= 170000:
                await connection.execute(f"SET transaction_timeout = {timeout_ms}".encode())
    except (TimeoutError, psycopg.Error, OSError) as error:
        reason = str(error).strip() or f"no answer within {timeout_s} s"
        raise LogUnavailable(f"cannot connect to Postgres: {reason}") from error
    return connection
