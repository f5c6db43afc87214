"""Every failpoint is passed by replicas that work: each is armed to log one line, and the lines are counted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import uuid
from datetime import UTC, datetime
from pathlib import Path

import grpc
import psycopg
import pytest

from orchestrator.certify.certificate import Certificate
from orchestrator.cli.calls import Method
from orchestrator.cli.client import Client
from orchestrator.cli.errors import CallRefused
from orchestrator.drill.load import Load
from orchestrator.embedded.cluster import Cluster
from orchestrator.failpoints.effects import POINTS
from orchestrator.pb.baton.v1 import (
    certification_pb2,
    certification_pb2_grpc,
    counting_pb2,
    events_pb2,
    holds_pb2,
    holds_pb2_grpc,
    operations_pb2,
    operations_pb2_grpc,
    pauses_pb2,
    pauses_pb2_grpc,
    saga_pb2,
    steps_pb2,
    steps_pb2_grpc,
)
from participants.pb.shop.v1 import fault_pb2, fault_pb2_grpc

from .house import eventually

pytestmark = pytest.mark.timeout(300)

# Nothing but tests asks these of etcd; the third needs an etcd with users. tests/integration/test_etcd.py asks them.
# The last are for the relay alone, and it needs a broker: tests/cluster/test_event_relay.py and
# tests/integration/test_retention.py.
ELSEWHERE = ("etcd.compact", "etcd.time_to_live", "etcd.authenticate", "events.advance", "events.unseen")

LIST_CERTIFICATES = Method(
    certification_pb2_grpc.CertificationServiceStub, "ListCertificates", certification_pb2.ListCertificatesResponse
)
LIST_APPROVALS = Method(steps_pb2_grpc.StepServiceStub, "ListApprovals", steps_pb2.ListApprovalsResponse)
REJECT = Method(steps_pb2_grpc.StepServiceStub, "RejectStep", steps_pb2.StepAnswer)
LIST_HOLDS = Method(holds_pb2_grpc.HoldServiceStub, "ListStartHolds", holds_pb2.ListStartHoldsResponse)
RELEASE = Method(holds_pb2_grpc.HoldServiceStub, "ReleaseStarts", holds_pb2.ReleaseStartsResponse)
PAUSE = Method(pauses_pb2_grpc.PauseServiceStub, "PauseDefinition", pauses_pb2.PauseAnswer)
RESUME = Method(pauses_pb2_grpc.PauseServiceStub, "ResumeDefinition", pauses_pb2.ResumeAnswer)
LIST_PAUSES = Method(pauses_pb2_grpc.PauseServiceStub, "ListPauses", pauses_pb2.ListPausesResponse)
LIST_PARKED = Method(operations_pb2_grpc.OperationServiceStub, "ListParked", operations_pb2.ListParkedResponse)
PLAN_CANCEL = Method(operations_pb2_grpc.OperationServiceStub, "PlanCancel", operations_pb2.PlanCancelResponse)

DEFINITION = """
name: coverage
steps:
  - name: reserve
    service: {address}
    action: {{method: shop.v1.InventoryService/Reserve, request: {{order_id: input.order_id}}}}
    compensation: {{method: shop.v1.InventoryService/Release, request: {{order_id: input.order_id}}}}
"""

# A child saga, and a person who is asked. One that is undone holds all others.
FAMILY = """
name: coverage-family
hold_starts: {share: 0, of_last: 1, for: 1h}
steps:
  - name: part
    saga: {definition: coverage-part, input: {order_id: input.order_id, amount: input.amount}}
  - name: consent
    approval: {question: "May it be?"}
"""

# Its first call fails behind the effect: what came of it is asked of the status method.
PART = """
name: coverage-part
steps:
  - name: charge
    service: ADDRESS
    action:
      method: shop.v1.PaymentService/Charge
      request: {order_id: input.order_id, customer_id: "'c1'", amount: input.amount}
    compensation:
      method: shop.v1.PaymentService/Refund
      request: {order_id: input.order_id}
    retry: {retries: 1000, initial: 50ms, multiplier: 1}
    status: {method: shop.v1.PaymentService/GetCharge, request: {order_id: input.order_id}}
    on_unknown: query
"""


def order(order_id: str) -> str:
    lines = [{"stock_code": "s1", "quantity": 1}]
    return json.dumps(
        {"order_id": order_id, "customer_id": "c1", "amount": "1.00", "destination": "Norway", "lines": lines}
    )


async def everything_a_client_asks(cluster: Cluster, client: Client, load: Load) -> None:
    await client.get_saga(load.acknowledged[-1].saga_id)
    await client.list_sagas(saga_pb2.ListSagasRequest(), 10)
    await client.start_saga("order", order("o-labelled"), labels={"shop": "a"})
    for labels, keys in (({}, []), ({"shop": "a"}, []), ({}, ["shop"])):
        assert await client.list_sagas(
            saga_pb2.ListSagasRequest(labels=labels, label_keys=keys, input_path='$.order_id starts with "o"'), 1
        )
    await client.count_sagas(counting_pb2.CountSagasRequest())
    with pytest.raises(CallRefused):
        await client.start_saga("order", "{}", request_id="refused")
    for _ in range(2):
        await client.start_saga("order", order("o-twice"), request_id="twice")
    await client.cancel_saga((await client.start_saga("order", order("o-undone"))).saga.saga_id, "no more")
    await client.run_saga("order", order("o-watched"))
    async for _ in client.watch_saga(load.acknowledged[-1].saga_id):
        break
    text = DEFINITION.format(address=cluster.participants["inventory"].address)
    await client.apply_definition(text)
    await client.apply_definition(text)
    await client.get_definition("coverage")
    await client.list_definitions()
    await client.list_audit(10)


async def everything_an_operator_asks(cluster: Cluster, client: Client) -> None:
    payment = cluster.participants["payment"].address
    await client.apply_definition(PART.replace("ADDRESS", payment))
    async with grpc.aio.insecure_channel(payment) as channel:
        faults = fault_pb2_grpc.FaultServiceStub(channel)  # type: ignore[no-untyped-call]
        fault = fault_pb2.Fault(step="charge", order_id="o-family", error_code="INTERNAL", times=1)
        fault.error_after_commit = True
        await faults.Inject(fault)
    await client.apply_definition(FAMILY)
    found = Certificate("h:1", "/a.B/C", "/a.B/D", "hash", True, True, (("duplicate", "safe"),), datetime.now(UTC))
    await client.record_certificate(found.to_json())
    await client.ask(LIST_CERTIFICATES, certification_pb2.ListCertificatesRequest())
    await client.retire_definition("coverage", 0, "no more", "anna")
    await client.list_retirements()
    with pytest.raises(CallRefused):
        await client.start_saga("coverage", order("o-retired"), request_id="retired")
    await client.reinstate_definition("coverage", 0)
    saga_id = (await client.start_saga("coverage-family", order("o-family"))).saga.saga_id

    async def asks() -> bool:
        waiting = await client.ask(LIST_APPROVALS, steps_pb2.ListApprovalsRequest())
        return saga_id in {one.saga_id for one in waiting.approvals}

    await client.ask(PLAN_CANCEL, operations_pb2.PlanCancelRequest(saga_id=saga_id))
    await eventually(asks, "an approval to be asked for")
    await client.ask(REJECT, steps_pb2.RejectStepRequest(saga_id=saga_id, step="consent", by="anna", reason="no"))
    await client.ask(LIST_PARKED, operations_pb2.ListParkedRequest())

    async def held() -> bool:
        found = await client.ask(LIST_HOLDS, holds_pb2.ListStartHoldsRequest())
        return "coverage-family" in {hold.definition for hold in found.holds}

    await eventually(held, "new starts to be held")
    await client.ask(RELEASE, holds_pb2.ReleaseStartsRequest(definition="coverage-family", reason="seen", by="anna"))
    await client.ask(PAUSE, pauses_pb2.PauseDefinitionRequest(definition="coverage", reason="a look", by="anna"))
    await client.ask(LIST_PAUSES, pauses_pb2.ListPausesRequest(ended=True))
    await client.ask(RESUME, pauses_pb2.ResumeDefinitionRequest(definition="coverage", reason="seen", by="anna"))


async def everything_a_listener_asks(client: Client) -> None:
    """Events while sagas run: to the end of the log, and the next that comes."""
    caught_up = False
    async with contextlib.aclosing(
        client.events.stream(events_pb2.StreamEventsRequest(consumer="coverage"))
    ) as answers:
        async for answer in answers:
            if caught_up and answer.HasField("event"):
                await client.events.commit("coverage", answer.cursor)
                break
            caught_up = caught_up or answer.caught_up
    await client.events.reset(events_pb2.ResetConsumerRequest(consumer="coverage", earliest=True))
    await client.events.consumers()
    await client.events.delete("coverage")


def upset(dsn: str) -> psycopg.Connection:
    """Make the next takeover hard: a state that nobody knows, etcd in the past, a zombie that holds the fence row."""
    zombie = psycopg.connect(dsn, application_name="baton-term-0-zombie")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO baton.saga (id, shard, request_id, request_hash, definition, version, state, input)"
            " VALUES (%s, 0, 'odd', '', 'order', 1, 'ODD', '{}')",
            [uuid.uuid4()],
        )
        connection.execute("UPDATE baton.fence SET etcd_revision = etcd_revision + 1000000")
    zombie.execute("SELECT 1 FROM baton.fence FOR SHARE")
    return zombie


def hang_up_on_the_writer(dsn: str) -> None:
    """End the connection by which the leader writes: it makes sure that its last row is there before it goes on."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        ended = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'baton-term-0-%'"
        )
        assert ended.fetchall()


def passed(cluster: Cluster) -> set[str]:
    lines = "".join(path.read_text() for path in cluster.log_dir.glob("replica-*.log")).splitlines()
    return {match[1] for line in lines if (match := re.search(r"failpoint_strikes.*failpoint=([\w.]+)", line))}


async def test_every_failpoint_is_passed_by_replicas_that_work(tmp_path: Path) -> None:
    wanted = {point for point, effect in POINTS.items() if effect.name not in ELSEWHERE}
    terms = {
        "BATON_FAILPOINTS": "; ".join(f"{point}=1*log" for point in POINTS),
        # What the load leaves is removed while the test runs.
        "BATON_RETENTION_AFTER_S": "15",
        "BATON_RETENTION_DIR": str(tmp_path / "archive"),
        "BATON_RETENTION_INTERVAL_S": "0.5",
        "BATON_RETENTION_MARGIN_S": "5",
    }
    async with (
        Cluster(tmp_path, 2, 1, settings=terms, unsafe_no_fsync=True, restart_replicas=True) as cluster,
        Client(cluster.api_endpoints, spread=True, deadline_s=60) as client,
    ):
        leader = await cluster.wait_ready()
        async with (load := Load(client)).running():
            await everything_a_client_asks(cluster, client, load)
            await everything_a_listener_asks(client)
            await everything_an_operator_asks(cluster, client)
            leader.replica.terminate()
            leader = await cluster.wait_leader(above_epoch=leader.epoch)
            await cluster.wait_ready()
            with contextlib.closing(await asyncio.to_thread(upset, cluster.baton_dsn)):
                leader.replica.kill()
                await cluster.wait_leader(above_epoch=leader.epoch)
            await cluster.wait_ready()
            await asyncio.to_thread(hang_up_on_the_writer, cluster.baton_dsn)
            # Who writes needs no other proof of the epoch.
            await all_are_passed(cluster, {point for point in wanted if POINTS[point].name != "term.prove"})
        await all_are_passed(cluster, wanted)


async def all_are_passed(cluster: Cluster, wanted: set[str]) -> None:
    async def are_passed() -> bool:
        return wanted <= passed(cluster)

    try:
        await eventually(are_passed, "all failpoints")
    except AssertionError:
        assert sorted(wanted - passed(cluster)) == []
