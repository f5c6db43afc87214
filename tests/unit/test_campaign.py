"""How leadership is won, kept, and lost by evidence or by a lease, against etcd's model in memory."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.leadership.port import LeaseId
from orchestrator.leadership.verdict import Verdict
from orchestrator.leadership.victory import Cause, Ending
from orchestrator.simulation.clock import now_s, virtually

from .campaign_world import KEYS, TTL_S, ClusterWorld, eventually

AT_ONCE_S = 0.05


def test_three_replicas_elect_one_and_all_know_it() -> None:
    async def scenario() -> None:
        async with ClusterWorld() as world:
            leader, standbys = await world.three()

            assert leader.causes == [Cause.VACANT]
            assert leader.campaign.view.leading
            assert leader.victories[0].leader_lost_at_s is None
            assert leader.victories[0].claim.etcd_cluster == "memory"
            assert [member.replica_id for member in standbys[0].campaign.members()] == ["a", "b", "c"]
            assert not any(standby.campaign.view.leading or standby.victories for standby in standbys)

    virtually(scenario)


def test_a_closed_leader_hands_over_at_once_and_leaves_nothing_behind() -> None:
    async def scenario() -> None:
        async with ClusterWorld() as world:
            leader, _ = await world.three()
            closed_at_s = now_s()
            await leader.campaign.close()

            successor = await world.led_by(but=leader, within_s=AT_ONCE_S)

            assert leader.run.done()
            assert leader.endings == [Ending.CLOSED]
            assert successor.causes == [Cause.HANDED_OVER]
            assert successor.victories[0].leader_lost_at_s == pytest.approx(closed_at_s, abs=AT_ONCE_S)
            assert KEYS.replica(leader.id) not in world.store.entries

    virtually(scenario)


def test_a_crash_that_nobody_sees_ends_with_the_lease() -> None:
    async def scenario() -> None:
        async with ClusterWorld() as world:
            leader, _ = await world.three()
            last_sign_s = now_s()
            await leader.crash()

            successor = await world.led_by(but=leader)

            assert successor.causes == [Cause.EXPIRED]
            assert now_s() - last_sign_s <= TTL_S + AT_ONCE_S
            assert successor.victories[0].leader_lost_at_s is not None
            assert successor.victories[0].leader_lost_at_s <= last_sign_s

    virtually(scenario)


@pytest.mark.parametrize(("verdict", "cause"), [(Verdict.GONE, Cause.GONE), (Verdict.FROZEN, Cause.FROZEN)])
def test_evidence_against_the_leader_moves_leadership_before_its_lease_ends(verdict: Verdict, cause: Cause) -> None:
    async def scenario() -> None:
        async with ClusterWorld() as world:
            leader, standbys = await world.three()
            await leader.crash()
            world.evidence.against(leader.incarnation, verdict)
            accused_at_s = now_s()

            successor = await world.led_by(but=leader, within_s=AT_ONCE_S)

            assert successor.causes == [cause]
            assert successor.victories[0].leader_lost_at_s == pytest.approx(accused_at_s, abs=AT_ONCE_S)
            assert [bool(standby.victories) for standby in standbys].count(True) == 1

    virtually(scenario)


def test_a_leader_accused_wrongly_stops_when_its_key_is_taken() -> None:
    async def scenario() -> None:
        async with ClusterWorld() as world:
            leader, _ = await world.three()
            victory = leader.victories[0]
            world.evidence.against(leader.incarnation, Verdict.GONE)
            await world.led_by(but=leader, within_s=AT_ONCE_S)
            await eventually(lambda: not leader.in_term, AT_ONCE_S)

            assert leader.endings == [Ending.KEY_LOST]
            assert not await victory.confirm()
            assert not leader.run.done()

    virtually(scenario)


def test_accusations_are_rationed() -> None:
    async def scenario() -> None:
        async with ClusterWorld() as world:
            first, second = world.start("a"), world.start("b")
            await world.led_by()
            for replica in (first, second):
                world.evidence.against(replica.incarnation, Verdict.FROZEN)
            began_s = now_s()
            await asyncio.sleep(60)

            accusations = len(first.accusations) + len(second.accusations)
            # A burst of three for each of the two, and one more every five seconds.
            assert 6 <= accusations <= 2 * (3 + (now_s() - began_s) / 5)

    virtually(scenario)


def test_a_lost_lease_ends_the_term_and_a_new_one_is_granted() -> None:
    async def scenario() -> None:
        async with ClusterWorld() as world:
            leader, _ = await world.three()
            victory = leader.victories[0]
            lost = leader.lease_id
            world.store.revoke(LeaseId(lost))

            await world.led_by(but=leader, within_s=AT_ONCE_S)
            await eventually(lambda: not leader.in_term)
            await eventually(lambda: KEYS.replica(leader.id) in world.store.entries)

            assert leader.endings[0] in (Ending.LEASE_LOST, Ending.KEY_LOST)
            assert leader.lease_id != lost
            assert not victory.vouched()

    virtually(scenario)


def test_a_leader_cut_from_etcd_leads_on_unvouched_until_it_hears_of_another() -> None:
    async def scenario() -> None:
        async with ClusterWorld() as world:
            leader, _ = await world.three()
            victory = leader.victories[0]
            assert victory.vouched()
            leader.coordinator.away = True
            successor = await world.led_by(but=leader)
            await asyncio.sleep(30)

            assert leader.in_term
            assert not victory.vouched()
            leader.coordinator.away = False
            await eventually(lambda: not leader.in_term)
            assert world.leader() is successor

    virtually(scenario)


@pytest.mark.parametrize("lost", [1, 2])
def test_a_claim_whose_answer_is_lost_is_settled_by_a_second_transaction(lost: int) -> None:
    async def scenario() -> None:
        async with ClusterWorld() as world:
            leader, _ = await world.three()
            for replica in world.replicas:
                replica.coordinator.lose_answers = 0 if replica is leader else lost
            await leader.campaign.close()

            successor = await world.led_by(but=leader)

            assert successor.victories[-1].revision == (world.key.mod_revision if world.key else None)
            assert [len(replica.victories) for replica in world.replicas].count(0) == 1

    virtually(scenario)
