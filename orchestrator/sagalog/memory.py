"""A model of the saga log in memory, for tests and simulation. One contract suite holds it to what Postgres does.

Every write checks the fence at the moment it takes effect, as the real statement does by locking the fence row.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from copy import copy
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Self

from orchestrator.errors import Fenced, InvariantError, LogUnavailable
from orchestrator.saga.events import Event, Status
from orchestrator.saga.model import Epoch, Saga, SagaId, SagaState
from orchestrator.saga.progress import FOREVER, wake_at
from orchestrator.saga.signals import Signal
from orchestrator.sagalog.memory_rows import MIDNIGHT, NO_EPOCH, Posted, Row, stored_row, when
from orchestrator.sagalog.port import Claim, Heard, StoredSaga, StoredSignal


class MemorySagaLog:
    """Implements `SagaLog`. `away` makes it unreachable, as a Postgres that is down."""

    def __init__(self, boottime_s: Callable[[], float]) -> None:
        self.rows: dict[SagaId, Row] = {}
        self.posted: dict[int, Posted] = {}
        self.epoch = NO_EPOCH
        self.epochs: list[Epoch] = []
        self.away = False
        self._etcd_cluster = ""
        self._revision = -1
        self._boottime_s = boottime_s
        # Not a set: whoever listens is woken in the order of arrival, the same in every process.
        self._listeners: dict[asyncio.Event, None] = {}

    def fork(self) -> Self:
        """A copy that goes its own way and that nobody listens to."""
        other = copy(self)
        other.rows = {saga_id: replace(row, events=row.events.copy()) for saga_id, row in self.rows.items()}
        other.posted = {number: replace(posted) for number, posted in self.posted.items()}
        other.epochs = self.epochs.copy()
        other._listeners = {}
        return other

    def insert(self, row: Row) -> None:
        """Store a pending saga, as StartSaga does, and wake whoever listens."""
        self.rows[row.id] = row
        self.notify()

    def request_cancel(self, saga_id: SagaId, reason: str) -> None:
        """Ask for a cancellation, as CancelSaga does, and wake whoever listens."""
        self.rows[saga_id].cancel_reason = reason
        self.notify()

    def post(self, saga_id: SagaId, signal: Signal) -> int:
        """Store a signal, as any replica does; its number, which replaces that of `signal`."""
        number = len(self.posted) + 1
        self.posted[number] = Posted(saga_id, replace(signal, id=number))
        self.notify()
        return number

    def now(self) -> datetime:
        """The time by the clock of the store."""
        return MIDNIGHT + timedelta(seconds=self._boottime_s())

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
        epoch = self.raised(claim)
        return None if epoch is None else MemoryTermLog(self, epoch, self._boottime_s)

    async def raise_epoch_again(self, claim: Claim) -> MemoryTermLog:
        """See `SagaLog.raise_epoch_again`."""
        seen = self.epoch
        await self.pause()
        epoch = self.raised(claim, seen)
        if epoch is None:
            raise Fenced(f"another replica raised the epoch of shard {claim.shard} meanwhile")
        return MemoryTermLog(self, epoch, self._boottime_s)

    # What the statements do in the moment in which they take effect.

    def raised(self, claim: Claim, seen: Epoch | None = None) -> Epoch | None:
        """Raise the epoch by the revision of `claim`, or by compare-and-swap on `seen`; None when it is refused."""
        if seen is None:
            refused = claim.etcd_cluster == self._etcd_cluster and self._revision >= claim.revision
        else:
            refused = self.epoch != seen
        if refused:
            return None
        self.epoch = Epoch(max(self.epoch + 1, claim.revision) if seen is None else seen + 1)
        self._etcd_cluster, self._revision = claim.etcd_cluster, claim.revision
        self.epochs.append(self.epoch)
        return self.epoch

    def holds_fence(self, epoch: Epoch) -> bool:
        """Whether a write under `epoch` may take effect now."""
        return self.epoch == epoch

    def hear(self, heard: Sequence[Heard]) -> None:
        """These signals count as heeded, or refused."""
        for one in heard:
            posted = self.posted.get(one.signal_id)
            if posted is not None and not posted.heard:
                posted.heard, posted.refusal = True, one.refusal

    def write(self, epoch: Epoch, saga: Saga, events: Sequence[Event], heard: Sequence[Heard] = ()) -> int:
        """Store `events`, the state of `saga` and what was heard; how many of the events were not in the log before.

        A statement that comes late, when others have followed its repetition, changes nothing.
        """
        self.hear(heard)
        row = self.rows[saga.id]
        last = row.events[-1].sequence if row.events else 0
        fresh = [event for event in events if event.sequence > last]
        if fresh:
            row.events.extend(fresh)
            row.state, row.epoch = saga.state, epoch
            row.error = saga.failure.message if saga.failure else None
            row.wake_at = None if saga.state.terminal else wake_at(saga)
        return len(fresh)

    def park(self, epoch: Epoch, stored: StoredSaga, reason: str) -> None:
        """Park a saga whose rows cannot be understood; done before, it changes nothing."""
        row = self.rows[stored.id]
        message = f"parked: {reason}"
        sequence = stored.last_sequence + 1
        if not row.events or row.events[-1].sequence < sequence:
            row.events.append(Event(sequence, Status.PARKED, epoch, code="CORRUPT_LOG", message=message))
        row.state, row.epoch, row.error = SagaState.FAILED, epoch, message

    def unfinished(self, state: SagaState, epoch: Epoch, after: SagaId | None, limit: int) -> list[StoredSaga]:
        """A page of the recovery scan: the sagas in `state` that `epoch` has not written, behind the id `after`."""
        rows = (row for row in self._in_state(state) if row.epoch < epoch and (after is None or row.id > after))
        return [stored_row(row) for row in list(rows)[:limit] if row.wake_at is None]

    def due(self) -> list[StoredSaga]:
        """See `TermLog.due`: all of them."""
        now = self.now()
        slept = [row for row in self.rows.values() if not row.state.terminal and row.wake_at is not None]
        return [stored_row(row) for row in sorted(slept, key=when) if when(row) <= now]

    def next_due_s(self) -> float | None:
        """See `TermLog.next_due_s`."""
        now = self.now()
        times = [row.wake_at for row in self.rows.values() if not row.state.terminal and row.wake_at is not None]
        return min(((at - now).total_seconds() for at in times if now < at < FOREVER), default=None)

    def sagas(self, ids: Sequence[SagaId]) -> list[StoredSaga]:
        """See `TermLog.sagas`."""
        return [stored_row(self.rows[saga_id]) for saga_id in ids if saga_id in self.rows]

    def signals(self, after: int, page: int) -> list[StoredSignal]:
        """See `TermLog.signals`."""
        unheard = (number for number, posted in self.posted.items() if not posted.heard and number > after)
        found = [(number, self.posted[number]) for number in sorted(unheard)[:page]]
        return [StoredSignal(posted.saga_id, number, posted.signal) for number, posted in found]

    def pending(self, limit: int, exclude: Sequence[SagaId]) -> list[StoredSaga]:
        """See `TermLog.pending`."""
        excluded = frozenset(exclude)
        rows = [row for row in self._in_state(SagaState.PENDING) if row.id not in excluded and row.wake_at is None]
        return [stored_row(row) for row in rows[:limit]]

    def cancellations(self) -> list[tuple[SagaId, str]]:
        """See `TermLog.cancellations`."""
        live = (row for row in self.rows.values() if not row.state.terminal)
        return [(row.id, row.cancel_reason) for row in live if row.cancel_reason is not None]

    def _in_state(self, state: SagaState) -> Iterable[Row]:
        return sorted((row for row in self.rows.values() if row.state is state), key=lambda row: row.id)

    async def pause(self) -> None:
        """The time that a statement takes. Raises LogUnavailable while the store is away."""
        await asyncio.sleep(0)
        if self.away:
            raise LogUnavailable("the saga log is away")

    def subscribe(self) -> asyncio.Event:
        """An event that every notification sets."""
        event = asyncio.Event()
        self._listeners[event] = None
        return event

    def unsubscribe(self, event: asyncio.Event) -> None:
        """Take back `subscribe`."""
        self._listeners.pop(event, None)


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

    def now(self) -> datetime:
        """See `TermLog.now`."""
        return self._store.now()

    async def append(self, saga: Saga, events: Sequence[Event], heard: Sequence[Heard] = ()) -> None:
        """See `TermLog.append`."""
        await self._fence()
        if self._store.write(self._epoch, saga, events, heard) != len(events):
            raise InvariantError(f"row {events[0].sequence} of {saga.id} was in the log before it was written")

    async def refuse(self, heard: Sequence[Heard]) -> None:
        """See `TermLog.refuse`."""
        await self._fence()
        self._store.hear(heard)

    async def park(self, stored: StoredSaga, reason: str) -> None:
        """See `TermLog.park`."""
        await self._fence()
        self._store.park(self._epoch, stored, reason)

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
        if not self._store.holds_fence(self._epoch):
            raise Fenced(f"epoch {self._epoch} no longer holds the fence")
        self._proven_at_s = sent_s

    async def unfinished(self, first: int, most: int) -> AsyncGenerator[list[StoredSaga]]:
        """See `TermLog.unfinished`."""
        page = first
        for state in (SagaState.COMPENSATING, SagaState.RUNNING):
            last: SagaId | None = None
            while True:
                await self._store.pause()
                found = self._store.unfinished(state, self._epoch, last, page)
                if not found:
                    break
                yield found
                last, page = found[-1].id, min(page * 2, most)

    async def pending(self, limit: int, exclude: Sequence[SagaId]) -> list[StoredSaga]:
        """See `TermLog.pending`."""
        await self._store.pause()
        return self._store.pending(limit, exclude)

    async def cancellations(self) -> list[tuple[SagaId, str]]:
        """See `TermLog.cancellations`."""
        await self._store.pause()
        return self._store.cancellations()

    async def due(self, page: int) -> AsyncGenerator[list[StoredSaga]]:
        """See `TermLog.due`."""
        seen: set[SagaId] = set()
        while True:
            # Each page is a read of its own, as in Postgres: what happened since the last one shows.
            await self._store.pause()
            found = [stored for stored in self._store.due() if stored.id not in seen][:page]
            if not found:
                return
            yield found
            seen.update(stored.id for stored in found)

    async def next_due_s(self) -> float | None:
        """See `TermLog.next_due_s`."""
        await self._store.pause()
        return self._store.next_due_s()

    async def sagas(self, ids: Sequence[SagaId]) -> list[StoredSaga]:
        """See `TermLog.sagas`."""
        await self._store.pause()
        return self._store.sagas(ids)

    async def signals(self, after: int, page: int) -> list[StoredSignal]:
        """See `TermLog.signals`."""
        await self._store.pause()
        return self._store.signals(after, page)

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
