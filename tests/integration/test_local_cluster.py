"""The cluster on one machine: it comes up, names its leader, brings back what ended, and leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from orchestrator.embedded.cluster import Cluster
from orchestrator.embedded.processes import ProcessFailed
from orchestrator.embedded.servers import Server

_WITHIN_S = 90.0


async def eventually(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(_WITHIN_S):
        while not await true():
            await asyncio.sleep(0.01)


def small(folder: Path, **options: object) -> Cluster:
    """A cluster of two replicas and one etcd member."""
    chosen: dict[str, object] = {"replicas": 2, "etcd_members": 1, "unsafe_no_fsync": True, **options}
    return Cluster(folder, **chosen)  # type: ignore[arg-type]


def servers_of(cluster: Cluster) -> list[Server]:
    return [*cluster.replicas, *cluster.participants.values()]


def assert_nothing_runs(cluster: Cluster) -> None:
    processes = [*servers_of(cluster), *cluster.etcd.members, cluster.postgres]
    assert [process.name for process in processes if process.alive] == []


async def test_a_leader_that_is_killed_is_replaced_and_comes_back_as_a_follower(tmp_path: Path) -> None:
    # Whoever stands still for a moment stays the leader: only an end is a reason for another one.
    patient = {"BATON_BEAT_TIMEOUT_S": "5", "BATON_LEASE_TTL_S": "10"}
    async with small(tmp_path, settings=patient) as cluster:
        first = await cluster.wait_leader()
        assert first.replica in cluster.replicas
        assert len(cluster.api_endpoints) == 2
        first.replica.kill()
        second = await cluster.wait_leader(above_epoch=first.epoch)
        assert second.replica is not first.replica
        again = await cluster.start_replica(cluster.replicas.index(first.replica))
        assert again is first.replica
        now = await cluster.wait_ready()
        assert (now.replica, now.epoch) == (second.replica, second.epoch)
    assert_nothing_runs(cluster)


async def test_a_participant_that_ends_comes_back_on_its_port_unless_it_should_stay_away(tmp_path: Path) -> None:
    async with small(tmp_path) as cluster:
        payment = cluster.participants["payment"]
        before = payment.pid
        payment.kill()
        await eventually(payment.ready)
        assert payment.pid != before

        payment.watched = False
        payment.kill()
        assert await payment.wait_exit() == -9
        # The watchdog has seen two other ends since: it would have started this one as well.
        for _ in range(2):
            shipping = cluster.participants["shipping"]
            before = shipping.pid
            shipping.kill()
            await eventually(shipping.ready)
            assert shipping.pid != before
        assert not payment.alive
        payment.watched = True
        await eventually(payment.ready)


async def test_a_cluster_comes_back_on_its_folder_with_the_same_addresses(tmp_path: Path) -> None:
    async with small(tmp_path) as cluster:
        first = await cluster.wait_leader()
        addresses = (cluster.addresses, cluster.api_endpoints, cluster.etcd.endpoints)
    async with small(tmp_path) as cluster:
        assert (cluster.addresses, cluster.api_endpoints, cluster.etcd.endpoints) == addresses
        assert (await cluster.wait_leader()).epoch > first.epoch


async def test_a_replica_that_refuses_its_settings_is_quoted_and_nothing_stays_up(tmp_path: Path) -> None:
    cluster = small(tmp_path, settings={"BATON_LEASE_TTL_S": "not a number"})
    with pytest.raises(ProcessFailed, match=r"(?s)replica-1 ended with status .*BATON_LEASE_TTL_S"):
        await cluster.__aenter__()
    assert_nothing_runs(cluster)


async def test_a_participant_that_refuses_its_settings_is_quoted_and_nothing_stays_up(tmp_path: Path) -> None:
    cluster = small(tmp_path, participant_settings={"PARTICIPANT_POOL_MAX": "none"})
    with pytest.raises(ProcessFailed, match=r"(?s)inventory ended with status 78.*PARTICIPANT_POOL_MAX"):
        await cluster.__aenter__()
    assert_nothing_runs(cluster)


@pytest.mark.parametrize("after_s", [0.0, 0.2, 1.0])
async def test_a_start_that_is_cancelled_leaves_nothing_running(tmp_path: Path, after_s: float) -> None:
    cluster = small(tmp_path)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(after_s), cluster:
            pytest.fail("it cannot be up already")
    assert_nothing_runs(cluster)


async def test_an_error_of_the_caller_ends_the_cluster_and_goes_on_as_it_is(tmp_path: Path) -> None:
    cluster = small(tmp_path)
    with pytest.raises(KeyError, match="mine"):
        async with cluster:
            raise KeyError("mine")
    assert_nothing_runs(cluster)
