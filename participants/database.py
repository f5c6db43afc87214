"""The Postgres of one participant: its pool of connections, its schema and its migrations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.resources.abc import Traversable
from typing import Any

import psycopg
import structlog
from psycopg import AsyncConnection, sql
from psycopg_pool import AsyncConnectionPool

from participants.settings import ParticipantSettings

Connection = AsyncConnection[tuple[object, ...]]

log = structlog.get_logger()

# Any number does, as long as all participants use the same one: with the schema's hash it names the migrations' lock.
_ADVISORY_LOCK = 0x73616761

# A server that is gone without a word is noticed after about ten seconds; a connect takes no longer than five.
_LIBPQ: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    # Where the DSN names several hosts: the one that takes writes.
    "target_session_attrs": "read-write",
}
_RETRY_S = 1.0
_HEAL_MAX_S = 2.0


class Database:
    """Connections whose search path is the service's own schema, in autocommit: transactions are begun by hand."""

    def __init__(self, settings: ParticipantSettings, schema: str) -> None:
        self.schema = schema
        self._dsn = settings.dsn
        self._lock_wait_max_ms = round(settings.lock_wait_max_s * 1000)
        self._healing = asyncio.Lock()
        self._pool = AsyncConnectionPool(
            settings.dsn,
            kwargs={"autocommit": True, "application_name": f"participant-{schema}", **_LIBPQ},
            min_size=min(2, settings.pool_max),
            max_size=settings.pool_max,
            timeout=settings.pool_wait_max_s,
            # A pool that cannot connect tries again for ever: the server may be away for long.
            reconnect_timeout=float("inf"),
            configure=self._configure,
            open=False,
        )

    async def open(self, migrations: Sequence[Traversable]) -> None:
        """Wait until Postgres is there, bring the schema up to date, and open the pool."""
        while True:
            try:
                await migrate(self._dsn, self.schema, migrations)
                break
            except psycopg.OperationalError as error:
                log.warning("postgres is away, waiting", schema=self.schema, error=" ".join(str(error).split()))
                await asyncio.sleep(_RETRY_S)
        await self._pool.open()

    async def close(self) -> None:
        """Close all connections."""
        await self._pool.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection of the pool; what is not committed at the end is rolled back.

        Raises psycopg_pool.PoolTimeout when none is free in time, and psycopg.Error as it comes.
        """
        async with self._pool.connection() as connection:
            try:
                yield connection
            finally:
                # The pool would commit what is open; a participant commits by its own statement or not at all.
                if not connection.closed and connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                    await connection.rollback()
                if connection.broken:
                    await self._heal()
                elif _read_only(connection):
                    # Another server takes the writes now: every connection of the pool leads to the wrong one.
                    await connection.close()
                    await self._pool.drain()

    async def _heal(self) -> None:
        """Replace the other connections that died with this one, so that no retry has to meet them one by one."""
        if not self._healing.locked():
            async with self._healing, asyncio.timeout(_HEAL_MAX_S):
                await self._pool.check()

    async def _configure(self, connection: Connection) -> None:
        path = sql.SQL("SET search_path TO {}").format(sql.Identifier(self.schema))
        await connection.execute(path)
        await connection.execute(sql.SQL("SET lock_timeout TO {}").format(sql.Literal(self._lock_wait_max_ms)))
        if _read_only(connection):
            # It took writes when it was chosen: what was drained meanwhile did not have this connection yet.
            await connection.close()
            raise psycopg.OperationalError("the server has just turned read-only")


def _read_only(connection: Connection) -> bool:
    """Whether the server has said, at the latest with its last answer, that it takes no writes (Postgres 14)."""
    return not connection.closed and connection.pgconn.parameter_status(b"default_transaction_read_only") == b"on"


async def migrate(dsn: str, schema: str, folders: Sequence[Traversable]) -> list[str]:
    """Run the numbered .sql files of `folders` that `schema` has not seen, in one transaction; return their names.

    Safe when several processes start at once: a second one waits and finds nothing to do. Raises psycopg.Error.
    """
    async with await AsyncConnection.connect(
        dsn, application_name=f"participant-{schema}-migrate", **_LIBPQ
    ) as connection:
        await connection.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", [_ADVISORY_LOCK, schema])
        await connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
        await connection.execute(sql.SQL("SET LOCAL search_path TO {}").format(sql.Identifier(schema)))
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS migration ("
            "name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
        )
        cursor = await connection.execute("SELECT name FROM migration")
        applied = {name for (name,) in await cursor.fetchall()}
        ran = []
        for folder in folders:
            for file in sorted(folder.iterdir(), key=lambda file: file.name):
                name = f"{folder.name}/{file.name.removesuffix('.sql')}"
                if file.name.endswith(".sql") and name not in applied:
                    await connection.execute(file.read_text(encoding="utf-8").encode())
                    await connection.execute("INSERT INTO migration (name) VALUES (%s)", [name])
                    ran.append(name)
        return ran
