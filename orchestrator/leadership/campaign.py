"""A replica's campaign for the leadership of one shard: stand by, win, lead, give up, and stand by again.

It runs on the ports alone. Its rules are R1, R9 and R10 of the design:

- Leadership comes from the outcome of a transaction, never from a read (ballot.py).
- There is no queue: when the leader's key vanishes, every standby claims it at once and etcd picks one.
- A standby takes the key of a leader that was found gone or frozen, by compare-and-swap on the revision of the key
  it saw. A wrong accusation costs one failover, never safety: the epoch in Postgres decides who may write.
- A term ends when the key is another's, or etcd says that the lease is gone. That etcd is away ends nothing.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

import structlog

from orchestrator.errors import Fenced, Resign
from orchestrator.leadership.ballot import Ballot
from orchestrator.leadership.board import Board, Holder, Leaving
from orchestrator.leadership.errors import CoordinatorError
from orchestrator.leadership.keys import Keys
from orchestrator.leadership.membership import Membership
from orchestrator.leadership.pace import Paces
from orchestrator.leadership.port import Member, World
from orchestrator.leadership.readiness import Readiness
from orchestrator.leadership.signal import Signal
from orchestrator.leadership.verdict import Allowance, Verdict
from orchestrator.leadership.victory import Cause, Ending, Hooks, Lead, Victory, View
from orchestrator.sagalog.port import Claim

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _End:
    """How a term ended, why in words, and for how long this replica then leaves the campaign to the others."""

    ending: Ending
    reason: str
    cooldown_s: float = 0.0


class Campaign:
    """One replica's part in the election of one shard's leader. Belongs to one event loop; `run` it once."""

    def __init__(
        self, keys: Keys, me: Member, world: World, lead: Lead, paces: Paces | None = None, hooks: Hooks | None = None
    ) -> None:
        paces = paces or Paces()
        self._keys = keys
        self._me = me
        self._world = world
        self._lead = lead
        self._pace = pace = paces.campaign
        self._hooks = hooks or Hooks()
        self._clock = clock = world.clock
        self._signal = signal = Signal()
        etcd = world.coordinator
        self._board = Board(etcd, keys, signal, clock)
        self._membership = Membership(me, etcd, world.renewal, self._board, keys, paces.lease, signal, clock)
        self._readiness = Readiness(world.may_campaign, paces.readiness, signal, clock)
        self._ballot = Ballot(keys.leader, me, etcd, self._board, self._membership, signal, pace)
        self._allowances = {
            Verdict.GONE: Allowance.full(pace.gone_burst, pace.gone_refill_s, clock()),
            Verdict.FROZEN: Allowance.full(pace.frozen_burst, pace.frozen_refill_s, clock()),
        }
        self._cool_until_s = float("-inf")
        # The last sign of life of whoever led before, this replica included.
        self._former_sign_s: float | None = None
        self._victory: Victory | None = None
        self._asked_to_stop: _End | None = None
        # Why this replica takes no part in any campaign any more; None while it does.
        self._withdrawn: str | None = None
        self._closing = False
        self._ended = asyncio.Event()
        self._ended.set()

    @property
    def view(self) -> View:
        """Who leads, as far as this replica knows; `trouble` says why it takes no part, if it takes none."""
        trouble = self.etcd_trouble
        if trouble is None and self._withdrawn is not None:
            trouble = f"withdrawn from the campaign for good: {self._withdrawn}"
        if trouble is None and self._victory is None:
            trouble = self._readiness.trouble
        return View(self._board.leader, self._victory is not None, self._membership.left_s(), trouble)

    @property
    def etcd_trouble(self) -> str | None:
        """Why etcd is not at hand; None while it is."""
        return self._membership.trouble or self._board.trouble

    def members(self) -> tuple[Member, ...]:
        """The replicas whose leases live, as far as this replica knows, by id."""
        return tuple(sorted(self._board.members.values(), key=lambda member: member.replica_id))

    async def run(self) -> None:
        """Campaign until closed. Waits out every trouble with etcd; raises nothing but defects."""
        self._ended.clear()
        try:
            async with asyncio.TaskGroup() as group:
                parts = [group.create_task(part.run()) for part in (self._board, self._membership, self._readiness)]
                await self._compete(group)
                for part in parts:
                    part.cancel()
                await asyncio.wait(parts)
                await self._leave()
        finally:
            self._ended.set()

    async def resign(self, reason: str, cooldown_s: float) -> bool:
        """Give leadership up and stay out of the campaign for `cooldown_s`; False if this replica does not lead.

        Returns when the term has ended and the others can see it.
        """
        victory = self._victory
        if victory is None:
            return False
        self._asked_to_stop = _End(Ending.STEPPED_DOWN, reason, cooldown_s)
        self._signal.notify()
        limit_s = self._pace.term_end_max_s + self._pace.goodbye_max_s
        await self._signal.until(lambda: self._victory is not victory, limit_s)
        return True

    def withdraw(self, reason: str) -> None:
        """Give leadership up, if this replica has it, and campaign no more: the last thing before `close`.

        Returns at once; the term ends, and the key is given up, in `run`. The replica stays a member of the cluster.
        """
        if self._withdrawn is None:
            self._withdrawn = reason
            log.info("withdrawn", reason=reason, leading=self._victory is not None)
            self._signal.notify()

    async def close(self) -> None:
        """End the term, if there is one, hand leadership over, leave the cluster, and make `run` return.

        Returns within `term_end_max_s` and twice `goodbye_max_s`, even if the term does not heed its cancellation.
        """
        self._closing = True
        self._signal.notify()
        # In two halves: a process that is frozen meanwhile, and awake again, has the other half to end in.
        for _ in range(2):
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pace.term_end_max_s / 2 + self._pace.goodbye_max_s):
                    await self._ended.wait()
                    return
        log.error("campaign_does_not_end", reason="its term does not heed its cancellation")

    async def _compete(self, group: asyncio.TaskGroup) -> None:
        while True:
            await self._signal.until(lambda: self._closing or self._present())
            holder = self._board.leader
            if self._closing:
                return
            if holder is not None and self._ballot.ours(holder):
                await self._clear_own_key(holder)
            elif self._withdrawn is not None:
                await self._sit_out(holder)
            elif holder is None:
                await self._fill_vacancy(group)
            else:
                await self._stand_by(group, holder)

    def _present(self) -> bool:
        """Whether this replica has what it takes to campaign: a lease, and a look at the keys."""
        return self._board.known and self._membership.lease_id is not None

    def _moved_on(self, holder: Holder | None) -> bool:
        """Whether there is something else to do than to wait for the key that this holder has."""
        return self._closing or not self._present() or self._board.leader != holder

    async def _fill_vacancy(self, group: asyncio.TaskGroup) -> None:
        if not await self._eligible(None):
            return
        vacancy = self._board.vacancy
        match vacancy.leaving:
            case Leaving.DELETED:
                await self._win(group, None, Cause.HANDED_OVER, vacancy.noticed_at_s)
            case Leaving.EXPIRED:
                await self._win(group, None, Cause.EXPIRED, self._former_sign_s)
            case Leaving.UNSEEN:
                await self._win(group, None, Cause.VACANT, self._former_sign_s)

    async def _sit_out(self, holder: Holder | None) -> None:
        """Withdrawn: do nothing until the key changes, which then may turn out to be ours."""
        await self._signal.until(lambda: self._moved_on(holder))

    async def _clear_own_key(self, holder: Holder) -> None:
        """The key is ours though we do not lead: an outcome that we never heard. Let go, and campaign like all."""
        if not await self._ballot.withdraw(holder.mod_revision):
            await self._signal.until(lambda: self._moved_on(holder), self._pace.retry_max_s)

    async def _stand_by(self, group: asyncio.TaskGroup, holder: Holder) -> None:
        """Watch the holder until its key changes, or until there is evidence that it does not run."""
        verdict = await self._observe(group, holder)
        if verdict is None:
            return
        accused_at_s = self._clock()
        self._allowances[verdict], allowed = self._allowances[verdict].spend(accused_at_s)
        if not allowed:
            log.warning("accusation_withheld", leader=holder.member.replica_id, verdict=verdict, reason="too many")
            await self._signal.until(lambda: self._moved_on(holder), self._pace.retry_max_s)
            return
        if not await self._eligible(holder):
            return
        # A frozen leader may have woken while we were not eligible; one that is gone never comes back.
        if verdict is Verdict.FROZEN and self._clock() - accused_at_s > self._pace.frozen_fresh_s:
            return
        self._hooks.accused(verdict)
        await self._win(group, holder, Cause.GONE if verdict is Verdict.GONE else Cause.FROZEN, self._former_sign_s)

    async def _observe(self, group: asyncio.TaskGroup, holder: Holder) -> Verdict | None:
        eye = self._world.eye
        seeing = group.create_task(eye.observe(holder.member))
        seeing.add_done_callback(lambda _: self._signal.notify())
        await self._signal.until(lambda: seeing.done() or self._moved_on(holder))
        moved_on = self._moved_on(holder)
        if not seeing.done():
            seeing.cancel()
            await asyncio.wait({seeing})
        self._former_sign_s = eye.last_sign_s
        return None if moved_on or seeing.cancelled() else seeing.result()

    async def _eligible(self, holder: Holder | None) -> bool:
        """Wait until this replica may claim the key; False when the situation has changed meanwhile."""
        while not self._out_of_it(holder):
            cool_s = self._cool_until_s - self._clock()
            if cool_s > 0:
                await self._signal.until(lambda: self._out_of_it(holder), cool_s)
            elif self._readiness.ready():
                return True
            else:
                await self._signal.until(lambda: self._out_of_it(holder) or self._readiness.ready())
        return False

    def _out_of_it(self, holder: Holder | None) -> bool:
        """Whether a claim of the key that this holder has is no longer to be made."""
        return self._withdrawn is not None or self._moved_on(holder)

    async def _win(
        self, group: asyncio.TaskGroup, holder: Holder | None, cause: Cause, leader_lost_at_s: float | None
    ) -> None:
        """Claim the key that `holder` has, and lead if it is won."""
        lease = self._membership.lease_id
        won = None if lease is None else await self._ballot.claim(holder, lease, self._out_of_it)
        if lease is None or won is None:
            return
        if self._withdrawn is not None:
            # Asked to withdraw while the claim was on its way: the key goes back before a term has begun.
            await self._ballot.withdraw(won.revision)
            return
        claim = Claim(self._keys.shard, self._me.replica_id, won.cluster, won.revision, cause)
        world = self._world
        await self._reign(
            group,
            Victory(claim, leader_lost_at_s, self._keys.leader, lease, world.coordinator, world.renewal, world.clock),
        )

    async def _reign(self, group: asyncio.TaskGroup, victory: Victory) -> None:
        """Lead until it is over, and give the key up."""
        self._victory, self._asked_to_stop = victory, None
        self._hooks.term_began(victory.cause)
        log.info("leadership_won", shard=self._keys.shard, cause=victory.cause, revision=victory.revision)
        term = group.create_task(self._serve(victory))
        term.add_done_callback(lambda _: self._signal.notify())
        try:
            await self._signal.until(lambda: term.done() or self._over(victory) is not None)
            end = self._over(victory) if not term.done() else _end_of(term)
            if end is None:
                return
            if not term.done():
                term.cancel()
                await asyncio.wait({term}, timeout=self._pace.term_end_max_s)
            log.info("leadership_ended", shard=self._keys.shard, ending=end.ending, reason=end.reason)
            self._former_sign_s = self._clock()
            self._cool_until_s = self._former_sign_s + end.cooldown_s
            self._hooks.term_ended(end.ending)
            if end.ending not in (Ending.LEASE_LOST, Ending.KEY_LOST):
                await self._ballot.withdraw(victory.revision)
        finally:
            self._victory = None
            self._signal.notify()
        if not term.done() and not self._closing:
            log.error("term_does_not_end", reaction="no campaign before it has ended")
            await self._signal.until(lambda: term.done() or self._closing)

    def _over(self, victory: Victory) -> _End | None:
        """Why this term must end, None while it need not."""
        leader = self._board.leader
        if self._closing:
            return _End(Ending.CLOSED, "this replica shuts down")
        if self._withdrawn is not None:
            return _End(Ending.STEPPED_DOWN, self._withdrawn)
        if self._asked_to_stop is not None:
            return self._asked_to_stop
        if self._membership.lease_id != victory.lease:
            return _End(Ending.LEASE_LOST, "etcd says that the lease is gone")
        if leader is None:
            return _End(Ending.KEY_LOST, "the leader's key was deleted")
        if leader.mod_revision != victory.revision:
            return _End(Ending.KEY_LOST, f"{leader.member.replica_id} holds the leader's key")
        return None

    async def _serve(self, victory: Victory) -> _End:
        """Lead by a victory; what ended it."""
        try:
            async with self._readiness.resting():
                await self._lead(victory)
        except Fenced as error:
            return _End(Ending.FENCED, str(error), self._pace.fenced_cooldown_s)
        except Resign as error:
            return _End(Ending.RESIGNED, error.reason, error.cooldown_s)
        except CoordinatorError as error:
            return _End(Ending.RESIGNED, str(error), self._pace.defect_cooldown_s)
        except Exception as error:
            # The one place that catches everything: a defect ends this term, and another replica may do better.
            log.exception("term_failed")
            return _End(Ending.DEFECT, f"{type(error).__name__}: {error}", self._pace.defect_cooldown_s)
        return _End(Ending.RETURNED, "nothing is left to lead", self._pace.fenced_cooldown_s)

    async def _leave(self) -> None:
        try:
            async with asyncio.timeout(self._pace.goodbye_max_s):
                await self._membership.leave()
        except (TimeoutError, CoordinatorError) as error:
            log.warning("lease_not_given_back", reason=str(error) or "no answer", reaction="it runs out by itself")


def _end_of(term: asyncio.Task[_End]) -> _End:
    if term.cancelled():
        return _End(Ending.DEFECT, "the term cancelled itself", cooldown_s=1.0)
    return term.result()
