"""The JSON Schema of definitions, against the parser: what one refuses for its form, the other refuses too."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from orchestrator.__main__ import app
from orchestrator.errors import Rejected
from orchestrator.saga.document import read
from orchestrator.saga.parse import parse
from orchestrator.saga.variables import expand
from tests.unit.test_definition import GOOD
from tests.unit.test_definition_language import RICH

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "docs" / "definition.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
SAMPLES = sorted((ROOT / "deploy" / "definitions").glob("*.yaml"))

# What no schema can see: what has to do with other fields, with other steps, or with the inside of an expression.
MEANING = re.compile(
    "JMESPath|starts at|results that exist|reads all results|unknown field of saga|times what it reads|calls |nested"
    "|separator|has `&`|earlier step|step above|below this step|makes a cycle|after itself|there twice|port beyond"
    "|transient as well|`status` method|`answer: later`|say it once|must say why|`compensation: none`"
    "|^needed$|one of them|a step does one thing"
)


_NEEDED = ("compensation", "is missing")


def complaints(document: Any) -> list[str]:
    try:
        parse(yaml.safe_dump(document, allow_unicode=True))
    except Rejected as error:
        found = error.violations
        # Whether a step needs a compensation depends on where the pivot is.
        return [v.description for v in found if (v.field.rpartition(".")[2], v.description) != _NEEDED] or ["needed"]
    return []


def test_the_schema_is_one_and_the_package_has_it() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    shown = CliRunner().invoke(app, ["definition", "schema"])
    assert json.loads(shown.stdout) == SCHEMA


@pytest.mark.parametrize(
    "text", [GOOD, RICH, *(expand(file.read_text(), {}) for file in SAMPLES)], ids=lambda text: text[:20]
)
def test_right_definitions_are_right_by_the_schema(text: str) -> None:
    parse(text)
    VALIDATOR.validate(read(text))


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, child in children for place in _places(child, (*path, key)))]


DOCUMENTS = [read(GOOD), read(RICH)]
PLACES = [(number, place) for number, document in enumerate(DOCUMENTS) for place in _places(document) if place]
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 3),
    st.sampled_from([0.5, 1e9, "none", "", "5s", "9w", "90m", "input.x", "later", "retry", "required"]),
    st.sampled_from(["a.B/C", "h:1", "h", "Name", "name", "{", [], {}, ["a"], [1], ["ABORTED"], {"x": "input.x"}]),
    st.sampled_from([{"until": "input.x"}, {"method": "a.B/C"}, {"method": 1}, {"retries": 1.5}, {"within": "1s"}]),
)


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(PLACES), VALUES, st.sampled_from(["replace", "remove", "add"]))
def test_schema_and_parser_agree_on_every_changed_value(
    where: tuple[int, tuple[Any, ...]], value: Any, change: str
) -> None:
    number, place = where
    document = copy.deepcopy(DOCUMENTS[number])
    holder = document
    for key in place[:-1]:
        holder = holder[key]
    match change:
        case "replace":
            holder[place[-1]] = value
        case "remove":
            del holder[place[-1]]
        case _ if isinstance(holder, dict):
            holder["surplus"] = value
        case _:
            holder.append(value)
    refused = complaints(document)
    if VALIDATOR.is_valid(document):
        assert [problem for problem in refused if not MEANING.search(problem)] == []
    else:
        assert refused
