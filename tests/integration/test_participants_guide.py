"""The participant that docs/participants.md shows is run as it stands there."""

from __future__ import annotations

import re
import sys
from importlib.resources import files
from pathlib import Path
from types import ModuleType

import pytest
from grpc_tools import protoc

from tests.integration.shop import action, compensation, connected, running

GUIDE = Path(__file__).parents[2] / "docs" / "participants.md"

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


@pytest.fixture
def coffee(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    (tmp_path / "coffee.py").write_text(code)
    (tmp_path / "coffee.proto").write_text(PROTO)
    (tmp_path / "coffee_migrations").mkdir()
    (tmp_path / "coffee_migrations" / "0001_pot.sql").write_text("CREATE TABLE pot (order_id text, cups int)")
    include = files("grpc_tools") / "_proto"
    arguments = [f"-I{tmp_path}", f"-I{include}", f"--python_out={tmp_path}", f"--grpc_python_out={tmp_path}"]
    assert protoc.main(["protoc", *arguments, str(tmp_path / "coffee.proto")]) == 0
    monkeypatch.syspath_prepend(str(tmp_path))
    import coffee  # written a moment ago

    assert isinstance(coffee, ModuleType)
    return coffee


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
