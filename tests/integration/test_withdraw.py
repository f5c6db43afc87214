"""SIGUSR1 to a real replica: what a preStop hook does before SIGTERM comes."""

from __future__ import annotations

import asyncio
import signal
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path

from orchestrator.embedded.cluster import Cluster
from orchestrator.embedded.servers import Replica

_WITHIN_S = 30.0


async def test_a_leader_told_to_withdraw_hands_over_serves_on_and_ends_well(tmp_path: Path) -> None:
    async with Cluster(tmp_path, replicas=2, etcd_members=1, unsafe_no_fsync=True) as cluster:
        first = await cluster.wait_leader()
        leader = first.replica
        await _eventually(lambda: _leads(cluster, leader))
        leader.signal(signal.SIGUSR1)
        second = await cluster.wait_leader(above_epoch=first.epoch)
        assert second.replica is not leader
        # The key may be the other's a moment before this one has heard that it let go of it.
        await _eventually(lambda: _follows(cluster, leader))
        await _eventually(lambda: _leads(cluster, second.replica))

        # It answers still, as a member that takes no part.
        view = await leader.view(_WITHIN_S)
        assert view is not None
        assert view.trouble.startswith("withdrawn")
        assert len(view.replicas) == 2

        leader.terminate()
        assert await asyncio.to_thread(leader.wait, _WITHIN_S) == 0
        assert (await cluster.wait_leader()).epoch == second.epoch


async def _leads(cluster: Cluster, replica: Replica) -> bool:
    """What /leaderz says."""

    def ask(address: str) -> int:
        try:
            with urllib.request.urlopen(f"http://{address}/leaderz", timeout=_WITHIN_S) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    view = await replica.view(_WITHIN_S)
    assert view is not None
    (address,) = (member.http_address for member in view.replicas if member.replica_id == replica.name)
    status = await asyncio.to_thread(ask, address)
    assert status in (200, 503)
    return status == 200


async def _follows(cluster: Cluster, replica: Replica) -> bool:
    return not await _leads(cluster, replica)


async def _eventually(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(_WITHIN_S):
        while not await true():
            await asyncio.sleep(0.02)
