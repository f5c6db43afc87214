"""The client against replicas that are gone, frozen, busy or say no: what it asks again, and when it gives up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2

from orchestrator.cli.client import Client
from orchestrator.cli.errors import ApiUnavailable, CallRefused
from orchestrator.cli.route import Route
from orchestrator.pb.baton.v1 import cluster_pb2, cluster_pb2_grpc, saga_pb2, saga_pb2_grpc

INPUT = '{"order_id": "1"}'


class FakeReplica(saga_pb2_grpc.SagaServiceServicer, cluster_pb2_grpc.ClusterServiceServicer):
    """A replica that does what the test says before it answers, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.trouble: Callable[[Any], Any] | None = None
        self.states = [saga_pb2.SAGA_STATE_COMPLETED]
        self.transitions = [saga_pb2.Transition(sequence=number) for number in (1, 2, 3, 4)]
        self.break_after: int | None = None
        self.server = grpc.aio.server()
        saga_pb2_grpc.add_SagaServiceServicer_to_server(self, self.server)
        cluster_pb2_grpc.add_ClusterServiceServicer_to_server(self, self.server)
        self.endpoint = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"

    async def StartSaga(self, request: saga_pb2.StartSagaRequest, context: Any) -> saga_pb2.StartSagaResponse:
        self.asked.append(request.request_id)
        if self.trouble is not None:
            await self.trouble(context)
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return saga_pb2.StartSagaResponse(saga=saga_pb2.Saga(saga_id="saga", state=state), existing=len(self.asked) > 1)

    async def WatchSaga(self, request: saga_pb2.WatchSagaRequest, context: Any) -> AsyncIterator[saga_pb2.Transition]:
        self.asked.append(f"watch from {request.after_sequence}")
        for transition in self.transitions[request.after_sequence :]:
            yield transition
            if transition.sequence == self.break_after:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "shutting down")

    async def StepDown(self, request: cluster_pb2.StepDownRequest, context: Any) -> cluster_pb2.StepDownResponse:
        self.asked.append(request.reason)
        if self.trouble is not None:
            await self.trouble(context)
        return cluster_pb2.StepDownResponse(replica_id="replica-1")


@pytest.fixture
async def replicas() -> AsyncIterator[list[FakeReplica]]:
    made = [FakeReplica() for _ in range(3)]
    async with AsyncExitStack() as stack:
        for replica in made:
            await replica.server.start()
            stack.push_async_callback(replica.server.stop, None)
        yield made


def failing(code: grpc.StatusCode, message: str = "because", times: int = 1_000_000) -> Callable[[Any], Any]:
    left = [times]

    async def trouble(context: Any) -> None:
        left[0] -= 1
        if left[0] >= 0:
            await context.abort(code, message)

    return trouble


async def frozen(context: Any) -> None:
    await asyncio.Event().wait()


def client(replicas: list[FakeReplica], **options: Any) -> Client:
    """A client that takes no replica for frozen, unless that is what the test is about."""
    return Client([replica.endpoint for replica in replicas], **{"attempt_max_s": 20.0, **options})


async def test_it_stays_with_one_replica_and_spreads_when_told(replicas: list[FakeReplica]) -> None:
    async with client(replicas) as steady:
        for _ in range(3):
            await steady.start_saga("order", INPUT)
    assert [len(replica.asked) for replica in replicas] == [3, 0, 0]
    async with client(replicas, spread=True) as spread:
        for _ in range(3):
            await spread.start_saga("order", INPUT)
    assert [len(replica.asked) for replica in replicas] == [4, 1, 1]


async def test_a_replica_that_is_gone_is_passed_over_with_the_same_request_id(replicas: list[FakeReplica]) -> None:
    heard: list[str] = []
    replicas[0].trouble = failing(grpc.StatusCode.UNAVAILABLE, "shutting down")
    await replicas[1].server.stop(None)
    async with client(replicas, on_retry=lambda endpoint, why: heard.append(endpoint)) as calls:
        answer = await calls.start_saga("order", INPUT)
        assert answer.saga.saga_id == "saga"
        assert replicas[0].asked == replicas[2].asked != [""]
        assert heard == [replicas[0].endpoint, replicas[1].endpoint]
        # For a while the two are not asked first again.
        await calls.start_saga("order", INPUT)
    assert [len(replica.asked) for replica in replicas] == [1, 0, 2]


async def test_a_frozen_replica_costs_one_attempt(replicas: list[FakeReplica]) -> None:
    replicas[0].trouble = frozen
    async with client(replicas, attempt_max_s=1.0, deadline_s=20) as calls:
        began_s = time.monotonic()
        await calls.start_saga("order", INPUT, request_id="mine")
        assert time.monotonic() - began_s < 10
    assert replicas[0].asked == replicas[1].asked == ["mine"]


async def test_a_busy_replica_is_asked_again(replicas: list[FakeReplica]) -> None:
    replicas[0].trouble = failing(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many starts wait", times=3)
    async with client(replicas[:1]) as calls:
        await calls.start_saga("order", INPUT, request_id="mine")
    assert replicas[0].asked == ["mine"] * 4


async def test_it_gives_up_at_the_deadline_and_says_who_was_asked(replicas: list[FakeReplica]) -> None:
    for replica in replicas:
        replica.trouble = failing(grpc.StatusCode.UNAVAILABLE, "Postgres is away")
    async with client(replicas, deadline_s=2.0) as calls:
        began_s = time.monotonic()
        with pytest.raises(ApiUnavailable, match=r"within 2\.0 s; the last one said UNAVAILABLE: Postgres is away"):
            await calls.start_saga("order", INPUT)
        assert time.monotonic() - began_s < 8
    assert all(replica.asked for replica in replicas)


async def test_that_the_last_attempt_had_no_time_hides_nothing(replicas: list[FakeReplica]) -> None:
    replicas[0].trouble = failing(grpc.StatusCode.UNAVAILABLE, "Postgres is away", times=1)
    replicas[1].trouble = frozen
    async with client(replicas[:2], deadline_s=2.0, attempt_max_s=5.0) as calls:
        with pytest.raises(ApiUnavailable, match="the last one said UNAVAILABLE: Postgres is away"):
            await calls.start_saga("order", INPUT)
    assert replicas[1].asked


async def test_a_saga_that_an_earlier_attempt_has_started_is_new_to_a_caller_without_an_id_of_his_own(
    replicas: list[FakeReplica],
) -> None:
    """The fake says `existing` of everything but its first call, as a replica does of what is repeated."""
    for run in (False, True):
        replicas[0].trouble = failing(grpc.StatusCode.DEADLINE_EXCEEDED, times=1)
        async with client(replicas[:1]) as calls:
            start = calls.run_saga if run else calls.start_saga
            assert not (await start("order", INPUT)).existing
            assert (await start("order", INPUT, request_id="mine")).existing
    assert len(replicas[0].asked) == 6


async def test_a_refusal_is_final_and_carries_reason_and_fields(replicas: list[FakeReplica]) -> None:
    async def refuse(context: Any) -> None:
        info, bad = AnyMessage(), AnyMessage()
        info.Pack(error_details_pb2.ErrorInfo(reason="INVALID_INPUT", domain="baton"))
        violation = error_details_pb2.BadRequest.FieldViolation(field="input_json", description="is no JSON")
        bad.Pack(error_details_pb2.BadRequest(field_violations=[violation]))
        status = status_pb2.Status(code=3, message="the input is not valid", details=[info, bad])
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the input is not valid")

    replicas[0].trouble = refuse
    async with client(replicas) as calls:
        with pytest.raises(CallRefused) as caught:
            await calls.start_saga("order", "x")
    refusal = caught.value
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_INPUT")
    assert refusal.lines() == ["the input is not valid", "input_json: is no JSON"]
    assert [len(replica.asked) for replica in replicas] == [1, 0, 0]


async def test_a_message_that_is_too_large_is_refused_at_once(replicas: list[FakeReplica]) -> None:
    async with client(replicas, deadline_s=20) as calls:
        began_s = time.monotonic()
        with pytest.raises(CallRefused, match="larger than max"):
            await calls.start_saga("order", '"' + "x" * 5_000_000 + '"')
        assert time.monotonic() - began_s < 5


async def test_waiting_for_the_end_goes_on_over_answers_without_an_end(replicas: list[FakeReplica]) -> None:
    running, completed = saga_pb2.SAGA_STATE_RUNNING, saga_pb2.SAGA_STATE_COMPLETED
    replicas[0].states = [running, running, completed]
    async with client(replicas) as calls:
        answer = await calls.run_saga("order", INPUT, request_id="mine")
    assert answer.saga.state == completed
    assert not answer.existing
    assert replicas[0].asked == ["mine"] * 3


async def test_a_watch_goes_on_at_the_next_replica_without_loss_or_repetition(replicas: list[FakeReplica]) -> None:
    replicas[0].break_after = 2
    await replicas[1].server.stop(None)
    async with client(replicas) as calls:
        seen = [transition.sequence async for transition in calls.watch_saga("saga")]
    assert seen == [1, 2, 3, 4]
    assert replicas[0].asked == ["watch from 0"]
    assert replicas[2].asked == ["watch from 2"]


async def test_a_step_down_of_unknown_outcome_is_not_repeated(replicas: list[FakeReplica]) -> None:
    replicas[0].trouble = failing(grpc.StatusCode.DEADLINE_EXCEEDED)
    async with client(replicas) as calls:
        with pytest.raises(ApiUnavailable):
            await calls.step_down("test")
    assert [len(replica.asked) for replica in replicas] == [1, 0, 0]


def test_a_route_prefers_what_has_not_failed_and_forgets_with_time() -> None:
    now_s = [0.0]
    route = Route(("a", "b", "c"), clock=lambda: now_s[0])
    assert [route.next(), route.next()] == ["a", "a"]
    route.failed("a")
    assert route.next() == "b"
    now_s[0] = 0.1
    route.failed("b")
    route.failed("c")
    # All have failed: the one whose penalty ends first.
    assert route.next() == "a"
    route.succeeded("c")
    assert route.next() == "c"
    now_s[0] = 5.0
    assert route.next() == "c"


def test_a_client_needs_an_endpoint() -> None:
    with pytest.raises(ValueError, match="at least one endpoint"):
        Client([])
