"""Claims on the leader's key while etcd itself is without a leader: what is sent to it is never answered."""

from __future__ import annotations

import asyncio

from orchestrator.leadership.errors import OutcomeUnknown
from orchestrator.leadership.memory import MemoryCoordinator, MemoryStore
from orchestrator.leadership.port import Txn, TxnResult
from orchestrator.leadership.verdict import Verdict
from orchestrator.leadership.victory import Cause
from orchestrator.simulation.clock import now_s, virtually

from .campaign_world import ClusterWorld, eventually

REQUEST_S = 1.0
ELECTION_S = 1.3


class Leaderless(MemoryCoordinator):
    """Swallows every transaction until etcd has a leader again; each then ends with its deadline."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.until_s = 0.0
        self.swallowed = 0
        self.answers_after_s = 0.0

    async def txn(self, txn: Txn) -> TxnResult:
        if now_s() < self.until_s:
            self.swallowed += 1
            await asyncio.sleep(REQUEST_S)
            raise OutcomeUnknown("no answer")
        result = await super().txn(txn)
        await asyncio.sleep(self.answers_after_s)
        return result


def test_a_claim_finds_the_new_leader_of_etcd_soon_after_its_election() -> None:
    async def scenario() -> None:
        async with ClusterWorld() as world:
            leader = world.start("a")
            await world.led_by()
            etcd = Leaderless(world.store)
            standby = world.start("b", coordinator=etcd)
            await eventually(lambda: standby.campaign.view.holder is not None)
            await eventually(lambda: len(standby.campaign.members()) == 2)
            # The lease lives on: only the claim can end the term of the one who died.
            began_s, etcd.until_s = now_s(), now_s() + ELECTION_S
            leader.run.cancel()
            await asyncio.wait({leader.run})
            world.evidence.against(leader.incarnation, Verdict.GONE)
            await world.led_by(but=leader)

            assert standby.causes == [Cause.GONE]
            assert etcd.swallowed > 2
            assert now_s() - began_s < ELECTION_S + 0.35

    virtually(scenario)


def test_an_etcd_that_takes_its_time_is_not_hurried_for_ever() -> None:
    async def scenario() -> None:
        async with ClusterWorld() as world:
            etcd = Leaderless(world.store)
            etcd.answers_after_s = 0.6
            slow = world.start("a", coordinator=etcd)

            assert await world.led_by(within_s=30) is slow
            assert len(slow.victories) == 1

    virtually(scenario)
