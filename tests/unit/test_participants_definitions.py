"""The sample definitions: they parse, and every method and field that they name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from google.protobuf.descriptor import FileDescriptor

from orchestrator.saga.parse import parse
from participants.pb.shop.v1 import inventory_pb2, orders_pb2, payment_pb2, shipping_pb2

FOLDER = Path(__file__).parents[2] / "deploy" / "definitions"
FILES = sorted(FOLDER.glob("*.yaml"))
PROTO: list[FileDescriptor] = [m.DESCRIPTOR for m in (inventory_pb2, orders_pb2, payment_pb2, shipping_pb2)]
METHODS = {
    f"{service.full_name}/{method.name}": method
    for file in PROTO
    for service in file.services_by_name.values()
    for method in service.methods
}


def test_all_flows_are_there() -> None:
    assert {file.stem for file in FILES} == {
        "order",
        "order-create-charge-reserve-confirm",
        "order-pay-reserve-ship",
        "order-reserve-pay-create",
        "order-reserve-pay-ship",
        "return",
    }


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_definition_names_methods_and_fields_that_exist(file: Path) -> None:
    document = yaml.safe_load(file.read_text())
    assert document["name"] == file.stem
    for step in document["steps"]:
        for part in ("action", "compensation"):
            method = METHODS[step[part]["method"]]
            assert set(step[part]["request"]) <= set(method.input_type.fields_by_name), step["name"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_definition_parses_with_the_default_addresses(file: Path) -> None:
    text = re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", file.read_text())
    definition = parse(text)
    assert definition.name == file.stem
    assert all(step.compensation is not None for step in definition.steps)
