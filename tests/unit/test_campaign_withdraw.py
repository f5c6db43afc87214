"""A replica that is about to end withdraws: it hands leadership over at once, and never wins again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from orchestrator.leadership.memory import MemoryCoordinator, MemoryStore
from orchestrator.leadership.port import LeaseId, Put, Txn, TxnResult
from orchestrator.leadership.verdict import Verdict
from orchestrator.leadership.victory import Cause, Ending
from orchestrator.simulation.clock import virtually

from .campaign_world import KEYS, ClusterWorld, Replica, eventually
from .test_campaign_seeds import CALM_S, FAULTS, Trouble

AT_ONCE_S = 0.05
REASON = "this replica is about to end"


def test_a_leader_that_withdraws_hands_over_at_once_and_stays_a_member() -> None:
    async def scenario() -> None:
        async with ClusterWorld() as world:
            leader, standbys = await world.three()
            leader.campaign.withdraw(REASON)

            successor = await world.led_by(but=leader, within_s=AT_ONCE_S)

            assert successor in standbys
            assert successor.causes == [Cause.HANDED_OVER]
            assert leader.endings == [Ending.STEPPED_DOWN]
            assert not leader.campaign.view.leading
            assert leader.campaign.view.trouble == f"withdrawn from the campaign for good: {REASON}"
            assert len(successor.campaign.members()) == 3

    virtually(scenario)


async def _vacant(world: ClusterWorld, withdrawn: Replica) -> None:
    """Everybody else ends properly: the key is there for the taking."""
    for replica in world.replicas:
        if replica is not withdrawn:
            await replica.campaign.close()


async def _gone(world: ClusterWorld, withdrawn: Replica) -> None:
    """Everybody else is killed, and it shows."""
    for replica in world.replicas:
        if replica is not withdrawn:
            await replica.crash()
            world.evidence.against(replica.incarnation, Verdict.GONE)


async def _frozen(world: ClusterWorld, withdrawn: Replica) -> None:
    """Whoever leads looks frozen, again and again."""
    for replica in world.replicas:
        world.evidence.against(replica.incarnation, Verdict.FROZEN)


async def _new_lease(world: ClusterWorld, withdrawn: Replica) -> None:
    """Its lease is lost, it gets another one, and the key is free."""
    world.store.revoke(LeaseId(withdrawn.lease_id))
    await _vacant(world, withdrawn)


async def _late_claim(world: ClusterWorld, withdrawn: Replica) -> None:
    """The key is free, and a claim of its own, sent long ago, arrives."""
    own = world.key
    assert own is not None
    await _vacant(world, withdrawn)
    world.store.run(Txn((), (Put(KEYS.leader, _claim_of(world, withdrawn), LeaseId(withdrawn.lease_id)),)))


async def _rewound(world: ClusterWorld, withdrawn: Replica) -> None:
    """etcd forgets everything, and the others are gone."""
    await _gone(world, withdrawn)
    world.store.rewind()


def _claim_of(world: ClusterWorld, replica: Replica) -> bytes:
    """What this replica once wrote into the leader's key."""
    return next(value for value in _claims(world) if replica.incarnation.encode() in value)


def _claims(world: ClusterWorld) -> list[bytes]:
    """Every value that the leader's key ever had."""
    changes = (change for batch in world.store.history for change in batch if change.key == KEYS.leader)
    return [change.entry.value for change in changes if change.entry is not None]


@pytest.mark.parametrize("what", [_vacant, _gone, _frozen, _new_lease, _late_claim, _rewound])
def test_a_withdrawn_replica_never_leads_again(what: Callable[[ClusterWorld, Replica], Awaitable[None]]) -> None:
    async def scenario() -> None:
        async with ClusterWorld() as world:
            leader, _ = await world.three()
            leader.campaign.withdraw(REASON)
            await world.led_by(but=leader, within_s=AT_ONCE_S)
            await what(world, leader)
            await asyncio.sleep(300)

            assert len(leader.victories) == 1
            key = world.key
            assert key is None or leader.incarnation.encode() not in key.value
            assert not leader.run.done()

    virtually(scenario)


def test_a_standby_that_withdraws_lets_the_leader_be_and_never_takes_over() -> None:
    async def scenario() -> None:
        async with ClusterWorld() as world:
            leader, (standby, other) = await world.three()
            standby.campaign.withdraw(REASON)
            await asyncio.sleep(30)
            assert world.leader() is leader

            await leader.crash()
            world.evidence.against(leader.incarnation, Verdict.GONE)
            assert await world.led_by(but=leader, within_s=AT_ONCE_S) is other
            await other.crash()
            world.evidence.against(other.incarnation, Verdict.GONE)
            await asyncio.sleep(300)

            assert standby.victories == []
            assert not [value for value in _claims(world) if standby.incarnation.encode() in value]

    virtually(scenario)


class SlowClaims(MemoryCoordinator):
    """Claims of the leader's key happen at once; their answers come when the test says."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.answer = asyncio.Event()

    async def txn(self, txn: Txn) -> TxnResult:
        """Run a transaction, and wait for the test before the outcome of a claim is told."""
        result = await super().txn(txn)
        if any(isinstance(put, Put) and put.key == KEYS.leader for put in txn.then):
            await self.answer.wait()
        return result


def test_a_claim_that_is_won_after_the_withdrawal_begins_no_term_and_the_key_goes_back() -> None:
    async def scenario() -> None:
        async with ClusterWorld() as world:
            slow = SlowClaims(world.store)
            only = world.start("a", coordinator=slow)
            await eventually(lambda: world.key is not None)
            only.campaign.withdraw(REASON)
            slow.answer.set()
            await eventually(lambda: world.key is None)
            await asyncio.sleep(60)

            assert only.victories == []
            assert only.causes == []
            assert world.key is None

    virtually(scenario)


def test_a_withdrawal_ends_a_cooldown_and_is_told_once() -> None:
    async def scenario() -> None:
        async with ClusterWorld() as world:
            only = world.start("a")
            await world.led_by()
            await only.campaign.resign("a person asked", cooldown_s=5.0)
            only.campaign.withdraw(REASON)
            only.campaign.withdraw("another word")
            await asyncio.sleep(60)

            assert len(only.victories) == 1
            assert only.campaign.view.trouble == f"withdrawn from the campaign for good: {REASON}"

    virtually(scenario)


def test_a_withdrawn_replica_closes_like_any_other() -> None:
    async def scenario() -> None:
        async with ClusterWorld() as world:
            leader, _ = await world.three()
            leader.campaign.withdraw(REASON)
            await leader.campaign.close()

            assert leader.run.done()
            assert KEYS.replica(leader.id) not in world.store.entries
            assert await world.led_by(but=leader, within_s=AT_ONCE_S)

    virtually(scenario)


@pytest.mark.parametrize("seed", range(30), ids=lambda seed: f"seed[{seed}]")
def test_no_fault_brings_a_withdrawn_replica_back(seed: int) -> None:
    async def scenario() -> None:
        chance = random.Random(seed)
        async with ClusterWorld() as world:
            trouble = Trouble(world, chance)
            for name in ("a", "b", "c"):
                trouble.start(name)
            won: dict[str, int] = {}
            for _ in range(FAULTS):
                await asyncio.sleep(chance.choice((0.0, 0.005, 0.1, 1.0, 3.0)))
                await trouble.cause()
                staying = [replica for replica in trouble.running() if replica.incarnation not in won]
                if len(staying) > 1 and chance.random() < 0.2:
                    leaves = chance.choice(staying)
                    leaves.campaign.withdraw(REASON)
                    won[leaves.incarnation] = len(leaves.victories)
                if not any(replica.incarnation not in won for replica in trouble.running()):
                    trouble.start("d")
            trouble.heal()
            await asyncio.sleep(CALM_S)

            for replica in world.replicas:
                assert len(replica.victories) == won.get(replica.incarnation, len(replica.victories))
            leader = world.leader()
            assert leader is not None
            assert leader.incarnation not in won

    virtually(scenario)
