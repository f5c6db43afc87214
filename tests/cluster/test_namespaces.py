"""Replicas in network namespaces: packets are really lost, one way and both, and nothing stays behind on the host."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.audit.gauge import Gauge
from orchestrator.audit.judge import audit
from orchestrator.cli.client import Client
from orchestrator.drill.load import Load
from orchestrator.drill.namespaces import Namespaces, why_not
from orchestrator.drill.proxy import Toward
from orchestrator.embedded.cluster import Cluster

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(why_not() is not None, reason=f"no network namespaces here: {why_not()}"),
]

WITHIN_S = 20.0
HEAL_S = 90.0


@dataclass
class Wired:
    cluster: Cluster
    namespaces: Namespaces

    async def drops(self, at_least: int = 1) -> None:
        async with asyncio.timeout(WITHIN_S):
            while self.namespaces.dropped() < at_least:
                await asyncio.sleep(0.02)


@asynccontextmanager
async def loaded(cluster: Cluster) -> AsyncIterator[Load]:
    async with Client(cluster.api_endpoints, spread=True, deadline_s=60) as client:
        load = Load(client)
        async with load.running():
            yield load


async def verdict(cluster: Cluster, load: Load, faults: int) -> None:
    """Wait for the end of all sagas, and check every invariant."""
    async with Gauge(cluster.baton_dsn) as gauge:
        assert await gauge.all_ended(HEAL_S), f"unfinished after {HEAL_S} s: {await gauge.picture()}"
    judged = await asyncio.to_thread(audit, cluster.baton_dsn, cluster.shop_dsn, load.acknowledged, faults)
    assert judged.holds, "\n".join(judged.lines())
    assert load.failed == []


@pytest.fixture
async def wired(tmp_path: Path) -> AsyncIterator[Wired]:
    with Namespaces(tmp_path) as namespaces:
        async with Cluster(tmp_path, etcd_members=1, unsafe_no_fsync=True, routes=namespaces) as cluster:
            yield Wired(cluster, namespaces)


async def test_a_leader_that_loses_a_participant_one_way_stays_and_the_sagas_end(wired: Wired) -> None:
    leader = await wired.cluster.wait_ready()
    async with loaded(wired.cluster) as load:
        for toward in Toward:
            wired.namespaces.lose(leader.replica.name, "inventory", [toward])
            await wired.drops()
            await load.reached(20)
            wired.namespaces.heal()
            await load.reached(10)
    assert (await wired.cluster.wait_leader()).epoch == leader.epoch
    await verdict(wired.cluster, load, faults=0)


async def test_a_leader_that_loses_everybody_is_succeeded_and_finds_its_way_back(wired: Wired) -> None:
    leader = await wired.cluster.wait_ready()
    async with loaded(wired.cluster) as load:
        wired.namespaces.isolate(leader.replica.name)
        await wired.drops()
        later = await wired.cluster.wait_leader(above_epoch=leader.epoch)
        assert later.replica is not leader.replica
        wired.namespaces.heal()
        await wired.cluster.wait_ready()
        await load.reached(20)
    await verdict(wired.cluster, load, faults=1)


_DRILL = """
import sys, time
from pathlib import Path
from orchestrator.drill.namespaces import Namespaces
with Namespaces(Path(sys.argv[1])) as namespaces:
    namespaces.place("replica-1", ["true"], [])
    print(namespaces._hub.pid, namespaces._replicas["replica-1"][1].pid, flush=True)
    time.sleep(60)
"""


def test_a_drill_that_is_killed_leaves_no_namespace(tmp_path: Path) -> None:
    before = _links_of_this_host()
    drill = subprocess.Popen([sys.executable, "-c", _DRILL, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert drill.stdout is not None
    keepers = [int(pid) for pid in drill.stdout.readline().split()]
    assert len(keepers) == 2
    drill.kill()
    drill.wait()
    drill.stdout.close()
    give_up_at_s = time.monotonic() + WITHIN_S
    while any(_runs(pid) for pid in keepers):
        assert time.monotonic() < give_up_at_s, "the keepers of the namespaces still run"
        time.sleep(0.01)
    assert _links_of_this_host() == before


def _runs(pid: int) -> bool:
    try:
        return "sleep" in Path(f"/proc/{pid}/comm").read_text() and _state(pid) != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _links_of_this_host() -> list[str]:
    return sorted(os.listdir("/sys/class/net"))
