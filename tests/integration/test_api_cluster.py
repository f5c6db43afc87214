"""The API apart from sagas: definitions, the cluster, health, reflection, limits, and a stop that fails nobody."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import grpc
import orjson
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from orchestrator.api.server import CannotListen
from orchestrator.driving.reflection import describe
from orchestrator.embedded.postgres import Postgres
from orchestrator.pb.baton.v1 import cluster_pb2, cluster_pb2_grpc, saga_pb2
from orchestrator.sagalog.migrate import migrate
from orchestrator.sagalog.reader import Reader
from tests.integration.api_serving import Leadership, member, serving
from tests.integration.api_world import INPUT, ApiWorld, api_world, definition, descriptors, field_violations, refusal

START = saga_pb2.StartSagaRequest(definition="order", input_json=orjson.dumps(INPUT).decode(), request_id="order-1")


@pytest.fixture
async def api(database: str) -> AsyncIterator[ApiWorld]:
    migrate(database)
    async with api_world(database) as world:
        yield world


async def apply(api: ApiWorld, yaml: str, **fields: Any) -> saga_pb2.ApplyDefinitionResponse:
    request = saga_pb2.ApplyDefinitionRequest(**{"yaml": yaml, "descriptor_set": descriptors(), **fields})
    answer: saga_pb2.ApplyDefinitionResponse = await api.definitions.ApplyDefinition(request, timeout=20)
    return answer


async def test_equal_content_is_one_version_and_other_content_the_next(api: ApiWorld) -> None:
    again = await apply(api, definition())
    assert (again.existing, again.definition.version) == (True, 1)
    changed = await apply(api, definition(description="changed"))
    assert (changed.existing, changed.definition.version) == (False, 2)
    asked = [saga_pb2.GetDefinitionRequest(name="order", version=version) for version in (0, 1)]
    newest, first = [await api.definitions.GetDefinition(request) for request in asked]
    assert (newest.version, newest.yaml) == (2, definition(description="changed"))
    assert (first.version, first.yaml) == (1, definition())
    listed = (await api.definitions.ListDefinitions(saga_pb2.ListDefinitionsRequest())).definitions
    assert [(entry.name, entry.version) for entry in listed] == [("order", 2), ("order", 1)]


async def test_versions_applied_at_once_each_get_a_number_of_their_own(api: ApiWorld) -> None:
    answers = await asyncio.gather(*(apply(api, definition(description=f"number {n}")) for n in range(10)))
    assert sorted(answer.definition.version for answer in answers) == list(range(2, 12))


async def test_a_start_that_follows_an_apply_runs_by_it_on_every_replica(api: ApiWorld, database: str) -> None:
    async with serving(database) as other, grpc.aio.insecure_channel(f"127.0.0.1:{other.port}") as channel:
        start: Any = channel.unary_unary(
            "/baton.v1.SagaService/StartSaga",
            request_serializer=saga_pb2.StartSagaRequest.SerializeToString,
            response_deserializer=saga_pb2.StartSagaResponse.FromString,
        )
        for version in range(2, 6):
            await start(saga_pb2.StartSagaRequest(definition="order", input_json=START.input_json))
            await apply(api, definition(description=f"number {version}"))
            answer = await start(saga_pb2.StartSagaRequest(definition="order", input_json=START.input_json))
            assert answer.saga.version == version


@pytest.mark.parametrize(
    ("yaml", "field"),
    [
        ("", "yaml"),
        ("name: [", "yaml"),
        ("[]", "definition"),
        (definition().replace("InventoryService/Reserve", "InventoryService/Steal"), "steps[0].action.method"),
        (definition().replace("input.order_id, amount", "results.ship.id, amount"), "steps[1].action.request.order_id"),
        (definition().replace("amount: input.amount", "price: input.amount"), "steps[1].action.request.price"),
        (definition().replace("127.0.0.1:1", "no address"), "steps[0].service"),
    ],
)
async def test_a_bad_definition_names_its_field_and_stores_nothing(api: ApiWorld, yaml: str, field: str) -> None:
    error = await refusal(apply(api, yaml, file_name="order.yaml"))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert field in field_violations(error)
    assert not yaml or "order.yaml" in error.message
    assert api.rows("SELECT count(*) FROM baton.definition") == [(1,)]


async def test_an_address_that_does_not_resolve_is_named(api: ApiWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    known = socket.getaddrinfo

    def look_up(host: Any, *args: Any, **options: Any) -> Any:
        if host == "nowhere.invalid":
            # As every name server says of it; the one of this machine may take its time.
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return known(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yaml = definition().replace("127.0.0.1:1", "nowhere.invalid:7501")
    error = await refusal(apply(api, yaml, descriptor_set=b""))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert "steps[0].service" in field_violations(error)
    assert "nowhere.invalid:7501" in error.message
    assert api.rows("SELECT count(*) FROM baton.definition") == [(1,)]


async def test_a_participant_that_is_away_makes_an_apply_without_descriptors_unavailable(api: ApiWorld) -> None:
    error = await refusal(apply(api, definition(description="new"), descriptor_set=b""))
    assert error.code is grpc.StatusCode.UNAVAILABLE
    assert "127.0.0.1:1" in error.message


async def test_the_cluster_is_told_with_its_leader(database: str) -> None:
    migrate(database)
    async with api_world(database, Leadership("r2", member("r1", "127.0.0.1:7400"))) as api:
        async with api.leading():
            answer = await until_epoch(api)
        assert (answer.cluster, answer.replica_id, answer.leader.replica_id) == ("test", "r2", "r1")
        assert [replica.replica_id for replica in answer.replicas] == ["r1"]
        assert answer.lease_left_s < 0
        assert answer.leading_since.seconds > 0


async def test_an_epoch_is_told_with_no_other_leader_than_its_own(database: str) -> None:
    migrate(database)
    leadership = Leadership(holder=member("r1"))
    async with api_world(database, leadership) as api:
        async with api.leading():
            await until_epoch(api)
        # This replica has not heard yet who leads now, or that one has not raised the epoch yet.
        leadership.holder = member("r3", "127.0.0.1:7400")
        answer = await api.cluster.GetCluster(cluster_pb2.GetClusterRequest())
        assert (answer.leader.replica_id, answer.epoch, answer.leading_since.seconds) == ("r3", 0, 0)
        leadership.holder = None
        assert (await until_epoch(api)).leader.replica_id == ""


async def until_epoch(api: ApiWorld) -> cluster_pb2.GetClusterResponse:
    async with asyncio.timeout(60):
        while (answer := await api.cluster.GetCluster(cluster_pb2.GetClusterRequest())).epoch == 0:
            await asyncio.sleep(0.01)
    return answer


async def test_the_cluster_is_told_while_postgres_is_away(api: ApiWorld, postgres: Postgres) -> None:
    await asyncio.to_thread(postgres.shut_down, "immediate")
    try:
        answer = await api.cluster.GetCluster(cluster_pb2.GetClusterRequest(), timeout=10)
    finally:
        await asyncio.to_thread(postgres.start)
    assert (answer.replica_id, answer.leader.replica_id, answer.epoch) == ("r1", "", 0)


async def test_the_leader_steps_down_whichever_replica_is_asked(database: str) -> None:
    migrate(database)
    leading = Leadership("r1", member("r1"))
    async with serving(database, leading) as leader:
        following = Leadership("r2", member("r1", f"127.0.0.1:{leader.port}"))
        async with (
            serving(database, following) as follower,
            grpc.aio.insecure_channel(f"127.0.0.1:{follower.port}") as channel,
        ):
            cluster: Any = cluster_pb2_grpc.ClusterServiceStub(channel)  # type: ignore[no-untyped-call]
            answer = await cluster.StepDown(cluster_pb2.StepDownRequest(reason="maintenance"), timeout=10)
            assert leading.resigned == ["maintenance"]
            assert answer.replica_id == "r1"
            # Two that take each other for the leader do not ask each other for ever.
            leading.holder = member("r2", f"127.0.0.1:{follower.port}")
            error = await refusal(cluster.StepDown(cluster_pb2.StepDownRequest(), timeout=10))
    assert error.code is grpc.StatusCode.UNAVAILABLE


async def test_nobody_steps_down_while_nobody_leads(api: ApiWorld) -> None:
    error = await refusal(api.cluster.StepDown(cluster_pb2.StepDownRequest()))
    assert error.code is grpc.StatusCode.UNAVAILABLE
    assert error.retry_delay_s


async def test_health_and_reflection_are_served(api: ApiWorld) -> None:
    health: Any = health_pb2_grpc.HealthStub(api.channel)
    for service in ("", "baton.v1.SagaService", "baton.v1.ClusterService"):
        answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    described = await describe(f"127.0.0.1:{api.served.port}", ["baton.v1.SagaService"], 10)
    assert "baton/v1/saga.proto" in {file.name for file in described.file}


async def test_a_defect_is_an_internal_error_whose_inside_stays_inside(
    api: ApiWorld, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    async def broken(self: Reader, saga_id: object) -> None:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(Reader, "saga", broken)
    error = await refusal(api.call_with_id("GetSaga", "00000000-0000-0000-0000-000000000001"))
    assert error.code is grpc.StatusCode.INTERNAL
    assert "secret" not in error.message
    error_id = error.info.metadata["error_id"]
    assert error_id in error.message
    out, err = capfd.readouterr()
    assert error_id in out + err
    assert "a secret" in out + err


async def test_a_message_that_is_too_large_is_refused_and_others_are_served(api: ApiWorld) -> None:
    request = saga_pb2.StartSagaRequest(definition="order", input_json="x" * 5_000_000)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await api.sagas.StartSaga(request)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await api.sagas.StartSaga(START)


async def test_a_second_server_cannot_share_the_port(api: ApiWorld, database: str) -> None:
    with pytest.raises(CannotListen, match=str(api.served.port)):
        async with serving(database, listen=f"127.0.0.1:{api.served.port}"):
            pass


async def test_calls_under_way_are_answered_when_a_replica_stops(database: str) -> None:
    migrate(database)
    async with api_world(database) as api:
        saga_id = (await api.sagas.StartSaga(START)).saga.saga_id
        waiting = asyncio.ensure_future(api.sagas.StartSaga(saga_pb2.StartSagaRequest(**_waiting()), timeout=60))
        watching = asyncio.ensure_future(api.call_with_id("WatchSaga", saga_id))
        starting = [asyncio.ensure_future(api.sagas.StartSaga(_numbered(number))) for number in range(50)]
        watcher = api.served.server._watcher
        async with asyncio.timeout(60):
            # A stream that is still on its way to the watcher is cut off, for nobody waits for streams.
            while api.count() < 51 or not watcher._watches or not watcher._ends:
                await asyncio.sleep(0.01)
            await api.served.server.stop(10)
            answer = await waiting
            error = await refusal(watching)
            started = await asyncio.gather(*starting)
    assert answer.saga.state == saga_pb2.SAGA_STATE_PENDING
    assert error.code is grpc.StatusCode.UNAVAILABLE
    assert len({reply.saga.saga_id for reply in started}) == 50


def _numbered(number: int) -> saga_pb2.StartSagaRequest:
    return saga_pb2.StartSagaRequest(definition="order", input_json=START.input_json, request_id=f"numbered-{number}")


def _waiting() -> dict[str, Any]:
    return {"definition": "order", "input_json": START.input_json, "request_id": "order-1", "wait": True}
