"""How later answers reach a replica, and what its statuses mean to whoever tells."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from participants import reporting
from participants.answers import NotReported, NotWanted
from participants.pb.baton.v1 import steps_pb2, steps_pb2_grpc
from participants.reporting import StepReporter


class Replica(steps_pb2_grpc.StepServiceServicer):
    """Answers with the status that it is told, and remembers what it heard."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.says = grpc.StatusCode.OK

    async def CompleteStep(self, request: Any, context: Any) -> steps_pb2.StepAnswer:
        self.heard.append(request)
        if self.says is not grpc.StatusCode.OK:
            await context.abort(self.says, "for a reason")
        return steps_pb2.StepAnswer()

    async def FailStep(self, request: Any, context: Any) -> steps_pb2.StepAnswer:
        return await self.CompleteStep(request, context)

    async def HeartbeatStep(self, request: Any, context: Any) -> steps_pb2.StepAnswer:
        return await self.CompleteStep(request, context)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No attempt is given up for the time it takes."""
    monkeypatch.setattr(reporting, "_ATTEMPT_S", 30.0)


@pytest.fixture
async def replicas() -> AsyncIterator[list[tuple[Replica, str]]]:
    servers, found = [], []
    for _ in range(2):
        replica, server = Replica(), grpc.aio.server()
        steps_pb2_grpc.add_StepServiceServicer_to_server(replica, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        servers.append(server)
        found.append((replica, f"127.0.0.1:{port}"))
    yield found
    for server in servers:
        await server.stop(None)


async def test_every_answer_goes_out_as_it_is(replicas: list[tuple[Replica, str]]) -> None:
    (replica, address), _ = replicas
    reporter = StepReporter([address])
    await reporter.complete("t", b"\x0a\x01x")
    await reporter.fail("t", grpc.StatusCode.NOT_FOUND, "no")
    await reporter.heartbeat("t")
    assert replica.heard == [
        steps_pb2.CompleteStepRequest(token="t", response=b"\x0a\x01x"),
        steps_pb2.FailStepRequest(token="t", code="NOT_FOUND", message="no"),
        steps_pb2.HeartbeatStepRequest(token="t"),
    ]


async def test_a_replica_that_is_away_is_passed_over_and_then_left(replicas: list[tuple[Replica, str]]) -> None:
    (busy, first), (good, second) = replicas
    busy.says = grpc.StatusCode.UNAVAILABLE
    reporter = StepReporter([first, second])
    for _ in range(3):
        await reporter.complete("t", b"")
    assert (len(busy.heard), len(good.heard)) == (1, 3)
    good.says = grpc.StatusCode.RESOURCE_EXHAUSTED
    with pytest.raises(NotReported, match="for a reason"):
        await reporter.complete("t", b"")


@pytest.mark.parametrize("code", ["FAILED_PRECONDITION", "ALREADY_EXISTS", "NOT_FOUND", "INVALID_ARGUMENT"])
async def test_what_is_final_is_not_told_again(replicas: list[tuple[Replica, str]], code: str) -> None:
    (replica, first), (other, second) = replicas
    replica.says = grpc.StatusCode[code]
    with pytest.raises(NotWanted, match=f"{code}: for a reason"):
        await StepReporter([first, second]).complete("t", b"")
    assert other.heard == []


def test_a_reporter_needs_somebody_to_tell() -> None:
    with pytest.raises(ValueError, match="at least one replica"):
        StepReporter([])
