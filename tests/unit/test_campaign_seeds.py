"""Random faults against random delays: whatever happens, elections stay sound, and calm returns when the faults end.

A failing seed is repeated with `pytest tests/unit/test_campaign_seeds.py -k 'seed[17]'`.
"""

from __future__ import annotations

import asyncio
import random

import pytest

from orchestrator.leadership.errors import OutcomeUnknown
from orchestrator.leadership.memory import MemoryCoordinator, MemoryStore
from orchestrator.leadership.port import LeaseId, Txn, TxnResult
from orchestrator.leadership.verdict import Verdict
from orchestrator.simulation.clock import now_s, virtually

from .campaign_world import KEYS, ClusterWorld, Replica, eventually

FAULTS = 40
CALM_S = 15.0


class JitteryCoordinator(MemoryCoordinator):
    """Requests and answers take their time, and either may get lost."""

    def __init__(self, store: MemoryStore, chance: random.Random) -> None:
        super().__init__(store)
        self._chance = chance
        self.lossy = True

    async def txn(self, txn: Txn) -> TxnResult:
        """Run a transaction once; the request or the answer may be lost, or a lost request arrive late."""
        fate = self._chance.random() if self.lossy else 1.0
        if fate < 0.05:
            raise OutcomeUnknown("the request was lost")
        if fate < 0.1:
            asyncio.get_running_loop().call_later(self._chance.uniform(0, 3), self._run_late, txn)
            raise OutcomeUnknown("the request is on its way")
        result = await super().txn(txn)
        await asyncio.sleep(self._chance.uniform(0, 0.02))
        if fate < 0.15:
            raise OutcomeUnknown("the answer was lost")
        return result

    def _run_late(self, txn: Txn) -> None:
        # A put under a lease that has ended meanwhile is refused by the store, as it should be.
        if all(LeaseId(0) == put.lease or self.store.knows(put.lease) for put in txn.then if hasattr(put, "lease")):
            self.store.run(txn)

    async def _reach(self) -> None:
        await asyncio.sleep(self._chance.uniform(0, 0.01))
        await super()._reach()


class Trouble:
    """Does one random thing after the other to a cluster."""

    def __init__(self, world: ClusterWorld, chance: random.Random) -> None:
        self._world = world
        self._chance = chance

    def start(self, name: str) -> None:
        """Start a replica under a name that may have lived before."""
        self._world.start(name, coordinator=JitteryCoordinator(self._world.store, self._chance))

    async def cause(self) -> None:
        """One fault, or one recovery."""
        chance, running = self._chance, self.running()
        victim = chance.choice(running)
        match chance.randrange(8):
            case 0 if len(running) > 1:
                await victim.crash()
                self._world.evidence.against(victim.incarnation, Verdict.GONE)
                self.start(victim.id)
            case 1 if len(running) > 1:
                await victim.campaign.close()
                self.start(victim.id)
            case 2:
                victim.coordinator.away = not victim.coordinator.away
            case 3:
                self._world.evidence.against(victim.incarnation, chance.choice(list(Verdict)))
            case 4:
                self._world.evidence.clear(victim.incarnation)
            case 5:
                await victim.campaign.resign("chance", chance.uniform(0, 1))
            case 6:
                victim.can_lead = not victim.can_lead
            case _ if (lease := victim.renewal.lease()) is not None:
                self._world.store.revoke(LeaseId(lease.id))

    def heal(self) -> None:
        """End every fault."""
        for replica in self.running():
            replica.coordinator.away = False
            replica.can_lead = True
            self._world.evidence.clear(replica.incarnation)
            if isinstance(replica.coordinator, JitteryCoordinator):
                replica.coordinator.lossy = False

    def running(self) -> list[Replica]:
        """The replicas that have not ended."""
        return [replica for replica in self._world.replicas if not replica.run.done()]


def _check_victories(world: ClusterWorld) -> None:
    """Each victory is a put of the leader's key by that very replica, at a revision of its own."""
    puts = {
        change.revision: change.entry
        for batch in world.store.history
        for change in batch
        if change.key == KEYS.leader and change.entry is not None
    }
    revisions = [victory.revision for replica in world.replicas for victory in replica.victories]
    assert len(set(revisions)) == len(revisions)
    for replica in world.replicas:
        own = [victory.revision for victory in replica.victories]
        assert own == sorted(own)
        assert all(replica.incarnation.encode() in puts[revision].value for revision in own)


@pytest.mark.parametrize("seed", range(60), ids=lambda seed: f"seed[{seed}]")
def test_elections_stay_sound_and_calm_returns(seed: int) -> None:
    async def scenario() -> None:
        chance = random.Random(seed)
        async with ClusterWorld() as world:
            trouble = Trouble(world, chance)
            for name in ("a", "b", "c"):
                trouble.start(name)
            for _ in range(FAULTS):
                await asyncio.sleep(chance.choice((0.0, 0.005, 0.1, 1.0, 3.0)))
                await trouble.cause()
                assert all(replica.in_term <= 1 for replica in world.replicas)
            trouble.heal()
            healed_at_s = now_s()
            await eventually(lambda: _calm(world, trouble), CALM_S)
            leader = world.leader()
            # Late requests from the time of the faults have all arrived by now, or do so soon.
            await asyncio.sleep(healed_at_s + CALM_S - now_s())
            settled = world.leader()
            await asyncio.sleep(60)

            assert leader is not None
            assert _calm(world, trouble)
            assert world.leader() is settled
            _check_victories(world)

    virtually(scenario)


def _calm(world: ClusterWorld, trouble: Trouble) -> bool:
    """Exactly one replica leads, by the present key, and every replica knows it and is there."""
    leader = world.leader()
    running = trouble.running()
    holders = [replica.campaign.view.holder for replica in running]
    return (
        leader is not None
        and sum(replica.in_term for replica in running) == 1
        and all(holder is not None and holder.member.incarnation == leader.incarnation for holder in holders)
        and all(replica.campaign.view.trouble is None for replica in running)
    )
