"""A cluster whose every link speaks TLS: as fast at a failover as one in the clear, also with new certificates."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from orchestrator.cli.access import ClientAccess
from orchestrator.cli.client import Client
from orchestrator.embedded.cluster import Cluster
from orchestrator.pb.baton.v1 import saga_pb2

from .flows import FLOWS
from .house import WITHIN_S, definitions_applied, eventually
from .test_failpoints import order

pytestmark = pytest.mark.timeout(240)

# Why a leader was succeeded of whose end the heartbeat has told; it would be another word if its lease had run out.
TOLD_BY_THE_HEARTBEAT = "gone"


async def test_failover_over_tls_is_told_by_the_heartbeat_before_and_after_all_certificates_change(
    tmp_path: Path,
) -> None:
    async with Cluster(tmp_path, 3, 1, unsafe_no_fsync=True, restart_replicas=True, secure=True) as cluster:
        tls = cluster.tls
        assert tls is not None
        access = ClientAccess.of(
            ca_file=tls.authority.ca_file, cert_file=tls.operator.cert_file, key_file=tls.operator.key_file
        )
        async with Client(
            cluster.api_endpoints, deadline_s=WITHIN_S, attempt_max_s=10.0, spread=True, access=access
        ) as client:
            await definitions_applied(client, len(FLOWS))
            await lose_the_leader(cluster, client, "o-1")

            await cluster.wait_ready()
            tls.issue_again()

            async def read_again() -> bool:
                # One set of files is for etcd, one for everything else.
                return all(replica.log_path.read_text().count("file_read_again") >= 2 for replica in cluster.replicas)

            await eventually(read_again, "every replica to read its certificates again")
            await lose_the_leader(cluster, client, "o-2")

            answer = await client.step_down("a new certificate is as good as the old one")
            assert answer.replica_id


async def lose_the_leader(cluster: Cluster, client: Client, order_id: str) -> None:
    """Kill the leader, and run a saga through the next one."""
    leader = await cluster.wait_ready()
    leader.replica.kill()
    successor = await cluster.wait_leader(above_epoch=leader.epoch)
    with psycopg.connect(cluster.baton_dsn) as connection:
        raised = connection.execute("SELECT cause FROM baton.epoch_history WHERE epoch = %s", [successor.epoch])
        assert raised.fetchall() == [(TOLD_BY_THE_HEARTBEAT,)]
    answer = await client.run_saga("order", order(order_id))
    assert answer.saga.state == saga_pb2.SAGA_STATE_COMPLETED
