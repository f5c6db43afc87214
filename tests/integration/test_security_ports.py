"""The gRPC ports, and whoever may not come in: no certificate, another authority's, the wrong role, expired."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import psycopg
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from orchestrator.pb.baton.v1 import audit_pb2, audit_pb2_grpc, cluster_pb2, cluster_pb2_grpc, saga_pb2, saga_pb2_grpc
from participants.answers import NotReported, NotWanted
from participants.pb.shop.v1 import echo_pb2, echo_pb2_grpc
from participants.reporting import StepReporter
from participants.tls import Certificates
from tests.integration.secure_world import (
    EXPIRED_TOKEN,
    METRICS_TOKEN,
    NOBODYS,
    READER_TOKEN,
    SOON_S,
    World,
    ask_api,
    code_of,
    world,
)

__all__ = ["world"]


@pytest.mark.parametrize("who", NOBODYS)
@pytest.mark.parametrize("port", ["api", "participant"])
async def test_grpc_ports_shake_hands_with_certificates_of_the_authority_alone(
    world: World, port: str, who: str | None
) -> None:
    async with world.channel(port, who) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)  # type: ignore[no-untyped-call]
        assert await code_of(health.Check(health_pb2.HealthCheckRequest(), timeout=10)) is grpc.StatusCode.UNAVAILABLE


async def test_a_certificate_that_nobody_listed_is_refused(world: World) -> None:
    async with world.channel("api", "somebody") as channel:
        assert await ask_api(channel) is grpc.StatusCode.UNAUTHENTICATED


async def test_plain_text_is_refused(world: World) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{world.ports['api']}") as channel:
        assert await ask_api(channel) is grpc.StatusCode.UNAVAILABLE


async def test_the_token_port_takes_valid_tokens_alone(world: World) -> None:
    async with world.channel("token", None) as channel:
        assert await ask_api(channel, READER_TOKEN) is grpc.StatusCode.OK
        assert await ask_api(channel, world.token()) is grpc.StatusCode.OK
        for token in (
            None,
            "nobodys-token-that-is-not-in-the-file",
            EXPIRED_TOKEN,
            world.token(exp=time.time() - 60),
            world.token(aud="another"),
            world.token(iss="https://another.example"),
            world.token()[:-6],
        ):
            assert await ask_api(channel, token) is grpc.StatusCode.UNAUTHENTICATED
        assert await ask_api(channel, METRICS_TOKEN) is grpc.StatusCode.PERMISSION_DENIED
        health: Any = health_pb2_grpc.HealthStub(channel)  # type: ignore[no-untyped-call]
        assert await code_of(health.Check(health_pb2.HealthCheckRequest(), timeout=10)) is grpc.StatusCode.OK


@pytest.mark.parametrize("who", ["stranger", "expired"])
async def test_another_authoritys_certificate_opens_the_token_port_for_nobody(world: World, who: str) -> None:
    async with world.channel("token", who) as channel:
        assert await ask_api(channel) is grpc.StatusCode.UNAUTHENTICATED


async def test_a_bad_token_is_not_made_good_by_a_certificate(world: World) -> None:
    async with world.channel("api", "operator") as channel:
        assert await ask_api(channel) is grpc.StatusCode.OK
        assert await ask_api(channel, EXPIRED_TOKEN) is grpc.StatusCode.UNAUTHENTICATED


def calls(channel: grpc.aio.Channel) -> dict[str, Callable[[], Awaitable[Any]]]:
    """A call for each role that the API asks for, none of which changes anything when it is let in."""
    sagas: Any = saga_pb2_grpc.SagaServiceStub(channel)  # type: ignore[no-untyped-call]
    definitions: Any = saga_pb2_grpc.DefinitionServiceStub(channel)  # type: ignore[no-untyped-call]
    return {
        "read": lambda: sagas.ListSagas(saga_pb2.ListSagasRequest(definition="order"), timeout=10),
        "start": lambda: sagas.StartSaga(
            saga_pb2.StartSagaRequest(definition="order", input_json="{}", request_id="a"), timeout=10
        ),
        "operate": lambda: definitions.ApplyDefinition(saga_pb2.ApplyDefinitionRequest(), timeout=10),
    }


@pytest.mark.parametrize(
    ("who", "may"),
    [("reader", {"read"}), ("starter", {"read", "start"}), ("operator", {"read", "start", "operate"})],
)
async def test_a_role_may_what_it_says_and_nothing_else(world: World, who: str, may: set[str]) -> None:
    async with world.channel("api", who) as channel:
        let_in = {
            name
            for name, call in calls(channel).items()
            if await code_of(call()) is not grpc.StatusCode.PERMISSION_DENIED
        }
    assert let_in == may


async def test_rights_to_one_definition_are_no_rights_to_others(world: World) -> None:
    async with world.channel("api", "starter") as channel:
        sagas: Any = saga_pb2_grpc.SagaServiceStub(channel)  # type: ignore[no-untyped-call]
        definitions: Any = saga_pb2_grpc.DefinitionServiceStub(channel)  # type: ignore[no-untyped-call]
        denied = grpc.StatusCode.PERMISSION_DENIED
        start = saga_pb2.StartSagaRequest(definition="refund", input_json="{}", request_id="a")
        assert await code_of(sagas.StartSaga(start, timeout=10)) is denied
        batch = await sagas.StartSagas(saga_pb2.StartSagasRequest(requests=[start]), timeout=10)
        assert [result.code for result in batch.results] == [denied.value[0]]
        assert await code_of(sagas.ListSagas(saga_pb2.ListSagasRequest(), timeout=10)) is denied
        assert await code_of(sagas.ListSagas(saga_pb2.ListSagasRequest(definition="refund"), timeout=10)) is denied
        asked = saga_pb2.GetDefinitionRequest(name="refund")
        assert await code_of(definitions.GetDefinition(asked, timeout=10)) is denied


async def test_who_asks_too_much_is_told_when_to_come_again(world: World) -> None:
    async with world.channel("api", "slow") as channel:
        stub: Any = cluster_pb2_grpc.ClusterServiceStub(channel)  # type: ignore[no-untyped-call]

        async def hurry() -> None:
            # A call a second: two in one breath are one too many, and a slow machine gets a few tries.
            for _ in range(50):
                await asyncio.gather(*(stub.GetCluster(cluster_pb2.GetClusterRequest(), timeout=10) for _ in range(3)))

        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await hurry()
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    status = rpc_status.from_call(refused.value)
    assert status is not None
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in status.details)
    assert 0 < retry.retry_delay.ToMilliseconds() <= 1000


async def test_the_participant_obeys_replicas_alone(world: World) -> None:
    for who, expected in (("replica", grpc.StatusCode.OK), ("operator", grpc.StatusCode.PERMISSION_DENIED)):
        async with world.channel("participant", who) as channel:
            stub: Any = echo_pb2_grpc.EchoServiceStub(channel)  # type: ignore[no-untyped-call]
            metadata = (
                ("baton-saga-id", "00000000-0000-7000-8000-000000000000"),
                ("baton-step", "s"),
                ("baton-kind", "action"),
                ("baton-epoch", "1"),
            )
            assert await code_of(stub.Do(echo_pb2.EchoRequest(), metadata=metadata, timeout=10)) is expected


async def until_it_leads(world: World) -> None:
    async with asyncio.timeout(SOON_S), world.channel("api", "operator") as channel:
        stub: Any = cluster_pb2_grpc.ClusterServiceStub(channel)  # type: ignore[no-untyped-call]
        while (await stub.GetCluster(cluster_pb2.GetClusterRequest(), timeout=10)).leader.replica_id != "r1":
            await asyncio.sleep(0.02)


async def test_every_action_of_an_operator_is_in_the_audit_log_and_every_try_of_others(world: World) -> None:
    asked = cluster_pb2.StepDownRequest(reason="for the audit")
    await until_it_leads(world)
    for who in ("reader", "operator"):
        async with world.channel("api", who) as channel:
            stub: Any = cluster_pb2_grpc.ClusterServiceStub(channel)  # type: ignore[no-untyped-call]
            await code_of(stub.StepDown(asked, timeout=10))
    async with world.channel("token", None) as channel:
        stub = cluster_pb2_grpc.ClusterServiceStub(channel)  # type: ignore[no-untyped-call]
        await code_of(stub.StepDown(asked, timeout=10))
    wanted = [("reader", "PERMISSION_DENIED"), ("operator", "OK"), ("nobody known", "UNAUTHENTICATED")]
    query = (
        "SELECT caller, outcome, replica, recognized_by FROM baton.audit_log WHERE action = 'ClusterService/StepDown'"
        " AND target->>'reason' = 'for the audit' ORDER BY at"
    )
    async with (
        asyncio.timeout(SOON_S),
        await psycopg.AsyncConnection.connect(world.log_dsn, autocommit=True) as connection,
    ):
        while len(rows := await (await connection.execute(query)).fetchall()) < len(wanted):
            await asyncio.sleep(0.02)
    assert [(caller, outcome) for caller, outcome, _, _ in rows] == wanted
    assert {replica for _, _, replica, _ in rows} == {"r1"}
    assert [by for _, _, _, by in rows] == ["certificate", "certificate", "nothing"]
    async with world.channel("api", "operator") as channel:
        audits: Any = audit_pb2_grpc.AuditServiceStub(channel)  # type: ignore[no-untyped-call]
        listed = await audits.ListAuditEntries(
            audit_pb2.ListAuditEntriesRequest(action="ClusterService/StepDown"), timeout=10
        )
    assert [(entry.caller, entry.outcome) for entry in reversed(listed.entries)][-len(wanted) :] == wanted
    async with world.channel("api", "reader") as channel:
        audits = audit_pb2_grpc.AuditServiceStub(channel)  # type: ignore[no-untyped-call]
        refused = audits.ListAuditEntries(audit_pb2.ListAuditEntriesRequest(), timeout=10)
        assert await code_of(refused) is grpc.StatusCode.PERMISSION_DENIED
    events = [event for event in world.audited() if event["target"] == {"reason": "for the audit"}]
    assert [(event["caller"], event["outcome"]) for event in events] == wanted


async def test_a_participant_tells_later_answers_by_its_role_alone(world: World) -> None:
    """By the kit's own client, through the gate: whose role it is gets an answer about the token, nobody else does."""
    reporters = {}
    for who in ("helper", "reader", "somebody"):
        cert, key = world.files(who)
        assert cert is not None
        assert key is not None
        address = f"127.0.0.1:{world.ports['api']}"
        reporters[who] = StepReporter([address], Certificates(cert, key, world.ours.ca_file))
    with pytest.raises(NotWanted, match="INVALID_ARGUMENT"):
        await reporters["helper"].complete("no-token", b"")
    for who, code in (("reader", "PERMISSION_DENIED"), ("somebody", "UNAUTHENTICATED")):
        with pytest.raises(NotReported, match=code):
            await reporters[who].complete("no-token", b"")
