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
    (tmp_path / "order-in-full.yaml").write_text(BLOCKS[0])
    command = ["definition", "validate", str(tmp_path / "order-in-full.yaml"), "--strict"]
    result = CliRunner().invoke(app, [*command, "--descriptors", str(_descriptors(tmp_path))])
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{tmp_path}/order-in-full.yaml is valid\n", "")


def test_a_parent_that_gives_its_child_what_does_not_fit_is_refused_as_the_guide_says(tmp_path: Path) -> None:
    (parcel,) = [block for block in BLOCKS if block.startswith("name: parcel-by-count")]
    files = [tmp_path / "order-in-full.yaml", tmp_path / "parcel-by-count.yaml"]
    for file, text in zip(files, (BLOCKS[0], parcel), strict=True):
        file.write_text(text)
    command = ["definition", "validate", "--descriptors", str(_descriptors(tmp_path)), *map(str, files)]
    result = CliRunner().invoke(app, command)
    assert (result.exit_code, result.stdout) == (1, f"{files[0]} is valid\n")
    first, second = (line.removeprefix("error: ") for line in result.stderr.replace(f"{tmp_path}/", "").splitlines())
    guide = " ".join((DOCS / "definitions.md").read_text().split())
    assert first in guide
    assert "step 'charge_payment'" in second


def _descriptors(folder: Path) -> Path:
    """A file of the descriptors of the sample shop."""
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
    (folder / "shop.bin").write_bytes(described.SerializeToString())
    return folder / "shop.bin"
