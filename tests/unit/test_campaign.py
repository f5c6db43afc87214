"""How leadership is won, kept, lost and handed over, against etcd's model in memory."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.errors import Fenced, Resign
from orchestrator.leadership.port import Delete, LeaseId, Member, Put, Txn
from orchestrator.leadership.verdict import Verdict
from orchestrator.leadership.victory import Cause, Ending, Victory
from orchestrator.simulation.clock import now_s, virtually

from .campaign_world import KEYS, TTL_S, ClusterWorld, Replica, eventually

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


def test_a_withdrawal_whose_answer_is_lost_leaves_no_ghost_key() -> None:
    async def scenario() -> None:
        async with ClusterWorld() as world:
            only = world.start("a")
            await world.led_by()
            only.coordinator.lose_answers = 1
            await only.campaign.resign("a person asked", cooldown_s=5.0)
            await eventually(lambda: world.key is None)
            resigned_at_s = now_s()
            await world.led_by()

            assert now_s() - resigned_at_s >= 4.9
            assert len(only.victories) == 2

    virtually(scenario)


def test_an_own_key_that_turns_up_during_the_cooldown_is_deleted() -> None:
    async def scenario() -> None:
        async with ClusterWorld() as world:
            only = world.start("a")
            await world.led_by()
            key = world.key
            assert key is not None
            await only.campaign.resign("a person asked", cooldown_s=5.0)
            # A claim of this replica's, sent long ago, arrives only now.
            world.store.run(Txn((), (Put(KEYS.leader, key.value, LeaseId(only.lease_id)),)))

            assert await eventually(lambda: world.key is None) < AT_ONCE_S
            assert not only.in_term

    virtually(scenario)


def test_stepping_down_moves_leadership_and_keeps_this_replica_out_for_the_cooldown() -> None:
    async def scenario() -> None:
        async with ClusterWorld() as world:
            leader, _ = await world.three()
            assert await leader.campaign.resign("a person asked", cooldown_s=30.0)
            assert not leader.in_term
            for _ in range(2):
                successor = await world.led_by(within_s=AT_ONCE_S)
                assert successor is not leader
                assert await successor.campaign.resign("a person asked", cooldown_s=60.0)
            resigned_at_s = now_s()
            await world.led_by(within_s=31)

            assert 25 < now_s() - resigned_at_s < 31
            assert leader.in_term
            assert leader.endings == [Ending.STEPPED_DOWN]

    virtually(scenario)


def test_a_standby_has_nothing_to_step_down_from() -> None:
    async def scenario() -> None:
        async with ClusterWorld() as world:
            leader, standbys = await world.three()

            assert not await standbys[0].campaign.resign("a person asked", cooldown_s=1.0)
            assert world.leader() is leader

    virtually(scenario)


async def _fenced(_: Victory) -> None:
    raise Fenced("epoch 7 holds the fence")


async def _resigns(_: Victory) -> None:
    raise Resign("Postgres is away", cooldown_s=3.0)


async def _defect(_: Victory) -> None:
    raise ZeroDivisionError("nobody foresaw this")


async def _returns(_: Victory) -> None:
    return


async def _cancels_itself(_: Victory) -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize(
    ("term", "ending", "cooldown_s"),
    [
        (_fenced, Ending.FENCED, 0.1),
        (_resigns, Ending.RESIGNED, 3.0),
        (_defect, Ending.DEFECT, 1.0),
        (_returns, Ending.RETURNED, 0.1),
        (_cancels_itself, Ending.DEFECT, 1.0),
    ],
)
def test_a_term_that_ends_gives_the_key_up_and_campaigns_after_its_cooldown(
    term: object, ending: Ending, cooldown_s: float
) -> None:
    async def scenario() -> None:
        async with ClusterWorld() as world:
            first = world.start("a")
            first.term = term  # type: ignore[assignment]
            await eventually(lambda: first.endings == [ending])
            ended_at_s = now_s()
            second = world.start("b")
            assert await world.led_by(within_s=0.6) is second
            await second.crash()
            world.evidence.against(second.incarnation, Verdict.GONE)
            await eventually(lambda: len(first.endings) == 2)

            assert now_s() - ended_at_s >= cooldown_s - 0.01
            assert not first.run.done()

    virtually(scenario)


def test_a_vacant_key_is_left_to_a_replica_that_can_lead() -> None:
    async def scenario() -> None:
        async with ClusterWorld() as world:
            unable = [world.start("a", can_lead=False), world.start("b", can_lead=False)]
            await asyncio.sleep(20)
            assert world.key is None
            assert "Postgres" in (unable[0].campaign.view.trouble or "")

            able = world.start("c")
            assert await world.led_by(within_s=AT_ONCE_S) is able

    virtually(scenario)


def test_a_vacant_key_is_claimed_soon_after_this_replica_can_lead_again() -> None:
    async def scenario() -> None:
        async with ClusterWorld() as world:
            only = world.start("a", can_lead=False)
            await asyncio.sleep(20)
            only.can_lead = True

            await world.led_by(within_s=0.6)
            assert only.campaign.view.trouble is None

    virtually(scenario)


def test_a_replica_is_not_asked_whether_it_could_lead_while_it_leads() -> None:
    async def scenario() -> None:
        async with ClusterWorld() as world:
            only = world.start("a")
            await world.led_by()
            only.can_lead = False
            await asyncio.sleep(60)

            assert only.in_term
            assert only.campaign.view.trouble is None

    virtually(scenario)


def test_a_frozen_leader_that_woke_during_the_cooldown_is_not_taken_over() -> None:
    async def scenario() -> None:
        async with ClusterWorld() as world:
            first = world.start("a")
            await world.led_by()
            second = world.start("b")
            await eventually(lambda: len(second.campaign.members()) == 2)
            await first.campaign.resign("a person asked", cooldown_s=1.0)
            await world.led_by(but=first, within_s=AT_ONCE_S)
            world.evidence.against(second.incarnation, Verdict.FROZEN)
            await asyncio.sleep(0.1)
            world.evidence.clear(second.incarnation)
            await asyncio.sleep(10)

            assert world.leader() is second
            assert first.accusations == []

    virtually(scenario)


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


def test_a_term_that_ignores_its_cancellation_loses_the_key_and_is_never_doubled() -> None:
    async def scenario() -> None:
        async with ClusterWorld() as world:
            leader, _ = await world.three()
            release = asyncio.Event()
            highest = 0

            async def stubborn(_: Victory) -> None:
                nonlocal highest
                highest = max(highest, leader.in_term)
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    await release.wait()

            leader.term = stubborn
            for replica in world.replicas:
                if replica is not leader:
                    await replica.campaign.close()
            await leader.campaign.resign("a person asked", cooldown_s=0.0)
            await eventually(lambda: bool(leader.in_term))
            await leader.campaign.resign("a person asked", cooldown_s=0.0)
            assert world.key is None
            await asyncio.sleep(60)
            assert len(leader.victories) == 2
            release.set()
            await eventually(lambda: len(leader.victories) == 3)

            assert highest == 1

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
