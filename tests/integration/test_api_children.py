"""Sagas that run other sagas, with a real leader on a real Postgres: begun once, heard of once, undone as sagas."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from orchestrator.pb.baton.v1 import events_pb2, events_pb2_grpc, operations_pb2, operations_pb2_grpc
from orchestrator.pb.baton.v1.saga_pb2 import (
    ApplyDefinitionRequest,
    CancelSagaRequest,
    Saga,
    SagaState,
    StartSagaRequest,
)
from orchestrator.saga.commands import Refused
from orchestrator.sagalog.migrate import migrate
from tests.integration.api_world import INPUT, ApiWorld, api_world, definition, descriptors

PARENT = """
name: trip
steps:
  - name: order
    saga:
      definition: order
      input: {{order_id: input.order_id, amount: input.amount, lines: input.lines}}
  - name: pay
    service: 127.0.0.1:1
    action:
      method: shop.v1.PaymentService/Charge
      request: {{order_id: input.order_id, amount: input.amount}}
    compensation:
      method: shop.v1.PaymentService/Refund
      request: {{order_id: input.order_id}}
{more}
"""
ENDED = {SagaState.SAGA_STATE_COMPLETED, SagaState.SAGA_STATE_COMPENSATED, SagaState.SAGA_STATE_FAILED}


@pytest.fixture
async def api(database: str) -> AsyncIterator[ApiWorld]:
    migrate(database)
    async with api_world(database) as world:
        # The child's own payment step has another name, so that the two can be told apart.
        child = definition().replace("name: pay", "name: pay_for_order")
        for text in (child, PARENT.format(more="")):
            await world.definitions.ApplyDefinition(ApplyDefinitionRequest(yaml=text, descriptor_set=descriptors()))
        yield world


async def start(api: ApiWorld) -> str:
    request = StartSagaRequest(definition="trip", input_json=orjson.dumps(INPUT).decode())
    return str((await api.sagas.StartSaga(request, timeout=10)).saga.saga_id)


async def ended(api: ApiWorld, saga_id: str) -> Saga:
    async with asyncio.timeout(60):
        while (saga := (await api.get(saga_id)).saga).state not in ENDED:
            await asyncio.sleep(0.02)
        return saga


def child(api: ApiWorld, parent: str) -> tuple[str, str]:
    """The id and the state of the one child."""
    rows = api.rows(f"SELECT id, state FROM baton.saga WHERE parent = '{parent}'")
    assert len(rows) == 1
    return str(rows[0][0]), rows[0][1]


async def until(api: ApiWorld, saga_id: str, step: str, status: str) -> None:
    async with asyncio.timeout(60):
        while (step, status) not in [(t.step, t.status) for t in (await api.get(saga_id)).history]:
            await asyncio.sleep(0.02)


def statuses(history: Any) -> list[tuple[str, str]]:
    return [(transition.step, transition.status) for transition in history]


async def test_a_step_runs_another_saga_and_goes_on_with_its_result(api: ApiWorld) -> None:
    async with api.leading():
        saga_id = await start(api)
        saga = await ended(api, saga_id)
    assert saga.state == SagaState.SAGA_STATE_COMPLETED, saga.error
    assert child(api, saga_id)[1] == "COMPLETED"
    answer = await api.get(saga_id)
    assert statuses(answer.history) == [
        ("order", "executing"),
        ("order", "waiting"),
        ("order", "completed"),
        ("pay", "executing"),
        ("pay", "completed"),
    ]
    assert orjson.loads(answer.history[2].result_json) == {"did": "pay_for_order"}


async def test_a_child_that_is_undone_turns_its_parent_back(api: ApiWorld) -> None:
    api.participants.answers["pay_for_order"] = Refused("FAILED_PRECONDITION", "no money")
    async with api.leading():
        saga_id = await start(api)
        saga = await ended(api, saga_id)
    assert (saga.state, saga.error.step, saga.error.code) == (
        SagaState.SAGA_STATE_COMPENSATED,
        "order",
        "CHILD_COMPENSATED",
    )
    assert "no money" in saga.error.message
    assert child(api, saga_id)[1] == "COMPENSATED"


async def test_a_parent_that_turns_back_has_its_completed_child_undone(api: ApiWorld) -> None:
    api.participants.answers["pay"] = Refused("FAILED_PRECONDITION", "no money")
    async with api.leading():
        saga_id = await start(api)
        assert (await ended(api, saga_id)).state == SagaState.SAGA_STATE_COMPENSATED
    child_id, state = child(api, saga_id)
    assert state == "COMPENSATED"
    told = statuses((await api.get(child_id)).history)
    assert told[3:] == [
        ("pay_for_order", "completed"),
        ("", "undone"),
        ("pay_for_order", "compensating"),
        ("pay_for_order", "compensated"),
        ("reserve", "compensating"),
        ("reserve", "compensated"),
    ]
    # What a transition was does not change by what came later: the child had completed, and its event said so.
    states = ["COMPLETED", *["COMPENSATING"] * 4, "COMPENSATED"]
    assert [SagaState.Name(t.state).removeprefix("SAGA_STATE_") for t in (await api.get(child_id)).history][
        3:
    ] == states
    events = events_pb2_grpc.EventServiceStub(api.channel)  # type: ignore[no-untyped-call]
    request = events_pb2.StreamEventsRequest(saga_id=child_id, until_caught_up=True)
    told_events = [answer.event async for answer in events.StreamEvents(request) if answer.HasField("event")]
    assert [event.state for event in told_events][3:] == states
    assert told_events[3].type == "baton.saga.v1.completed"
    assert statuses((await api.get(saga_id)).history)[-3:] == [
        ("order", "compensating"),
        ("order", "compensation_waiting"),
        ("order", "compensated"),
    ]


async def plan(api: ApiWorld, saga_id: str) -> operations_pb2.PlanCancelResponse:
    operations = operations_pb2_grpc.OperationServiceStub(api.channel)  # type: ignore[no-untyped-call]
    answer: operations_pb2.PlanCancelResponse = await operations.PlanCancel(
        operations_pb2.PlanCancelRequest(saga_id=saga_id)
    )
    return answer


async def test_the_plan_of_a_cancellation_has_the_calls_of_the_child(api: ApiWorld) -> None:
    text = PARENT.format(more="  - name: consent\n    approval: {question: Really?}")
    await api.definitions.ApplyDefinition(ApplyDefinitionRequest(yaml=text, descriptor_set=descriptors()))
    api.participants.hold("pay_for_order")
    async with api.leading():
        saga_id = await start(api)
        await api.until_called("pay_for_order")
        under_way = await plan(api, saga_id)
        api.participants.release("pay_for_order")
        await until(api, saga_id, "consent", "waiting")
        completed = await plan(api, saga_id)
        await api.sagas.CancelSaga(CancelSagaRequest(saga_id=saga_id, reason="as planned"))
        await ended(api, saga_id)
    child_id, _ = child(api, saga_id)
    refund, release = "/shop.v1.PaymentService/Refund", "/shop.v1.InventoryService/Release"
    inner = [(child_id, "pay_for_order", refund), (child_id, "reserve", release)]
    assert [(call.saga_id, call.step, call.method) for call in under_way.calls] == inner
    assert [(call.saga_id, call.step, call.method) for call in completed.calls] == [(saga_id, "pay", refund), *inner]
    assert orjson.loads(completed.calls[2].request_json) == {"order_id": INPUT["order_id"]}
    # It does what it said.
    done = [t.step for t in (await api.get(child_id)).history if t.status == "compensated"]
    assert done == ["pay_for_order", "reserve"]


async def test_a_parent_that_is_cancelled_has_its_running_child_undone(api: ApiWorld) -> None:
    api.participants.hold("pay_for_order")
    async with api.leading():
        saga_id = await start(api)
        await api.until_called("pay_for_order")
        await api.sagas.CancelSaga(CancelSagaRequest(saga_id=saga_id, reason="changed my mind"))
        await until(api, saga_id, "order", "compensation_waiting")
        api.participants.release("pay_for_order")
        assert (await ended(api, saga_id)).state == SagaState.SAGA_STATE_COMPENSATED
    assert child(api, saga_id)[1] == "COMPENSATED"
    assert "pay" not in api.participants.called


async def test_the_next_leader_hears_of_the_child_that_ended_under_the_last_one(api: ApiWorld) -> None:
    api.participants.hold("reserve")
    async with api.leading():
        saga_id = await start(api)
        await until(api, saga_id, "order", "waiting")
        await api.until_called("reserve")
    assert child(api, saga_id)[1] == "RUNNING"
    api.participants.release("reserve")
    async with api.leading():
        assert (await ended(api, saga_id)).state == SagaState.SAGA_STATE_COMPLETED
    assert api.count() == 2


async def test_a_child_past_its_pivot_is_not_undone_and_its_parent_is_told_so(api: ApiWorld) -> None:
    sealed = definition().replace("name: pay", "name: pay_for_order\n    pivot: true")
    before, refund, _ = sealed.partition("    compensation:\n      method: shop.v1.PaymentService/Refund")
    assert refund
    await api.definitions.ApplyDefinition(ApplyDefinitionRequest(yaml=before, descriptor_set=descriptors()))
    api.participants.answers["pay"] = Refused("FAILED_PRECONDITION", "no money")
    async with api.leading():
        saga_id = await start(api)
        await until(api, saga_id, "order", "compensation_retrying")
        (planned,) = (await plan(api, saga_id)).calls
    assert "pivot, step pay_for_order" in planned.unknown_because
    # It is asked again a second later, and says the same.
    for told in [t for t in (await api.get(saga_id)).history if t.status == "compensation_retrying"]:
        assert (told.error.code, child(api, saga_id)[1]) == ("CHILD_NOT_UNDONE", "COMPLETED")
        assert "pivot, step pay_for_order" in told.error.message
