"""A rolling restart under load: every replica is asked to end and started again, and no client notices."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc.aio
import psycopg

from orchestrator.audit.judge import audit
from orchestrator.cli.client import Client
from orchestrator.drill.load import Load
from orchestrator.embedded.cluster import Cluster
from orchestrator.embedded.servers import Replica
from orchestrator.errors import BatonError
from orchestrator.pb.baton.v1 import saga_pb2, saga_pb2_grpc
from tests.integration.test_api_retry import guided

from .flows import FLOWS
from .house import WITHIN_S, definitions_applied, eventually

_RATE = 40.0
_STARTS_BETWEEN = 40


class PlainStarter:
    """Starts sagas as docs/api.md shows it: gRPC's own retry policy, and nothing of Baton's."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: Any = saga_pb2_grpc.SagaServiceStub(channel)  # type: ignore[no-untyped-call]

    async def start_saga(
        self,
        definition: str,
        input_json: str,
        *,
        version: int = 0,
        labels: Mapping[str, str] | None = None,
        request_id: str | None = None,
        deadline_s: float | None = None,
    ) -> saga_pb2.StartSagaResponse:
        request = saga_pb2.StartSagaRequest(definition=definition, input_json=input_json, request_id=request_id)
        try:
            answer: saga_pb2.StartSagaResponse = await self._stub.StartSaga(request, timeout=deadline_s)
        except grpc.aio.AioRpcError as error:
            raise BatonError(f"{error.code().name}: {error.details()}") from None
        return answer


def ready_status(replica: Replica) -> int | None:
    """What /readyz answers; None when nobody listens any more."""
    try:
        with urllib.request.urlopen(f"http://{replica.http_address}/readyz", timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


async def restart(cluster: Cluster, replica: Replica) -> None:
    """End a replica by SIGTERM, and start it again."""

    async def not_ready() -> bool:
        return await asyncio.to_thread(ready_status, replica) != 200

    replica.terminate()
    await eventually(not_ready, f"{replica.name} to be not ready")
    async with asyncio.timeout(WITHIN_S):
        assert await replica.wait_exit() == 0
    await cluster.start_replica(cluster.replicas.index(replica))


def transitions(dsn: str) -> set[tuple[str, int, int]]:
    """Every row of the step log: its saga, epoch and sequence."""
    with psycopg.connect(dsn) as connection:
        return set(connection.execute("SELECT saga_id::text, epoch, sequence FROM baton.step_log").fetchall())


def logged(cluster: Cluster) -> set[tuple[str, int, int]]:
    """The same, as the replicas' own logs have it."""
    lines = [line for path in cluster.log_dir.glob("replica-*.log") for line in path.read_text().splitlines()]
    events = [json.loads(line) for line in lines if line.startswith("{")]
    return {(e["saga"], e["epoch"], e["sequence"]) for e in events if e["event"] == "transition"}


def terms(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT count(*) FROM baton.epoch_history").fetchone()
    assert row is not None
    return int(row[0])


async def test_a_rolling_restart_under_load_fails_no_start_and_does_nothing_twice(tmp_path: Path) -> None:
    async with (
        Cluster(tmp_path, 3, 1, unsafe_no_fsync=True, settings={"BATON_LOG_FORMAT": "json"}) as cluster,
        Client(cluster.api_endpoints, spread=True, deadline_s=WITHIN_S) as client,
    ):
        await definitions_applied(client, len(FLOWS))
        async with guided()["open_channel"](*cluster.api_endpoints) as channel:
            load = Load(PlainStarter(channel), rate=_RATE)
            leader = (await cluster.wait_leader()).replica
            before = terms(cluster.baton_dsn)
            async with load.running():
                # The leader first: leadership then moves with every restart, if it moves as often as it can.
                for replica in sorted(cluster.replicas, key=lambda replica: replica is not leader):
                    await restart(cluster, replica)
                    await load.reached(_STARTS_BETWEEN, WITHIN_S)
        assert load.failed == []
        assert terms(cluster.baton_dsn) - before <= 3

        async def all_ended() -> bool:
            ended = saga_pb2.ListSagasRequest(
                states=[saga_pb2.SAGA_STATE_PENDING, saga_pb2.SAGA_STATE_RUNNING, saga_pb2.SAGA_STATE_COMPENSATING]
            )
            return not await client.list_sagas(ended, 1)

        await eventually(all_ended, "the end of all sagas")
        verdict = await asyncio.to_thread(audit, cluster.baton_dsn, cluster.shop_dsn, load.acknowledged, 3)
        assert verdict.holds, "\n".join(verdict.lines())

        # The replicas' logs tell the same story; what a leader wrote in its last moment it may not have told.
        rows, told = transitions(cluster.baton_dsn), logged(cluster)
        assert told <= rows
        assert len(rows - told) <= 0.05 * len(rows)

        # Without Postgres and etcd a replica ends as well, and within its grace.
        await asyncio.gather(asyncio.to_thread(cluster.postgres.kill), asyncio.to_thread(cluster.etcd.stop))
        for replica in cluster.replicas:
            replica.terminate()
        async with asyncio.timeout(WITHIN_S):
            assert [await replica.wait_exit() for replica in cluster.replicas] == [0, 0, 0]
