"""A model of the saga log in memory, for tests and simulation. One contract suite holds it to what Postgres does.

Every write checks the fence at the moment it takes effect, as the real statement does by locking the fence row.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from copy import copy
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Self
from uuid import UUID

from orchestrator.errors import Fenced, LogUnavailable
from orchestrator.saga.events import PAUSED, Event, Status
from orchestrator.saga.model import Epoch, Json, Saga, SagaId, SagaState
from orchestrator.saga.pausing import Pause
from orchestrator.saga.progress import FOREVER, wake_at
from orchestrator.saga.signals import Signal, Verb
from orchestrator.sagalog.memory_rows import MIDNIGHT, NO_EPOCH, Posted, Row, stored_row, when
from orchestrator.sagalog.memory_term import MemoryTermLog
from orchestrator.sagalog.port import RELEASED_LATELY_S, Claim, Heard, NewChild, StoredPause, StoredSaga, StoredSignal
from orchestrator.sagalog.rows import outcome


class MemorySagaLog:
    """Implements `SagaLog`. `away` makes it unreachable, as a Postgres that is down."""

    def __init__(self, boottime_s: Callable[[], float]) -> None:
        self.rows: dict[SagaId, Row] = {}
        self.posted: dict[int, Posted] = {}
        self.paused: dict[UUID, StoredPause] = {}
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
        other.paused = self.paused.copy()
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

    def put_pause(self, pause: Pause) -> None:
        """Store a pause, as any replica does."""
        self.paused[pause.id] = StoredPause(pause)

    def end_pause(self, number: UUID) -> None:
        """End a pause, as any replica does."""
        self.paused[number] = replace(self.paused[number], resumed_at=self.now())

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
                posted.heard, posted.refusal, posted.heard_at = True, one.refusal, self.now()
                if posted.signal.verb is Verb.UNDO and one.refusal:
                    self._tell_parent(self.rows[posted.saga_id], "REFUSED", None, one.refusal)

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
            row.state, row.epoch, row.version = saga.state, epoch, saga.definition.version
            row.error = saga.failure.message if saga.failure else None
            row.wake_at = None if saga.state.terminal else wake_at(saga)
            if saga.state in (SagaState.COMPLETED, SagaState.COMPENSATED):
                row.result = outcome(saga)
                self._tell_end(row)
        return len(fresh)

    def _tell_parent(self, row: Row, state: str, result: Json | None, message: str) -> None:
        if row.parent is not None:
            told = {"state": state, "result": result, "error": {"message": message}}
            number = len(self.posted) + 1
            self.posted[number] = Posted(row.parent, Signal(number, Verb.CHILD, row.parent_step, told))
            self.notify()

    def _tell_end(self, child: Row) -> None:
        self._tell_parent(child, child.state.value, child.result, child.error or "")

    def begin_child(self, parent: Saga, step: str, child: NewChild) -> None:
        """See `TermLog.begin_child`."""
        if self.rows[parent.id].state is not SagaState.RUNNING:
            return
        if self.child(parent.id, step) is None:
            row = Row(child.id, child.definition, child.version, child.input, child.labels, self.now())
            self.insert(replace(row, parent=parent.id, parent_step=step))
        begun = self.child(parent.id, step)
        if begun is not None and begun.state in (SagaState.COMPLETED, SagaState.COMPENSATED):
            self._tell_end(begun)

    def undo_child(self, parent: Saga, step: str, asking: int) -> str:
        """See `TermLog.undo_child`."""
        row = self.child(parent.id, step)
        if row is None:
            return ""
        before = [p for p in self.posted.values() if p.saga_id == row.id and p.signal.verb is Verb.UNDO]
        if row.state is not SagaState.COMPENSATED and all(p.signal.code != str(asking) for p in before):
            self.post(row.id, Signal(0, Verb.UNDO, code=str(asking)))
        return row.state.value

    def child(self, parent: SagaId, step: str) -> Row | None:
        """The child saga of a step, if it was begun."""
        return next((r for r in self.rows.values() if r.parent == parent and r.parent_step == step), None)

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
        behind = (row for row in self._in_state(state) if row.epoch < epoch and (after is None or row.id > after))
        awake = [row for row in behind if row.wake_at is None]
        return [stored_row(row) for row in awake[:limit]]

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

    def pauses(self) -> list[StoredPause]:
        """See `TermLog.pauses`."""
        since = self.now() - timedelta(seconds=RELEASED_LATELY_S)
        return [one for one in self.paused.values() if one.released_at is None or one.released_at > since]

    def held(self, until: datetime) -> list[StoredSaga]:
        """See `TermLog.held`: all of them."""
        slept = [row for row in self.rows.values() if not row.state.terminal and row.wake_at is not None]
        once_held = [row for row in slept if any(event.code == PAUSED for event in row.events)]
        return [stored_row(row) for row in sorted(once_held, key=when) if when(row) <= until]

    def heed_pauses(self, heeded: Collection[UUID], released: Collection[UUID]) -> None:
        """See `TermLog.heed_pauses`."""
        for number, stored in self.paused.items():
            if number in heeded and stored.heeded_at is None:
                stored = replace(stored, heeded_at=self.now())
            if number in released and stored.resumed_at is not None and stored.released_at is None:
                stored = replace(stored, released_at=self.now())
            self.paused[number] = stored

    def pending(self, limit: int, exclude: Sequence[SagaId]) -> list[StoredSaga]:
        """See `TermLog.pending`."""
        excluded = frozenset(exclude)
        rows = [row for row in self._in_state(SagaState.PENDING) if row.id not in excluded and row.wake_at is None]
        return [stored_row(row) for row in rows[:limit]]

    def cancellations(self) -> list[tuple[SagaId, str]]:
        """See `TermLog.cancellations`."""
        live = (row for row in self.rows.values() if row.state in (SagaState.PENDING, SagaState.RUNNING))
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
