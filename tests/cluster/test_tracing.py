"""One trace through a failover: the leader is killed in the middle of a call, and its successor goes on in it."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import grpc.aio

from orchestrator.cli.client import Client
from orchestrator.embedded.cluster import Cluster
from orchestrator.pb.baton.v1 import saga_pb2, saga_pb2_grpc
from orchestrator.saga.model import Epoch, Kind, SagaId
from orchestrator.tracing import ids
from participants.pb.shop.v1 import fault_pb2
from tests.collector import Received, collecting

from .house import WITHIN_S, House, definitions_applied, eventually, inject, struck

ORDER = '{"order_id": "o1", "customer_id": "c", "amount": "1.00", "lines": [{"stock_code": "TEAPOT", "quantity": 1}]}'

PARENT = """
name: family
steps:
  - name: order
    saga:
      definition: order-reserve-pay-ship
      input: {order_id: input.order_id, customer_id: input.customer_id, amount: input.amount, lines: input.lines}
"""


async def test_a_successor_continues_the_trace_of_a_leader_that_was_killed(tmp_path: Path) -> None:
    with collecting() as collector:
        settings = {"BATON_TRACING_ENDPOINT": collector.endpoint}
        async with (
            Cluster(tmp_path, replicas=2, etcd_members=1, settings=settings, unsafe_no_fsync=True) as cluster,
            Client(cluster.api_endpoints, deadline_s=WITHIN_S, attempt_max_s=10.0, spread=True) as client,
        ):
            await definitions_applied(client, 1)
            leader = await cluster.wait_leader()
            # The reply never comes: the effect is there, and nobody hears of it.
            lost = fault_pb2.Fault(order_id="o1", method="Charge", drop_reply=True, times=1)
            await inject(cluster, [("payment", lost)])
            (standby,) = (replica for replica in cluster.replicas if replica is not leader.replica)
            saga = await start(standby.api_address, "order-reserve-pay-ship")
            await struck(cluster, ["o1"])
            await House(cluster, client).at(str(saga), "process_payment", "executing")
            leader.replica.kill()
            successor = await cluster.wait_leader(above_epoch=leader.epoch)
            assert (await House(cluster, client).end(str(saga))).saga.state == saga_pb2.SAGA_STATE_COMPLETED

            def trace() -> list[Received]:
                return [got for got in collector.received if got.span.trace_id == saga.bytes]

            async def ended() -> bool:
                return any(got.span.span_id == ids.root_id(saga).to_bytes(8) for got in trace())

            await eventually(ended, "the span of the whole saga")
            check(saga, trace(), leader.epoch, standby.replica_id)
            assert successor.replica is standby

            # A saga that a step runs has a trace of its own, and leads back to that step.
            await client.apply_definition(PARENT)
            family = SagaId(UUID((await client.run_saga("family", ORDER.replace("o1", "o2"))).saga.saga_id))

            def children() -> list[Received]:
                return [got for got in collector.received if got.attributes.get("baton.parent") == str(family)]

            async def told() -> bool:
                return bool(children())

            await eventually(told, "the span of the child")
            (child,) = children()
            assert child.span.trace_id != family.bytes
            step = ids.step_id(family, "order", Kind.ACTION).to_bytes(8)
            assert [(link.trace_id, link.span_id) for link in child.span.links] == [(family.bytes, step)]


async def start(address: str, definition: str) -> SagaId:
    """Start a saga as a caller with a trace of its own."""
    async with grpc.aio.insecure_channel(address) as channel:
        answer = await saga_pb2_grpc.SagaServiceStub(channel).StartSaga(
            saga_pb2.StartSagaRequest(definition=definition, input_json=ORDER),
            metadata=(("traceparent", f"00-{'a' * 32}-{'b' * 16}-01"),),
            timeout=WITHIN_S,
            wait_for_ready=True,
        )
    return SagaId(UUID(answer.saga.saga_id))


def check(saga: SagaId, trace: list[Received], former: int, successor: str) -> None:
    """The tree of the saga, with the link over the failover and the one to the caller."""
    by_id = {got.span.span_id: got for got in trace}
    assert len(by_id) == len(trace)
    root = by_id[ids.root_id(saga).to_bytes(8)]
    assert (root.span.parent_span_id, root.resource["service.instance.id"]) == (b"", successor)
    started = by_id[ids.start_id(saga).to_bytes(8)]
    assert [(link.trace_id.hex(), link.span_id.hex()) for link in started.span.links] == [("a" * 32, "b" * 16)]
    for name in ("process_payment", "ship_order"):
        step = by_id[ids.step_id(saga, name, Kind.ACTION).to_bytes(8)]
        assert step.span.parent_span_id == root.span.span_id
    (repeated,) = (
        got
        for got in trace
        if got.attributes.get("baton.step") == "process_payment" and "baton.attempt" in got.attributes
    )
    assert repeated.span.parent_span_id == ids.step_id(saga, "process_payment", Kind.ACTION).to_bytes(8)
    assert repeated.resource["service.instance.id"] == successor
    assert int(repeated.attributes["baton.epoch"]) > former
    broken_off = ids.attempt_id(saga, "process_payment", Kind.ACTION, 1, Epoch(former))
    assert [link.span_id for link in repeated.span.links] == [broken_off.to_bytes(8)]
