"""What a parent gives its child, against what the child does with it: what can never fit is refused, no more."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.driving.family import Family
from orchestrator.driving.giving import unfit_children
from orchestrator.driving.registry import Compiled, Registry, check_offline, member
from orchestrator.errors import FieldViolation, Rejected
from orchestrator.saga.definition import Definition
from orchestrator.saga.mapping import PointsNowhere
from orchestrator.saga.parse import parse
from tests.unit.test_codec import CODEC, FULL
from tests.unit.test_fitting import Store, describe, described

DESCRIBED = described().SerializeToString()
CALL = "service: 'h:1', compensation: none, action: {{method: t.S/Do, request: {{{}}}}}"

PARENT = """
name: gives
steps:
  - {{name: first, {first}}}
  - name: inner
    saga:
      definition: takes
      input:
        p: {given}
"""


def takes(request: str, *more: str, name: str = "takes") -> str:
    steps = [f"{{name: pay, {CALL.format(request)}}}", *more]
    return f"name: {name}\nsteps: [{', '.join(steps)}]"


def gives(given: str, first: str = CALL.format("text: input.x")) -> str:
    return PARENT.format(given=given, first=first)


def told(parent: str, *children: str) -> list[str]:
    """What is wrong with a parent, found without a cluster."""
    parsed = [parse(text, 1) for text in children]
    family = {(child.name, 0): member(child, DESCRIBED) for child in parsed}
    return [f"{v.field}: {v.description}" for v in complaints(parse(parent, 1), DESCRIBED, family)]


def complaints(parent: Definition, descriptors: bytes, family: Family) -> tuple[FieldViolation, ...]:
    try:
        check_offline(parent, descriptors, family)
    except Rejected as error:
        return error.violations
    return ()


@pytest.mark.parametrize(
    ("given", "request_"),
    [
        ("results.first.i64", "i64: input.p"),
        ("results.first.i64", "number: input.p, colour: input.p"),
        ("results.first.i64", 'text: "to_string(input.p)"'),
        ("results.first.text", 'i64: "length(input.p)"'),
        ("results.first.text", "data: input.p, colour: input.p, at: input.p"),
        ("results.first.colour", "text: input.p"),
        ("results.first.line", "text: input.p.sku, line: input.p"),
        ("results.first.lines", "lines: input.p, text: 'input.p[0].sku', tags: 'input.p[].sku'"),
        ("results.first.counts", "line: input.p.anything"),
        ("results.first.tags", "text: \"join('-', input.p)\""),
        ("results.first", "i64: input.p.i64, text: input.p.line.sku"),
        ("input.unknown", "text: input.p, i64: input.p, lines: input.p"),
        ("input.x", "text: input.p, data: input.p"),
        ('"input.x || `7`"', "text: input.p, i64: input.p"),
        ('"results.first.flag && results.first.i64"', "i64: input.p, text: input.p"),
        ("\"'RED'\"", "colour: input.p, text: input.p"),
        ("'`7`'", "i64: input.p, colour: input.p, number: input.p"),
        ("'`[\"a\"]`'", "tags: input.p, i64: 'length(input.p)'"),
        ("{sku: results.first.text}", "line: input.p, text: \"input.p.n || 'none'\""),
        ("saga.labels.tier", "text: input.p"),
    ],
)
def test_what_may_fit_is_let_be(given: str, request_: str) -> None:
    assert told(gives(given), takes(request_)) == []


def test_a_step_of_which_nobody_knows_whether_it_runs_is_let_be() -> None:
    rare = f"{{name: rare, when: input.p, {CALL.format('text: input.p')}}}"
    assert told(gives("results.first.i64"), takes("i64: input.p", rare)) == []


@pytest.mark.parametrize(
    ("given", "request_", "part"),
    [
        ("results.first.i64", "text: input.p", "request.text: 'input.p' gives an integer, but the field is text"),
        ("results.first.text", "i64: input.p", "request.i64: 'input.p' gives text, but the field is an integer"),
        ("results.first.number", "i64: input.p", "gives a number, but the field is an integer"),
        ("results.first.tags", "text: input.p", "gives a list of text, but the field is text"),
        ("results.first.tags", "numbers: input.p", "a list of text"),
        ("results.first.line", "text: input.p.skew", "gives nothing: t.Line has sku, n"),
        ("results.first.text", "text: input.p.sku", "gives nothing: 'sku' is looked for in text"),
        ("results.first", "line: input.p", "gives a t.Everything, but the field is a t.Line"),
        ("results.first.i64", 'i64: "length(input.p)"', "length() takes text or a list or an object, not an integer"),
        ("results.first.text", 'i64: "to_string(input.p)"', "gives text, but the field is an integer"),
        ('"to_string(results.first.i64)"', "i64: input.p", "gives text, but the field is an integer"),
        ("'length(results.first.tags)'", "text: input.p", "gives an integer, but the field is text"),
        ("'[results.first.text]'", "text: input.p", "gives a list, but the field is text"),
        ("{sku: results.first.i64}", "line: input.p", "gives an object, but the field is a t.Line: the field 'sku'"),
        ("{skew: input.x}", "line: input.p", "which has no field 'skew'"),
        ("\"'GREEN'\"", "colour: input.p", "must be one of NONE, RED"),
        ("'`2147483648`'", "i32: input.p", "out of range"),
        ("\"'soon'\"", "at: input.p", "such as 2026-01-02T03:04:05Z"),
        ("'`[\"a\", 1]`'", "tags: input.p", "[1]: must be text"),
        ("'`7`'", "text: \"join('-', input.p)\"", "cannot be evaluated"),
        ("'`[]`'", "text: 'input.p[0]'", "gives nothing"),
        ("saga.version", "text: input.p", "gives an integer, but the field is text"),
        ("saga.labels", "i64: input.p", "gives an object"),
    ],
)
def test_what_can_never_fit_is_refused_with_its_place(given: str, request_: str, part: str) -> None:
    found = told(gives(given), takes(request_))
    assert len(found) == 1
    assert found[0].startswith("steps[1].saga.input.p")
    assert "does not fit what 'takes' does with it: step 'pay', action.request." in found[0]
    assert part in found[0]


def test_an_input_that_other_steps_need_to_be_of_a_type_is_of_that_type() -> None:
    (problem,) = told(gives("input.x"), takes("i64: input.p"))
    assert problem == (
        "steps[1].saga.input.p: 'input.x' does not fit what 'takes' does with it: step 'pay', action.request.i64: "
        "'input.p' gives text, but the field is an integer; other steps of this saga need input.x to be text"
    )
    # By a condition it may be left undone, and two that disagree say nothing.
    first = CALL.format("text: input.x")
    assert told(gives("input.x", f"when: input.y, {first}"), takes("i64: input.p")) == []
    assert told(gives("input.x", CALL.format("text: input.x, flag: input.x")), takes("i64: input.p")) == []
    inside = CALL.format("line: input.l, colour: input.c")
    assert told(gives("input.l", inside), takes("counts: input.p")) == []
    assert told(gives("input.c", inside), takes("text: input.p, i64: input.p")) == []
    assert len(told(gives("input.l", inside), takes("tags: input.p"))) == 1


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        ("results.first.at", False),
        ("results.first.i64", False),
        ("results.first.flag", True),
        ("results.first.line", True),
        ("\"'soon'\"", True),
        ("\"'2027-01-02T03:04:05Z'\"", False),
        ("input.x", False),
    ],
)
def test_a_date_is_given_what_may_be_one(given: str, refused: bool) -> None:
    found = told(gives(given), takes("text: '`\"x\"`'", "{name: w, delay: {until: input.p}}"))
    assert [("step 'w', delay.until" in problem and "must be a time" in problem) for problem in found] == [
        True
    ] * refused


def test_a_condition_of_literals_says_whether_the_step_runs() -> None:
    rare = f"{{name: rare, when: input.p.rare, {CALL.format('i64: input.p.text')}}}"
    given = "{{rare: '`{}`', text: results.first.text}}"
    child = takes("text: input.p.text", rare)
    assert told(gives(given.format("false")), child) == []
    (problem,) = told(gives(given.format("true")), child)
    assert "step 'rare'" in problem
    assert problem.startswith("steps[1].saga.input.p.text: 'results.first.text'")


def test_what_a_child_hands_on_is_followed() -> None:
    middle = "name: takes\nsteps: [{name: hand, saga: {definition: deep, input: {q: {r: input.p}}}}]"
    deep = takes("i64: input.q.r", name="deep")
    assert told(gives("results.first.i64"), middle, deep) == []
    (problem,) = told(gives("results.first.text"), middle, deep)
    assert problem == (
        "steps[1].saga.input.p: 'results.first.text' does not fit what 'takes' does with it: step 'hand' runs 'deep': "
        "step 'pay', action.request.i64: 'input.q.r' gives text, but the field is an integer"
    )


def test_the_result_of_a_child_is_that_of_its_last_step() -> None:
    other = "\n  - name: second\n    saga: {definition: takes, input: {p: results.inner.line}}"
    (problem,) = told(gives("results.first.i64") + other, takes("i64: input.p"))
    assert problem.startswith("steps[2].saga.input.p: 'results.inner.line'")
    (nowhere,) = told(gives("results.first.i64") + other.replace("line", "lime"), takes("i64: 'to_number(input.p)'"))
    assert nowhere.startswith("steps[2].saga.input.p: 'results.inner.lime': t.Everything has text")
    side_by_side = takes("i64: 'to_number(input.p)'", f"{{name: beside, after: [], {CALL.format('')}}}")
    assert told(gives("results.first.i64") + other.replace("line", "lime"), side_by_side) == []


def test_what_gives_nothing_is_told_as_that() -> None:
    assert told(gives("'`null`'")) == ["steps[1].saga.input.p: '`null`' gives nothing: it is null"]
    assert told(gives("'length(results.first.i64)'"), takes("text: input.p")) == [
        "steps[1].saga.input.p: 'length(results.first.i64)' gives nothing: length() takes text or a list or an object, "
        "not an integer"
    ]


def test_a_definition_that_runs_itself_is_looked_at_and_no_more() -> None:
    text = "name: gives\nsteps: [{name: a, saga: {definition: gives, input: {p: input.p}}}]"
    assert told(text, text) == []


async def test_a_replica_and_the_command_line_find_the_same() -> None:
    store = Store()
    registry = Registry(store, describe)
    child, parent = takes("i64: input.p, text: input.other"), gives("results.first.text")
    await registry.apply(child)
    with pytest.raises(Rejected) as missing:
        await registry.apply(parent)
    given = parent + "        other: results.first.i64\n"
    with pytest.raises(Rejected) as refused:
        await registry.apply(given)
    online = {(v.field, v.description) for v in (*missing.value.violations, *refused.value.violations)}
    family = {("takes", 0): member(parse(child), DESCRIBED)}
    offline = {(v.field, v.description) for text in (parent, given) for v in complaints(parse(text), DESCRIBED, family)}
    assert len(online) == 3
    assert online == offline
    assert {(v.line, v.step) for v in refused.value.violations} == {(9, "inner"), (10, "inner")}
    assert [stored.name for stored in store.stored] == ["takes"]


def test_without_descriptors_the_names_and_what_expressions_cannot_do_are_found() -> None:
    family = {("takes", 0): member(parse(takes("text: input.q, i64: 'length(input.p)'")), b"")}
    found = complaints(parse(gives("saga.version")), b"", family)
    assert [v.description.partition(":")[0] for v in found] == [
        "does not give input.q, which step 'pay' of 'takes' reads",
        "'saga.version' does not fit what 'takes' does with it",
    ]


# No false refusals: whatever is refused could not be run with any result, and any input that starts the parent.

_FIELDS = ("text", "i64", "number", "flag", "data", "colour", "line", "lines", "tags", "counts", "at", "numbers")


def _expressions(roots: list[str]) -> st.SearchStrategy[str]:
    grown = (
        "{0}.sku", "{0}.n", "{0}[0]", "{0}[]", "{0}[*].sku", "{0}[].n", "length({0})", "to_string({0})", "sum({0})",
        "to_number({0})", "keys({0})", "join('-', {0})", "[{0}]", "{{sku: {0}}}", "!({0})", "{0} == {1}", "{0} || {1}",
        "{0} && {1}", "not_null({0}, {1})", "({0}) | [0]", "{0} < {1}", "max({0})", "sort({0})", "{0}.*",
        "merge({0}, {1})",
    )  # fmt: skip

    def more(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        return st.builds(lambda form, a, b: form.format(f"({a})", f"({b})"), st.sampled_from(grown), inner, inner)

    return st.recursive(st.sampled_from(roots), more, max_leaves=3)


_GIVEN = [f"results.first.{name}" for name in _FIELDS] + [
    "results.first", "input.x", "input.y", "input.x.sku", "`7`", "'RED'", "`[\"a\"]`", "`{\"sku\": \"a\"}`", "`1.5`",
    "saga.version",
]  # fmt: skip
# No empty lists: those fit whatever their elements are.
_OTHER: dict[str, Any] = {"numbers": [0], "tags": [""], "lines": [{}], "counts": {"1": {}}}
_RESULTS: list[dict[str, Any]] = [CODEC.decode(CODEC.encode(reply)) for reply in (FULL, _OTHER, {**_OTHER, "line": {}})]
_INPUTS: list[Any] = ["abc", 7, 1.5, True, None, "RED", [], ["a"], [1], {}, {"sku": "s"}, {"sku": "s", "n": 2}]


@given(
    _expressions(_GIVEN),
    _expressions(["input.p", "input.p.sku", "input.p", "`1`", "'x'"]),
    st.sampled_from(_FIELDS),
    st.sampled_from(("text: input.x", "i64: input.x", "line: input.x", "line: {sku: input.x.sku}", "text: '`\"a\"`'")),
)
def test_what_is_refused_could_never_have_run(parent: str, child: str, field: str, first: str) -> None:
    try:
        takes_ = parse(takes(f"{field}: {_quoted(child)}"), 1)
        gives_ = parse(gives(_quoted(parent), CALL.format(first)), 1)
    except Rejected:
        return
    inner, outer = member(takes_, DESCRIBED), member(gives_, DESCRIBED)
    if not list(unfit_children(outer, {("takes", 0): inner})):
        return
    starts, begins = Compiled(gives_, dict(outer.codecs)), Compiled(takes_, dict(inner.codecs))
    (run,) = [step.child for step in gives_.steps if step.child is not None]
    for value in _INPUTS:
        whole = {"x": value, "y": value}
        if starts.check_input(whole, {}):
            continue
        for result in _RESULTS:
            saga = {"id": "i", "definition": "gives", "version": 1, "labels": {}}
            try:
                handed = run.input.evaluate({"input": whole, "results": {"first": result}, "saga": saga})
            except PointsNowhere:
                continue
            assert begins.check_input(handed, {}), f"{parent} -> {child} -> {field}: {handed}"


def _quoted(expression: str) -> str:
    return "'" + expression.replace("'", "''") + "'"
