"""A model of etcd in memory, for tests and simulation: the contract of port.py and nothing more.

One MemoryStore is the cluster; each replica has a MemoryCoordinator of its own, so that a test can cut one off.
Time is the event loop's, so leases expire on a virtual clock as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from orchestrator.errors import InvariantError
from orchestrator.leadership.errors import CoordinatorAway, HistoryGone, LeaseGone, OutcomeUnknown
from orchestrator.leadership.lease import Lease
from orchestrator.leadership.port import (
    NO_LEASE,
    Change,
    Delete,
    Entry,
    Equal,
    Field,
    Get,
    LeaseId,
    Put,
    Snapshot,
    Txn,
    TxnResult,
)
from orchestrator.leadership.pulse import Clock


@dataclass(slots=True)
class _Grant:
    ttl_s: float
    expires_at_s: float
    timer: asyncio.TimerHandle


class MemoryStore:
    """Keys, leases and history, changed by one operation at a time."""

    def __init__(self, cluster: str = "memory") -> None:
        self.cluster = cluster
        self.revision = 1
        self.entries: dict[str, Entry] = {}
        self.history: list[tuple[Change, ...]] = []
        self.compacted = 0
        self.pasts = 0
        self.changed = asyncio.Event()
        self._leases: dict[LeaseId, _Grant] = {}
        self._next_lease = 1

    def grant(self, ttl_s: int) -> LeaseId:
        """A new lease that the store ends by itself `ttl_s` seconds after its last renewal."""
        lease = LeaseId(self._next_lease)
        self._next_lease += 1
        loop = asyncio.get_running_loop()
        self._leases[lease] = _Grant(ttl_s, loop.time() + ttl_s, loop.call_later(ttl_s, self._expire, lease))
        return lease

    def knows(self, lease: LeaseId) -> bool:
        """Whether a lease is alive."""
        return lease in self._leases

    def renew(self, lease: LeaseId) -> float:
        """Seconds left after a keep-alive; 0 when the lease is gone."""
        grant = self._leases.get(lease)
        if grant is None:
            return 0
        grant.expires_at_s = asyncio.get_running_loop().time() + grant.ttl_s
        return grant.ttl_s

    def revoke(self, lease: LeaseId) -> None:
        """End a lease; all its keys vanish at one revision."""
        grant = self._leases.pop(lease, None)
        if grant is not None:
            grant.timer.cancel()
            self._commit({key: None for key, entry in self.entries.items() if entry.lease == lease})

    def run(self, txn: Txn) -> TxnResult:
        """Run a transaction. Raises LeaseGone, having done nothing, when it puts under a lease that does not exist."""
        succeeded = all(self._holds(condition) for condition in txn.when)
        operations = txn.then if succeeded else txn.otherwise
        found: list[Entry] = []
        writes: dict[str, Put | None] = {}
        for operation in operations:
            match operation:
                case Get(key):
                    found += [self.entries[key]] if key in self.entries else []
                case Put(key, _, lease):
                    if lease != NO_LEASE and lease not in self._leases:
                        raise LeaseGone(f"the store does not know the lease {lease}")
                    writes[key] = operation
                case Delete(key):
                    writes |= {key: None} if key in self.entries else {}
        self._commit(writes)
        return TxnResult(succeeded, tuple(found), self.revision, self.cluster)

    def compact(self, revision: int) -> None:
        """Forget the history before a revision."""
        self.compacted = revision

    def rewind(self) -> None:
        """Lose everything, as an etcd that was wiped, or restored from before the first key."""
        for grant in self._leases.values():
            grant.timer.cancel()
        self._leases.clear()
        self.entries.clear()
        self.history.clear()
        self.revision, self.compacted = 1, 0
        self.pasts += 1
        self.changed.set()
        self.changed = asyncio.Event()

    def since(self, prefix: str, revision: int) -> tuple[tuple[Change, ...], ...]:
        """The changes below a prefix from a revision on, one tuple a revision. Raises HistoryGone."""
        if revision < self.compacted or revision > self.revision + 1:
            raise HistoryGone(f"revision {revision} is not in the history: read again")
        below = (tuple(c for c in batch if c.key.startswith(prefix)) for batch in self.history)
        return tuple(batch for batch in below if batch and batch[0].revision >= revision)

    def _expire(self, lease: LeaseId) -> None:
        loop = asyncio.get_running_loop()
        grant = self._leases[lease]
        if loop.time() < grant.expires_at_s:
            grant.timer = loop.call_at(grant.expires_at_s, self._expire, lease)
        else:
            self.revoke(lease)

    def _commit(self, writes: dict[str, Put | None]) -> None:
        if not writes:
            return
        self.revision += 1
        batch = []
        for key, put in writes.items():
            before = self.entries.pop(key, None)
            if put is not None:
                created = before.created if before else self.revision
                self.entries[key] = Entry(key, put.value, self.revision, created, put.lease)
            batch.append(Change(key, self.entries.get(key), self.revision))
        self.history.append(tuple(batch))
        self.changed.set()
        self.changed = asyncio.Event()

    def _holds(self, condition: Equal) -> bool:
        entry = self.entries.get(condition.key)
        match condition.field:
            case Field.CREATED:
                return (entry.created if entry else 0) == condition.value
            case Field.MOD_REVISION:
                return (entry.mod_revision if entry else 0) == condition.value
            case Field.LEASE:
                return (entry.lease if entry else NO_LEASE) == condition.value
            case Field.VALUE:
                return entry is not None and entry.value == condition.value


class MemoryCoordinator:
    """One replica's way to the store. `away` cuts it off; `lose_answers` lets transactions happen unheard.

    `token_expired` is what etcd does with users and passwords: a call fetches a new token and is answered; a watch
    fetches one as well, but it ends, and has to be begun again.
    """

    address = "memory"

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.away = False
        self.lose_answers = 0
        self.token_expired = False

    async def range(self, prefix: str) -> Snapshot:
        """Every key below `prefix`."""
        await self._reach()
        found = tuple(entry for key, entry in sorted(self.store.entries.items()) if key.startswith(prefix))
        return Snapshot(found, self.store.revision, self.store.cluster)

    async def txn(self, txn: Txn) -> TxnResult:
        """Run a transaction once."""
        await self._reach()
        result = self.store.run(txn)
        if self.lose_answers > 0:
            self.lose_answers -= 1
            raise OutcomeUnknown("the answer was lost")
        return result

    async def grant(self, ttl_s: int) -> tuple[LeaseId, int]:
        """A new lease."""
        await self._reach()
        return self.store.grant(ttl_s), ttl_s

    async def revoke(self, lease: LeaseId) -> None:
        """End a lease and delete its keys."""
        await self._reach()
        self.store.revoke(lease)

    async def watch(self, prefix: str, from_revision: int) -> AsyncGenerator[tuple[Change, ...]]:
        """Every change below `prefix` from that revision on."""
        expired = self.token_expired
        await self._reach()
        if expired:
            raise CoordinatorAway("the store keeps no watch: permission denied")
        pasts = self.store.pasts
        while True:
            changed = self.store.changed
            batches = self.store.since(prefix, from_revision)
            if pasts != self.store.pasts:
                # With the store's past went its connections: this is the next one.
                pasts = self.store.pasts
                yield ()
                continue
            for batch in batches:
                await self._reach()
                from_revision = batch[-1].revision + 1
                yield batch
            await changed.wait()

    async def _reach(self) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise CoordinatorAway("the store is out of reach")
        self.token_expired = False


class MemoryRenewal:
    """Renews a lease of the store by timers of the event loop, as the renewal thread does by its own clock."""

    def __init__(self, coordinator: MemoryCoordinator, clock: Clock, *, interval_s: float, margin_s: float) -> None:
        self._coordinator = coordinator
        self._clock = clock
        self._interval_s = interval_s
        self._margin_s = margin_s
        self._lease: Lease | None = None
        self._timer: asyncio.TimerHandle | None = None

    def hold(self, lease: Lease) -> None:
        """Renew this lease from now on."""
        self.release()
        self._lease = lease
        self._timer = asyncio.get_running_loop().call_later(self._interval_s, self._renew)

    def release(self) -> None:
        """Renew nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._lease = None

    def lease(self) -> Lease | None:
        """What is known of the lease held now."""
        return self._lease

    def _renew(self) -> None:
        if self._lease is None:
            raise InvariantError("a renewal without a lease")
        if not self._coordinator.away:
            ttl_s = self._coordinator.store.renew(LeaseId(self._lease.id))
            self._lease = self._lease.renewed(self._clock(), ttl_s, self._margin_s)
        self._timer = asyncio.get_running_loop().call_later(self._interval_s, self._renew)
