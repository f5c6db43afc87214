"""Answers that come later: refused where they cannot be stored, kept where the saga is parked."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import orjson
import pytest

from orchestrator.pb.baton.v1 import operations_pb2 as operations
from orchestrator.pb.baton.v1 import steps_pb2 as steps
from orchestrator.pb.baton.v1.saga_pb2 import ApplyDefinitionRequest, SagaState, StartSagaRequest
from orchestrator.saga.commands import Accepted, Refused, Succeeded
from orchestrator.sagalog.migrate import migrate
from participants.pb.shop.v1 import inventory_pb2, payment_pb2
from tests.integration.api_world import INPUT, api_world, descriptors, field_violations, impatient, refusal
from tests.integration.test_api_signals import DEFINITION, World


@pytest.fixture
async def world(database: str) -> AsyncIterator[World]:
    migrate(database)
    async with api_world(database) as api:
        await api.definitions.ApplyDefinition(ApplyDefinitionRequest(yaml=DEFINITION, descriptor_set=descriptors()))
        api.participants.answers["reserve"] = Accepted()
        yield World(api)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('{"a": ["\\u0000"]}', "response_json.a[0]"),
        ('{"a": 99999999999999999999999}', "response_json.a"),
        ("[1]", "response_json"),
        ('{"reservation": 7}', "response_json.reservation"),
        ('{"quantity": "7"}', "response_json.quantity"),
        ('{"quantity": 9223372036854775808}', "response_json.quantity"),
    ],
)
async def test_an_answer_that_cannot_be_stored_is_refused_and_the_right_one_is_taken(
    world: World, text: str, field: str
) -> None:
    async with world.api.leading():
        saga_id = await world.start()
        await world.until(saga_id, ("reserve", "waiting"))
        refused = await refusal(_answered(world, saga_id, text))
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        assert field in field_violations(refused)
        assert (await world.complete(saga_id)).heeded


async def test_a_serialized_answer_with_a_nul_is_refused_without_being_quoted(world: World) -> None:
    async with world.api.leading():
        saga_id = await world.start()
        await world.until(saga_id, ("reserve", "waiting"))
        response = payment_pb2.ChargeResponse(amount="r\x00 and more").SerializeToString()
        request = steps.CompleteStepRequest(token=f"{saga_id}/pay", response=response)
        refused = await refusal(world.steps.CompleteStep(request, timeout=10))
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        assert "and more" not in f"{refused}"
        assert (await world.complete(saga_id)).heeded


async def test_what_a_wrong_answer_hears_names_the_field_and_the_message_and_quotes_nothing(world: World) -> None:
    async with world.api.leading():
        saga_id = await world.start()
        await world.until(saga_id, ("reserve", "waiting"))
        refused = await refusal(_answered(world, saga_id, '{"quantity": "seven of them"}'))
        problem = "must be an integer, not text (in the answer of /shop.v1.InventoryService/Reserve)"
        assert refused.violations == (("response_json.quantity", problem),)
        assert "seven" not in f"{refused}"
        assert [row.status for row in (await world.api.get(saga_id)).history][-1] == "waiting"


async def test_a_wrong_answer_that_comes_too_late_hears_that_it_is_too_late(world: World) -> None:
    async with world.api.leading():
        saga_id = await world.start()
        await world.until(saga_id, ("reserve", "waiting"))
        assert (await world.complete(saga_id)).heeded
        for text in ('{"quantity": "7"}', '{"reservation": 7}'):
            again = await refusal(_answered(world, saga_id, text))
            assert (again.code, again.info.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "WRONG_STATE")
            assert "was completed before" in again.message
        assert (await world.approve(saga_id)).heeded
        await world.ended(saga_id)
        assert "COMPLETED" in (await refusal(_answered(world, saga_id, '{"quantity": "7"}'))).message


async def test_an_answer_as_json_becomes_the_result_that_the_message_would_have_been(world: World) -> None:
    async with world.api.leading():
        results = []
        for answer in (
            {"response_json": '{"quantity": 3}'},
            {"response": inventory_pb2.ReserveResponse(quantity=3).SerializeToString()},
        ):
            saga_id = await world.start()
            await world.until(saga_id, ("reserve", "waiting"))
            request = steps.CompleteStepRequest(token=f"{saga_id}/reserve", **answer)
            assert (await world.steps.CompleteStep(request, timeout=10)).heeded
            results.append(await _result(world, saga_id, "reserve"))
    assert results[0] == results[1] == {"reservation_id": 0, "quantity": 3}


async def _answered(world: World, saga_id: str, text: str) -> steps.StepAnswer:
    request = steps.CompleteStepRequest(token=f"{saga_id}/reserve", response_json=text)
    answer: steps.StepAnswer = await world.steps.CompleteStep(request, timeout=10)
    return answer


async def _result(world: World, saga_id: str, step: str) -> object:
    history = (await world.api.get(saga_id)).history
    (row,) = [row for row in history if (row.step, row.status) == (step, "completed")]
    return orjson.loads(row.result_json)


async def test_integers_of_64_bits_and_large_numbers_of_answers_come_out_as_they_went_in(world: World) -> None:
    async with world.api.leading():
        saga_id = await world.start()
        await world.until(saga_id, ("reserve", "waiting"))
        text = '{"reservation_id": 9223372036854775807, "quantity": -9223372036854775808}'
        assert (await _answered(world, saga_id, text)).heeded
        await world.until(saga_id, ("consent", "waiting"))
    text = '{"most": 18446744073709551615, "least": -9223372036854775808, "mass": 1e23}'
    consent = steps.ApproveStepRequest(saga_id=saga_id, step="consent", by="anna", result_json=text)
    with impatient():
        assert not (await world.steps.ApproveStep(consent, timeout=20)).heeded
    # The next leader reads it from the log, and writes on.
    async with world.api.leading():
        await world.ended(saga_id)
        assert await _result(world, saga_id, "reserve") == {"reservation_id": 2**63 - 1, "quantity": -(2**63)}
        shown = await _result(world, saga_id, "consent")
    assert shown == {"most": 2**64 - 1, "least": -(2**63), "mass": 1e23, "approved_by": "anna"}


async def test_an_answer_that_an_older_release_took_down_as_it_came_is_still_read(world: World) -> None:
    async with world.api.leading():
        saga_id = await world.start()
        await world.until(saga_id, ("reserve", "waiting"))
    request = steps.CompleteStepRequest(token=f"{saga_id}/reserve", response_json="{}")
    with impatient():
        assert not (await world.steps.CompleteStep(request, timeout=20)).heeded
    world.api.execute("UPDATE baton.signal SET result = %s WHERE verb = 'complete'", '{"reservation": "r1"}')
    async with world.api.leading():
        await world.until(saga_id, ("consent", "waiting"))
        assert await _result(world, saga_id, "reserve") == {"reservation": "r1"}
    async with world.api.leading():
        assert (await world.approve(saga_id)).heeded
        assert (await world.ended(saga_id)).state == SagaState.SAGA_STATE_COMPLETED


SIDE_BY_SIDE = (
    DEFINITION[DEFINITION.index("  - name: pay") :]
    + """
  - name: pack
    after: [pay]
    service: 127.0.0.1:1
    answer: later
    action: {method: shop.v1.PaymentService/Charge, request: {order_id: input.order_id, amount: input.amount}}
  - name: sign
    after: [pay]
    delay: 1ms
"""
)


async def test_a_parked_saga_takes_down_what_is_said_once(world: World) -> None:
    text = "name: wide\nsteps:\n" + SIDE_BY_SIDE
    await world.api.definitions.ApplyDefinition(ApplyDefinitionRequest(yaml=text, descriptor_set=descriptors()))
    world.api.participants.answers |= {"pack": Accepted(), "tell": Refused("FAILED_PRECONDITION", "no such customer")}
    world.api.participants.hold("tell")
    async with world.api.leading():
        request = StartSagaRequest(definition="wide", input_json=orjson.dumps(INPUT).decode())
        saga_id = str((await world.api.sagas.StartSaga(request, timeout=10)).saga.saga_id)
        await world.until(saga_id, ("pack", "waiting"))
        world.api.participants.release("tell")
        assert (await world.ended(saga_id)).state == SagaState.SAGA_STATE_FAILED
        assert (await world.complete(saga_id, "pack", "{}")).heeded
        again = await refusal(world.complete(saga_id, "pack", "{}"))
        assert "was completed before" in again.message
        late = steps.HeartbeatStepRequest(token=f"{saga_id}/pack")
        assert "FAILED" in (await refusal(world.steps.HeartbeatStep(late, timeout=10))).message
        assert (await world.api.get(saga_id)).saga.state == SagaState.SAGA_STATE_FAILED
        world.api.participants.answers["tell"] = Succeeded({})
        order = operations.StepOrder(saga_id=saga_id, by="anna", reason="she is back")
        assert (await world.operations.RetrySaga(order, timeout=10)).heeded
        await world.until(saga_id, ("tell", "completed"))
        assert (await world.ended(saga_id)).state == SagaState.SAGA_STATE_COMPLETED
    assert world.api.participants.called.count("pack") == 1
