"""Moves to another version, through a real channel on a real Postgres, with a real leader."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import grpc
import orjson
import psycopg
import pytest

from orchestrator.pb.baton.v1 import operations_pb2, operations_pb2_grpc, versions_pb2_grpc
from orchestrator.pb.baton.v1 import versions_pb2 as versions
from orchestrator.pb.baton.v1.events_pb2 import StreamEventsRequest
from orchestrator.pb.baton.v1.events_pb2_grpc import EventServiceStub
from orchestrator.pb.baton.v1.saga_pb2 import (
    ApplyDefinitionRequest,
    GetSagaResponse,
    ListSagasRequest,
    SagaState,
    StartSagaRequest,
)
from orchestrator.saga.commands import Refused, Succeeded
from orchestrator.saga.model import SagaId
from orchestrator.sagalog.migrate import migrate
from tests.integration.api_world import INPUT, ApiWorld, api_world, descriptors, field_violations, impatient, refusal

ENDED = {SagaState.SAGA_STATE_COMPLETED, SagaState.SAGA_STATE_COMPENSATED, SagaState.SAGA_STATE_FAILED}

_RESERVE = """
  - name: reserve
    service: 127.0.0.1:1
    action: {{method: shop.v1.InventoryService/Reserve, request: {{order_id: {order}}}}}
    compensation: {{method: shop.v1.InventoryService/Release, request: {{order_id: input.order_id}}}}"""
_PAY = """
  - name: pay
    service: 127.0.0.1:1
    action: {{method: shop.v1.PaymentService/Charge, request: {{order_id: {order}, amount: input.amount}}}}
    retry: {{retries: 0}}
    {rest}"""


def text(
    *, order: str = "input.order_id", paid: str = "input.order_id", pay: str = "pivot: true", more: str = ""
) -> str:
    steps = _RESERVE.format(order=order) + _PAY.format(order=paid, rest=pay) + more
    return f"name: moving\nwithin: 1h\nsteps:{steps}\n"


TELL = _PAY.replace("name: pay", "name: tell")


class World:
    """A replica's API, its leader, and stubs of the services under test."""

    def __init__(self, api: ApiWorld) -> None:
        self.api = api
        self.versions: Any = versions_pb2_grpc.VersionServiceStub(api.channel)  # type: ignore[no-untyped-call]
        self.operations: Any = operations_pb2_grpc.OperationServiceStub(api.channel)  # type: ignore[no-untyped-call]

    async def apply(self, yaml: str) -> None:
        request = ApplyDefinitionRequest(yaml=yaml, descriptor_set=descriptors())
        await self.api.definitions.ApplyDefinition(request)

    async def start(self, **fields: Any) -> str:
        request = StartSagaRequest(definition="moving", input_json=orjson.dumps(INPUT).decode(), **fields)
        return str((await self.api.sagas.StartSaga(request, timeout=10)).saga.saga_id)

    async def plan(self, saga_id: str, to: int = 0) -> versions.PlanMoveResponse:
        answer: versions.PlanMoveResponse = await self.versions.PlanMove(
            versions.PlanMoveRequest(saga_id=saga_id, to_version=to), timeout=10
        )
        return answer

    def move(self, saga_id: str, to: int = 0, reason: str = "mended", timeout: float = 30) -> Any:
        return self.versions.MoveSaga(
            versions.MoveSagaRequest(saga_id=saga_id, to_version=to, reason=reason, by="ann"), timeout=timeout
        )

    async def ordered(self, saga_id: str, to: int = 0) -> asyncio.Future[Any]:
        """A move that the driver has been told of while a call of the saga is under way: it heeds it behind that."""
        moving = asyncio.ensure_future(self.move(saga_id, to))
        await self.told(saga_id)
        return moving

    async def told(self, saga_id: str) -> None:
        """Wait until the leader has read a signal for the saga, which is under way."""
        async with asyncio.timeout(60):
            while True:
                term = self.api.leader._term
                driven = None if term is None else term.driven(SagaId(UUID(saga_id)))
                if driven is not None and driven.told:
                    return
                await asyncio.sleep(0.01)

    async def until(self, saga_id: str, so: Callable[[GetSagaResponse], bool]) -> GetSagaResponse:
        async with asyncio.timeout(60):
            while not so(answer := await self.api.get(saga_id)):
                await asyncio.sleep(0.02)
            return answer

    async def ended(self, saga_id: str) -> GetSagaResponse:
        return await self.until(saga_id, lambda answer: answer.saga.state in ENDED)

    async def waits_for(self, step: str, times: int = 1) -> None:
        async with asyncio.timeout(60):
            while self.api.participants.called.count(step) < times:
                await asyncio.sleep(0.02)


@pytest.fixture
async def world(database: str) -> AsyncIterator[World]:
    migrate(database)
    async with api_world(database) as api:
        world = World(api)
        await world.apply(text())
        yield world


def told(answer: GetSagaResponse) -> list[str]:
    return [f"{transition.status} {transition.step}".strip() for transition in answer.history]


async def test_a_saga_under_way_is_planned_and_moved_and_goes_on_under_the_new_version(world: World) -> None:
    world.api.participants.hold("reserve")
    async with world.api.leading():
        saga_id = await world.start()
        await world.waits_for("reserve")
        await world.apply(text(more=TELL.format(order="input.order_id", rest="")))
        plan = await world.plan(saga_id)
        assert (plan.from_version, plan.to_version, list(plan.obstacles)) == (1, 2, [])
        assert [(kept.step, kept.how) for kept in plan.kept] == [("reserve", "is under way")]
        assert [(change.kind, change.path) for change in plan.changes] == [("added", "steps.tell")]
        assert [(ahead.step, ahead.what, ahead.at_once) for ahead in plan.ahead] == [
            ("pay", "call", False),
            ("tell", "call", False),
        ]
        assert orjson.loads(plan.ahead[0].request_json) == {"order_id": "o-1", "amount": "17.85"}
        assert plan.deadline_before == plan.deadline_after
        assert (await world.api.get(saga_id)).saga.version == 1, "a plan changes nothing"

        moving = await world.ordered(saga_id)
        world.api.participants.release("reserve")
        answer = await moving
        assert (answer.heeded, answer.from_version, answer.to_version, answer.saga.version) == (True, 1, 2, 2)
        ended = await world.ended(saga_id)
    assert ended.saga.state == SagaState.SAGA_STATE_COMPLETED
    assert told(ended)[:3] == ["executing reserve", "moved", "completed reserve"]
    assert told(ended)[-1] == "completed tell"
    assert orjson.loads(ended.history[1].result_json) == {"from": 1, "to": 2}
    listed = await world.api.sagas.ListSagas(ListSagasRequest(definition="moving"), timeout=10)
    assert [saga.version for saga in listed.sagas] == [2]


async def test_a_move_is_refused_where_what_has_begun_differs_and_the_saga_goes_on_unharmed(world: World) -> None:
    world.api.participants.hold("reserve")
    async with world.api.leading():
        saga_id = await world.start()
        await world.waits_for("reserve")
        await world.apply(text(order="\"'other'\""))
        plan = await world.plan(saga_id)
        (obstacle,) = plan.obstacles
        assert (obstacle.step, obstacle.field) == ("reserve", "action.request.order_id")
        assert (obstacle.before, obstacle.after, list(plan.ahead)) == ("input.order_id", "'other'", [])
        moving = await world.ordered(saga_id)
        world.api.participants.release("reserve")
        refused = await refusal(moving)
        assert refused.code is grpc.StatusCode.FAILED_PRECONDITION
        assert "cannot be moved to version 2: step reserve: action.request.order_id is 'other'" in refused.message
        ended = await world.ended(saga_id)
    assert (ended.saga.version, ended.saga.state) == (1, SagaState.SAGA_STATE_COMPLETED)
    assert "moved" not in told(ended)


async def test_a_plan_that_has_become_wrong_is_not_carried_out(world: World) -> None:
    """What could be moved when the plan was made has begun when the leader heeds the order."""
    await world.apply(text(more=TELL.format(order="input.order_id", rest="")))
    await world.apply(text(more=TELL.format(order="\"'someone'\"", rest="")))
    world.api.participants.hold("pay")
    world.api.participants.hold("tell")
    async with world.api.leading():
        saga_id = await world.start(version=2)
        await world.waits_for("pay")
        assert list((await world.plan(saga_id)).obstacles) == []
        world.api.participants.release("pay")
        await world.waits_for("tell")
        moving = await world.ordered(saga_id)
        world.api.participants.release("tell")
        assert "step tell: action.request.order_id" in (await refusal(moving)).message
        assert (await world.ended(saga_id)).saga.version == 2


async def test_a_parked_saga_is_mended_by_a_move_and_a_retry(world: World) -> None:
    """Behind the pivot a mapping points nowhere: the definition is wrong, and nobody was called by it."""
    await world.apply(text(more=TELL.format(order="results.pay.amount", rest="")))
    await world.apply(text(more=TELL.format(order="input.order_id", rest="")))
    world.api.participants.answers["pay"] = Succeeded({"payment_id": 7})
    async with world.api.leading():
        saga_id = await world.start(version=2)
        parked = await world.ended(saga_id)
        assert (parked.saga.state, parked.saga.error.code) == (SagaState.SAGA_STATE_FAILED, "MAPPING")
        plan = await world.plan(saga_id)
        assert (list(plan.obstacles), plan.state) == ([], "FAILED")
        assert [(ahead.step, ahead.at_once) for ahead in plan.ahead] == [("tell", True)]
        assert orjson.loads(plan.ahead[0].request_json)["order_id"] == "o-1"
        answer = await world.move(saga_id)
        assert (answer.heeded, answer.saga.version, answer.saga.state) == (True, 3, SagaState.SAGA_STATE_FAILED)
        await world.operations.RetrySaga(operations_pb2.StepOrder(saga_id=saga_id, reason="mended"), timeout=30)
        ended = await world.until(saga_id, lambda found: found.saga.state == SagaState.SAGA_STATE_COMPLETED)
    assert told(ended)[-4:] == ["moved", "retried", "executing tell", "completed tell"]


async def test_what_a_participant_has_refused_stays_as_it_was_called(world: World) -> None:
    await world.apply(text(more=TELL.format(order="\"'nobody'\"", rest="")))
    await world.apply(text(more=TELL.format(order="\"'somebody'\"", rest="")))
    world.api.participants.answers["tell"] = Refused("NOT_FOUND", "who?")
    async with world.api.leading():
        saga_id = await world.start(version=2)
        await world.ended(saga_id)
        plan = await world.plan(saga_id)
        assert [(obstacle.step, obstacle.field) for obstacle in plan.obstacles] == [("tell", "action.request.order_id")]
        assert "step tell" in (await refusal(world.move(saga_id))).message


async def test_a_move_that_was_stored_without_a_leader_is_heeded_by_the_next(world: World) -> None:
    world.api.participants.hold("reserve")
    async with world.api.leading():
        saga_id = await world.start()
        await world.waits_for("reserve")
    # Nobody leads: the order is kept.
    await world.apply(text(more=TELL.format(order="input.order_id", rest="")))
    with impatient():
        answer = await world.move(saga_id)
    assert (answer.heeded, answer.saga.version) == (False, 1)
    async with world.api.leading():
        await world.told(saga_id)
        world.api.participants.release("reserve")
        ended = await world.ended(saga_id)
    assert ended.saga.version == 2
    assert "moved" in told(ended)
    assert told(ended)[-1] == "completed tell"


async def test_a_leader_takes_up_what_the_former_one_has_moved(world: World) -> None:
    await world.apply(text(more=TELL.format(order="input.order_id", rest="")))
    world.api.participants.hold("reserve")
    async with world.api.leading():
        saga_id = await world.start(version=1)
        await world.waits_for("reserve")
        world.api.participants.hold("pay")
        moving = await world.ordered(saga_id)
        world.api.participants.release("reserve")
        assert (await moving).heeded
        await world.waits_for("pay")
    world.api.participants.release("pay")
    async with world.api.leading():
        ended = await world.ended(saga_id)
    assert (ended.saga.version, ended.saga.state) == (2, SagaState.SAGA_STATE_COMPLETED)
    assert "moved" in told(ended)
    assert told(ended).count("executing pay") == 2, "intended again, under the new epoch"
    plan = await refusal(world.plan(saga_id, 1))
    assert plan.code is grpc.StatusCode.FAILED_PRECONDITION
    assert "is COMPLETED; only a saga that has not ended, or is parked, is moved" in plan.message


async def test_a_saga_that_begins_later_is_moved_and_does_not_begin_before_its_time(world: World) -> None:
    start_at = datetime.now(UTC) + timedelta(hours=1)
    async with world.api.leading():
        request = StartSagaRequest(definition="moving", input_json=orjson.dumps(INPUT).decode())
        request.start_at.FromDatetime(start_at)
        saga_id = (await world.api.sagas.StartSaga(request, timeout=10)).saga.saga_id
        await world.apply(text(order="\"'other'\""))
        answer = await world.move(saga_id)
        assert (answer.heeded, answer.saga.version, answer.saga.state) == (True, 2, SagaState.SAGA_STATE_PENDING)
        assert answer.saga.next_run_at.ToDatetime(tzinfo=UTC) - start_at < timedelta(milliseconds=1)
    assert world.api.participants.called == []
    # Its time comes, and it begins under the version that it was moved to, by its row and its log.
    with psycopg.connect(world.api.dsn, autocommit=True) as connection:
        connection.execute("UPDATE baton.saga SET start_at = now(), next_run_at = now() WHERE id = %s", [saga_id])
    async with world.api.leading():
        ended = await world.ended(saga_id)
    assert (ended.saga.version, ended.saga.state) == (2, SagaState.SAGA_STATE_COMPLETED)
    assert told(ended)[:2] == ["moved", "executing reserve"]


async def test_orders_that_cannot_be_right_are_refused_before_anything_is_stored(world: World) -> None:
    world.api.participants.hold("reserve")
    async with world.api.leading():
        saga_id = await world.start()
        await world.waits_for("reserve")
        for call, field in (
            (world.move(saga_id, reason=" "), "reason"),
            (world.move("nonsense"), "saga_id"),
            (world.move(saga_id, to=-1), "to_version"),
        ):
            error = await refusal(call)
            assert (error.code, field_violations(error)) == (grpc.StatusCode.INVALID_ARGUMENT, [field])
        for call in (world.move(saga_id, to=9), world.plan(saga_id, 9)):
            assert (await refusal(call)).code is grpc.StatusCode.NOT_FOUND
        await world.apply(text(more=TELL.format(order="input.order_id", rest="")))
        await world.versions.RetireDefinition(
            versions.RetireDefinitionRequest(name="moving", version=2, reason="asks too much", by="bob"), timeout=10
        )
        error = await refusal(world.move(saga_id, to=2))
        assert error.code is grpc.StatusCode.FAILED_PRECONDITION
        assert "was retired by bob: asks too much; no sagas are moved to it" in error.message
        moving = await world.ordered(saga_id, to=1)
        world.api.participants.release("reserve")
        assert "version is 1 already" in (await refusal(moving)).message
        await world.ended(saga_id)


async def test_a_move_is_an_event_and_stands_in_the_counts_of_nothing_else(world: World) -> None:
    world.api.participants.hold("reserve")
    async with world.api.leading():
        saga_id = await world.start()
        await world.waits_for("reserve")
        await world.apply(text(more=TELL.format(order="input.order_id", rest="")))
        moving = await world.ordered(saga_id)
        world.api.participants.release("reserve")
        await moving
        await world.ended(saga_id)
    events: Any = EventServiceStub(world.api.channel)  # type: ignore[no-untyped-call]
    stream = events.StreamEvents(StreamEventsRequest(types=["baton.saga.v1.moved"]), timeout=20)
    async with asyncio.timeout(60):
        async for answer in stream:
            if answer.HasField("event"):
                break
    assert (answer.event.type, answer.event.status, answer.event.version) == ("baton.saga.v1.moved", "moved", 2)
    stream.cancel()
    with psycopg.connect(world.api.dsn) as connection:
        rows = connection.execute(
            "SELECT definition, state, sum(change) FROM (SELECT definition, state, change FROM baton.tally_change"
            " UNION ALL SELECT definition, state, sagas FROM baton.tally) AS t GROUP BY 1, 2 HAVING sum(change) <> 0"
        ).fetchall()
    assert rows == [("moving", "COMPLETED", 1)]
