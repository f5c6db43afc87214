"""The model of the saga log under one epoch: every call is one statement on the store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from orchestrator.errors import Fenced, InvariantError, LogUnavailable
from orchestrator.saga.events import Event
from orchestrator.saga.model import Epoch, Saga, SagaId, SagaState
from orchestrator.sagalog.port import Heard, NewChild, StoredPause, StoredSaga, StoredSignal

if TYPE_CHECKING:
    from orchestrator.sagalog.memory import MemorySagaLog


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

    async def begin_child(self, parent: Saga, step: str, child: NewChild) -> None:
        """See `TermLog.begin_child`."""
        await self._fence()
        self._store.begin_child(parent, step, child)

    async def undo_child(self, parent: Saga, step: str, asking: int) -> str:
        """See `TermLog.undo_child`."""
        await self._fence()
        return self._store.undo_child(parent, step, asking)

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

    def forget(self, sagas: Collection[SagaId]) -> None:
        """See `TermLog.forget`: nothing of it is remembered here."""

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

    async def pauses(self) -> list[StoredPause]:
        """See `TermLog.pauses`."""
        await self._store.pause()
        return self._store.pauses()

    async def held(self, until: datetime, page: int) -> AsyncGenerator[list[StoredSaga]]:
        """See `TermLog.held`."""
        seen: set[SagaId] = set()
        while True:
            # Each page is a read of its own, as for `due`.
            await self._store.pause()
            found = [stored for stored in self._store.held(until) if stored.id not in seen][:page]
            if not found:
                return
            yield found
            seen.update(stored.id for stored in found)

    async def heed_pauses(self, heeded: Collection[UUID], released: Collection[UUID]) -> None:
        """See `TermLog.heed_pauses`."""
        await self._fence()
        self._store.heed_pauses(heeded, released)

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
