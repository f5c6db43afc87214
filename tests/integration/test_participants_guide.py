"""The participants that the guides show are run as they stand there."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from types import ModuleType

import grpc.aio
import pytest
from grpc_tools import protoc

from participants.pb.baton.v1 import steps_pb2, steps_pb2_grpc
from participants.reporting import StepReporter
from tests.integration.shop import TIMEOUT_S, action, compensation, connected, running

DOCS = Path(__file__).parents[2] / "docs"

PROTO = """
syntax = "proto3";
package coffee;
service CoffeeService {
  rpc Brew(BrewRequest) returns (BrewResponse);
  rpc PourAway(PourAwayRequest) returns (PourAwayResponse);
  rpc Look(LookRequest) returns (LookResponse);
}
message BrewRequest { string order_id = 1; int32 cups = 2; }
message BrewResponse { int32 cups = 1; }
message PourAwayRequest { string order_id = 1; }
message PourAwayResponse {}
message LookRequest {}
message LookResponse { int32 cups = 1; }
"""


APPROVALS = """
syntax = "proto3";
package approvals;
service ApprovalService {
  rpc Ask(AskRequest) returns (AskResponse);
  rpc Revoke(RevokeRequest) returns (RevokeResponse);
  rpc Decide(DecideRequest) returns (DecideResponse);
}
message AskRequest { string order_id = 1; }
message AskResponse { string who = 1; }
message RevokeRequest { string order_id = 1; }
message RevokeResponse {}
message DecideRequest { string order_id = 1; string who = 2; bool approved = 3; }
message DecideResponse { string outcome = 1; }
"""
APPROVALS_SCHEMA = """
CREATE TABLE inbox (id bigserial, order_id text, saga_id text, step text);
CREATE TABLE approved (order_id text, who text);
"""


def written(folder: Path, page: str, name: str, proto: str, schema: str) -> None:
    """The module of a page, with what belongs to it."""
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    (folder / f"{name}.py").write_text(code)
    (folder / f"{name}.proto").write_text(proto)
    (folder / f"{name}_migrations").mkdir()
    (folder / f"{name}_migrations" / "0001_first.sql").write_text(schema)
    include = files("grpc_tools") / "_proto"
    arguments = [f"-I{folder}", f"-I{include}", f"--python_out={folder}", f"--grpc_python_out={folder}"]
    assert protoc.main(["protoc", *arguments, str(folder / f"{name}.proto")]) == 0


@pytest.fixture
def coffee(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    written(tmp_path, "participants.md", "coffee", PROTO, "CREATE TABLE pot (order_id text, cups int)")
    monkeypatch.syspath_prepend(str(tmp_path))
    import coffee  # written a moment ago

    assert isinstance(coffee, ModuleType)
    return coffee


class Told(steps_pb2_grpc.StepServiceServicer):
    """Stands for a replica: what it was told."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[tuple[str, object]] = asyncio.Queue()

    async def CompleteStep(self, request: steps_pb2.CompleteStepRequest, context: object) -> steps_pb2.StepAnswer:
        self.heard.put_nowait((request.token, request.response))
        return steps_pb2.StepAnswer(heeded=True)

    async def FailStep(self, request: steps_pb2.FailStepRequest, context: object) -> steps_pb2.StepAnswer:
        self.heard.put_nowait((request.token, f"{request.code}: {request.message}"))
        return steps_pb2.StepAnswer(heeded=True)


@pytest.fixture
async def told() -> AsyncIterator[tuple[Told, str]]:
    told, server = Told(), grpc.aio.server()
    steps_pb2_grpc.add_StepServiceServicer_to_server(told, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield told, f"127.0.0.1:{port}"
    await server.stop(None)


@pytest.fixture
def approvals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    written(tmp_path, "answer-later.md", "approvals", APPROVALS, APPROVALS_SCHEMA)
    monkeypatch.syspath_prepend(str(tmp_path))
    import approvals  # written a moment ago

    assert isinstance(approvals, ModuleType)
    return approvals


async def test_the_participant_that_answers_later_works(
    approvals: ModuleType, told: tuple[Told, str], database: str
) -> None:
    pb = sys.modules["approvals_pb2"]
    replica, address = told
    # The first of the replicas is away.
    service = replace(approvals.SERVICE, reporter=lambda _settings: StepReporter(["127.0.0.1:1", address]))
    async with running(service, database) as participant, connected(participant.port) as client:

        async def decide(order: str, approved: bool) -> str:
            request = pb.DecideRequest(order_id=order, who="ada", approved=approved)
            reply = await client.call("approvals.ApprovalService/Decide", request, None)
            return str(pb.DecideResponse.FromString(reply.response).outcome)

        for order in ("yes", "no", "cancelled"):
            asked = pb.AskRequest(order_id=order)
            reply = await client.call("approvals.ApprovalService/Ask", asked, action(order, answer_token=order))
            assert reply.accepted
        revoke = pb.RevokeRequest(order_id="cancelled")
        assert (await client.call("approvals.ApprovalService/Revoke", revoke, compensation("cancelled"))).code == 0
        assert [await decide(order, order == "yes") for order in ("yes", "yes", "no", "cancelled")] == [
            *("stored", "answered", "stored", "cancelled")
        ]
        async with asyncio.timeout(TIMEOUT_S):
            # What is told twice, since nobody heard in time that it was told, is told twice.
            heard = {await replica.heard.get()}
            while len(heard) < 2:
                heard.add(await replica.heard.get())
        assert heard == {
            ("yes", pb.AskResponse(who="ada").SerializeToString()),
            ("no", "FAILED_PRECONDITION: ada said no"),
        }
        again = await client.call("approvals.ApprovalService/Ask", pb.AskRequest(order_id="yes"), action("yes"))
        assert pb.AskResponse.FromString(again.response).who == "ada"


async def test_the_participant_of_the_guide_works(coffee: ModuleType, database: str) -> None:
    pb = sys.modules["coffee_pb2"]
    async with running(coffee.SERVICE, database) as participant, connected(participant.port) as client:
        for _ in range(2):
            brewed = await client.call("coffee.CoffeeService/Brew", pb.BrewRequest(order_id="o", cups=3), action("s1"))
            assert pb.BrewResponse.FromString(brewed.response).cups == 3
        looked = await client.call("coffee.CoffeeService/Look", pb.LookRequest(), None)
        assert pb.LookResponse.FromString(looked.response).cups == 3
        refused = await client.call("coffee.CoffeeService/Brew", pb.BrewRequest(order_id="p", cups=13), action("s2"))
        assert refused.message == "the pot holds 12 cups"
        poured = await client.call(
            "coffee.CoffeeService/PourAway", pb.PourAwayRequest(order_id="o"), compensation("s1")
        )
        assert poured.code == 0
        looked = await client.call("coffee.CoffeeService/Look", pb.LookRequest(), None)
        assert pb.LookResponse.FromString(looked.response).cups == 0
