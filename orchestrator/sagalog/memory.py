"""A model of the saga log in memory, for tests and simulation. One contract suite holds it to what Postgres does.

Every write checks the fence at the moment it takes effect, as the real statement does by locking the fence row.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from orchestrator.errors import Fenced, InvariantError, LogUnavailable
from orchestrator.saga.events import Event, Status
from orchestrator.saga.model import Epoch, Json, Saga, SagaId, SagaState
from orchestrator.sagalog.port import Claim, StoredSaga

NO_EPOCH = Epoch(0)


@dataclass(slots=True)
class Row:
    """A saga's row and its part of the step log."""

    id: SagaId
    definition: str
    version: int
    input: Json
    labels: dict[str, str]
    created_at: datetime
    state: SagaState = SagaState.PENDING
    epoch: Epoch = NO_EPOCH
    cancel_reason: str | None = None
    error: str | None = None
    events: list[Event] = field(default_factory=list)


class MemorySagaLog:
    """Implements `SagaLog`. `away` makes it unreachable, as a Postgres that is down."""

    def __init__(self, boottime_s: Callable[[], float]) -> None:
        self.rows: dict[SagaId, Row] = {}
        self.epoch = NO_EPOCH
        self.epochs: list[Epoch] = []
        self.away = False
        self._etcd_cluster = ""
        self._revision = -1
        self._boottime_s = boottime_s
        self._listeners: set[asyncio.Event] = set()

    def insert(self, row: Row) -> None:
        """Store a pending saga, as StartSaga does, and wake whoever listens."""
        self.rows[row.id] = row
        self.notify()

    def request_cancel(self, saga_id: SagaId, reason: str) -> None:
        """Ask for a cancellation, as CancelSaga does, and wake whoever listens."""
        self.rows[saga_id].cancel_reason = reason
        self.notify()

    def notify(self) -> None:
        """Wake whoever listens."""
        for event in self._listeners:
            event.set()

    async def reachable(self) -> bool:
        """Whether the store answers."""
        return not self.away

    async def raise_epoch(self, claim: Claim) -> MemoryTermLog | None:
        """See `SagaLog.raise_epoch`."""
        await self.pause()
        if claim.etcd_cluster == self._etcd_cluster and self._revision >= claim.revision:
            return None
        return self._raised(claim, Epoch(max(self.epoch + 1, claim.revision)))

    async def raise_epoch_again(self, claim: Claim) -> MemoryTermLog:
        """See `SagaLog.raise_epoch_again`."""
        seen = self.epoch
        await self.pause()
        if self.epoch != seen:
            raise Fenced(f"another replica raised the epoch of shard {claim.shard} meanwhile")
        return self._raised(claim, Epoch(self.epoch + 1))

    def _raised(self, claim: Claim, epoch: Epoch) -> MemoryTermLog:
        self.epoch, self._etcd_cluster, self._revision = epoch, claim.etcd_cluster, claim.revision
        self.epochs.append(epoch)
        return MemoryTermLog(self, epoch, self._boottime_s)

    async def pause(self) -> None:
        """The time that a statement takes. Raises LogUnavailable while the store is away."""
        await asyncio.sleep(0)
        if self.away:
            raise LogUnavailable("the saga log is away")

    def subscribe(self) -> asyncio.Event:
        """An event that every notification sets."""
        event = asyncio.Event()
        self._listeners.add(event)
        return event

    def unsubscribe(self, event: asyncio.Event) -> None:
        """Take back `subscribe`."""
        self._listeners.discard(event)


class MemoryTermLog:
    """Implements `TermLog`."""

    def __init__(self, store: MemorySagaLog, epoch: Epoch, boottime_s: Callable[[], float]) -> None:
        self._store = store
        self._epoch = epoch
        self._boottime_s = boottime_s
        self._proven_at_s = boottime_s()

    @property
    def epoch(self) -> Epoch:
        """The epoch under which this log writes."""
        return self._epoch

    @property
    def proven_at_s(self) -> float:
        """When the epoch was last proven."""
        return self._proven_at_s

    async def append(self, saga: Saga, events: Sequence[Event]) -> None:
        """See `TermLog.append`."""
        await self._fence()
        row = self._store.rows[saga.id]
        if events and row.events and events[0].sequence <= row.events[-1].sequence:
            raise InvariantError(f"row {events[0].sequence} of {saga.id} was in the log before it was written")
        row.events.extend(events)
        row.state, row.epoch = saga.state, self._epoch
        row.error = saga.failure.message if saga.failure else None

    async def park(self, stored: StoredSaga, reason: str) -> None:
        """See `TermLog.park`."""
        await self._fence()
        row = self._store.rows[stored.id]
        message = f"parked: {reason}"
        row.events.append(
            Event(stored.last_sequence + 1, Status.PARKED, self._epoch, code="CORRUPT_LOG", message=message)
        )
        row.state, row.epoch, row.error = SagaState.FAILED, self._epoch, message

    async def prove(self) -> None:
        """See `TermLog.prove`."""
        await self._fence()

    async def _fence(self) -> None:
        sent_s = self._boottime_s()
        while True:
            try:
                await self._store.pause()
                break
            except LogUnavailable:
                await asyncio.sleep(0.05)
        if self._store.epoch != self._epoch:
            raise Fenced(f"epoch {self._epoch} no longer holds the fence")
        self._proven_at_s = sent_s

    async def unfinished(self, first: int, most: int) -> AsyncGenerator[list[StoredSaga]]:
        """See `TermLog.unfinished`."""
        page = first
        for state in (SagaState.COMPENSATING, SagaState.RUNNING):
            last: SagaId | None = None
            while True:
                await self._store.pause()
                rows = (r for r in self._in_state(state) if r.epoch < self._epoch and (last is None or r.id > last))
                found = [_stored(row) for row in list(rows)[:page]]
                if not found:
                    break
                yield found
                last, page = found[-1].id, min(page * 2, most)

    async def pending(self, limit: int, exclude: Sequence[SagaId]) -> list[StoredSaga]:
        """See `TermLog.pending`."""
        await self._store.pause()
        excluded = set(exclude)
        rows = [row for row in self._in_state(SagaState.PENDING) if row.id not in excluded]
        return [_stored(row) for row in rows[:limit]]

    async def cancellations(self) -> list[tuple[SagaId, str]]:
        """See `TermLog.cancellations`."""
        await self._store.pause()
        live = (row for row in self._store.rows.values() if not row.state.terminal)
        return [(row.id, row.cancel_reason) for row in live if row.cancel_reason is not None]

    async def run(self) -> None:
        """See `TermLog.run`: nothing queues here."""
        await asyncio.Event().wait()

    async def listen(self, wake: Callable[[], None]) -> None:
        """See `TermLog.listen`."""
        event = self._store.subscribe()
        try:
            while True:
                wake()
                await event.wait()
                event.clear()
        finally:
            self._store.unsubscribe(event)

    async def close(self) -> None:
        """See `TermLog.close`."""

    def _in_state(self, state: SagaState) -> Iterable[Row]:
        return sorted((row for row in self._store.rows.values() if row.state is state), key=lambda row: row.id)


def _stored(row: Row) -> StoredSaga:
    events = tuple(replace(event) for event in row.events)
    last = events[-1].sequence if events else 0
    return StoredSaga(
        row.id, row.definition, row.version, row.input, row.labels, row.created_at, row.cancel_reason, events, last
    )
