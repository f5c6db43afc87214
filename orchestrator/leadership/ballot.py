"""The transactions on the leader's key: claim it, withdraw from it.

Each carries a comparison, so that one whose answer was lost can be repeated, and the repetition tells what happened.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from functools import partial

import structlog

from orchestrator.errors import InvariantError
from orchestrator.leadership.board import Board, Holder, Leaving
from orchestrator.leadership.errors import CoordinatorError, LeaseGone
from orchestrator.leadership.keys import encode
from orchestrator.leadership.membership import Membership
from orchestrator.leadership.pace import CampaignPace
from orchestrator.leadership.port import Coordinator, Delete, Equal, Field, Get, LeaseId, Member, Put, Txn, TxnResult
from orchestrator.leadership.signal import Signal

log = structlog.get_logger()


class Ballot:
    """One replica's hand on the leader's key. Whatever it does or finds, the board learns."""

    def __init__(
        self,
        key: str,
        me: Member,
        coordinator: Coordinator,
        board: Board,
        membership: Membership,
        signal: Signal,
        pace: CampaignPace,
    ) -> None:
        self._key = key
        self._me = me
        self._coordinator = coordinator
        self._board = board
        self._membership = membership
        self._signal = signal
        self._pace = pace

    def ours(self, holder: Holder | None) -> bool:
        """Whether this very process is the holder."""
        return holder is not None and holder.member.incarnation == self._me.incarnation

    async def claim(
        self, holder: Holder | None, lease: LeaseId, moved_on: Callable[[Holder | None], bool]
    ) -> TxnResult | None:
        """Claim the key that `holder` has, until the outcome is known; what won it, or None: it is another's.

        While etcd does not answer, `moved_on` says whether the key that a holder has is still worth waiting for.
        """
        put = Put(self._key, encode(self._me), lease)
        retry_s = self._pace.retry_first_s
        for attempt in itertools.count(1):
            # What is sent to an etcd that has just lost its own leader is never answered: asking again soon finds the
            # new one at once. An etcd that is slow gets all the time it needs, after a few tries.
            hurried = attempt <= self._pace.claims_hurried
            asked, seen = self._board.asked, holder
            try:
                async with asyncio.timeout(self._pace.claim_hurry_s if hurried else None):
                    result = await self._coordinator.txn(Txn((self._held_by(holder),), (put,), (Get(self._key),)))
            except LeaseGone:
                self._membership.forget(lease)
                return None
            except TimeoutError:
                log.warning("claim_open", reason="no answer yet", reaction="repeating it")
            except CoordinatorError as error:
                log.warning("claim_open", reason=str(error), reaction="repeating it")
                await self._signal.until(partial(moved_on, seen), retry_s)
                retry_s = min(2 * retry_s, self._pace.claim_hurry_s if hurried else self._pace.retry_max_s)
            else:
                if result.succeeded:
                    self._board.learn(Holder(self._me, result.revision, lease), result.revision, asked)
                    return result
                self._learn_found(result, asked, Leaving.UNSEEN)
            # An earlier try may have happened unheard: then the key is ours, and is claimed again by comparison.
            holder = self._board.leader
            if moved_on(holder) or self._membership.lease_id != lease or not (self.ours(holder) or holder == seen):
                return None
        raise InvariantError("counting has ended")

    async def withdraw(self, mod_revision: int) -> bool:
        """Delete the key if it is still what this replica wrote at that revision; False if etcd did not answer."""
        asked = self._board.asked
        unchanged = Equal(self._key, Field.MOD_REVISION, mod_revision)
        try:
            result = await self._coordinator.txn(Txn((unchanged,), (Delete(self._key),), (Get(self._key),)))
        except CoordinatorError as error:
            log.warning("key_not_deleted", reason=str(error), reaction="the lease ends it, or a later try")
            return False
        self._learn_found(result, asked, Leaving.DELETED)
        return True

    def _held_by(self, holder: Holder | None) -> Equal:
        if holder is None:
            return Equal(self._key, Field.CREATED, 0)
        return Equal(self._key, Field.MOD_REVISION, holder.mod_revision)

    def _learn_found(self, result: TxnResult, asked: int, leaving: Leaving) -> None:
        found = Holder.of(result.found[0]) if result.found else None
        self._board.learn(found, result.revision, asked, leaving)
