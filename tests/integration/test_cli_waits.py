"""The commands that wait for the leader leave a replica the time for it that docs/api.md promises."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner

from orchestrator.__main__ import app
from orchestrator.pb.baton.v1 import (
    operations_pb2,
    operations_pb2_grpc,
    pauses_pb2,
    pauses_pb2_grpc,
    steps_pb2,
    steps_pb2_grpc,
    versions_pb2,
    versions_pb2_grpc,
)

SAGA = "01000000-0000-7000-8000-000000000001"
# A replica waits for the leader for five seconds, or half of the time that is left. Of other calls two seconds are left
# at the most; of these ten, less what the way has taken.
LEFT_S = 5.0

_PAUSE = pauses_pb2.Pause(kind=pauses_pb2.PAUSE_KIND_DEFINITION, name="order")


class Replica:
    """Answers every order at once, and remembers how long it could have waited."""

    def __init__(self) -> None:
        self.left_s: list[float] = []
        self.server = grpc.server(futures.ThreadPoolExecutor(1))
        for add in (
            operations_pb2_grpc.add_OperationServiceServicer_to_server,
            pauses_pb2_grpc.add_PauseServiceServicer_to_server,
            steps_pb2_grpc.add_StepServiceServicer_to_server,
            versions_pb2_grpc.add_VersionServiceServicer_to_server,
        ):
            add(self, self.server)  # type: ignore[no-untyped-call]
        self.endpoint = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"

    def __getattr__(self, method: str) -> Any:
        if not method[0].isupper():
            raise AttributeError(method)

        def answer(request: object, context: grpc.ServicerContext) -> Any:
            self.left_s.append(context.time_remaining())
            return _ANSWERS.get(method, operations_pb2.OrderAnswer(heeded=True))

        return answer


_ANSWERS: dict[str, Any] = {
    "ApproveStep": steps_pb2.StepAnswer(heeded=True),
    "RejectStep": steps_pb2.StepAnswer(heeded=True),
    "PauseDefinition": pauses_pb2.PauseAnswer(pause=_PAUSE, heeded=True),
    "ResumeDefinition": pauses_pb2.ResumeAnswer(pause=_PAUSE, released=True),
    "PauseParticipant": pauses_pb2.PauseAnswer(pause=_PAUSE, heeded=True),
    "ResumeParticipant": pauses_pb2.ResumeAnswer(pause=_PAUSE, released=True),
    "MoveSaga": versions_pb2.MoveSagaResponse(heeded=True),
}


@pytest.fixture(scope="module")
def replica() -> Iterator[Replica]:
    made = Replica()
    made.server.start()
    yield made
    made.server.stop(None).wait()


@pytest.mark.parametrize(
    "command",
    [
        f"saga pause {SAGA}",
        f"saga resume {SAGA}",
        f"saga retry {SAGA}",
        f"saga skip {SAGA} ship --reason r --evidence e",
        f"saga force {SAGA} ship --reason r --evidence e --result {{}}",
        f"saga resolve {SAGA} ship --reason r --evidence e",
        f"saga approve {SAGA} ship",
        f"saga reject {SAGA} ship",
        f"saga move {SAGA} --reason r --yes",
        "definition pause order --reason r",
        "definition resume order --reason r",
        "participant pause there:1 --reason r",
        "participant resume there:1 --reason r",
    ],
)
def test_a_command_that_waits_for_the_leader_does_not_hurry_the_replica(replica: Replica, command: str) -> None:
    replica.left_s.clear()
    said = CliRunner().invoke(app, [*command.split(), "--endpoint", replica.endpoint])
    assert said.exit_code == 0, said.output
    assert replica.left_s[-1] > LEFT_S
    assert len(replica.left_s) <= 2
