"""A few connections to Postgres that many readers share; a lost one is replaced as soon as Postgres is back.

psycopg's own pool reconnects at growing intervals, up to minutes, and its waits for a server that is frozen outlast
their timeouts. Here every wait ends with the timeout, and the first reader after an outage makes the connection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import psycopg

from orchestrator.errors import LogUnavailable, Overloaded
from orchestrator.failpoints import effects
from orchestrator.sagalog.connection import connect, execute
from orchestrator.sagalog.queries import Statement
from orchestrator.sagalog.term import REFUSED_VALUES
from orchestrator.telemetry import Metrics

WAITING_MAX = 2_000
_RECONNECT_S = 0.05

# What Postgres says to a statement, or to an expression in its values, that it cannot run.
REFUSED_STATEMENTS = (
    *REFUSED_VALUES,
    psycopg.errors.SyntaxError,
    psycopg.errors.UndefinedObject,
    psycopg.NotSupportedError,
)

# Filters that are not asked for are parameters that are null: only plans made for the values see that. What is read in
# an order has an index in that order; a bitmap has none, and a plan that trusts old statistics would sort all of it.
PLANS = "SET plan_cache_mode = force_custom_plan; SET enable_bitmapscan = off"

Row = tuple[Any, ...]


class Pool:
    """At most `size` connections in autocommit, made when needed. `timeout_s` bounds each call, waits included.

    With `statement_timeout_s` Postgres itself ends a statement that takes so long: QueryCanceled is raised then.
    """

    def __init__(
        self,
        dsn: str,
        application: str,
        size: int,
        timeout_s: float,
        metrics: Metrics,
        statement_timeout_s: float | None = None,
    ) -> None:
        self._dsn = dsn
        self._application = application
        self._timeout_s = timeout_s
        self._metrics = metrics
        self._set_up = PLANS
        # What is raised as it comes: it says something of the statement, not of the server.
        self._raised: tuple[type[psycopg.Error], ...] = REFUSED_STATEMENTS
        if statement_timeout_s is not None:
            self._set_up += f"; SET statement_timeout = {max(1, int(statement_timeout_s * 1000))}"
            self._raised += (psycopg.errors.QueryCanceled,)
        self._idle: list[psycopg.AsyncConnection] = []
        self._slots = asyncio.Semaphore(size)
        self._waiting = 0
        self._closed = False

    async def fetch(self, statement: Statement, parameters: Mapping[str, Any] | None = None) -> list[Row]:
        """The rows of one statement, which must be fit to be repeated: it is, when its connection was lost.

        Raises LogUnavailable, Overloaded when too many wait for a connection, and psycopg's error for a value that
        Postgres refuses.
        """
        give_up_at_s = time.monotonic() + self._timeout_s
        await self._take_slot()
        try:
            while True:
                try:
                    return await self._try(statement, parameters, give_up_at_s - time.monotonic())
                except self._raised:
                    raise
                except (LogUnavailable, psycopg.Error) as error:
                    if time.monotonic() + _RECONNECT_S >= give_up_at_s or not _passing(error):
                        reason = str(error).strip() or "no answer"
                        raise LogUnavailable(f"cannot read the saga log: {reason}") from error
                    await asyncio.sleep(_RECONNECT_S)
        finally:
            self._slots.release()

    async def close(self) -> None:
        """Drop the connections that nobody uses; the others are dropped when their statements end."""
        self._closed = True
        while self._idle:
            await self._idle.pop().close()
            self._count(-1)

    async def _take_slot(self) -> None:
        if self._waiting >= WAITING_MAX:
            raise Overloaded(f"{self._waiting} reads wait for Postgres on this replica already")
        self._waiting += 1
        self._metrics.pool_waiting.inc()
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._slots.acquire()
        except TimeoutError:
            raise LogUnavailable(f"no connection to Postgres was free within {self._timeout_s:g} s") from None
        finally:
            self._waiting -= 1
            self._metrics.pool_waiting.dec()

    async def _try(self, statement: Statement, parameters: Mapping[str, Any] | None, timeout_s: float) -> list[Row]:
        connection = self._idle.pop() if self._idle else await self._connect(timeout_s)
        try:
            cursor = await execute(connection, statement, timeout_s, parameters)
            return await cursor.fetchall()
        except BaseException as error:
            if not isinstance(error, psycopg.Error) or _passing(error):
                await connection.close()
            raise
        finally:
            if self._closed:
                await connection.close()
            if connection.closed:
                self._count(-1)
            else:
                self._idle.append(connection)

    async def _connect(self, timeout_s: float) -> psycopg.AsyncConnection:
        connection = await connect(self._dsn, self._application, max(timeout_s, _RECONNECT_S))
        self._count(1)
        try:
            await execute(connection, Statement(effects.SET_UP, self._set_up.encode()), self._timeout_s)
        except BaseException:
            await connection.close()
            self._count(-1)
            raise
        return connection

    def _count(self, change: int) -> None:
        self._metrics.pool_size.inc(change)


def _passing(error: BaseException) -> bool:
    """Whether it can be better on another connection, a moment later."""
    return isinstance(
        error,
        LogUnavailable | psycopg.OperationalError | psycopg.InterfaceError | psycopg.errors.ReadOnlySqlTransaction,
    )
