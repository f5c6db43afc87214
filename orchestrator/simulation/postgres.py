"""The simulated Postgres: the model of the saga log, with time between the start of a statement and its commit.

A fenced write takes the fence's row in share mode when it starts and holds it until it commits; a raise has to wait
for all of them, and those that queue behind it look at the epoch again. What a statement does is seen at its commit.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeVar
from uuid import UUID

from orchestrator.leadership import signal as leadership
from orchestrator.saga.events import Event
from orchestrator.saga.ids import RANDOM_BITS, saga_id
from orchestrator.saga.model import Epoch, Json, Saga, SagaId, SagaState
from orchestrator.saga.signals import HEARD_PARKED, Signal, Verb
from orchestrator.sagalog.memory import MemorySagaLog
from orchestrator.sagalog.memory_rows import Row
from orchestrator.sagalog.port import Claim, Heard, NewChild, StoredSaga
from orchestrator.simulation.fence_lock import FenceLock, Statement
from orchestrator.simulation.loop import SimulationLoop
from orchestrator.simulation.network import Reply, Server
from orchestrator.simulation.trace import Trace

T = TypeVar("T")

COMMIT_S = 0.001


class Fencing(StrEnum):
    """How a write looks at the fence. Anything but LOCKED is a mutation, for tests of the instrument."""

    LOCKED = "locked"
    EXISTS = "exists"  # looks at its start, takes no lock
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Raise:
    """A raise of the epoch, at its commit."""

    epoch: Epoch
    holder: str
    cause: str
    at_s: float


@dataclass(frozen=True, slots=True)
class Logged:
    """A row of the step log, at its commit."""

    saga_id: SagaId
    event: Event
    at_s: float


@dataclass(frozen=True, slots=True)
class NewSaga:
    """What a client asks for: a saga that begins at once, or so many seconds after it was stored."""

    request_id: str
    definition: str
    version: int
    input: Json
    later_s: float | None = None


class Told(StrEnum):
    """What became of a signal at the replica that was told it."""

    STORED = "stored"
    WAITS = "waits"  # Another answer for the step waits to be heeded.
    ENDED = "ended"  # The saga has ended.


# Of these, one at a time waits to be heeded for a step.
_ANSWERS = frozenset({Verb.COMPLETE, Verb.FAIL, Verb.APPROVE, Verb.REJECT})


@dataclass(slots=True)
class History:
    """What was committed, when."""

    raises: list[Raise] = field(default_factory=list)
    # So often somebody asked for a raise and heard nothing of it.
    raises_unheard: int = 0
    rows: list[Logged] = field(default_factory=list)
    requests: dict[str, SagaId] = field(default_factory=dict)
    corrupt: dict[SagaId, None] = field(default_factory=dict)
    # The numbers of the signals by the keys under which they were sent, and when each cancellation was stored.
    signals: dict[int, int] = field(default_factory=dict)
    cancelled_at_s: dict[SagaId, float] = field(default_factory=dict)


Transition = tuple[Saga, Sequence[Event], Sequence[Heard]]


class PostgresModel:
    """The server. Every method takes a statement and the way to answer it."""

    def __init__(self, loop: SimulationLoop, chance: random.Random, trace: Trace, now: Callable[[], datetime]) -> None:
        self.server = Server("postgres")
        self.log = MemorySagaLog(loop.time)
        self.history = History()
        self.fencing = Fencing.LOCKED
        self.raised: Callable[[], None] = lambda: None
        # Is told of every row of the step log when it is committed.
        self.written: Callable[[Saga, Event], None] = lambda saga, event: None
        # How likely a statement takes long, and how long at the most, in seconds.
        self.slow = 0.0
        self.slow_max_s = 0.0
        self._stopped = leadership.Signal()
        self._loop = loop
        self._chance = chance
        self._trace = trace
        self._now = now
        self._lock = FenceLock(loop, lambda count: trace.note("backends_ended", count))
        self._listeners: dict[Callable[[], None], None] = {}
        self._last_id: SagaId | None = None

    def stop(self) -> None:
        """The server ends at once: what has not committed is undone, and every connection is lost."""
        self.server.up = False
        self.server.generation += 1
        self._lock.reset()
        self._listeners.clear()
        self._stopped.notify()

    async def next_stop(self) -> None:
        """Wait until the server has stopped, as whoever holds a connection to it notices at once."""
        generation = self.server.generation
        await self._stopped.until(lambda: self.server.generation != generation)

    def start(self) -> None:
        """The server is back."""
        self.server.up = True

    # Fenced statements.

    def append(self, epoch: Epoch, batch: Sequence[Transition], reply: Reply[int | None]) -> None:
        """Write transitions under an epoch; answers how many rows were new, or None when the fence refused."""
        self._fenced(epoch, lambda: self._write(epoch, batch), reply)

    def begin_child(self, epoch: Epoch, parent: Saga, step: str, child: NewChild, reply: Reply[int | None]) -> None:
        """Begin a child saga under an epoch."""

        def begin() -> int:
            self.log.begin_child(parent, step, child)
            return 0

        self._fenced(epoch, begin, reply)

    def undo_child(
        self, epoch: Epoch, parent: Saga, step: str, asking: int, states: list[str], reply: Reply[int | None]
    ) -> None:
        """Have a child saga undo itself, under an epoch; its state goes into `states`."""

        def undo() -> int:
            states.append(self.log.undo_child(parent, step, asking))
            return 0

        self._fenced(epoch, undo, reply)

    def refuse(self, epoch: Epoch, heard: Sequence[Heard], reply: Reply[int | None]) -> None:
        """Refuse signals under an epoch."""

        def refuse() -> int:
            self.log.hear(heard)
            return 0

        self._fenced(epoch, refuse, reply)

    def park(self, epoch: Epoch, stored: StoredSaga, reason: str, reply: Reply[int | None]) -> None:
        """Park a saga under an epoch."""
        self._fenced(epoch, lambda: self._park(epoch, stored, reason), reply)

    def heed_pauses(
        self, epoch: Epoch, heeded: Collection[UUID], released: Collection[UUID], reply: Reply[int | None]
    ) -> None:
        """Take down that a leader goes by pauses."""

        def heed() -> int:
            self.log.heed_pauses(heeded, released)
            return 0

        self._fenced(epoch, heed, reply)

    def prove(self, epoch: Epoch, reply: Reply[int | None]) -> None:
        """Look whether the epoch holds the fence."""
        self._fenced(epoch, lambda: 0, reply)

    def _fenced(self, epoch: Epoch, effect: Callable[[], int], reply: Reply[int | None]) -> None:
        def start() -> None:
            if self.fencing is not Fencing.NONE and self.log.epoch != epoch:
                self._release(statement)
                self._trace.count("fenced_statements")
                reply.send(None)
            else:
                self._loop.schedule(self._loop.world, self._duration_s(), commit)

        def commit() -> None:
            if statement.undone or not reply.current:
                reply.reset()
                return
            rows = effect()
            if self.log.epoch != epoch:
                self._trace.note("written_unfenced", epoch)
            self._release(statement)
            reply.send(rows)

        statement = Statement(False, start)
        if self.fencing is Fencing.LOCKED:
            self._lock.acquire(statement)
        else:
            start()

    def _release(self, statement: Statement) -> None:
        if self.fencing is Fencing.LOCKED:
            self._lock.release(statement)

    def _write(self, epoch: Epoch, batch: Sequence[Transition]) -> int:
        at_s = self._loop.time()
        fresh = 0
        for saga, events, heard in batch:
            row = self.log.rows[saga.id]
            before = len(row.events)
            fresh += self.log.write(epoch, saga, events, heard)
            for event in row.events[before:]:
                self.history.rows.append(Logged(saga.id, event, at_s))
                self._trace.note("logged", saga.id, event.sequence, event.status, event.position, f"epoch={epoch}")
                self.written(saga, event)
        return fresh

    def _park(self, epoch: Epoch, stored: StoredSaga, reason: str) -> int:
        events = self.log.rows[stored.id].events
        before = len(events)
        self.log.park(epoch, stored, reason)
        for event in events[before:]:
            self.history.rows.append(Logged(stored.id, event, self._loop.time()))
            self._trace.note("logged", stored.id, event.sequence, event.status, 0, f"epoch={epoch}")
        return 0

    def raise_epoch(self, claim: Claim, seen: Epoch | None, reply: Reply[Epoch | None]) -> None:
        """Raise the epoch; answers the new one, or None when it was refused."""

        def start() -> None:
            self._loop.schedule(self._loop.world, self._duration_s(), commit)

        def commit() -> None:
            if statement.undone or not reply.current:
                reply.reset()
                return
            epoch = self.log.raised(claim, seen)
            if epoch is not None:
                self.history.raises.append(Raise(epoch, claim.holder, claim.cause, self._loop.time()))
                self._trace.note("epoch_raised", epoch, claim.holder, claim.cause, f"revision={claim.revision}")
                self.raised()
            self._release(statement)
            reply.send(epoch)

        statement = Statement(True, start)
        if self.fencing is Fencing.LOCKED:
            self._lock.acquire(statement)
        else:
            statement.run()

    def _duration_s(self) -> float:
        roll = self._chance.random()
        if roll < self.slow:
            return COMMIT_S + self.slow_max_s * self._chance.random()
        return COMMIT_S * (0.5 + roll)

    # What needs no fence.

    def due(self) -> list[StoredSaga]:
        """See `TermLog.due`."""
        return [self._flawed(stored) for stored in self.log.due()]

    def sagas(self, ids: Sequence[SagaId]) -> list[StoredSaga]:
        """See `TermLog.sagas`."""
        return [self._flawed(stored) for stored in self.log.sagas(ids)]

    def unfinished(self, state: SagaState, epoch: Epoch, after: SagaId | None, limit: int) -> list[StoredSaga]:
        """A page of the recovery scan; the rows of some sagas cannot be read."""
        return [self._flawed(stored) for stored in self.log.unfinished(state, epoch, after, limit)]

    def _flawed(self, stored: StoredSaga) -> StoredSaga:
        if stored.id not in self.history.corrupt:
            return stored
        fields = {name: getattr(stored, name) for name in StoredSaga.__slots__}
        return StoredSaga(**(fields | {"flaw": "row 1 is of no known status"}))

    def insert(self, new: NewSaga) -> SagaId:
        """Store a saga unless its request id is known; the saga that the request id belongs to."""
        known = self.history.requests.get(new.request_id)
        if known is not None:
            return known
        milliseconds = int(self._now().timestamp() * 1000)
        identity = saga_id(milliseconds, self._chance.getrandbits(RANDOM_BITS), after=self._last_id)
        self._last_id = self.history.requests[new.request_id] = identity
        row = Row(identity, new.definition, new.version, new.input, {}, self._now())
        if new.later_s is not None:
            row.starts_at = row.wake_at = self._now() + timedelta(seconds=new.later_s)
        self.log.rows[identity] = row
        self._trace.note("stored", identity, new.request_id, new.definition)
        self._notify()
        return identity

    def request_cancel(self, identity: SagaId, reason: str) -> None:
        """Ask for a cancellation; a saga that has ended, or is to be cancelled already, stays as it is."""
        row = self.log.rows[identity]
        if row.cancel_reason is None and not row.state.terminal:
            row.cancel_reason = reason
            self.history.cancelled_at_s[identity] = self._loop.time()
            self._trace.note("cancel_stored", identity)
            self._notify()

    def post(self, identity: SagaId, signal: Signal, key: int) -> Told:
        """Store a signal, once for its key, as api/signalling.py and signals.sql do."""
        if key in self.history.signals:
            return Told.STORED
        row = self.log.rows[identity]
        if row.state.terminal and not (row.state is SagaState.FAILED and signal.verb in HEARD_PARKED):
            return Told.ENDED
        if signal.verb in _ANSWERS and self._answer_waits(identity, signal.step):
            return Told.WAITS
        number = self.history.signals[key] = self.log.post(identity, signal)
        self._trace.note("signal_stored", number, identity, signal.verb, signal.step)
        self._notify()
        return Told.STORED

    def _answer_waits(self, identity: SagaId, step: str) -> bool:
        return any(
            not posted.heard and posted.saga_id == identity and posted.signal.step == step
            for posted in self.log.posted.values()
            if posted.signal.verb in _ANSWERS
        )

    def listen(self, told: Callable[[], None]) -> None:
        """Tell this one of every new saga and cancellation, until the server stops."""
        self._listeners[told] = None

    def unlisten(self, told: Callable[[], None]) -> None:
        """Take back `listen`."""
        self._listeners.pop(told, None)

    def _notify(self) -> None:
        for told in list(self._listeners):
            told()
