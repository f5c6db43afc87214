"""The bounds on what a leader does at once, and the metrics that tell of its work."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc.aio
import psycopg
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.cli.client import Client
from orchestrator.embedded.cluster import in_thread
from orchestrator.embedded.loopback import free_ports, http_get
from orchestrator.embedded.servers import Replica
from orchestrator.pb.baton.v1 import saga_pb2, saga_pb2_grpc
from participants.pb.shop.v1 import echo_pb2, echo_pb2_grpc, fault_pb2

from .house import WITHIN_S, House, eventually, inject

pytestmark = pytest.mark.asyncio(loop_scope="module")

_SAGAS_MAX, _CALLS_MAX, _SAGAS = 5, 3, 50


async def metrics_of(replica: Replica) -> dict[str, Metric]:
    """The families of /metrics by name."""
    body = await asyncio.to_thread(http_get, f"http://{replica.http_address}/metrics", 10.0)
    assert body is not None
    return {family.name: family for family in text_string_to_metric_families(body.decode())}


def value(families: dict[str, Metric], name: str, **labels: str) -> float:
    """The sum of the samples `name` that carry these labels."""
    found = [
        sample.value
        for family in families.values()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    assert found, f"no {name} with {labels}"
    return sum(found)


class Echo(echo_pb2_grpc.EchoServiceServicer):
    """A participant that counts the calls in work."""

    def __init__(self) -> None:
        self.now = 0
        self.most = 0
        self.open = asyncio.Event()
        self.open.set()

    async def Do(self, request: echo_pb2.EchoRequest, context: object) -> echo_pb2.EchoResponse:
        await self.open.wait()
        self.now += 1
        self.most = max(self.most, self.now)
        # Work, not waiting: calls must overlap.
        await asyncio.sleep(0.02)
        self.now -= 1
        return echo_pb2.EchoResponse(text=request.text)


@asynccontextmanager
async def echo_server(echo: Echo) -> AsyncGenerator[str]:
    """Serves it; yields its address."""
    server = grpc.aio.server()
    echo_pb2_grpc.add_EchoServiceServicer_to_server(echo, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


async def apply_echo(client: Client, address: str) -> None:
    step = "{{name: {}, service: '{}', action: {{method: shop.v1.EchoService/Do}}, compensation: none}}"
    text = f"name: echo-twice\nsteps:\n  - {step.format('one', address)}\n  - {step.format('two', address)}\n"
    file = FileDescriptorProto()
    echo_pb2.DESCRIPTOR.CopyToProto(file)
    await client.apply_definition(text, descriptor_set=FileDescriptorSet(file=[file]).SerializeToString())


async def most_at_once(dsn: str, definition: str) -> int:
    """How many sagas stood between their first and their last transition at one moment, by the log."""
    query = """
        SELECT min(at), max(at) FROM baton.step_log JOIN baton.saga ON saga.id = saga_id
        WHERE definition = %s GROUP BY saga_id
    """
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        spans = await (await connection.execute(query, (definition,))).fetchall()
    return max(sum(began <= other < ended for began, ended in spans) for other, _ in spans)


async def test_no_more_sagas_are_driven_and_no_more_calls_made_at_once_than_the_settings_say(
    house: House, tmp_path: Path
) -> None:
    cluster, echo = house.cluster, Echo()
    # A shard of its own: another leader, with settings of its own, on the same stores.
    env = {"BATON_SHARD": "1", "BATON_SAGAS_MAX": str(_SAGAS_MAX), "BATON_CALLS_MAX": str(_CALLS_MAX)}
    replica = Replica("narrow", free_ports(3), cluster.baton_dsn, cluster.etcd.endpoints, env, tmp_path)
    replica.start()
    try:
        await replica.wait_ready(WITHIN_S)
        async with echo_server(echo) as address, Client([replica.api_address], deadline_s=WITHIN_S) as client:
            await apply_echo(client, address)
            started = await client.start_sagas(
                saga_pb2.StartSagaRequest(definition="echo-twice", input_json="{}") for _ in range(_SAGAS)
            )
            assert {result.code for result in started} == {0}
            readings: list[float] = []

            async def all_completed() -> bool:
                families = await metrics_of(replica)
                readings.append(value(families, "baton_sagas_in_flight"))
                question = saga_pb2.ListSagasRequest(definition="echo-twice", states=[saga_pb2.SAGA_STATE_COMPLETED])
                return len(await client.list_sagas(question, 2 * _SAGAS)) == _SAGAS

            await eventually(all_completed, f"{_SAGAS} completed sagas")
    finally:
        await in_thread(replica.stop)
        await replica.close()
    assert max(readings) <= _SAGAS_MAX
    assert echo.most == _CALLS_MAX
    assert _CALLS_MAX <= await most_at_once(cluster.baton_dsn, "echo-twice") <= _SAGAS_MAX


async def test_an_overload_refuses_starts_until_the_backlog_has_gone_and_loses_nothing_that_was_accepted(
    house: House, tmp_path: Path
) -> None:
    cluster, echo = house.cluster, Echo()
    echo.open.clear()
    env = {"BATON_SHARD": "2", "BATON_SAGAS_MAX": str(_SAGAS_MAX), "BATON_PENDING_MAX": "20"}
    replica = Replica("crowded", free_ports(3), cluster.baton_dsn, cluster.etcd.endpoints, env, tmp_path)
    replica.start()
    accepted: set[str] = set()
    refused: list[grpc.aio.AioRpcError] = []
    try:
        await replica.wait_ready(WITHIN_S)
        async with echo_server(echo) as address, Client([replica.api_address], deadline_s=WITHIN_S) as client:
            await apply_echo(client, address)
            # Plain gRPC: a client of ours would come again until it is let in.
            stub = saga_pb2_grpc.SagaServiceStub(replica.channel())

            async def start_one(number: int) -> bool:
                request = saga_pb2.StartSagaRequest(
                    definition="echo-twice", input_json="{}", request_id=f"crowd-{number}", labels={"of": "the crowd"}
                )
                try:
                    accepted.add((await stub.StartSaga(request, timeout=WITHIN_S)).saga.saga_id)
                except grpc.aio.AioRpcError as error:
                    refused.append(error)
                    return False
                return True

            async def overloaded() -> bool:
                return not await start_one(len(accepted))

            await eventually(overloaded, "a start that is refused")
            assert len(accepted) > 20
            trailers = {key for error in refused for key, _ in error.trailing_metadata() or ()}
            assert {error.code() for error in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
            assert trailers >= {"grpc-retry-pushback-ms", "grpc-status-details-bin"}
            assert value(await metrics_of(replica), "baton_pressure", cause="backlog") == 1
            # Reads go on.
            question = saga_pb2.ListSagasRequest(labels={"of": "the crowd"})
            assert {saga.saga_id for saga in await client.list_sagas(question, 10_000)} == accepted

            echo.open.set()

            async def taken_again() -> bool:
                return await start_one(len(accepted))

            await eventually(taken_again, "a start that is taken again")
            assert value(await metrics_of(replica), "baton_pressure", cause="backlog") == 0
            assert value(await metrics_of(replica), "baton_starts_refused_total") == len(refused)
            done = saga_pb2.ListSagasRequest(labels=question.labels, states=[saga_pb2.SAGA_STATE_COMPLETED])

            async def all_completed() -> bool:
                return {saga.saga_id for saga in await client.list_sagas(done, 10_000)} == accepted

            await eventually(all_completed, f"{len(accepted)} completed sagas")
    finally:
        await in_thread(replica.stop)
        await replica.close()


async def test_the_metrics_tell_of_a_takeover_and_of_the_work_after_it(house: House) -> None:
    before = await house.cluster.wait_leader()
    before.replica.kill()
    after = await house.cluster.wait_leader(above_epoch=before.epoch)
    follower = await house.cluster.start_replica(house.cluster.replicas.index(before.replica))
    once = fault_pb2.Fault(order_id="metrics-0", method="Reserve", error_code="INTERNAL", times=1)
    await inject(house.cluster, [("inventory", once)])
    orders = [f"metrics-{number}" for number in range(10)] + [f"fail-payment-metrics-{number}" for number in range(5)]
    for saga_id in [await house.start("order", order_id) for order_id in orders]:
        await house.end(saga_id)

    async def counted() -> bool:
        families = await metrics_of(after.replica)
        samples = {(s.labels["definition"], s.labels["state"]): s.value for s in families["baton_sagas"].samples}
        return samples.get(("order", "COMPLETED")) == 10 and samples.get(("order", "COMPENSATED")) == 5

    await eventually(counted, "the gauge of sagas by state")
    families = await metrics_of(after.replica)
    assert value(families, "baton_is_leader") == 1
    assert value(families, "baton_epoch") == after.epoch
    assert value(families, "baton_leadership_changes_total", cause="gone") == 1
    assert 0 < value(families, "baton_lease_left_seconds") <= 2
    assert value(families, "baton_failover_gap_seconds_count") == 1
    assert value(families, "baton_sagas_in_flight") == 0
    assert value(families, "baton_sagas_finished_total", definition="order", state="COMPLETED") == 10
    assert value(families, "baton_sagas_finished_total", definition="order", state="COMPENSATED") == 5
    step = {"definition": "order", "step": "charge_payment", "kind": "action"}
    assert value(families, "baton_steps_total", **step, outcome="succeeded") == 10
    assert value(families, "baton_steps_total", **step, outcome="refused") == 5
    assert value(families, "baton_steps_total", definition="order", outcome="unknown") == 1
    assert value(families, "baton_step_duration_seconds_count", **step) == 15
    assert value(families, "baton_saga_duration_seconds_count", definition="order", state="COMPLETED") == 10
    assert value(families, "baton_recovery_seconds_count") == 1
    assert value(families, "baton_recovered_sagas_total") >= 0
    assert value(families, "baton_fenced_writes_total") == 0
    assert value(families, "baton_log_batch_transitions_count") > 0
    assert value(families, "baton_log_commit_seconds_count") > 0
    assert value(families, "baton_log_queue_depth") == 0
    assert value(families, "baton_intake_queue_depth") == 0
    assert value(families, "baton_pool_connections") > 0
    assert value(families, "baton_pool_waiting") == 0
    started = [value(await metrics_of(replica), "baton_intake_batch_sagas_sum") for replica in house.cluster.replicas]
    assert sum(started) == len(orders)
    no_ids = json.dumps({family.name: [sample.labels for sample in family.samples] for family in families.values()})
    assert "metrics-0" not in no_ids

    # A follower is ready as much as the leader, and says that it does not lead.
    assert await follower.ready()
    families = await metrics_of(follower)
    assert value(families, "baton_is_leader") == 0

    async def knows_the_epoch() -> bool:
        return value(await metrics_of(follower), "baton_epoch") == after.epoch

    await eventually(knows_the_epoch, "the follower to have seen the epoch")
