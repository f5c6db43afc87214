"""A rolling upgrade under load: replicas of the previous release beside one of this one, and who of them may lead."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import psycopg

from orchestrator.audit.judge import audit
from orchestrator.cli.client import Client
from orchestrator.drill.load import Load
from orchestrator.embedded.cluster import Cluster
from orchestrator.embedded.routes import Direct
from orchestrator.embedded.servers import Replica
from orchestrator.pb.baton.v1 import cluster_pb2, cluster_pb2_grpc, saga_pb2
from orchestrator.sagalog.level import READING_LEVEL
from tests.previous_release import unpack

from .flows import FLOWS
from .house import WITHIN_S, House, definitions_applied, eventually

_RATE = 15.0
_STARTS_BETWEEN = 30


class PreviousRelease(Direct):
    """Runs every replica with the code of the previous release."""

    def __init__(self, code: Path) -> None:
        self.code = code
        self.todays: dict[str, Sequence[str]] = {}

    def place(self, replica_id: str, argv: Sequence[str], addresses: Sequence[str]) -> Sequence[str]:
        self.todays[replica_id] = tuple(argv)
        return ("env", f"PYTHONPATH={self.code}", *argv)

    def upgrade(self, replica: Replica) -> None:
        """From its next start on, the replica runs the code of this release."""
        replica.argv = tuple(self.todays[replica.name])


def query(dsn: str, text: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(text.encode()).fetchall()


def refusals(replica: Replica) -> int:
    return replica.log_path.read_text().count("this replica may not lead")


async def step_down(replica: Replica) -> None:
    """Ask the leader to hand over, and to stay out of the campaign for a while."""
    request = cluster_pb2.StepDownRequest(reason="a test of upgrades")
    await cluster_pb2_grpc.ClusterServiceStub(replica.channel()).StepDown(request, timeout=WITHIN_S)


async def led_by(cluster: Cluster, replicas: Sequence[Replica], above_epoch: int = 0) -> int:
    """Wait until one of these leads; its epoch."""
    epochs: list[int] = []

    async def leads() -> bool:
        leader = await cluster.leader()
        if leader is None or leader.replica not in replicas or leader.epoch <= above_epoch:
            return False
        epochs.append(leader.epoch)
        return True

    await eventually(leads, f"a leader among {', '.join(replica.name for replica in replicas)}")
    return epochs[-1]


async def test_replicas_of_two_releases_work_side_by_side_and_only_the_new_one_leads_once_it_has(
    tmp_path: Path,
) -> None:
    releases = PreviousRelease(unpack(tmp_path / "previous"))
    definitions = releases.code / "deploy" / "definitions"
    async with (
        Cluster(tmp_path / "c", 3, 1, unsafe_no_fsync=True, routes=releases, definitions_dir=definitions) as cluster,
        Client(cluster.api_endpoints, spread=True, deadline_s=WITHIN_S) as client,
        AsyncExitStack() as stack,
    ):
        await definitions_applied(client, len(FLOWS))
        assert query(cluster.baton_dsn, "SELECT max(number) FROM baton.migration") == [(3,)]
        load = Load(client, rate=_RATE)
        async with load.running():
            # A standby is the first to be upgraded: it migrates under the old ones' load.
            leader = await cluster.wait_leader()
            new = next(replica for replica in cluster.replicas if replica is not leader.replica)
            old = [replica for replica in cluster.replicas if replica is not new]
            new.terminate()
            async with asyncio.timeout(WITHIN_S):
                await new.wait_exit()
            releases.upgrade(new)
            await cluster.start_replica(cluster.replicas.index(new))
            todays = await stack.enter_async_context(Client((new.api_address,), deadline_s=WITHIN_S))
            await load.reached(_STARTS_BETWEEN, WITHIN_S)

            # As a rule an old one leads still. What it would park, the new one takes in, and leadership moves to it.
            house = House(cluster, todays)
            await house.apply("guarded", "reserve pay ship", more="when: input.amount != '0'")
            saga = (await house.end(await house.start("guarded", "guarded-1"))).saga
            assert saga.state == saga_pb2.SAGA_STATE_COMPLETED
            first = await led_by(cluster, [new], leader.epoch)
            assert query(cluster.baton_dsn, "SELECT level FROM baton.reading_level") == [(READING_LEVEL,)]
            await load.reached(_STARTS_BETWEEN, WITHIN_S)

            # From the new one to nobody, since the old ones are refused, and to the new one again.
            before = sum(refusals(replica) for replica in old)
            await step_down(new)
            second = await led_by(cluster, [new], first)
            assert before < sum(refusals(replica) for replica in old) <= before + 20
            await load.reached(_STARTS_BETWEEN, WITHIN_S)
        assert load.failed == []

        async def all_ended() -> bool:
            live = "SELECT count(*) FROM baton.saga WHERE state IN ('PENDING', 'RUNNING', 'COMPENSATING')"
            return await asyncio.to_thread(query, cluster.baton_dsn, live) == [(0,)]

        await eventually(all_ended, "the end of all sagas")
        verdict = await asyncio.to_thread(audit, cluster.baton_dsn, cluster.shop_dsn, load.acknowledged, 3)
        assert verdict.holds, "\n".join(verdict.lines())
        corrupt = "SELECT count(*) FROM baton.step_log WHERE error_code = 'CORRUPT_LOG'"
        assert query(cluster.baton_dsn, corrupt) == [(0,)]
        holders = query(cluster.baton_dsn, f"SELECT DISTINCT holder FROM baton.epoch_history WHERE epoch >= {first}")
        assert holders == [(new.name,)]
        assert second > first

        await house.apply("passed-over", "reserve pay ship", more="when: input.amount == '0'")
        skipped = await house.start("passed-over", "passed-over-1")
        assert (await house.end(skipped)).saga.state == saga_pb2.SAGA_STATE_COMPLETED

        # An old replica answers reads of what the new leader wrote, and does not come back once it has ended.
        async with Client((old[0].api_address,), deadline_s=WITHIN_S) as reader:
            assert len(await reader.list_sagas(saga_pb2.ListSagasRequest(), 10)) == 10
            assert [row.status for row in (await reader.get_saga(skipped)).history] == ["skipped"] * 3
        old[0].terminate()
        async with asyncio.timeout(WITHIN_S):
            await old[0].wait_exit()
        old[0].start()
        async with asyncio.timeout(WITHIN_S):
            assert await old[0].wait_exit() != 0
        assert "this release of Baton ends at 3" in old[0].log_path.read_text()
