"""Bad weather: what a saga needs is away for a while, or what lies in the log cannot be understood."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from pathlib import Path
from uuid import uuid4

import grpc
import psycopg
import pytest

from orchestrator.cli.errors import CallRefused
from orchestrator.embedded.cluster import in_thread
from orchestrator.embedded.etcd import EtcdCluster
from orchestrator.embedded.loopback import free_ports
from orchestrator.embedded.postgres import Postgres
from orchestrator.embedded.servers import Replica
from orchestrator.pb.baton.v1 import saga_pb2
from participants.pb.shop.v1 import fault_pb2

from .house import WITHIN_S, House, clear_faults, eventually, inject, struck

pytestmark = pytest.mark.asyncio(loop_scope="module")

_PATIENT = "{retries: 1000, initial: 200ms, multiplier: 1, max: 200ms}"


def ready_answer(replica: Replica) -> tuple[int, list[str]]:
    """The status of /readyz and what the replica waits for; 0 when there is no answer."""
    try:
        with urllib.request.urlopen(f"http://{replica.http_address}/readyz", timeout=5) as answer:
            return answer.status, json.load(answer)["waiting_for"]
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["waiting_for"]
    except OSError:
        return 0, []


async def waits_for(replica: Replica, what: str) -> None:
    """Wait until the replica says, at /readyz and in its log, that it waits for `what` and nothing else."""

    async def waits() -> bool:
        status, waiting = await asyncio.to_thread(ready_answer, replica)
        return status == 503 and [entry.partition(":")[0] for entry in waiting] == [what]

    await eventually(waits, f"503 because of {what} from {replica.name}, which logged {replica.log_tail()}")
    said = [line for line in replica.log_path.read_text().splitlines() if "replica_waits" in line]
    assert said
    assert f"'{what}: " in said[-1]


async def leads(replica: Replica) -> None:
    """Wait until the replica is ready and leads."""
    await replica.wait_ready(WITHIN_S)

    async def leading() -> bool:
        view = await replica.view()
        return view is not None and view.HasField("leader") and view.leader.pid == replica.pid

    await eventually(leading, f"{replica.name} to lead")
    assert "replica_ready" in replica.log_path.read_text()


async def test_a_replica_waits_for_etcd_at_its_start_and_says_so(database: str, tmp_path: Path) -> None:
    etcd = EtcdCluster(tmp_path / "etcd", 1, unsafe_no_fsync=True)
    replica = Replica("patient", free_ports(3), database, etcd.endpoints, {}, tmp_path)
    try:
        replica.start()
        await waits_for(replica, "etcd")
        await in_thread(etcd.start)
        await leads(replica)
    finally:
        await in_thread(replica.stop)
        await replica.close()
        await in_thread(etcd.stop)


async def test_a_replica_waits_for_postgres_at_its_start_and_says_so(
    database: str, postgres: Postgres, etcd_single: EtcdCluster, tmp_path: Path
) -> None:
    env = {"BATON_CLUSTER": f"weather-{uuid4().hex}"}
    replica = Replica("patient", free_ports(3), database, etcd_single.endpoints, env, tmp_path)
    await in_thread(postgres.shut_down)
    try:
        replica.start()
        await waits_for(replica, "postgres")
        assert "waiting_for_postgres" in replica.log_path.read_text()
    finally:
        await in_thread(postgres.start)
    try:
        await leads(replica)
    finally:
        await in_thread(replica.stop)
        await replica.close()


def result_of(saga: saga_pb2.Saga) -> tuple[list[int], list[int]]:
    result = json.loads(saga.result_json)
    return result["steps_executed"], result["steps_compensated"]


async def test_sagas_wait_for_a_participant_that_is_away_and_complete_when_it_is_back(house: House) -> None:
    await house.take_away("payment")
    try:
        sagas = [await house.start("order", f"away-{number}") for number in range(5)]
        for saga_id in sagas:
            await house.at(saga_id, "charge_payment", "held")
            saga = (await house.client.get_saga(saga_id)).saga
            assert (saga.state, saga.current_step) == (saga_pb2.SAGA_STATE_RUNNING, "charge_payment")
    finally:
        await house.bring_back("payment")
    for saga_id in sagas:
        end = await house.end(saga_id)
        assert end.saga.state == saga_pb2.SAGA_STATE_COMPLETED, end
        held = {row.error.code for row in end.history if row.status == "held"}
        assert held <= {"UNAVAILABLE", "NOT_CALLED"}
        # An outage spends no attempt: none is logged as failed.
        assert not [row for row in end.history if row.status == "retrying"]


async def test_a_compensation_that_cannot_be_done_parks_the_saga_and_leaves_no_other_undone(house: House) -> None:
    budget = ", retry: {retries: 2, initial: 100ms}"
    await house.apply("order-brief", compensation=budget)
    slow = fault_pb2.Fault(order_id="fail-shipping-brief", method="Ship", delay_ms=1500)
    broken = fault_pb2.Fault(order_id="fail-shipping-brief", method="Refund", error_code="INTERNAL")
    await inject(house.cluster, [("shipping", slow), ("payment", broken)])
    saga_id = await house.start("order-brief", "fail-shipping-brief")
    await struck(house.cluster, ["fail-shipping-brief"])
    try:
        end = await house.end(saga_id)
    finally:
        await clear_faults(house.cluster, "payment")
        await clear_faults(house.cluster, "shipping")
    assert end.saga.state == saga_pb2.SAGA_STATE_FAILED
    assert result_of(end.saga) == ([1, 2], [1])
    assert (end.saga.error.step, end.saga.error.code) == ("pay", "INTERNAL")
    assert end.saga.error.message
    statuses = [(row.step, row.status) for row in end.history]
    assert statuses.count(("pay", "compensation_retrying")) == 2
    assert statuses.count(("pay", "compensation_failed")) == 1
    assert ("reserve", "compensated") in statuses
    assert statuses[-1] == ("", "parked")
    assert "pay" in end.history[-1].error.message


async def test_a_saga_that_is_cancelled_during_a_call_compensates_what_was_done(house: House) -> None:
    slow = fault_pb2.Fault(order_id="cancelled-in-call", method="Charge", delay_ms=3000)
    await inject(house.cluster, [("payment", slow)])
    saga_id = await house.start("order-reserve-pay-ship", "cancelled-in-call")
    await struck(house.cluster, ["cancelled-in-call"])
    await house.client.cancel_saga(saga_id, "changed my mind")
    end = await house.end(saga_id)
    await clear_faults(house.cluster, "payment")
    assert end.saga.state == saga_pb2.SAGA_STATE_COMPENSATED
    assert result_of(end.saga) == ([1, 2], [2, 1])
    assert (end.saga.error.code, end.saga.error.message) == ("CANCELLED", "changed my mind")
    assert end.saga.cancel_reason == "changed my mind"
    assert (await house.client.cancel_saga(saga_id, "once more")).cancel_reason == "changed my mind"
    completed = await house.end(await house.start("order-reserve-pay-ship", "never-cancelled"))
    with pytest.raises(CallRefused) as refusal:
        await house.client.cancel_saga(completed.saga.saga_id, "too late")
    assert refusal.value.code is grpc.StatusCode.FAILED_PRECONDITION


async def test_a_saga_that_is_cancelled_while_it_waits_turns_back_at_once(house: House) -> None:
    await house.apply("order-slow", more="retry: {retries: 3, initial: 1h, max: 1h}")
    error = fault_pb2.Fault(order_id="cancelled-waiting", method="Charge", error_code="INTERNAL", times=1)
    await inject(house.cluster, [("payment", error)])
    saga_id = await house.start("order-slow", "cancelled-waiting")
    await house.at(saga_id, "pay", "retrying")
    await house.client.cancel_saga(saga_id, "tired of waiting")
    end = await house.end(saga_id)
    assert end.saga.state == saga_pb2.SAGA_STATE_COMPENSATED
    # Nobody knows what the attempt did: it is undone as well.
    assert result_of(end.saga) == ([1], [2, 1])
    assert end.saga.error.message == "tired of waiting"


async def test_a_saga_keeps_its_version_through_a_newer_one_and_a_change_of_leader(house: House) -> None:
    first = await house.apply("order-versioned", "reserve pay", more=f"retry: {_PATIENT}")
    await inject(house.cluster, [("payment", fault_pb2.Fault(order_id="of-old", error_code="INTERNAL"))])
    old = await house.start("order-versioned", "of-old")
    await house.at(old, "pay", "retrying")
    second = await house.apply("order-versioned", "reserve pay ship")
    assert (first, second) == (1, 2)
    new = await house.start("order-versioned", "of-new")
    asked = await house.start("order-versioned", "of-old-by-wish", version=1)
    before = await house.cluster.wait_leader()
    await house.client.step_down("the version must outlive the leader")
    after = await house.cluster.wait_leader(above_epoch=before.epoch)
    assert after.replica is not before.replica
    await clear_faults(house.cluster, "payment")
    for saga_id, version, steps in ((old, 1, [1, 2]), (new, 2, [1, 2, 3]), (asked, 1, [1, 2])):
        end = await house.end(saga_id)
        assert (end.saga.state, end.saga.version) == (saga_pb2.SAGA_STATE_COMPLETED, version)
        assert result_of(end.saga) == (steps, [])
    assert (await house.client.get_saga(old)).history[-1].epoch == after.epoch


# What a hand on the database may do to a saga that waits at its second step, and what the next leader says of it.
_DAMAGE = {
    "unknown-status": (
        "UPDATE baton.step_log SET status = 'bewitched' WHERE saga_id = %(id)s AND sequence = 2",
        "unknown status 'bewitched'",
    ),
    "hole": ("DELETE FROM baton.step_log WHERE saga_id = %(id)s AND sequence = 2", "row 3 follows row 1"),
    "no-beginning": ("DELETE FROM baton.step_log WHERE saga_id = %(id)s AND sequence = 1", "row 2 follows row 0"),
    "no-end": (
        "DELETE FROM baton.step_log WHERE saga_id = %(id)s AND sequence = (SELECT max(sequence) FROM baton.step_log "
        "WHERE saga_id = %(id)s)",
        "its row has come to sequence",
    ),
    "no-such-step": (
        "UPDATE baton.step_log SET position = 77 WHERE saga_id = %(id)s AND sequence = 1",
        "row 1 names step 77 of 3",
    ),
    "no-such-version": ("UPDATE baton.saga SET version = 99 WHERE id = %(id)s", "no version 99"),
    "no-such-definition": ("UPDATE baton.saga SET definition = 'lost' WHERE id = %(id)s", "'lost'"),
    "input-no-object": ("UPDATE baton.saga SET input = '[1]' WHERE id = %(id)s", "not JSON objects"),
    "unknown-state": ("UPDATE baton.saga SET state = 'BEWITCHED' WHERE id = %(id)s", "BEWITCHED"),
    "pending-with-a-history": ("UPDATE baton.saga SET state = 'PENDING' WHERE id = %(id)s", "PENDING"),
}


async def test_rows_that_cannot_be_understood_park_their_sagas_and_stop_no_other(house: House) -> None:
    await house.apply("order-patient", more=f"retry: {_PATIENT}")
    await inject(house.cluster, [("payment", fault_pb2.Fault(method="Charge", error_code="INTERNAL"))])
    damaged = {what: await house.start("order-patient", f"damaged-{what}") for what in _DAMAGE}
    sound = [await house.start("order-patient", f"sound-{number}") for number in range(10)]
    for saga_id in [*damaged.values(), *sound]:
        await house.at(saga_id, "pay", "retrying")
    for replica in house.cluster.replicas:
        replica.kill()
        await replica.wait_exit()
    async with await psycopg.AsyncConnection.connect(house.cluster.baton_dsn, autocommit=True) as connection:
        for what, saga_id in damaged.items():
            changed = await connection.execute(_DAMAGE[what][0].encode(), {"id": saga_id})
            assert changed.rowcount == 1, what
    await clear_faults(house.cluster, "payment")
    for replica in house.cluster.replicas:
        replica.start()
    await house.cluster.wait_ready()
    for saga_id in sound:
        assert (await house.end(saga_id)).saga.state == saga_pb2.SAGA_STATE_COMPLETED
    for what, saga_id in damaged.items():
        end = await house.end(saga_id)
        assert end.saga.state == saga_pb2.SAGA_STATE_FAILED, what
        assert _DAMAGE[what][1] in end.saga.error.message, what
        assert end.history[-1].status == "parked", what
    # One term did all of it.
    leader = await house.cluster.wait_leader()
    ends = [await house.end(saga_id) for saga_id in [*sound, *damaged.values()]]
    assert {end.history[-1].epoch for end in ends} == {leader.epoch}
