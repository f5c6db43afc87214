"""The saga log under one epoch: a single writer that commits together whatever came while it last committed.

A transition waits for at most one commit of others and then rides in the next, without any timer: with one saga
there is no delay, and with many the cost of a commit is shared (group commit; DeWitt et al., "Implementation
Techniques for Main Memory Database Systems", 1984).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid5

import orjson
import psycopg
import psycopg.types.json
import structlog
from psycopg.types.numeric import Int4, Int8

from orchestrator.errors import CorruptLog, Fenced, InvariantError, LogUnavailable, Resign
from orchestrator.failpoints import effects
from orchestrator.failpoints.armed import ARMED, strike
from orchestrator.saga.events import Event
from orchestrator.saga.model import Epoch, Saga, SagaId
from orchestrator.sagalog.connection import execute
from orchestrator.sagalog.port import Heard, NewChild, StoredSaga, child_request
from orchestrator.sagalog.queries import Statement, load
from orchestrator.sagalog.rows import append_parameters, heard_parameters
from orchestrator.sagalog.term_reader import Connect, TermReader
from orchestrator.telemetry import Metrics

_SQL = load("term.sql")
_RECONNECT_S = 0.1
_LISTEN_CHECK_S = 1.0

# Whether the connection works; that the server still takes writes, it says with every answer.
CHECK = Statement(effects.CHECK, b"SELECT 1")

# Whoever stores a saga or a request to cancel one notifies this channel with the payload "<shard>:<what>".
WORK_CHANNEL = "baton_work"

# What Postgres says to a value that it cannot store; everything else is the server's trouble, not the saga's.
REFUSED_VALUES = (psycopg.DataError, psycopg.errors.ProgramLimitExceeded, psycopg.errors.StatementTooComplex)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class TermSettings:
    """Bounds of one term's log. Times are in seconds."""

    shard: int
    batch_max: int
    timeout_s: float
    absence_max_s: float


@dataclass(slots=True)
class _Waiting:
    """One transition that waits for its commit."""

    saga: Saga
    events: Sequence[Event]
    heard: Sequence[Heard]
    done: asyncio.Future[None]


class PostgresTermLog(TermReader):
    """Implements `TermLog` on two connections: one that writes, one that reads."""

    def __init__(
        self,
        epoch: Epoch,
        settings: TermSettings,
        writer: psycopg.AsyncConnection,
        reader: psycopg.AsyncConnection,
        connect_writer: Connect,
        connect_reader: Connect,
        metrics: Metrics,
    ) -> None:
        super().__init__(scope(settings.shard, epoch), settings.timeout_s, reader, connect_reader)
        self._epoch = epoch
        self._settings = settings
        self._writer = writer
        self._connect_writer = connect_writer
        self._metrics = metrics
        self._waiting: deque[_Waiting] = deque()
        self._wake = asyncio.Event()
        self._writing = asyncio.Lock()
        self._last_committed: tuple[SagaId, int] | None = None
        self._proven_at_s = boottime_s()
        # What the clock of Postgres said, and when: in seconds since 1970, and since boot.
        self._clock_s = time.time()
        self._clock_read_at_s = self._proven_at_s

    @property
    def epoch(self) -> Epoch:
        """The epoch under which this log writes."""
        return self._epoch

    @property
    def proven_at_s(self) -> float:
        """When the epoch was last proven, in seconds of CLOCK_BOOTTIME: the time the proof was asked for."""
        return self._proven_at_s

    def now(self) -> datetime:
        """The time by the clock of Postgres, as the last answer told it. See `TermLog.now`."""
        return datetime.fromtimestamp(self._clock_s + boottime_s() - self._clock_read_at_s, UTC)

    async def append(self, saga: Saga, events: Sequence[Event], heard: Sequence[Heard] = ()) -> None:
        """Queue the transition for the next commit and return when it is durable. See `TermLog.append`."""
        waiting = _Waiting(saga, events, heard, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._wake.set()
        await waiting.done

    async def run(self) -> None:
        """Write until cancelled. Raises Fenced, or Resign when Postgres stays away too long."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                self._metrics.log_queue.set(len(self._waiting))
                count = min(len(self._waiting), self._settings.batch_max)
                batch = [self._waiting.popleft() for _ in range(count)]
                async with self._writing:
                    await self._commit(batch)
            self._metrics.log_queue.set(0)

    async def _commit(self, batch: list[_Waiting]) -> None:
        """Commit `batch` once, however often it takes; resolve what waits for it."""
        began_s = time.monotonic()
        try:
            parameters: dict[str, Any] = append_parameters([(w.saga, w.events, w.heard) for w in batch])
        except (TypeError, ValueError, OverflowError) as error:
            # A value that is no JSON, or no time.
            await self._set_apart(batch, error)
            return
        parameters |= self._scope
        try:
            await self._until_known("append", parameters, rows=len(parameters["log_saga"]))
        except (*REFUSED_VALUES, UnicodeError) as error:
            await self._set_apart(batch, error)
            return
        self._last_committed = next(((w.saga.id, w.events[-1].sequence) for w in batch if w.events), None)
        self._metrics.log_batch_rows.observe(len(batch))
        self._metrics.log_commit_s.observe(time.monotonic() - began_s)
        for waiting in batch:
            if not waiting.done.done():
                waiting.done.set_result(None)

    async def _set_apart(self, batch: list[_Waiting], error: Exception) -> None:
        """A value in `batch` cannot be stored: find the transition that it belongs to, so that no other suffers."""
        if len(batch) == 1:
            if not batch[0].done.done():
                batch[0].done.set_exception(CorruptLog(f"the row cannot be stored: {_refusal(error)}"))
            return
        for waiting in batch:
            await self._commit([waiting])

    async def _until_known(self, query: str, parameters: dict[str, Any], rows: int = 0) -> tuple[Any, ...]:
        """Run a write until its outcome is known, and return its row; what was committed unheard is left as it is.

        `rows` is how many rows it must add to the step log, unless a repetition finds them there.

        Raises Fenced; Resign after `absence_max_s` without Postgres; REFUSED_VALUES as they come.
        """
        away_since_s: float | None = None
        while True:
            sent_s = boottime_s()
            try:
                row = await self._execute(_SQL[query], parameters)
            except REFUSED_VALUES:
                raise
            except psycopg.Error as error:
                away_since_s = away_since_s or sent_s
                await self._reconnect(away_since_s, error)
                continue
            fences, logged, clock_s = row[:3]
            if fences != 1:
                self._metrics.fenced_writes.inc()
                raise Fenced(f"epoch {self._epoch} no longer holds the fence of shard {self._settings.shard}")
            if logged != rows and away_since_s is None:
                raise InvariantError(
                    f"{rows - logged} rows of epoch {self._epoch} were in the log before they were written"
                )
            self._proven_at_s = sent_s
            self._clock_s, self._clock_read_at_s = clock_s, boottime_s()
            return row

    async def _execute(self, statement: Statement, parameters: dict[str, Any]) -> tuple[Any, ...]:
        cursor = await execute(self._writer, statement, self._settings.timeout_s, parameters)
        row = await cursor.fetchone()
        if row is None:
            raise InvariantError("a statement that counts returned no row")
        return tuple(row)

    async def _reconnect(self, away_since_s: float, cause: Exception) -> None:
        self._metrics.log_retries.inc()
        log.warning("log_unavailable", epoch=self._epoch, error=str(cause).strip(), reaction="reconnecting")
        await self._writer.close()
        while True:
            away_s = boottime_s() - away_since_s
            if away_s >= self._settings.absence_max_s:
                raise Resign(f"Postgres has taken no write for {away_s:.1f} s: {cause}", cooldown_s=1.0)
            try:
                # An attempt that hangs must not outlast the patience: another replica may reach Postgres.
                async with asyncio.timeout(self._settings.absence_max_s - away_s):
                    self._writer = await self._connect_writer()
                    await self._find_last_committed()
                return
            except (LogUnavailable, psycopg.Error, TimeoutError) as error:
                cause = error if str(error) else cause
                await self._writer.close()
                await asyncio.sleep(_RECONNECT_S)

    async def _find_last_committed(self) -> None:
        """Make sure that what this term has committed is there; raises Resign if not.

        A standby that lags, and is promoted, has the log up to some moment: with the last row, all are there. Without
        it the log is behind what this leader knows, and only a term that begins with a scan knows what it says now.
        """
        if self._last_committed is None:
            return
        saga, sequence = self._last_committed
        timeout_s = self._settings.timeout_s
        cursor = await execute(self._writer, _SQL["acknowledged"], timeout_s, {"saga": saga, "sequence": sequence})
        if await cursor.fetchone() != (True,):
            log.error("log_went_back", epoch=self._epoch, saga=str(saga), sequence=sequence, reaction="a new term")
            raise Resign("Postgres has lost rows that it had committed: it went back in time", cooldown_s=0.0)

    async def prove(self) -> None:
        """Prove the epoch without writing. See `TermLog.prove`."""
        async with self._writing:
            await self._until_known("prove", self._scope)

    async def begin_child(self, parent: Saga, step: str, child: NewChild) -> None:
        """Begin the child saga of a step. See `TermLog.begin_child`."""
        parameters = {
            "parent": parent.id,
            "step": step,
            "request_id": child_request(parent.id, step),
            "id": child.id,
            "definition": child.definition,
            "version": child.version,
            "input": orjson.dumps(child.input).decode(),
            "labels": orjson.dumps(child.labels).decode(),
        }
        async with self._writing:
            await self._until_known("begin_child", {**parameters, **self._scope})

    async def undo_child(self, parent: Saga, step: str, asking: int) -> str:
        """Have the child saga of a step undo itself. See `TermLog.undo_child`."""
        request_id = child_request(parent.id, step)
        # The same for a repetition after a lost connection, another one for another time of asking.
        key = uuid5(parent.id, f"undo/{step}/{asking}")
        parameters = {"request_id": request_id, "key": key}
        async with self._writing:
            row = await self._until_known("undo_child", {**parameters, **self._scope})
        return str(row[3])

    async def refuse(self, heard: Sequence[Heard]) -> None:
        """Refuse signals. See `TermLog.refuse`."""
        parameters = {**append_parameters([]), **heard_parameters(heard), **self._scope}
        async with self._writing:
            await self._until_known("append", parameters)

    async def heed_pauses(self, heeded: Collection[UUID], released: Collection[UUID]) -> None:
        """Say which pauses are gone by. See `TermLog.heed_pauses`."""
        async with self._writing:
            await self._until_known("heed_pauses", {**self._scope, "heeded": list(heeded), "released": list(released)})

    async def park(self, stored: StoredSaga, reason: str) -> None:
        """Park a saga whose rows cannot be understood. See `TermLog.park`."""
        message = f"parked: {reason}"
        parameters = {
            "shard": self._settings.shard,
            "epoch": self._epoch,
            "saga": stored.id,
            "sequence": stored.last_sequence + 1,
            "error": psycopg.types.json.Jsonb({"step": "", "code": "CORRUPT_LOG", "message": message}),
            "code": "CORRUPT_LOG",
            "message": message,
        }
        async with self._writing:
            await self._until_known("park", parameters)

    def forget(self, sagas: Collection[SagaId]) -> None:
        """See `TermLog.forget`."""
        if self._last_committed is not None and self._last_committed[0] in sagas:
            self._last_committed = None

    async def listen(self, wake: Callable[[], None]) -> None:
        """Call `wake` at every notification of new work, until cancelled. See `TermLog.listen`."""
        while True:
            try:
                connection = await self._connect_reader()
                try:
                    if ARMED:
                        await strike(effects.LISTEN.before)
                    await connection.execute(f"LISTEN {WORK_CHANNEL}".encode())
                    if ARMED:
                        await strike(effects.LISTEN.after)
                    wake()
                    if ARMED:
                        await strike(effects.NOTIFIED.before)
                    while True:
                        async for notification in connection.notifies(timeout=_LISTEN_CHECK_S):
                            if ARMED:
                                await strike(effects.NOTIFIED.after)
                            if notification.payload.startswith(f"{self._settings.shard}:"):
                                wake()
                        # A server that nobody writes to any more is silent as well.
                        await execute(connection, CHECK, self._settings.timeout_s)
                finally:
                    await connection.close()
            except (LogUnavailable, psycopg.Error) as error:
                log.info("listen_lost", error=str(error).strip(), reaction="reconnecting")
                await asyncio.sleep(_RECONNECT_S)

    async def close(self) -> None:
        """Drop the connections; whatever still waits is cancelled."""
        for waiting in self._waiting:
            waiting.done.cancel()
        self._waiting.clear()
        await self._writer.close()
        await self._reader.close()


def _refusal(error: Exception) -> str:
    """Why a value cannot be stored. Without what Postgres quotes of it: it may be a secret."""
    if isinstance(error, psycopg.Error):
        return f"Postgres refused it: {error.diag.message_primary or type(error).__name__}"
    return type(error).__name__ if isinstance(error, UnicodeError) else str(error)


def scope(shard: int, epoch: int) -> dict[str, Any]:
    """The parameters that every statement of a term has, in types that do not depend on their values."""
    return {"shard": Int4(shard), "epoch": Int8(epoch)}


def boottime_s() -> float:
    """Seconds since boot, time asleep included: unlike the monotonic clock it sees a suspended machine."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
