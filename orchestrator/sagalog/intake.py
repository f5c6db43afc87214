"""The way of new sagas into the log: starts that arrive while others are committed share the next commit.

Every replica has one, whoever leads. A start is answered when it is durable. A request id is stored once: asked again
with the same body it gives the same saga, with another body it is a conflict. The ids are made before the first try,
so that a batch whose outcome is unknown can be repeated: what was stored unheard is found to be ours.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import psycopg
import structlog

from orchestrator.errors import BatonError, Conflict, InvariantError, LogUnavailable, Overloaded, Rejected
from orchestrator.saga.ids import RANDOM_BITS, saga_id
from orchestrator.saga.model import SagaId
from orchestrator.sagalog.connection import connect, execute
from orchestrator.sagalog.queries import load
from orchestrator.sagalog.records import NewSaga, Started
from orchestrator.sagalog.term import REFUSED_VALUES
from orchestrator.telemetry import Metrics

_SQL = load("intake.sql")
_RECONNECT_S = 0.05
_SHUTTING_DOWN = "this replica is shutting down"

# Starts that may wait for a commit, and the bytes of JSON that they may hold together; and the bytes of one batch.
QUEUE_MAX = 20_000
QUEUE_BYTES_MAX = 128_000_000
BATCH_BYTES_MAX = 8_000_000

# A full disk is made larger by people.
_DISK_AGAIN_S = 2.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class IntakeSettings:
    """Bounds of a replica's intake. `timeout_s` is the longest wait for Postgres, in seconds."""

    dsn: str
    replica: str
    shard: int
    timeout_s: float
    batch_max: int


@dataclass(slots=True)
class _Waiting:
    """One start that waits for its commit."""

    id: SagaId
    request_id: str
    new: NewSaga
    size_bytes: int
    done: asyncio.Future[Started]


@dataclass(frozen=True, slots=True)
class _Stored:
    """What the log has under a request id."""

    id: SagaId
    request_hash: bytes
    created_at: datetime


class Intake:
    """Stores new sagas; one for each replica. `started` is called after each commit that stored any."""

    def __init__(self, settings: IntakeSettings, metrics: Metrics, started: Callable[[], None]) -> None:
        self._settings = settings
        self._metrics = metrics
        self._started = started
        self._connection: psycopg.AsyncConnection | None = None
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._wake = asyncio.Event()
        self._last_id: SagaId | None = None
        # When Postgres said last that it has no room for more, by the monotonic clock.
        self.disk_full_at_s = float("-inf")

    @property
    def waiting(self) -> int:
        """How many starts wait for a commit."""
        return len(self._waiting)

    async def start(self, new: NewSaga) -> Started:
        """Store a saga and return when it is durable.

        Raises Conflict when its request id was used with another body, Rejected when Postgres cannot store it,
        Overloaded when too many wait, LogUnavailable when Postgres does not answer: it is then unknown whether the
        saga is stored, and the call may be repeated with the same request id.
        """
        return await self.submit(new)

    def submit(self, new: NewSaga) -> asyncio.Future[Started]:
        """Queue a saga for the next commit; the future has what `start` returns or raises. Raises Overloaded."""
        size_bytes = len(new.input_json) + len(new.labels_json)
        if len(self._waiting) >= QUEUE_MAX or self._waiting_bytes + size_bytes > QUEUE_BYTES_MAX:
            raise Overloaded(f"{len(self._waiting)} starts wait for Postgres on this replica already")
        self._last_id = saga_id(time.time_ns() // 1_000_000, secrets.randbits(RANDOM_BITS), after=self._last_id)
        done: asyncio.Future[Started] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(self._last_id, new.request_id or str(self._last_id), new, size_bytes, done))
        self._waiting_bytes += size_bytes
        self._wake.set()
        return done

    async def run(self) -> None:
        """Store what `start` queues, until cancelled. Waits out every absence of Postgres."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    self._metrics.intake_queue.set(len(self._waiting))
                    await self._commit(self._next_batch())
                self._metrics.intake_queue.set(0)
        finally:
            if self._connection is not None:
                await self._connection.close()
            self._abandon()

    def _next_batch(self) -> list[_Waiting]:
        """What waits, up to the bounds of a batch. Whoever has stopped waiting is left out: nothing was promised.

        In the order of the request ids: two replicas that store the same ones then cannot wait for each other.
        """
        batch: list[_Waiting] = []
        size_bytes = 0
        while self._waiting and len(batch) < self._settings.batch_max and size_bytes < BATCH_BYTES_MAX:
            waiting = self._waiting.popleft()
            self._waiting_bytes -= waiting.size_bytes
            if not waiting.done.done():
                batch.append(waiting)
                size_bytes += waiting.size_bytes
        batch.sort(key=lambda waiting: waiting.request_id)
        return batch

    async def _commit(self, batch: Sequence[_Waiting]) -> None:
        """Store `batch` and answer everybody in it."""
        if not batch:
            return
        try:
            stored = await self._until_known(batch)
        except REFUSED_VALUES as error:
            await self._set_apart(batch, error)
            return
        except Overloaded as error:
            self._refuse_all(batch, partial(Overloaded, str(error), error.retry_after_s))
            return
        except LogUnavailable as error:
            self._refuse_all(batch, partial(LogUnavailable, str(error)))
            return
        except asyncio.CancelledError:
            # Whether they are stored is unknown: another replica tells, by the same request ids.
            self._refuse_all(batch, partial(LogUnavailable, _SHUTTING_DOWN))
            raise
        self._metrics.intake_batch_rows.observe(len(batch))
        for waiting in batch:
            self._answer(waiting, stored[waiting.request_id])
        own = Counter(w.new.definition for w in batch if stored[w.request_id].id == w.id)
        for definition, count in own.items():
            self._metrics.sagas_started.labels(definition).inc(count)
        if own:
            self._started()

    async def _set_apart(self, batch: Sequence[_Waiting], error: Exception) -> None:
        """Postgres refused a value in `batch`: find whose it is, so that nobody else suffers."""
        if len(batch) == 1:
            _refuse(batch[0], Rejected(f"Postgres cannot store the saga: {str(error).strip()}"))
            return
        for waiting in batch:
            await self._commit([waiting])

    def _answer(self, waiting: _Waiting, stored: _Stored) -> None:
        if waiting.done.done():
            return
        if stored.id != waiting.id and stored.request_hash != waiting.new.request_hash:
            reason = f"request id {waiting.request_id!r} has already started saga {stored.id} with another body"
            waiting.done.set_exception(Conflict(reason))
            return
        waiting.done.set_result(Started(stored.id, stored.created_at, stored.id != waiting.id))

    async def _until_known(self, batch: Sequence[_Waiting]) -> dict[str, _Stored]:
        """Store `batch`, repeated on new connections until the outcome is known.

        Raises LogUnavailable once that has taken `timeout_s`, Overloaded when Postgres has no room for what was never
        tried before, and REFUSED_VALUES as they come.
        """
        give_up_at_s = time.monotonic() + self._settings.timeout_s
        for tries in itertools.count(1):
            try:
                if self._connection is None:
                    self._connection = await self._connect()
                return await self._insert(self._connection, batch)
            except REFUSED_VALUES:
                raise
            except (LogUnavailable, psycopg.Error) as error:
                reason = str(error).strip() or "the connection was lost"
                if isinstance(error, psycopg.errors.DiskFull):
                    self.disk_full_at_s = time.monotonic()
                    if tries == 1:
                        raise Overloaded(f"Postgres has no room for new sagas: {reason}", _DISK_AGAIN_S) from error
                if self._connection is not None:
                    await self._connection.close()
                    self._connection = None
                if tries == 1:
                    log.warning("intake_interrupted", error=reason, reaction="repeating the batch")
                self._metrics.log_retries.inc()
                if time.monotonic() >= give_up_at_s:
                    raise LogUnavailable(f"the saga log takes no sagas now: {reason}") from error
                await asyncio.sleep(_RECONNECT_S)
        raise InvariantError("counting has come to an end")

    async def _insert(self, connection: psycopg.AsyncConnection, batch: Sequence[_Waiting]) -> dict[str, _Stored]:
        """What is stored under each request id of `batch`, after storing what was not."""
        timeout_s = self._settings.timeout_s
        cursor = await execute(connection, _SQL["start"], timeout_s, _parameters(batch, self._settings.shard))
        inserted = {row[0]: row[1] for row in await cursor.fetchall()}
        stored = {w.request_id: _Stored(w.id, w.new.request_hash, inserted[w.id]) for w in batch if w.id in inserted}
        others = [w.request_id for w in batch if w.request_id not in stored]
        if others:
            cursor = await execute(connection, _SQL["started"], timeout_s, {"request_ids": others})
            for request_id, identity, hash_, created_at in await cursor.fetchall():
                stored[request_id] = _Stored(SagaId(identity), bytes(hash_), created_at)
            if missing := [request_id for request_id in others if request_id not in stored]:
                raise LogUnavailable(f"request id {missing[0]!r} was neither stored nor there before")
        return stored

    async def _connect(self) -> psycopg.AsyncConnection:
        settings = self._settings
        name = f"baton-intake-{settings.shard}-{settings.replica}"
        connection = await connect(settings.dsn, name, settings.timeout_s)
        connection.prepare_threshold = 1
        return connection

    def _refuse_all(self, batch: Iterable[_Waiting], error: Callable[[], BatonError]) -> None:
        """Give each its own error: it keeps the frames alive that it passes through."""
        for waiting in batch:
            _refuse(waiting, error())

    def _abandon(self) -> None:
        self._refuse_all(self._waiting, partial(LogUnavailable, _SHUTTING_DOWN))
        self._waiting.clear()
        self._waiting_bytes = 0


def _parameters(batch: Sequence[_Waiting], shard: int) -> dict[str, Any]:
    return {
        "shard": shard,
        "id": [waiting.id for waiting in batch],
        "request_id": [waiting.request_id for waiting in batch],
        "request_hash": [waiting.new.request_hash for waiting in batch],
        "definition": [waiting.new.definition for waiting in batch],
        "version": [waiting.new.version for waiting in batch],
        "input": [waiting.new.input_json for waiting in batch],
        "labels": [waiting.new.labels_json for waiting in batch],
        # No array holds a null; 0 stands for it.
        "start_at_s": [w.new.start_at.timestamp() if w.new.start_at else 0.0 for w in batch],
        "work": f"{shard}:pending",
    }


def _refuse(waiting: _Waiting, error: BatonError) -> None:
    if not waiting.done.done():
        waiting.done.set_exception(error)
