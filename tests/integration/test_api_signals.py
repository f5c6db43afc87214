"""Answers, approvals and orders, through a real channel on a real Postgres, with a real leader."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import grpc
import orjson
import pytest

from orchestrator.pb.baton.v1 import operations_pb2 as operations
from orchestrator.pb.baton.v1 import operations_pb2_grpc, steps_pb2_grpc
from orchestrator.pb.baton.v1 import steps_pb2 as steps
from orchestrator.pb.baton.v1.saga_pb2 import (
    ApplyDefinitionRequest,
    CancelSagaRequest,
    ListSagasRequest,
    Saga,
    SagaState,
    StartSagaRequest,
)
from orchestrator.saga.commands import Accepted, Refused, Succeeded
from orchestrator.sagalog.migrate import migrate
from tests.integration.api_world import INPUT, ApiWorld, api_world, descriptors, field_violations, impatient, refusal

# A timer's lateness, as it is promised.
WITHIN = timedelta(seconds=1)

DEFINITION = """
name: long
steps:
  - name: reserve
    service: 127.0.0.1:1
    action:
      method: shop.v1.InventoryService/Reserve
      request: {order_id: input.order_id}
    compensation:
      method: shop.v1.InventoryService/Release
      request: {order_id: input.order_id}
      retry: {retries: 0}
    answer: later
  - name: consent
    approval: {question: May it be sold?, roles: [sales]}
  - name: pay
    service: 127.0.0.1:1
    pivot: true
    action:
      method: shop.v1.PaymentService/Charge
      request: {order_id: input.order_id, amount: input.amount}
  - name: tell
    service: 127.0.0.1:1
    action:
      method: shop.v1.PaymentService/Charge
      request: {order_id: input.order_id, amount: input.amount}
    retry: {retries: 0}
"""

ENDED = {SagaState.SAGA_STATE_COMPLETED, SagaState.SAGA_STATE_COMPENSATED, SagaState.SAGA_STATE_FAILED}


class World:
    """A replica's API, its leader, and stubs of the services under test."""

    def __init__(self, api: ApiWorld) -> None:
        self.api = api
        self.steps: Any = steps_pb2_grpc.StepServiceStub(api.channel)  # type: ignore[no-untyped-call]
        self.operations: Any = operations_pb2_grpc.OperationServiceStub(api.channel)  # type: ignore[no-untyped-call]

    async def start(self, **fields: Any) -> str:
        request = StartSagaRequest(definition="long", input_json=orjson.dumps(INPUT).decode(), **fields)
        return str((await self.api.sagas.StartSaga(request, timeout=10)).saga.saga_id)

    async def until(self, saga_id: str, *seen: tuple[str, str]) -> Saga:
        """Wait until the saga's history has all these steps and statuses; the saga then."""
        async with asyncio.timeout(60):
            while True:
                answer = await self.api.get(saga_id)
                told = [(transition.step, transition.status) for transition in answer.history]
                if all(one in told for one in seen):
                    return answer.saga
                await asyncio.sleep(0.02)

    async def ended(self, saga_id: str) -> Saga:
        async with asyncio.timeout(60):
            while (saga := (await self.api.get(saga_id)).saga).state not in ENDED:
                await asyncio.sleep(0.02)
            return saga

    async def complete(
        self, saga_id: str, step: str = "reserve", text: str = '{"reservation_id": 7}'
    ) -> steps.StepAnswer:
        request = steps.CompleteStepRequest(token=f"{saga_id}/{step}", response_json=text)
        answer: steps.StepAnswer = await self.steps.CompleteStep(request, timeout=10)
        return answer

    async def approve(self, saga_id: str, **fields: Any) -> steps.StepAnswer:
        request = steps.ApproveStepRequest(saga_id=saga_id, step="consent", by="anna", **fields)
        answer: steps.StepAnswer = await self.steps.ApproveStep(request, timeout=10)
        return answer


@pytest.fixture
async def world(database: str) -> AsyncIterator[World]:
    migrate(database)
    async with api_world(database) as api:
        request = ApplyDefinitionRequest(yaml=DEFINITION, descriptor_set=descriptors())
        await api.definitions.ApplyDefinition(request)
        api.participants.answers["reserve"] = Accepted()
        yield World(api)


async def test_an_answer_and_an_approval_carry_a_saga_on(world: World) -> None:
    async with world.api.leading():
        saga_id = await world.start()
        await world.until(saga_id, ("reserve", "waiting"))
        assert (await world.complete(saga_id)).heeded
        await world.until(saga_id, ("consent", "waiting"))
        (waiting,) = (await world.steps.ListApprovals(steps.ListApprovalsRequest())).approvals
        assert (waiting.saga_id, waiting.step, waiting.question, list(waiting.roles)) == (
            saga_id,
            "consent",
            "May it be sold?",
            ["sales"],
        )
        assert (await world.approve(saga_id, reason="a good customer")).heeded
        assert (await world.ended(saga_id)).state == SagaState.SAGA_STATE_COMPLETED
        late = await refusal(world.complete(saga_id))
        assert late.code is grpc.StatusCode.FAILED_PRECONDITION
        assert "COMPLETED" in late.message


async def test_a_second_answer_is_told_that_the_first_one_counted(world: World) -> None:
    async with world.api.leading():
        saga_id = await world.start()
        await world.until(saga_id, ("reserve", "waiting"))
        await world.complete(saga_id)
        again = await refusal(world.complete(saga_id))
        assert (again.code, again.info.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "WRONG_STATE")
        assert "was completed before" in again.message


async def test_an_answer_that_nobody_hears_yet_is_kept_for_the_next_leader(world: World) -> None:
    async with world.api.leading():
        saga_id = await world.start()
        await world.until(saga_id, ("reserve", "waiting"))
    request = steps.CompleteStepRequest(token=f"{saga_id}/reserve", response_json="{}")
    with impatient():
        assert not (await world.steps.CompleteStep(request, timeout=20)).heeded
    twice = await refusal(world.complete(saga_id))
    assert (twice.code, twice.info.reason) == (grpc.StatusCode.ALREADY_EXISTS, "ALREADY_TOLD")
    async with world.api.leading():
        await world.until(saga_id, ("reserve", "completed"))


async def test_a_step_that_fails_later_turns_the_saga_back(world: World) -> None:
    async with world.api.leading():
        saga_id = await world.start()
        await world.until(saga_id, ("reserve", "waiting"))
        request = steps.FailStepRequest(token=f"{saga_id}/reserve", code="FAILED_PRECONDITION", message="sold out")
        assert (await world.steps.FailStep(request, timeout=10)).heeded
        saga = await world.ended(saga_id)
    assert (saga.state, saga.error.step, saga.error.message) == (
        SagaState.SAGA_STATE_COMPENSATED,
        "reserve",
        "sold out",
    )


async def test_a_rejection_undoes_what_was_done(world: World) -> None:
    async with world.api.leading():
        saga_id = await world.start()
        await world.until(saga_id, ("reserve", "waiting"))
        await world.complete(saga_id)
        await world.until(saga_id, ("consent", "waiting"))
        rejection = steps.RejectStepRequest(saga_id=saga_id, step="consent", by="anna", reason="too dear")
        assert (await world.steps.RejectStep(rejection, timeout=10)).heeded
        saga = await world.ended(saga_id)
    assert (saga.state, saga.error.code) == (SagaState.SAGA_STATE_COMPENSATED, "REJECTED")
    assert list(saga.steps_compensated) == [1]


async def test_a_paused_saga_begins_nothing_until_it_is_resumed(world: World) -> None:
    async with world.api.leading():
        saga_id = await world.start()
        await world.until(saga_id, ("reserve", "waiting"))
        order = operations.SagaOrder(saga_id=saga_id, by="anna", reason="stocktaking")
        assert (await world.operations.PauseSaga(order, timeout=10)).heeded
        await world.complete(saga_id)
        assert [t.status for t in (await world.api.get(saga_id)).history][-2:] == ["paused", "completed"]
        assert (await refusal(world.operations.PauseSaga(order, timeout=10))).message.endswith("paused already")
        assert (await world.operations.ResumeSaga(order, timeout=10)).heeded
        await world.until(saga_id, ("consent", "waiting"))


async def test_a_parked_saga_waits_in_the_queue_and_is_resolved(world: World) -> None:
    world.api.participants.answers["reserve"] = Succeeded({})
    world.api.participants.undone["reserve"] = Refused("FAILED_PRECONDITION", "the shelf is gone")
    async with world.api.leading():
        saga_id = await world.start()
        await world.until(saga_id, ("consent", "waiting"))
        plan = await world.operations.PlanCancel(operations.PlanCancelRequest(saga_id=saga_id))
        (call,) = plan.calls
        assert (call.step, call.method) == ("reserve", "/shop.v1.InventoryService/Release")
        assert orjson.loads(call.request_json) == {"order_id": INPUT["order_id"]}
        await world.api.sagas.CancelSaga(CancelSagaRequest(saga_id=saga_id, reason="no longer wanted"))
        assert (await world.ended(saga_id)).state == SagaState.SAGA_STATE_FAILED
        queue = await world.operations.ListParked(operations.ListParkedRequest())
        assert (queue.count, queue.sagas[0].saga.saga_id) == (1, saga_id)
        assert list(queue.sagas[0].resolutions) == ["retry", "resolve reserve"]
        bare = operations.StepOrder(saga_id=saga_id, step="reserve", by="anna")
        missing = await refusal(world.operations.ResolveStep(bare, timeout=10))
        assert field_violations(missing) == ["reason"]
        order = operations.StepOrder(
            saga_id=saga_id, step="reserve", by="anna", reason="put back by hand", evidence="ticket 12"
        )
        answer = await world.operations.ResolveStep(order, timeout=10)
        assert (answer.heeded, answer.saga.state) == (True, SagaState.SAGA_STATE_COMPENSATED)
        assert (await world.operations.ListParked(operations.ListParkedRequest())).count == 0
    (row,) = world.api.rows("SELECT ordered FROM baton.step_log WHERE status = 'resolved'")
    assert row == ({"by": "anna", "reason": "put back by hand", "evidence": "ticket 12"},)
    (shown,) = [row.ordered for row in (await world.api.get(saga_id)).history if row.HasField("ordered")]
    assert (shown.by, shown.reason, shown.evidence) == ("anna", "put back by hand", "ticket 12")


async def test_of_many_parked_sagas_a_page_has_those_that_have_waited_the_longest(world: World) -> None:
    # The later a saga was started, the longer ago it was parked.
    for number in range(1, 6):
        world.api.execute(
            "INSERT INTO baton.saga"
            " (id, shard, request_id, request_hash, definition, version, state, input, finished_at)"
            " VALUES (%s, 0, %s, '', 'long', 1, 'FAILED', '{}', now() - %s * interval '1 hour')",
            UUID(int=number),
            str(number),
            number,
        )
    queue = await world.operations.ListParked(operations.ListParkedRequest(page_size=2))
    assert [UUID(parked.saga.saga_id).int for parked in queue.sagas] == [5, 4]
    assert (queue.count, round(queue.oldest_age_s / 3600)) == (5, 5)


async def test_behind_the_pivot_a_saga_only_goes_forward(world: World) -> None:
    world.api.participants.answers |= {
        "reserve": Succeeded({}),
        "tell": Refused("FAILED_PRECONDITION", "no such customer"),
    }
    async with world.api.leading():
        saga_id = await world.start()
        await world.until(saga_id, ("consent", "waiting"))
        await world.approve(saga_id)
        assert (await world.ended(saga_id)).state == SagaState.SAGA_STATE_FAILED
        forced = operations.ForceOrder(
            saga_id=saga_id,
            step="tell",
            by="anna",
            reason="told by letter",
            evidence="letter 3",
            result_json='{"n": 1}',
        )
        answer = await world.operations.ForceStep(forced, timeout=10)
        assert (answer.heeded, answer.saga.state) == (True, SagaState.SAGA_STATE_COMPLETED)
    assert "reserve" not in [call for call in world.api.participants.called[3:]]


async def test_cancelling_behind_the_pivot_is_refused_with_the_reason(world: World) -> None:
    world.api.participants.answers["reserve"] = Succeeded({})
    world.api.participants.hold("tell")
    async with world.api.leading():
        saga_id = await world.start()
        await world.until(saga_id, ("consent", "waiting"))
        await world.approve(saga_id)
        await world.until(saga_id, ("pay", "completed"))
        late = await refusal(world.api.sagas.CancelSaga(CancelSagaRequest(saga_id=saga_id, reason="too late")))
        assert (late.code, late.info.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "WRONG_STATE")
        assert "pivot, step pay" in late.message
        world.api.participants.release("tell")
        assert (await world.ended(saga_id)).state == SagaState.SAGA_STATE_COMPLETED


async def test_a_saga_begins_at_its_time_and_not_before(world: World) -> None:
    late = []
    async with world.api.leading():
        # The machine may stand still at any of these times: the quickest counts, and none may be early.
        while len(late) < 3 and min(late, default=WITHIN) >= WITHIN:
            late.append(await begins(world, datetime.now(UTC) + timedelta(seconds=1.5)))
            assert late[-1] >= timedelta()
    assert min(late) < WITHIN


async def begins(world: World, at: datetime) -> timedelta:
    """How much later than at its time a saga begins."""
    fields = StartSagaRequest(definition="long", input_json=orjson.dumps(INPUT).decode())
    fields.start_at.FromDatetime(at)
    started = (await world.api.sagas.StartSaga(fields, timeout=10)).saga
    assert started.next_run_at == fields.start_at
    # The rows are read before the clock is.
    pending = "SELECT state = 'PENDING' OR clock_timestamp() >= start_at FROM baton.saga ORDER BY id DESC LIMIT 1"
    assert world.api.rows(pending) == [(True,)]
    await world.until(started.saga_id, ("reserve", "waiting"))
    ((first,),) = world.api.rows("SELECT at FROM baton.step_log ORDER BY saga_id DESC, sequence LIMIT 1")
    assert isinstance(first, datetime)
    return first - at


async def test_a_saga_that_was_to_begin_later_ends_at_once_when_it_is_cancelled(world: World) -> None:
    fields = StartSagaRequest(definition="long", input_json=orjson.dumps(INPUT).decode())
    fields.start_at.FromDatetime(datetime.now(UTC) + timedelta(days=9))
    async with world.api.leading():
        saga_id = (await world.api.sagas.StartSaga(fields, timeout=10)).saga.saga_id
        await world.api.sagas.CancelSaga(CancelSagaRequest(saga_id=saga_id, reason="after all"), timeout=10)
        ended = await world.ended(saga_id)
    assert (ended.state, ended.error.message) == (SagaState.SAGA_STATE_COMPENSATED, "after all")


async def test_a_saga_that_waits_without_a_time_is_found_by_its_labels(world: World) -> None:
    world.api.participants.answers["reserve"] = Succeeded({})
    async with world.api.leading():
        saga_id = await world.start()
        await world.until(saga_id, ("consent", "waiting"))
        assert world.api.rows("SELECT next_run_at = 'infinity' FROM baton.saga") == [(True,)]
        found = await world.api.sagas.ListSagas(ListSagasRequest(input_path="true", definition="long"), timeout=10)
    assert [saga.saga_id for saga in found.sagas] == [saga_id]
