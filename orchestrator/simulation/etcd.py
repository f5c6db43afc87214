"""The simulated etcd: the model of memory.py behind a network, with quorum to lose and a past to go back to."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from orchestrator.leadership.errors import CoordinatorAway, CoordinatorError, HistoryGone, OutcomeUnknown
from orchestrator.leadership.lease import Lease
from orchestrator.leadership.memory import MemoryStore
from orchestrator.leadership.port import Change, Entry, LeaseId, Put, Snapshot, Txn, TxnResult
from orchestrator.simulation.loop import Handle, Process, SimulationLoop
from orchestrator.simulation.network import Network, NoAnswer, Reply, Server, Weather

T = TypeVar("T")

ASK_TIMEOUT_S = 1.0
# A watch without any news is asked again after so long; that is also how a silent cut is noticed.
WATCH_SILENCE_S = 2.0
RENEW_INTERVAL_S = 0.4
MARGIN_S = 0.2
# A main loop that stalls longer is not vouched for, as in renewal.py.
STALL_MAX_S = 1.5


@dataclass(frozen=True, slots=True)
class Saved:
    """A snapshot of the store."""

    cluster: str
    revision: int
    entries: dict[str, Entry]
    leases: dict[LeaseId, float]


class EtcdModel(MemoryStore):
    """The cluster of etcd as one server. Without `quorum` nothing is answered and no lease ends."""

    def __init__(self, loop: SimulationLoop) -> None:
        super().__init__("etcd-1")
        self.server = Server("etcd")
        self.quorum = True
        self.history_number = 0
        self._loop = loop
        self._waiting: dict[_Poll, None] = {}
        self._proposed: list[Callable[[], object]] = []

    def regain_quorum(self) -> None:
        """A new leader of etcd: what was proposed meanwhile happens, and every lease begins anew."""
        self.quorum = True
        for lease in list(self._leases):
            self.renew(lease)
        proposed, self._proposed = self._proposed, []
        for apply in proposed:
            apply()

    def propose(self, apply: Callable[[], object]) -> None:
        """What is sent to a member without quorum and may happen once there is one again."""
        self._proposed.append(apply)

    def save(self) -> Saved:
        """A snapshot, as a backup takes it."""
        leases = {lease: grant.ttl_s for lease, grant in self._leases.items()}
        return Saved(self.cluster, self.revision, dict(self.entries), leases)

    def restore(self, saved: Saved, cluster: str) -> None:
        """Go back to a snapshot, as a cluster of this id; every stream ends."""
        self.rewind()
        self.cluster, self.revision, self.compacted = cluster, saved.revision, saved.revision
        self.entries = dict(saved.entries)
        for lease, ttl_s in saved.leases.items():
            self._next_lease = lease
            self.grant(int(ttl_s))
        self._next_lease += 1000
        self._part()

    def wipe(self, cluster: str) -> None:
        """Begin again with nothing; every stream ends."""
        self.rewind()
        self.cluster = cluster
        self._part()

    def _part(self) -> None:
        self.history_number += 1
        waiting, self._waiting = self._waiting, {}
        for poll in waiting:
            poll.reply.fail(HistoryGone("etcd's history was replaced"))

    def poll(self, prefix: str, from_revision: int, history: int, reply: Reply[tuple[tuple[Change, ...], ...]]) -> None:
        """Answer with the changes from a revision on, at once or when there are some."""
        if history != self.history_number:
            reply.fail(HistoryGone("etcd's history was replaced"))
            return
        poll = _Poll(prefix, from_revision, reply)
        if not self._answer(poll):
            self._waiting[poll] = None
            self._loop.schedule(self._loop.world, WATCH_SILENCE_S, self._give_up, poll)

    def _answer(self, poll: _Poll) -> bool:
        try:
            batches = self.since(poll.prefix, poll.from_revision)
        except HistoryGone as error:
            poll.reply.fail(error)
            return True
        if batches:
            poll.reply.send(batches)
        return bool(batches)

    def _give_up(self, poll: _Poll) -> None:
        if poll in self._waiting:
            del self._waiting[poll]
            poll.reply.send(())

    def _commit(self, writes: dict[str, Put | None]) -> None:
        super()._commit(writes)
        for poll in list(self._waiting):
            if self._answer(poll):
                del self._waiting[poll]

    def _expire(self, lease: LeaseId) -> None:
        if self.quorum:
            super()._expire(lease)
        else:
            self._leases[lease].timer = self._loop.call_later(0.5, self._expire, lease)


class _Poll:
    """A watch that waits for news at the server."""

    __slots__ = ("from_revision", "prefix", "reply")

    def __init__(self, prefix: str, from_revision: int, reply: Reply[tuple[tuple[Change, ...], ...]]) -> None:
        self.prefix = prefix
        self.from_revision = from_revision
        self.reply = reply


class RemoteEtcd:
    """Implements `Coordinator` for one replica."""

    address = "etcd"

    def __init__(self, etcd: EtcdModel, network: Network, process: Process, weather: Weather) -> None:
        self.etcd = etcd
        self._network = network
        self._process = process
        self._weather = weather

    async def range(self, prefix: str) -> Snapshot:
        """Every key below `prefix`."""
        return await self._ask(lambda: self._range(prefix))

    def _range(self, prefix: str) -> Snapshot:
        etcd = self.etcd
        found = tuple(entry for key, entry in sorted(etcd.entries.items()) if key.startswith(prefix))
        return Snapshot(found, etcd.revision, etcd.cluster)

    async def txn(self, txn: Txn) -> TxnResult:
        """Run a transaction once."""
        try:
            return await self._ask(lambda: self.etcd.run(txn), proposal=bool(txn.then))
        except CoordinatorAway as error:
            if isinstance(error.__cause__, NoAnswer) and not error.__cause__.sent:
                raise
            raise OutcomeUnknown("the transaction may have happened") from error

    async def grant(self, ttl_s: int) -> tuple[LeaseId, int]:
        """A new lease."""
        return await self._ask(lambda: (self.etcd.grant(ttl_s), ttl_s))

    async def revoke(self, lease: LeaseId) -> None:
        """End a lease and delete its keys."""
        await self._ask(lambda: self.etcd.revoke(lease), proposal=True)

    async def watch(self, prefix: str, from_revision: int) -> AsyncGenerator[tuple[Change, ...]]:
        """Every change below `prefix` from that revision on, asked for again and again."""
        history = self.etcd.history_number
        while True:
            asked = from_revision

            def serve(reply: Reply[tuple[tuple[Change, ...], ...]], asked: int = asked) -> None:
                if self.etcd.quorum:
                    self.etcd.poll(prefix, asked, history, reply)

            try:
                batches = await self._network.ask(
                    self._process, self.etcd.server, self._weather, serve, WATCH_SILENCE_S + ASK_TIMEOUT_S
                )
            except NoAnswer as error:
                raise CoordinatorAway("the watch is silent") from error
            for batch in batches:
                from_revision = batch[-1].revision + 1
                yield batch

    async def _ask(self, run: Callable[[], T], proposal: bool = False) -> T:
        def serve(reply: Reply[T]) -> None:
            if self.etcd.quorum:
                _answer(run, reply)
            elif proposal:
                # It waits in the log of a member that has lost its leader.
                self.etcd.propose(lambda: _answer(run, reply))

        try:
            return await self._network.ask(self._process, self.etcd.server, self._weather, serve, ASK_TIMEOUT_S)
        except NoAnswer as error:
            raise CoordinatorAway("etcd does not answer") from error


def _answer(run: Callable[[], T], reply: Reply[T]) -> None:
    try:
        reply.send(run())
    except CoordinatorError as error:
        reply.fail(error)


class RemoteRenewal:
    """Implements `Renewal`: renews by timers of the replica's threads, while its main loop beats."""

    def __init__(
        self,
        etcd: EtcdModel,
        network: Network,
        threads: Process,
        weather: Weather,
        loop: SimulationLoop,
        stalled_s: Callable[[], float],
    ) -> None:
        self._etcd = etcd
        self._network = network
        self._threads = threads
        self._weather = weather
        self._loop = loop
        self._stalled_s = stalled_s
        self._lease: Lease | None = None
        self._timer: Handle | None = None

    def hold(self, lease: Lease) -> None:
        """Renew this lease from now on."""
        self.release()
        self._lease = lease
        self._timer = self._loop.schedule(self._threads, RENEW_INTERVAL_S, self._renew)

    def release(self) -> None:
        """Renew nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._lease = None

    def lease(self) -> Lease | None:
        """What is known of the lease held now."""
        return self._lease

    def _renew(self) -> None:
        lease = self._lease
        if lease is None or self._threads.dead:
            return
        if not lease.lost and self._stalled_s() <= STALL_MAX_S:
            sent_at_s = self._loop.time()
            lease_id = LeaseId(lease.id)

            def serve(reply: Reply[float]) -> None:
                if self._etcd.quorum:
                    reply.send(self._etcd.renew(lease_id))

            def answered(ttl_s: Any, error: BaseException | None) -> None:
                # The answer waits in the socket of a frozen process.
                if error is None:
                    self._loop.schedule(self._threads, 0.0, self._renewed, lease_id, sent_at_s, ttl_s)

            self._network.post(self._threads, self._etcd.server, self._weather, serve, answered)
        self._timer = self._loop.schedule(self._threads, RENEW_INTERVAL_S, self._renew)

    def _renewed(self, lease_id: LeaseId, sent_at_s: float, ttl_s: float) -> None:
        if self._lease is not None and self._lease.id == lease_id:
            self._lease = self._lease.renewed(sent_at_s, ttl_s, MARGIN_S)
