"""This replica's lease, and the key by which it says that it runs: granted, kept, and granted anew when lost."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from orchestrator.leadership.board import Board
from orchestrator.leadership.errors import CoordinatorError, LeaseGone, OutcomeUnknown
from orchestrator.leadership.keys import Keys, encode
from orchestrator.leadership.lease import Lease, LeaseState
from orchestrator.leadership.port import Coordinator, LeaseId, Member, Put, Renewal, Txn
from orchestrator.leadership.pulse import Clock
from orchestrator.leadership.signal import Signal

log = structlog.get_logger()

_RETRY_FIRST_S = 0.05
_RETRY_MAX_S = 1.0


@dataclass(frozen=True, slots=True)
class LeaseTerms:
    """What lease to ask for: `ttl_s` seconds, relied on for `margin_s` less, its state looked at each `look_s`."""

    ttl_s: int = 2
    margin_s: float = 0.2
    look_s: float = 0.05


class Membership:
    """Keeps one replica a member of its cluster. `lease_id` is None while it has no lease to campaign with."""

    def __init__(
        self,
        me: Member,
        coordinator: Coordinator,
        renewal: Renewal,
        board: Board,
        keys: Keys,
        terms: LeaseTerms,
        signal: Signal,
        clock: Clock,
    ) -> None:
        self._me = me
        self._coordinator = coordinator
        self._renewal = renewal
        self._board = board
        self._key = keys.replica(me.replica_id)
        self._terms = terms
        self._signal = signal
        self._clock = clock
        self._written_at_s = 0.0
        self.lease_id: LeaseId | None = None
        self.trouble: str | None = "no lease from etcd yet"

    @property
    def lease(self) -> Lease | None:
        """The lease that this replica holds, as far as it knows."""
        lease = self._renewal.lease()
        return lease if lease is not None and lease.id == self.lease_id else None

    def left_s(self) -> float:
        """Seconds for which the lease can still be relied on; 0 when there is none."""
        lease = self.lease
        return 0.0 if lease is None else lease.left_s(self._clock())

    def forget(self, lease: LeaseId) -> None:
        """Etcd says that this lease is gone: take no further part under it."""
        if self.lease_id == lease:
            log.error("lease_lost", lease=f"{lease:x}")
            self.lease_id = None
            self.trouble = "the lease was lost, no new one yet"
            self._renewal.release()
            self._signal.notify()

    async def run(self) -> None:
        """Hold a lease until cancelled, through every trouble with etcd."""
        retry_s = _RETRY_FIRST_S
        while True:
            try:
                await self._join()
                retry_s = _RETRY_FIRST_S
                await self._stay()
            except CoordinatorError as error:
                if self.trouble != str(error):
                    log.warning("no_lease", reason=str(error), reaction="asking again")
                self.trouble = str(error)
                self._signal.notify()
            await asyncio.sleep(retry_s)
            retry_s = min(2 * retry_s, _RETRY_MAX_S)

    async def leave(self) -> None:
        """Give the lease back, and with it every key of this replica. Call it when `run` has ended.

        Raises CoordinatorAway: then the lease runs out by itself.
        """
        lease, self.lease_id = self.lease_id, None
        self._renewal.release()
        if lease is not None:
            await self._coordinator.revoke(lease)

    async def _join(self) -> None:
        asked_at_s = self._clock()
        lease, ttl_s = await self._coordinator.grant(self._terms.ttl_s)
        self._renewal.hold(Lease.granted(lease, asked_at_s, ttl_s, self._terms.margin_s))
        await self._write(lease)
        self.lease_id, self.trouble = lease, None
        log.info("lease_granted", lease=f"{lease:x}", ttl_s=ttl_s)
        self._signal.notify()

    async def _write(self, lease: LeaseId) -> None:
        """Say that this replica runs. Said twice does no harm, so an unknown outcome is simply repeated."""
        put = Txn((), (Put(self._key, encode(self._me), lease),))
        self._written_at_s = self._clock()
        try:
            await self._coordinator.txn(put)
        except OutcomeUnknown:
            await self._coordinator.txn(put)

    async def _stay(self) -> None:
        """Return when the lease is lost."""
        while (lease := self.lease_id) is not None:
            known = self.lease
            if known is None or known.state(self._clock()) is LeaseState.LOST:
                self.forget(lease)
                return
            try:
                await self._say_again(lease)
            except LeaseGone:
                self.forget(lease)
                return
            await asyncio.sleep(self._terms.look_s)

    async def _say_again(self, lease: LeaseId) -> None:
        """Write the replica's key again when somebody deleted it; complain when it speaks of another process."""
        said = self._board.members.get(self._me.replica_id)
        if not self._board.known or said == self._me or self._clock() - self._written_at_s < self._terms.ttl_s:
            return
        if said is not None:
            log.error(
                "replica_id_taken",
                replica=self._me.replica_id,
                other_peer_address=said.peer_address,
                reaction="give each replica an id of its own",
            )
            self._written_at_s = self._clock() + 60
            return
        await self._write(lease)
