"""Campaigns while etcd is away, keys that others touch, and history that goes back; against etcd's model in memory."""

from __future__ import annotations

import asyncio

from orchestrator.leadership.port import Delete, Member, Put, Txn
from orchestrator.leadership.verdict import Verdict
from orchestrator.leadership.victory import Cause, Ending
from orchestrator.simulation.clock import now_s, virtually

from .campaign_world import KEYS, ClusterWorld, Replica, eventually

AT_ONCE_S = 0.05


def test_etcd_away_at_the_start_is_waited_for_and_said() -> None:
    async def scenario() -> None:
        async with ClusterWorld() as world:
            only = world.start("a", away=True)
            await asyncio.sleep(60)
            assert "out of reach" in (only.campaign.view.trouble or "")
            assert not only.victories

            only.coordinator.away = False
            await world.led_by(within_s=2.5)
            assert only.campaign.view.trouble is None

    virtually(scenario)


def test_closing_ends_also_while_etcd_is_away() -> None:
    async def scenario() -> None:
        async with ClusterWorld() as world:
            leader, _ = await world.three()
            leader.coordinator.away = True
            began_s = now_s()
            await leader.campaign.close()

            assert leader.run.done()
            assert now_s() - began_s < 5

    virtually(scenario)


def test_closing_a_campaign_that_never_ran_returns() -> None:
    async def scenario() -> None:
        async with ClusterWorld() as world:
            replica = world.start("a")
            replica.run.cancel()
            await asyncio.wait({replica.run})
            await replica.campaign.close()

    virtually(scenario)


def test_a_deleted_replica_key_comes_back() -> None:
    async def scenario() -> None:
        async with ClusterWorld() as world:
            leader, _ = await world.three()
            await asyncio.sleep(3)
            world.store.run(Txn((), (Delete(KEYS.replica(leader.id)),)))

            await eventually(lambda: KEYS.replica(leader.id) in world.store.entries)
            assert world.leader() is leader

    virtually(scenario)


def test_a_key_deleted_by_hand_ends_the_term() -> None:
    async def scenario() -> None:
        async with ClusterWorld() as world:
            leader, _ = await world.three()
            world.store.run(Txn((), (Delete(KEYS.leader),)))
            await eventually(lambda: leader.endings == [Ending.KEY_LOST])
            await world.led_by()

    virtually(scenario)


def test_a_key_of_nonsense_is_waited_for() -> None:
    async def scenario() -> None:
        async with ClusterWorld() as world:
            world.store.run(Txn((), (Put(KEYS.leader, b"not json"),)))
            only = world.start("a")
            await asyncio.sleep(30)
            assert not only.victories
            world.store.run(Txn((), (Delete(KEYS.leader),)))

            await world.led_by(within_s=AT_ONCE_S)

    virtually(scenario)


def test_a_restart_under_the_same_name_is_another_process() -> None:
    async def scenario() -> None:
        async with ClusterWorld() as world:
            former = world.start("a")
            await world.led_by()
            await former.crash()
            again = world.start("a")
            world.evidence.against(former.incarnation, Verdict.GONE)

            assert await world.led_by(within_s=0.6) is again
            assert again.causes == [Cause.GONE]

    virtually(scenario)


def test_history_that_goes_back_in_time_costs_one_election() -> None:
    async def scenario() -> None:
        async with ClusterWorld() as world:
            await world.three()
            await asyncio.sleep(5)
            world.store.rewind()
            before = {replica.id: len(replica.victories) for replica in world.replicas}
            leader = await world.led_by()
            await asyncio.sleep(30)

            assert world.leader() is leader
            assert sum(len(replica.victories) - before[replica.id] for replica in world.replicas) == 1
            assert all(_knows(replica, leader) for replica in world.replicas)

    virtually(scenario)


def test_compaction_costs_nothing() -> None:
    async def scenario() -> None:
        async with ClusterWorld() as world:
            leader, standbys = await world.three()
            cut = standbys[0]
            cut.coordinator.away = True
            for n in range(20):
                world.store.run(Txn((), (Put(f"{KEYS.all}noise", str(n).encode()),)))
            world.store.compact(world.store.revision)
            await asyncio.sleep(1)
            cut.coordinator.away = False
            await asyncio.sleep(30)

            assert world.leader() is leader
            assert len(leader.victories) == 1
            assert _knows(cut, leader)

    virtually(scenario)


def _knows(replica: Replica, leader: Replica) -> bool:
    holder = replica.campaign.view.holder
    me: Member | None = None if holder is None else holder.member
    return me is not None and me.incarnation == leader.incarnation
