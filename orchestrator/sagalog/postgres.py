"""The saga log in Postgres: where a term begins, with the raise of the epoch."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass

import psycopg
import structlog

from orchestrator.errors import Fenced, InvariantError, LogUnavailable, Resign
from orchestrator.failpoints import effects
from orchestrator.saga.model import Epoch
from orchestrator.sagalog.connection import connect, execute
from orchestrator.sagalog.port import Claim
from orchestrator.sagalog.queries import Statement, load
from orchestrator.sagalog.rehearsal import rehearse
from orchestrator.sagalog.term import CHECK, PostgresTermLog, TermSettings
from orchestrator.telemetry import Metrics

_SQL = load("term.sql")
_RAISE_TRIES = 20

# A replica that may not lead until it is replaced leaves the campaign to the others for so long.
_OUTDATED_COOLDOWN_S = 30.0

_NAME = Statement(effects.NAME, b"SELECT set_config('application_name', %s, false)")

# The writer's one statement always works by primary key on few rows. Plans made while the tables were empty would
# scan them for ever: on this connection alone, the planner is told what is good.
_WRITER_PLANS = (
    "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_hashjoin = off; "
    "SET enable_mergejoin = off; SET enable_bitmapscan = off; SET jit = off"
)

# What a term looks for has an index that holds nothing else. A plan that is kept for all parameters trusts statistics
# that know nothing of how sagas wait together, and may walk the primary key past every saga that waits or has finished.
READER_PLANS = (
    "SET plan_cache_mode = force_custom_plan; SET enable_seqscan = off; SET enable_bitmapscan = off; SET jit = off"
)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How to reach Postgres, and how long to wait for it. Times are in seconds."""

    dsn: str
    replica: str
    shard: int
    timeout_s: float
    fence_wait_max_s: float
    absence_max_s: float
    batch_max: int


@dataclass(slots=True)
class _Prepared:
    """Two connections that a standby keeps open, so that a takeover does not pay for making them."""

    writer: psycopg.AsyncConnection
    reader: psycopg.AsyncConnection


class PostgresSagaLog:
    """Implements `SagaLog`. Autocommit and single statements only: a replica that stops holds no transaction (R11)."""

    def __init__(self, settings: LogSettings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._prepared: _Prepared | None = None
        self._preparing = asyncio.Lock()

    async def reachable(self) -> bool:
        """Whether Postgres answers, and takes writes, now. Leaves connections open for the next raise."""
        try:
            await self._prepare()
        except LogUnavailable as error:
            log.warning("postgres_unreachable", error=str(error))
            return False
        return True

    async def raise_epoch(self, claim: Claim) -> PostgresTermLog | None:
        """Raise the epoch; see `SagaLog.raise_epoch`."""
        return await self._raise(claim, None)

    async def raise_epoch_again(self, claim: Claim) -> PostgresTermLog:
        """Raise the epoch by compare-and-swap on the one that is there; see `SagaLog.raise_epoch_again`."""
        await self._prepare()
        row = await self._claim_row("fence_epoch", {"shard": claim.shard})
        if row is None:
            raise InvariantError("the fence refused a raise, yet it has no row")
        term = await self._raise(claim, row[0])
        if term is None:
            raise Fenced(f"another replica raised the epoch of shard {claim.shard} meanwhile")
        return term

    async def close(self) -> None:
        """Drop the connections that wait for a raise."""
        if self._prepared is not None:
            await self._prepared.writer.close()
            await self._prepared.reader.close()
            self._prepared = None

    async def _raise(self, claim: Claim, seen: int | None) -> PostgresTermLog | None:
        parameters = {
            "shard": claim.shard,
            "holder": claim.holder,
            "etcd_cluster": claim.etcd_cluster,
            "revision": claim.revision,
            "cause": claim.cause,
            "seen": seen,
        }
        for _ in range(_RAISE_TRIES):
            await self._prepare()
            try:
                row = await self._claim_row("raise_epoch" if seen is None else "raise_epoch_again", parameters)
            except psycopg.errors.LockNotAvailable:
                await self._disconnect_older_terms()
                continue
            except psycopg.errors.ReadOnlySqlTransaction:
                # Postgres has failed over since the connection was checked: the new primary is a connect away.
                await self.close()
                continue
            return None if row is None else await self._begin(Epoch(row[0]))
        raise LogUnavailable("the fence row stays locked although the writers of older epochs were disconnected")

    async def _begin(self, epoch: Epoch) -> PostgresTermLog:
        prepared, self._prepared = self._prepared, None
        if prepared is None:
            raise InvariantError("the epoch was raised without a connection")
        settings = self._settings
        name = writer_application(settings.shard, settings.replica)
        try:
            await execute(prepared.writer, _NAME, settings.timeout_s, [name])
        except psycopg.Error as error:
            raise LogUnavailable(f"Postgres failed right after the raise to epoch {epoch}: {error}") from error
        term = TermSettings(settings.shard, settings.batch_max, settings.timeout_s, settings.absence_max_s)
        return PostgresTermLog(
            epoch, term, prepared.writer, prepared.reader, self._connect_term, self._connect_reader, self._metrics
        )

    async def _claim_row(self, query: str, parameters: dict[str, object]) -> tuple[int] | None:
        """Run a statement of the claim on the prepared writer.

        Raises LockNotAvailable, ReadOnlySqlTransaction, LogUnavailable; Resign when a later release has led.
        """
        if self._prepared is None:
            raise InvariantError("no connection is prepared")
        try:
            cursor = await execute(self._prepared.writer, _SQL[query], self._settings.timeout_s, parameters)
            return await cursor.fetchone()
        except (psycopg.errors.LockNotAvailable, psycopg.errors.ReadOnlySqlTransaction):
            raise
        except psycopg.errors.ObjectNotInPrerequisiteState as error:
            raise Resign(str(error).strip(), _OUTDATED_COOLDOWN_S) from error
        except psycopg.Error as error:
            await self.close()
            raise LogUnavailable(f"cannot raise the epoch: {str(error).strip()}") from error

    async def _disconnect_older_terms(self) -> None:
        """End the backends of older writers: one of them has stopped while it holds the fence row (R11)."""
        log.warning("fence_row_held", shard=self._settings.shard, reaction="disconnecting writers of older epochs")
        if self._prepared is None:
            raise InvariantError("no connection is prepared")
        settings = self._settings
        parameters = {
            "writers": writer_application(settings.shard, "%"),
            "standbys": _standby_application(settings.shard, "%"),
            "waited_s": settings.fence_wait_max_s,
        }
        try:
            await execute(self._prepared.reader, _SQL["disconnect_older_terms"], settings.timeout_s, parameters)
        except psycopg.Error as error:
            raise LogUnavailable(f"cannot disconnect the writers of older epochs: {error}") from error

    async def _prepare(self) -> None:
        """Open the connections, or check that they still work. Raises LogUnavailable."""
        async with self._preparing:
            if self._prepared is not None and await self._works(self._prepared):
                return
            await self.close()
            async with AsyncExitStack() as stack:
                writer = await self._connect_standby()
                stack.push_async_callback(writer.close)
                reader = await self._connect_reader()
                stack.push_async_callback(reader.close)
                try:
                    await rehearse(writer, reader, self._settings.timeout_s)
                except psycopg.Error as error:
                    raise LogUnavailable(f"Postgres failed at the rehearsal of a term: {error}") from error
                stack.pop_all()
                self._prepared = _Prepared(writer, reader)

    async def _works(self, prepared: _Prepared) -> bool:
        try:
            await execute(prepared.writer, CHECK, self._settings.timeout_s)
            await execute(prepared.reader, CHECK, self._settings.timeout_s)
        except psycopg.Error:
            return False
        return True

    async def _connect_standby(self) -> psycopg.AsyncConnection:
        """The connection that raises the epoch, and then writes under it."""
        return await self._connect_writer(_standby_application(self._settings.shard, self._settings.replica))

    async def _connect_term(self) -> psycopg.AsyncConnection:
        return await self._connect_writer(writer_application(self._settings.shard, self._settings.replica))

    async def _connect_writer(self, application: str) -> psycopg.AsyncConnection:
        return await self._connect(application, writer_set_up(self._settings.fence_wait_max_s))

    async def _connect_reader(self) -> psycopg.AsyncConnection:
        return await self._connect(
            f"baton-reader-{self._settings.shard}-{self._settings.replica}", READER_PLANS.encode()
        )

    async def _connect(self, application: str, set_up: bytes) -> psycopg.AsyncConnection:
        connection = await connect(self._settings.dsn, application, self._settings.timeout_s)
        try:
            await execute(connection, Statement(effects.SET_UP, set_up), self._settings.timeout_s)
        except psycopg.Error as error:
            await connection.close()
            raise LogUnavailable(f"Postgres failed right after the connect: {error}") from error
        connection.prepare_threshold = 0
        return connection


def writer_set_up(fence_wait_max_s: float) -> bytes:
    """How a connection that writes under the fence is set up: its plans, and how long it waits for locks."""
    return f"{_WRITER_PLANS}; SET lock_timeout = {max(1, int(fence_wait_max_s * 1000))}".encode()


def writer_application(shard: int, replica: str) -> str:
    """The application_name of a writer: a claimant finds the older writers of its shard by it."""
    return f"baton-term-{shard}-{replica}"


def _standby_application(shard: int, replica: str) -> str:
    """The application_name of the connection that raises the epoch, until it has."""
    return f"baton-standby-{shard}-{replica}"
