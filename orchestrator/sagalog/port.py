"""What the leader needs of the saga log, whatever keeps it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from orchestrator.saga.events import Event
from orchestrator.saga.model import Epoch, Json, Parent, Saga, SagaId, SagaState
from orchestrator.saga.pausing import HOLD_MOST_S, Pause
from orchestrator.saga.signals import Signal


@dataclass(frozen=True, slots=True)
class StoredSaga:
    """A saga as it lies in the log: its row, and its events in order. Nothing in it has been checked yet.

    `last_sequence` is the highest sequence of its rows, readable or not. `flaw` says why the rows could not be read.
    """

    id: SagaId
    definition: str
    version: int
    input: Json
    labels: dict[str, str]
    created_at: datetime
    cancel_reason: str | None
    events: tuple[Event, ...]
    last_sequence: int
    flaw: str | None = None
    parked: bool = False
    # What the row says, to be compared with what the events say; empty where nobody compares.
    state: str = ""
    starts_at: datetime | None = None
    parent: Parent | None = None

    @property
    def ended(self) -> bool:
        """Whether its row says that it has ended, or is parked: then it is not parked once more."""
        return self.parked or self.state in (SagaState.COMPLETED, SagaState.COMPENSATED)


@dataclass(frozen=True, slots=True)
class StoredSignal:
    """A signal that waits to be heeded; `signal` is None when this release does not know what it says."""

    saga_id: SagaId
    id: int
    signal: Signal | None


@dataclass(frozen=True, slots=True)
class Heard:
    """A signal was heeded, or refused with this reason."""

    signal_id: int
    refusal: str = ""


# What a leader has let go on, and what has not written yet that it goes on, sleeps no longer than so, in seconds.
RELEASED_LATELY_S = HOLD_MOST_S + 150.0


@dataclass(frozen=True, slots=True)
class StoredPause:
    """A pause as it lies in the log: since when a leader has gone by it, and who ended it, when and why.

    It is in force until `resumed_at`; from `released_at` on, a leader has let go on all that it held.
    """

    pause: Pause
    heeded_at: datetime | None = None
    resumed_by: str = ""
    resumed_reason: str = ""
    resumed_at: datetime | None = None
    released_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class StoredDefinition:
    """An immutable version of a definition; `descriptor_set` is a serialized FileDescriptorSet."""

    name: str
    version: int
    content_hash: str
    yaml: str
    descriptor_set: bytes
    created_at: datetime


class DefinitionStore(Protocol):
    """Keeps the versions of definitions. Every method raises LogUnavailable when the store does not answer."""

    async def get_definition(self, name: str, version: int) -> StoredDefinition | None:
        """One version; `version` 0 means the newest. None when there is no such version."""

    async def insert_definition(
        self, name: str, content_hash: str, yaml: str, descriptor_set: bytes
    ) -> tuple[StoredDefinition, bool]:
        """Store the next version, or find the one with exactly this content; True says that it was found."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Who claims the fence, and by which victory in etcd. `revision` is the etcd revision of the winning Txn."""

    shard: int
    holder: str
    etcd_cluster: str
    revision: int
    cause: str


@dataclass(frozen=True, slots=True)
class NewChild:
    """A saga that a step of another one runs."""

    id: SagaId
    definition: str
    version: int
    input: Json
    labels: dict[str, str]


def child_request(parent: SagaId, step: str) -> str:
    """The request id of the child saga of a step: one for each step, so that it is begun once."""
    return f"child:{parent}/{step}"


class TermLog(Protocol):
    """The saga log under one epoch. Every write proves that the epoch still holds the fence."""

    @property
    def epoch(self) -> Epoch:
        """The epoch under which this log writes."""

    @property
    def proven_at_s(self) -> float:
        """When the epoch was last proven by a write, in seconds of CLOCK_BOOTTIME: the time the write was sent."""

    def now(self) -> datetime:
        """The time by the store's clock, which all times of sagas go by, as far as the last answer told it."""

    async def append(self, saga: Saga, events: Sequence[Event], heard: Sequence[Heard] = ()) -> None:
        """Store `events` and the state of `saga`, which has them folded in; return when they are durable.

        The signals in `heard` count as heeded from then on.

        Raises Fenced when a later epoch holds the fence; nothing was stored then. While Postgres is away this
        waits: it does not return before the outcome is known.
        """

    async def begin_child(self, parent: Saga, step: str, child: NewChild) -> None:
        """Begin the child saga of a step, unless it was begun before or the parent does not run any more.

        Raises as `append` does.
        """

    async def undo_child(self, parent: Saga, step: str, asking: int) -> str:
        """Have the child saga of a step undo itself; its state, empty when it was never begun. Raises as `append`.

        Every time of `asking` has a number of its own: by it a repetition is known, and the child is told once.
        """

    async def refuse(self, heard: Sequence[Heard]) -> None:
        """Signals that no saga can heed, with the reasons. Raises as `append` does."""

    async def park(self, stored: StoredSaga, reason: str) -> None:
        """Park a saga whose rows cannot be understood, with the reason. Raises as `append` does."""

    async def prove(self) -> None:
        """Prove the epoch without writing. Raises Fenced, or LogUnavailable when Postgres does not answer."""

    def forget(self, sagas: Collection[SagaId]) -> None:
        """These sagas, which are over, are about to be removed: that their rows are missing then is no loss."""

    def unfinished(self, first: int, most: int) -> AsyncGenerator[list[StoredSaga]]:
        """Every saga with something to do, running or compensating, that this epoch has not written yet, oldest first.

        The pages grow from `first` sagas to at most `most`. Raises LogUnavailable.
        """

    async def pending(self, limit: int, exclude: Sequence[SagaId]) -> list[StoredSaga]:
        """At most `limit` sagas that nobody has begun, oldest first, without those in `exclude`."""

    async def cancellations(self) -> list[tuple[SagaId, str]]:
        """Sagas that have not turned back and whose cancellation was asked for, with the reasons."""

    def due(self, page: int) -> AsyncGenerator[list[StoredSaga]]:
        """Every saga that slept until a time that has come, the earliest first, in pages. Raises LogUnavailable."""

    async def next_due_s(self) -> float | None:
        """In how many seconds the next saga is due that sleeps until a time; None when none does."""

    async def sagas(self, ids: Sequence[SagaId]) -> list[StoredSaga]:
        """These sagas, in whatever state they are; those that do not exist are left out."""

    async def signals(self, after: int, page: int) -> list[StoredSignal]:
        """At most `page` signals that nobody has heeded, behind the id `after`, in their order."""

    async def pauses(self) -> list[StoredPause]:
        """The pauses in force, and those that have ended: what they held may sleep still, until RELEASED_LATELY_S after
        a leader has released them."""

    def held(self, until: datetime, page: int) -> AsyncGenerator[list[StoredSaga]]:
        """Every saga that a pause has held and that sleeps no longer than until `until`. Raises LogUnavailable."""

    async def heed_pauses(self, heeded: Collection[UUID], released: Collection[UUID]) -> None:
        """This leader goes by these pauses, and has let go on what those held. Raises as `append` does."""

    async def run(self) -> None:
        """Write what `append` queues, until cancelled. Raises Fenced; Resign when the store stays away too long."""

    async def listen(self, wake: Callable[[], None]) -> None:
        """Call `wake` whenever somebody stored a saga or asked for a cancellation, until cancelled.

        A notification may be lost when the connection is: whoever listens looks for itself from time to time.
        """

    async def close(self) -> None:
        """Drop the connections. What waits in `append` is abandoned."""


class SagaLog(Protocol):
    """Where a term begins: the fence."""

    async def raise_epoch(self, claim: Claim) -> TermLog | None:
        """Raise the epoch (R2) and return the log under it.

        None when the fence has seen a higher revision of the same etcd cluster: the caller then confirms its
        victory by a linearizable read and calls `raise_epoch_again`. Raises LogUnavailable.
        """

    async def raise_epoch_again(self, claim: Claim) -> TermLog:
        """Raise the epoch by compare-and-swap on the epoch that is there, whatever the revisions say.

        For a victory that was confirmed by a linearizable read after etcd's history was restored.
        Raises Fenced when somebody else raised it meanwhile, LogUnavailable when Postgres does not answer.
        """

    async def reachable(self) -> bool:
        """Whether Postgres answers, and takes writes, now."""
