"""How a term ends and what follows it: withdrawals, cooldowns, who may claim; against etcd's model in memory."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.errors import Fenced, Resign
from orchestrator.leadership.port import LeaseId, Put, Txn
from orchestrator.leadership.verdict import Verdict
from orchestrator.leadership.victory import Ending, Victory
from orchestrator.simulation.clock import now_s, virtually

from .campaign_world import KEYS, ClusterWorld, eventually

AT_ONCE_S = 0.05


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
