"""Faults of FAULTS.md on whole clusters of real processes, under load, each followed by the audit of every invariant.

The bounds of the gaps are those that the project promises. One gap may meet a machine that is busy with something
else, so a fault is made three times and the median counts; `benchmarks/failover.py` measures the distribution.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import orjson
import psycopg
import pytest

from orchestrator.audit.evidence import Gap
from orchestrator.embedded.cluster import Cluster, Leader, in_thread
from orchestrator.embedded.etcd import EtcdMember

from .load import Load, gap, loaded, now, verdict

pytestmark = pytest.mark.timeout(300)

REPEATS = 3


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with Cluster(tmp_path, unsafe_no_fsync=True, restart_replicas=True) as running:
        yield running


async def median_gap(
    cluster: Cluster, load: Load, fault: str, bound_s: float, make: Callable[[Leader], Awaitable[None]]
) -> Gap:
    """Make the fault `REPEATS` times; the median of the gaps."""
    gaps = []
    for _ in range(REPEATS):
        leader = await cluster.wait_ready()
        await load.reached(10)
        since = now()
        await make(leader)
        measured = await gap(cluster, fault, since, leader.epoch, bound_s)
        assert measured.seconds is not None
        gaps.append(measured.seconds)
        await load.reached(10)
    return Gap(fault, statistics.median(gaps), bound_s)


async def test_fault_1_sigterm_hands_leadership_over(cluster: Cluster) -> None:
    async def terminate(leader: Leader) -> None:
        leader.replica.terminate()

    async with loaded(cluster) as load:
        measured = await median_gap(cluster, load, "SIGTERM", 0.1, terminate)
    await verdict(cluster, load, REPEATS, (measured,))


async def test_fault_2_kill_9_of_the_leader(cluster: Cluster) -> None:
    async def kill(leader: Leader) -> None:
        leader.replica.kill()

    async with loaded(cluster) as load:
        measured = await median_gap(cluster, load, "SIGKILL", 0.1, kill)
    await verdict(cluster, load, REPEATS, (measured,))


async def test_fault_3_kill_9_of_the_new_leader_too_during_its_scan(cluster: Cluster) -> None:
    async with loaded(cluster) as load:
        first = await cluster.wait_ready()
        first.replica.watched = False
        first.replica.kill()
        holder = await epoch_above(cluster, first.epoch)
        second = next(replica for replica in cluster.replicas if replica.replica_id == holder)
        second.kill()
        await cluster.wait_leader(above_epoch=first.epoch + 1)
        first.replica.watched = True
        await load.reached(20)
    await verdict(cluster, load, faults=2)


async def epoch_above(cluster: Cluster, epoch: int) -> str:
    """Who raised the next epoch, as soon as it is raised."""
    async with await psycopg.AsyncConnection.connect(cluster.baton_dsn, autocommit=True) as connection:
        async with asyncio.timeout(30):
            while True:
                cursor = await connection.execute("SELECT holder FROM baton.fence WHERE epoch > %s", [epoch])
                if (row := await cursor.fetchone()) is not None:
                    return str(row[0])


async def test_fault_4_all_replicas_killed_and_one_started(cluster: Cluster) -> None:
    async with loaded(cluster) as load:
        leader = await cluster.wait_ready()
        for replica in cluster.replicas:
            replica.watched = False
            replica.kill()
        cluster.replicas[1].watched = True
        await cluster.wait_leader(above_epoch=leader.epoch)
        await load.reached(20)
    await verdict(cluster, load, faults=1)


async def test_fault_5_a_leader_frozen_for_ten_seconds_and_woken(cluster: Cluster) -> None:
    async with loaded(cluster) as load:
        leader = await cluster.wait_ready()
        since = now()
        leader.replica.suspend()
        measured = await gap(cluster, "SIGSTOP", since, leader.epoch, 1.0)
        while (now() - since).total_seconds() < 10:
            await load.reached(1)
        leader.replica.resume()
        await cluster.wait_ready()
        await load.reached(20)
    await verdict(cluster, load, 1, (measured,))


async def test_three_generations_of_frozen_leaders_wake_together(cluster: Cluster) -> None:
    """Fault 8: three epochs meet at the fence."""
    async with loaded(cluster) as load:
        frozen = []
        for _ in range(2):
            leader = await cluster.wait_leader(above_epoch=frozen[-1].epoch if frozen else 0)
            await load.reached(5)
            leader.replica.suspend()
            frozen.append(leader)
        last = await cluster.wait_leader(above_epoch=frozen[-1].epoch)
        for leader in frozen:
            leader.replica.resume()
        assert last.epoch > frozen[1].epoch > frozen[0].epoch
        await load.reached(20)
    await verdict(cluster, load, faults=2)


async def test_fault_13_etcds_leader_killed_changes_nothing(cluster: Cluster) -> None:
    async with loaded(cluster) as load:
        leader = await cluster.wait_ready()
        victim = await asyncio.to_thread(etcd_leader, cluster)
        victim.kill()
        await load.reached(200)
        await in_thread(victim.start)
        await load.reached(20)
        assert (await cluster.wait_ready()).epoch == leader.epoch
    await verdict(cluster, load, faults=0)


async def test_fault_13_one_frozen_etcd_member_changes_nothing(cluster: Cluster) -> None:
    async with loaded(cluster) as load:
        leader = await cluster.wait_ready()
        for member in cluster.etcd.members:
            member.suspend()
            await load.reached(150)
            member.resume()
            await load.reached(20)
        assert (await cluster.wait_ready()).epoch == leader.epoch
    await verdict(cluster, load, faults=0)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_fault_17_postgres_restarted_changes_no_leader(cluster: Cluster, mode: str) -> None:
    async with loaded(cluster) as load:
        leader = await cluster.wait_ready()
        await in_thread(lambda: cluster.postgres.restart(mode=mode))  # type: ignore[arg-type]
        await load.reached(20)
        assert (await cluster.wait_ready()).epoch == leader.epoch
    await verdict(cluster, load, faults=0)


async def test_fault_17_postgres_restarted_during_the_recovery_scan(cluster: Cluster) -> None:
    async with loaded(cluster) as load:
        leader = await cluster.wait_ready()
        leader.replica.kill()
        await epoch_above(cluster, leader.epoch)
        await in_thread(lambda: cluster.postgres.restart(mode="immediate"))
        await load.reached(20)
    # Two faults: the leader, and then Postgres under a leader that had only just begun.
    await verdict(cluster, load, faults=2)


def etcd_leader(cluster: Cluster) -> EtcdMember:
    """The member that leads etcd itself."""
    answers = orjson.loads(cluster.etcd.etcdctl("endpoint", "status", "--write-out", "json"))
    (endpoint,) = (a["Endpoint"] for a in answers if a["Status"]["leader"] == a["Status"]["header"]["member_id"])
    return cluster.etcd.members[cluster.etcd.endpoints.index(endpoint.removeprefix("http://"))]
