"""A drill of a cluster that it has not set up: by its API and an operator's commands, with and without databases."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from orchestrator.cli.demo import connect, connect_by
from orchestrator.drill.deployed import DeployedOptions, disturbing, killing, run_command
from orchestrator.drill.operator_command import OperatorCommand
from orchestrator.embedded.cluster import Cluster
from orchestrator.starter import SagaStarter

pytestmark = pytest.mark.timeout(300)

KILLS = 2
WITHIN_S = 120.0


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    """Somebody else's cluster, with sagas of theirs that no drill of ours may judge."""
    async with Cluster(tmp_path, unsafe_no_fsync=True, restart_replicas=True) as running:
        async with connect(running.api_endpoints, lambda *_: None) as client:
            await applied(client)
        yield running


async def applied(client: SagaStarter) -> None:
    """Start another's order, as soon as the definitions are there."""
    order = {
        "order_id": "theirs",
        "customer_id": "c1",
        "amount": "1.00",
        "destination": "Norway",
        "lines": [{"stock_code": "s1", "quantity": 1}],
    }
    async with asyncio.timeout(60):
        while "order" not in {found.name for found in await client.list_definitions()}:  # type: ignore[attr-defined]
            await asyncio.sleep(0.05)
    await client.start_saga("order", orjson.dumps(order).decode(), request_id="theirs")


def options(cluster: Cluster, tell: list[str], *, databases: bool) -> DeployedOptions:
    dsns = (cluster.baton_dsn, cluster.shop_dsn) if databases else (None, None)
    return DeployedOptions(cluster.api_endpoints, connect, tell.append, None, *dsns, rate=20, keep_s=1.0)


@pytest.mark.parametrize("databases", [True, False])
async def test_a_deployed_cluster_whose_leader_is_killed(cluster: Cluster, databases: bool) -> None:
    before = await cluster.wait_ready()
    told: list[str] = []
    profile = killing("kill -9 {pid}", KILLS, None)
    result = await run_command(profile, OperatorCommand(profile.says), options(cluster, told, databases=databases))
    assert result.complaints() == []
    assert len(result.measured) == KILLS
    assert all(0 < gap_s < 30 for gap_s in result.measured)
    assert result.changes == KILLS
    assert (await cluster.wait_ready()).epoch > before.epoch
    checked = {finding.invariant for finding in result.findings}
    if databases:
        assert checked == {"I1", "I2", "I3", "I4", "I5", "I6", "I9"}
        # The order of somebody else is on the same accounts.
        assert [remark for remark in result.unchecked if "balances" in remark] == list(result.unchecked)
    else:
        assert checked == {"I6", "I9"}
        assert any("I1 to I4" in remark for remark in result.unchecked)
    finding = next(finding for finding in result.findings if finding.invariant == "I9")
    assert finding.checked == f"{sum(result.states.values())} acknowledged"
    assert set(result.states) == {"COMPLETED", "COMPENSATED"}
    assert result.timeline is not None
    assert sum(map(sum, result.timeline.ended.values())) == sum(result.states.values())


async def test_a_command_that_fails_is_quoted_and_what_was_done_is_healed(cluster: Cluster, tmp_path: Path) -> None:
    healed = tmp_path / "healed"
    profile = disturbing("no-such-thing", "echo there is no {replica}; exit 3", 1, log=False)
    chosen = options(cluster, [], databases=False)
    healing = DeployedOptions(
        chosen.endpoints, connect, chosen.tell, OperatorCommand(f"echo {{replica}} > {healed}"), rate=20, keep_s=0
    )
    leader = await cluster.wait_ready()
    result = await run_command(profile, OperatorCommand(profile.says), healing)
    assert not result.passed
    assert result.error is not None
    assert "status 3" in result.error
    assert f"there is no {leader.replica.replica_id}" in result.error
    assert healed.read_text().strip() == leader.replica.replica_id


@pytest.mark.parametrize("secure", [False, True])
async def test_the_command_line_drills_a_deployed_cluster(tmp_path: Path, secure: bool) -> None:
    report = tmp_path / "drill.json"
    async with Cluster(tmp_path / "cluster", unsafe_no_fsync=True, restart_replicas=True, secure=secure) as cluster:
        async with connect_by(cluster.dialer)(cluster.api_endpoints, lambda *_: None) as client:
            await applied(client)
        argv = ["drill", "--endpoint", ",".join(cluster.api_endpoints), "--kill-command", "kill -9 {pid}"]
        argv += ["--repetitions", "1", "--rate", "20", "--json", str(report), "--html", str(tmp_path / "drill.html")]
        if cluster.tls is not None:
            own = cluster.tls.operator
            files = ("--cert-file", str(own.cert_file), "--key-file", str(own.key_file))
            argv = ["--ca-file", str(cluster.tls.authority.ca_file), *files, *argv]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "orchestrator", *argv, env=dict(os.environ), stdout=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(WITHIN_S):
            printed, _ = await process.communicate()
    assert process.returncode == 0, printed.decode()
    assert "were not checked: that needs --dsn-log" in printed.decode()
    (fault,) = json.loads(report.read_text())["faults"]
    assert (fault["name"], fault["passed"], fault["changes"]) == ("kill-command", True, 1)
    assert "kill-command" in (tmp_path / "drill.html").read_text()
