"""Definitions against the descriptors of their participants: names, types, children; and what is wrong is placed."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2 as d

from orchestrator.driving.codec import Descriptors
from orchestrator.driving.folder import apply_folder
from orchestrator.driving.registry import Compiled, Registry, fitting_codecs
from orchestrator.driving.scalars import WrongType
from orchestrator.errors import Rejected
from orchestrator.saga.lint import lint
from orchestrator.saga.parse import parse
from orchestrator.sagalog.port import StoredDefinition
from tests.unit.test_codec import T, descriptor_set, field


class Store:
    """Definitions in memory."""

    def __init__(self) -> None:
        self.stored: list[StoredDefinition] = []

    async def get_definition(self, name: str, version: int) -> StoredDefinition | None:
        found = [s for s in self.stored if s.name == name and version in (0, s.version)]
        return found[-1] if found else None

    async def insert_definition(
        self, name: str, content_hash: str, yaml: str, descriptor_set: bytes
    ) -> tuple[StoredDefinition, bool]:
        version = 1 + sum(s.name == name for s in self.stored)
        stored = StoredDefinition(name, version, content_hash, yaml, descriptor_set, datetime.now(UTC))
        self.stored.append(stored)
        return stored, False


def described() -> d.FileDescriptorSet:
    """The service of the codec's tests, and a message of proto2 with a required field."""
    files = d.FileDescriptorSet.FromString(descriptor_set())
    need = d.DescriptorProto(name="Need", field=[field("key", 1, T.TYPE_STRING), field("note", 2, T.TYPE_STRING)])
    need.field[0].label = T.LABEL_REQUIRED
    other = d.DescriptorProto(name="Other", field=[field("sku", 1, T.TYPE_STRING), field("n", 2, T.TYPE_STRING)])
    methods = [
        d.MethodDescriptorProto(name="Undo", input_type=".o.Need", output_type=".o.Need"),
        d.MethodDescriptorProto(name="Lines", input_type=".o.Other", output_type=".o.Other"),
    ]
    file = d.FileDescriptorProto(
        name="o.proto",
        package="o",
        syntax="proto2",
        message_type=[need, other],
        service=[d.ServiceDescriptorProto(name="S", method=methods)],
    )
    files.file.append(file)
    return files


async def describe(address: str, services: Collection[str], timeout_s: float) -> d.FileDescriptorSet:
    return described()


TEXT = """
name: fits
steps:
  - name: first
    service: h:1
    action: {{method: t.S/Do, request: {{text: input.x}}}}
    compensation: none
  - name: other
    service: h:1
    action: {{method: o.S/Lines}}
    compensation: none
  - name: second
    service: h:1
    action: {{method: t.S/Do, request: {request}}}
    compensation: {undo}
"""


async def found(request: str, undo: str = "none") -> list[str]:
    try:
        await Registry(Store(), describe).check(TEXT.format(request=request, undo=undo))
    except Rejected as error:
        return [violation.told for violation in error.violations]
    return []


@pytest.mark.parametrize(
    "request_",
    [
        "{text: results.first.text, i64: results.first.i32, number: results.first.i64, flag: results.first.flag}",
        "{text: results.first.data, data: results.first.text, colour: results.first.text}",
        "{text: results.first.colour, colour: results.first.i32, tags: results.first.tags, at: results.first.at}",
        "{line: results.first.line, lines: results.first.lines, counts: results.first.counts}",
        "{line: {sku: results.first.line.sku, n: 'results.first.lines[0].n'}, tags: 'results.first.lines[].sku'}",
        "{text: saga.id, i64: saga.version, tags: '[saga.labels.x]'}",
        "{text: \"'x'\", i64: '`9223372036854775807`', colour: \"'RED'\", flag: '`true`', line: {n: '`1`'}}",
        "{at: \"'2026-01-01T00:00:00Z'\", data: \"'AP8='\", counts: {'7': {n: '`1`'}}, tags: '`[\"a\"]`'}",
        "{text: input.anything, i64: input.anything}",
    ],
)
async def test_what_fits_is_accepted(request_: str) -> None:
    assert await found(request_) == []


@pytest.mark.parametrize(
    ("request_", "field_", "part"),
    [
        ("{txt: input.x}", "txt", "no such field; it has text, i64"),
        ("{line: {skew: input.x}}", "line.skew", "t.Line has no such field"),
        ("{text: {x: input.x}}", "text", "is text in t.Everything, not an object"),
        ("{lines: {sku: input.x}}", "lines", "is a list of an object"),
        ("{text: results.first.i64}", "text", "gives an integer, but the field is text"),
        ("{i64: results.first.number}", "i64", "gives a number, but the field is an integer"),
        ("{i64: results.first.colour}", "i64", "the name of an enum's value"),
        ("{flag: results.first.text}", "flag", "gives text, but the field is true or false"),
        ("{tags: results.first.text}", "tags", "gives text, but the field is a list"),
        ("{text: results.first.tags}", "text", "gives a list of text, but the field is text"),
        ("{numbers: results.first.tags}", "numbers", "gives a list of text"),
        ("{line: results.other}", "line", "the field 'n' does not fit"),
        ("{line: results.first}", "line", "which has no field 'text'"),
        ("{i64: results.first.at}", "i64", "gives text"),
        ("{text: saga.version}", "text", "gives an integer"),
        ("{text: saga.labels}", "text", "gives an object"),
        ("{i32: '`2147483648`'}", "i32", "out of range"),
        ("{i64: \"'7'\"}", "i64", "must be an integer, not text"),
        ("{colour: \"'BLUE'\"}", "colour", "must be one of NONE, RED"),
        ("{line: {n: '`true`'}}", "line.n", "must be an integer"),
        ("{at: \"'soon'\"}", "at", "such as 2026-01-02T03:04:05Z"),
        ("{text: '`null`'}", "text", "gives nothing"),
        ("{text: results.first.txt}", "text", "t.Everything has text, i64"),
        ("{text: results.first.line.skew}", "text", "t.Line has sku, n"),
        ("{text: results.first.lines.sku}", "text", "go through its elements with []"),
        ("{text: results.first.text.x}", "text", "'x' is looked for in text"),
        ("{text: \"results.first.txt || 'x'\"}", "text", "t.Everything has text, i64"),
    ],
)
async def test_what_does_not_fit_is_refused_with_its_place(request_: str, field_: str, part: str) -> None:
    (problem,) = await found(request_)
    assert problem.startswith(f"line 14, step second, steps[2].action.request.{field_}: ")
    assert part in problem


def test_an_answer_as_json_without_a_field_that_its_message_requires_is_refused() -> None:
    codec = Descriptors(described().SerializeToString()).method("o.S", "Undo")
    assert codec.normal_reply({"key": "k"}) == {"key": "k"}
    with pytest.raises(WrongType, match=r"key: is missing, and o\.Need requires it"):
        codec.normal_reply({"note": "n"})


async def test_a_required_field_is_not_taken_from_a_result_that_may_be_missing() -> None:
    (problem,) = await found("{}", "{method: o.S/Undo, request: {key: results.second.text, note: input.x}}")
    assert "steps[2].compensation.request.key: o.Need requires it" in problem
    assert await found("{}", "{method: o.S/Undo, request: {key: \"results.second.text || 'x'\"}}") == []
    assert await found("{}", "{method: o.S/Undo, request: {key: input.x, note: results.second.text}}") == []


async def test_a_status_method_answers_with_the_message_of_its_action() -> None:
    asks = "none\n    on_unknown: query\n    status: {{method: {}}}"
    assert await found("{}", asks.format("t.S/Do")) == []
    (problem,) = await found("{}", asks.format("o.S/Undo"))
    assert "steps[2].status.method: answers with o.Need; it must answer with the action's own message, t.Ev" in problem


async def test_unknown_methods_are_refused_with_their_places() -> None:
    (problem,) = await found("{}", "{method: t.S/Nothing}")
    assert problem.startswith("line 15, step second, steps[2].compensation.method: t.S has no method Nothing")


def child(name: str, runs: str, version: int = 0) -> str:
    return f"name: {name}\nsteps:\n  - name: inner\n    saga: {{definition: {runs}, version: {version}}}\n"


async def test_children_must_be_there_and_must_not_run_their_parents() -> None:
    registry = Registry(Store(), describe)
    with pytest.raises(Rejected, match=r"line 4, step inner, .*there is no definition 'b'; apply it first"):
        await registry.apply(child("a", "b"))
    with pytest.raises(Rejected, match="makes a circle: a runs a"):
        await registry.apply(child("a", "a"))
    await registry.apply("name: b\nsteps: [{name: w, delay: 1s}]")
    with pytest.raises(Rejected, match="there is no definition version 7 of 'b'"):
        await registry.apply(child("a", "b", 7))
    await registry.apply(child("a", "b"))
    await registry.apply(child("c", "a"))
    with pytest.raises(Rejected, match="makes a circle: b runs c runs a runs b"):
        await registry.apply(child("b", "c"))
    # Version 1 of b waits and runs nothing.
    await registry.apply(child("d", "b", 1))


GIVES = """
name: gives
secrets: [card.number, pin]
steps:
  - name: inner
    saga: {{definition: takes, input: {{{given}}}}}
"""


@pytest.mark.parametrize(
    ("given", "marked", "field"),
    [
        ("pin: input.pin", "", "pin"),
        ("pin: input.pin", "pin", None),
        ("inner: {code: input.pin}", "", "inner.code"),
        ("inner: {code: input.pin}", "inner", None),
        ("card: input.card", "card.expires", "card"),
        ("card: input.card", "card.number", None),
        ("card: input.card", "card", None),
        ("digits: input.card.number.digits", "", "digits"),
        ("name: input.card.name", "", None),
        ("length: length(input.pin)", "", None),
        ("all: input", "all.pin, all.card", None),
    ],
)
async def test_a_secret_that_is_given_to_a_child_is_one_there_too(given: str, marked: str, field: str | None) -> None:
    registry = Registry(Store(), describe)
    await registry.apply(f"name: takes\nsecrets: [{marked}]\nsteps: [{{name: w, delay: 1s}}]")
    if field is None:
        await registry.apply(GIVES.format(given=given))
        return
    with pytest.raises(Rejected, match=r"definition 'takes' would show it: it needs `secrets") as refused:
        await registry.apply(GIVES.format(given=given))
    assert [violation.field for violation in refused.value.violations] == [f"steps[0].saga.input.{field}"]


QUOTED = '"input.note || saga.id"'


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ("order: input.order, at: input.at", []),
        ("order: {id: input.id}, at: input.at", []),
        ("order: {number: input.id}, at: input.at", ["input.order.id"]),
        ("order: input.order", ["input.at"]),
        ("", ["input.order", "input.at"]),
    ],
)
async def test_a_child_is_given_what_it_reads_for_sure(given: str, missing: list[str]) -> None:
    registry = Registry(Store(), describe)
    act = "service: 'h:1', compensation: none, action: {method: t.S/Do, request: {text: %s}}"
    steps = [
        f"{{name: a, {act % 'input.order.id'}}}",
        "{name: b, delay: {until: input.at}}",
        f"{{name: c, when: input.gift, {act % 'input.gift.note'}}}",
        f"{{name: d, {act % QUOTED}}}",
    ]
    await registry.apply(f"name: needs\nsteps: [{', '.join(steps)}]")
    text = f"name: gives\nsteps: [{{name: runs, saga: {{definition: needs, input: {{{given}}}}}}}]"
    try:
        await registry.apply(text)
        found = []
    except Rejected as error:
        found = [violation.description.split(",")[0] for violation in error.violations]
    assert found == [f"does not give {name}" for name in missing]


async def test_a_secret_that_a_child_returns_is_one_in_its_parent_too() -> None:
    registry = Registry(Store(), describe)
    step = "{{name: {}, service: 'h:1', action: {{method: t.S/Do}}, compensation: none, secrets: [{}]}}"
    await registry.apply(f"name: inner\nsteps: [{step.format('first', 'data')}, {step.format('last', 'line.sku')}]")
    text = "name: outer\nsteps: [{{name: runs, saga: {{definition: inner}}, secrets: [{}]}}]"
    with pytest.raises(Rejected, match=r"steps\[0\]\.secrets: would show 'line.sku' of the child's result"):
        await registry.apply(text.format("data"))
    for marked in ("line", "line.sku"):
        await registry.apply(text.format(marked))


async def test_a_folder_is_applied_whatever_the_order_of_parents_and_children(tmp_path: Path) -> None:
    store = Store()
    (tmp_path / "1.yaml").write_text(child("top", "middle"))
    (tmp_path / "2.yaml").write_text(child("middle", "bottom"))
    (tmp_path / "3.yaml").write_text("name: bottom\nsteps: [{name: w, delay: 1s}]")
    (tmp_path / "4.yaml").write_text(child("lone", "nobody"))
    await apply_folder(tmp_path, Registry(store, describe))
    assert [stored.name for stored in store.stored] == ["bottom", "middle", "top"]


async def test_what_the_linter_refuses_is_not_stored() -> None:
    store = Store()
    text = "name: x\nwithin: 1s\nsteps:\n  - name: w\n    delay: 1s\n    within: 1h\n"
    with pytest.raises(Rejected, match=r"line 6, step w, steps\[0\]\.within"):
        await Registry(store, describe).apply(text)
    assert store.stored == []


WAITS = """
name: waits
steps:
  - name: gift
    when: input.gift
    service: h:1
    action: {method: t.S/Do, request: {text: input.gift.note}}
    compensation: {method: t.S/Do, request: {i64: input.gift.number}}
  - name: wait
    delay: {until: input.at}
  - name: child
    saga: {definition: waits, input: {at: input.child_at}}
  - name: answered
    when: results.gift.flag
    service: h:1
    action: {method: t.S/Do, request: {text: input.answer}}
    compensation: none
"""


@pytest.mark.parametrize(
    ("input_", "wrong"),
    [
        ({"at": "2027-01-02T03:04:05Z", "child_at": 1}, []),
        ({"at": "2027-01-02T03:04:05Z", "child_at": 1, "gift": {"note": "x", "number": 7}}, []),
        ({"at": "soon", "child_at": 1}, ["input.at"]),
        ({"at": "9999-12-31T23:59:59-23:59", "child_at": 1}, ["input.at"]),
        ({"child_at": 1}, ["input.at"]),
        ({"at": "2027-01-02T03:04:05Z"}, ["input.child_at"]),
        ({"at": "2027-01-02", "child_at": 1, "gift": {"note": 1}}, ["input.gift.note", "input.gift.number"]),
    ],
)
def test_an_input_is_tried_out_on_the_steps_that_run_for_sure(input_: dict[str, Any], wrong: list[str]) -> None:
    definition = parse(WAITS, 1)
    assert lint(definition).errors == ()
    compiled = Compiled(definition, fitting_codecs(definition, descriptor_set()))
    found = compiled.check_input(input_, {})
    assert sorted(violation.field for violation in found) == wrong
    assert not any("soon" in violation.description for violation in found)
