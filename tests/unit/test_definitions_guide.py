"""The definitions that docs/definitions.md shows are right, and the commands print what it says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from typer.testing import CliRunner

from orchestrator.__main__ import app
from orchestrator.saga.document import read
from orchestrator.saga.lint import Findings, lint
from orchestrator.saga.parse import parse
from participants.pb.shop.v1 import inventory_pb2, orders_pb2, payment_pb2, shipping_pb2

DOCS = Path(__file__).parents[2] / "docs"
BLOCKS = re.findall(r"```yaml\n(.*?)```", (DOCS / "definitions.md").read_text(), re.DOTALL)
SCHEMA = json.loads((DOCS / "definition.schema.json").read_text())


@pytest.mark.parametrize("text", BLOCKS, ids=lambda text: text.partition("\n")[0])
def test_what_the_guide_shows_is_right_without_a_warning(text: str) -> None:
    assert lint(parse(text)) == Findings((), ())
    jsonschema.Draft202012Validator(SCHEMA).validate(read(text))


def test_the_guide_shows_every_field() -> None:
    shown = "\n".join(BLOCKS)
    steps = SCHEMA["$defs"]
    fields = {*SCHEMA["properties"], *(name for kind in steps.values() for name in kind.get("properties", {}))}
    text = (DOCS / "definitions.md").read_text()
    assert [field for field in sorted(fields) if f"{field}:" not in shown and f"`{field}`" not in text] == []


def test_the_whole_example_fits_the_sample_shop(tmp_path: Path) -> None:
    files: dict[str, FileDescriptor] = {}

    def add(file: FileDescriptor) -> None:
        for dependency in file.dependencies:
            add(dependency)
        files[file.name] = file

    for module in (inventory_pb2, orders_pb2, payment_pb2, shipping_pb2):
        add(module.DESCRIPTOR)
    described = FileDescriptorSet()
    for file in files.values():
        file.CopyToProto(described.file.add())
    (tmp_path / "shop.bin").write_bytes(described.SerializeToString())
    (tmp_path / "order-in-full.yaml").write_text(BLOCKS[0])
    command = ["definition", "validate", str(tmp_path / "order-in-full.yaml"), "--strict"]
    result = CliRunner().invoke(app, [*command, "--descriptors", str(tmp_path / "shop.bin")])
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{tmp_path}/order-in-full.yaml is valid\n", "")
