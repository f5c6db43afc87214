"""What a campaign needs from the world, as protocols: a coordinator, a lease kept alive, an eye on the leader.

The campaign and everything that is decided in it run on these alone, so that a simulation can drive them. Real etcd
is etcd.py, its model in memory is memory.py; one contract suite holds both to what is written here.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import NewType, Protocol

from orchestrator.leadership.lease import Lease
from orchestrator.leadership.pulse import Clock, boottime_s
from orchestrator.leadership.verdict import Verdict

LeaseId = NewType("LeaseId", int)
NO_LEASE = LeaseId(0)


@dataclass(frozen=True, slots=True)
class Entry:
    """A key with its value. `mod_revision` is the revision of its last change, `created` that of its creation."""

    key: str
    value: bytes
    mod_revision: int
    created: int
    lease: LeaseId = NO_LEASE


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The keys found, and the revision and the cluster they were found at. Watch on from `revision + 1`."""

    entries: tuple[Entry, ...]
    revision: int
    cluster: str


@dataclass(frozen=True, slots=True)
class Change:
    """One key put, or deleted when `entry` is None, at a revision. An expired lease deletes all its keys at one."""

    key: str
    entry: Entry | None
    revision: int


class Field(StrEnum):
    """What of a key a transaction compares.

    A key that does not exist has both revisions 0 and no lease, and equals no value.
    """

    CREATED = "created"
    MOD_REVISION = "mod_revision"
    VALUE = "value"
    LEASE = "lease"


@dataclass(frozen=True, slots=True)
class Equal:
    """The condition that a field of a key equals a value."""

    key: str
    field: Field
    value: int | bytes


@dataclass(frozen=True, slots=True)
class Get:
    """Read one key."""

    key: str


@dataclass(frozen=True, slots=True)
class Put:
    """Write one key, bound to a lease."""

    key: str
    value: bytes
    lease: LeaseId = NO_LEASE


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete one key, if it is there."""

    key: str


Operation = Get | Put | Delete


@dataclass(frozen=True, slots=True)
class Txn:
    """If all of `when` holds do `then`, else `otherwise`: at once, atomically."""

    when: tuple[Equal, ...]
    then: tuple[Operation, ...]
    otherwise: tuple[Operation, ...] = ()


@dataclass(frozen=True, slots=True)
class TxnResult:
    """What a transaction did: whether `then` was done, and the keys that the Gets of the branch taken found."""

    succeeded: bool
    found: tuple[Entry, ...]
    revision: int
    cluster: str


class Coordinator(Protocol):
    """A linearizable key-value store with leases and watches: etcd.

    Every method ends within a deadline. All raise CoordinatorAway when nobody answers and CoordinatorRefused when the
    store says no.
    """

    @property
    def address(self) -> str:
        """Where it is, for people."""
        ...

    async def range(self, prefix: str) -> Snapshot:
        """Every key below `prefix`, linearizable."""
        ...

    async def txn(self, txn: Txn) -> TxnResult:
        """Run a transaction once. Raises OutcomeUnknown when it may or may not have happened, LeaseGone."""
        ...

    async def grant(self, ttl_s: int) -> tuple[LeaseId, int]:
        """A new lease of at least `ttl_s` seconds, and the seconds really granted."""
        ...

    async def revoke(self, lease: LeaseId) -> None:
        """End a lease and delete its keys; a lease that is gone already is no error."""
        ...

    def watch(self, prefix: str, from_revision: int) -> AsyncGenerator[tuple[Change, ...]]:
        """Every change below `prefix` from that revision on, without a hole; changes of one revision come together.

        An empty batch says that the watch was lost and goes on. The history that it goes on in may be another one by
        then, which nobody can tell once it has reached this revision: read the keys again. Raises HistoryGone when
        the revision is compacted, or when the store's history was seen to be replaced.
        """
        ...


class Renewal(Protocol):
    """Keeps one lease alive, independently of the main loop's tasks."""

    def hold(self, lease: Lease) -> None:
        """Renew this lease from now on, in place of any other."""
        ...

    def release(self) -> None:
        """Renew nothing any more."""
        ...

    def lease(self) -> Lease | None:
        """What is known of the lease held now."""
        ...


@dataclass(frozen=True, slots=True)
class Member:
    """A replica as it describes itself in etcd. `incarnation` differs at each start of its process."""

    replica_id: str
    incarnation: str
    peer_address: str
    api_address: str
    http_address: str
    pid: int
    version: str


class Eye(Protocol):
    """Watches one leader after another directly, process to process."""

    @property
    def last_sign_s(self) -> float | None:
        """When the leader that is or was observed last gave a sign of life, by CLOCK_BOOTTIME; None: never."""
        ...

    async def observe(self, leader: Member) -> Verdict:
        """Return only with evidence that this process does not run any more; cancel it when the key changes."""
        ...


# Whether the replica could lead now, for instance whether Postgres answers. Ends within a deadline of its own.
MayCampaign = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class World:
    """Everything outside of a campaign that it speaks to, and the clock it reads: CLOCK_BOOTTIME in seconds."""

    coordinator: Coordinator
    renewal: Renewal
    eye: Eye
    may_campaign: MayCampaign
    clock: Clock = boottime_s
