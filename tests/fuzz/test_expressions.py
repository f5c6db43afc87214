"""JMESPath of a stranger: it is refused with its place named, or its value stays within the growth that it is given."""

from __future__ import annotations

import time
from typing import Any

import jmespath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.saga import growth
from orchestrator.saga.mapping import EXPRESSION_CHARS_MAX, REQUEST_SIZE_MAX, Mapping, PointsNowhere, compile_mapping

from .rounds import rounds
from .values import json_values, size, texts

_FUNCTIONS = [
    *sorted(growth._SMALL),
    *sorted(growth._LIKE_ARGUMENTS),
    "join",
    "keys",
    "map",
    "to_string",
    "type",
    "nonsense",
]

_names = st.sampled_from(["a", "b", "input", "results", "saga", '"odd name"', "a_name_of_some_length"])
_leaves = st.one_of(
    _names,
    st.sampled_from(["@", "'x'", "'some text'", "`7`", '`[1,{"a":2}]`', "`null`", "'inf'", "'nan'", "`1e400`"]),
    st.integers(-(10**30), 10**30).map(lambda number: f"`{number}`"),
)


def _larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    def joined(between: str) -> st.SearchStrategy[str]:
        return st.tuples(inner, inner).map(between.join)

    many = st.lists(inner, min_size=1, max_size=4)
    return st.one_of(
        *(joined(between) for between in (".", " | ", " || ", " && ", " == ", " < ", "[*].", ".*.", "[]", "[?")),
        st.tuples(inner, st.integers(-3, 3)).map(lambda pair: f"{pair[0]}[{pair[1]}]"),
        st.tuples(inner, st.integers(-3, 3)).map(lambda pair: f"{pair[0]}[::{pair[1]}]"),
        st.tuples(inner, inner).map(lambda pair: f"{pair[0]}[?{pair[1]}]"),
        many.map(lambda parts: f"[{', '.join(parts)}]"),
        many.map(lambda parts: "{" + ", ".join(f"n{i}: {part}" for i, part in enumerate(parts)) + "}"),
        st.tuples(st.sampled_from(_FUNCTIONS), many).map(lambda call: f"{call[0]}({', '.join(call[1])})"),
        inner.map(lambda part: f"&{part}"),
        inner.map(lambda part: f"!{part}"),
        inner.map(lambda part: f"({part})"),
        inner.map(lambda part: f"[@, {part}] | [@, @]"),
    )


expressions = st.recursive(_leaves, _larger, max_leaves=12)


def grown(mapping: Mapping) -> int:
    """The bound that the syntax of its one expression gives."""
    (leaf,) = mapping.leaves()
    factor = growth.check(jmespath.compile(leaf.expression).parsed)
    assert 1 <= factor <= growth.GROWTH_MAX
    return factor


def named(error: PointsNowhere) -> None:
    """Check that an error says where and what, at no length."""
    assert all(violation.field and len(violation.description) < 600 for violation in error.violations)


def compiled(expression: str) -> Any:
    """The mapping `{field: expression}`, or None when it is refused as it ought to be."""
    mapping, violations = compile_mapping({"field": expression}, "request", frozenset({"one"}))
    for violation in violations:
        assert violation.field == "request.field"
        assert 0 < len(violation.description) < 600
    return None if violations else mapping


@rounds(150)
@given(expressions, json_values(), json_values())
def test_a_value_is_no_larger_than_the_growth_of_its_expression_says(expression: str, a: Any, b: Any) -> None:
    # Behind `input`, so that nearly everything that can be parsed is evaluated.
    mapping = compiled(f"input | {expression}")
    if mapping is None:
        return
    context = {"input": {"a": a, "b": b, "input": [a, b, [a]]}, "results": {"one": {"a": a}}, "saga": {}}
    try:
        value = mapping.evaluate(context)
    except PointsNowhere as error:
        named(error)
        return
    assert size(value["field"]) <= grown(mapping) * (size(context) + EXPRESSION_CHARS_MAX)


@pytest.mark.parametrize(
    "expression",
    [
        "input.a[*].keys({a_name_of_twenty_chars: @})",
        "input.a[*].type(@)",
        "input.a[*].to_string({name: `null`})",
        "input.a[*].to_string(@)",
        "input.a[*].[@, @, @]",
        "input.a[]",
        "input.a | map(&to_string(@), @)",
        "input.a | join('twenty characters...', @)",
        "input.a[*].{a: @, b: [@, 'x']}.[a, b, a] | []",
        "input.a[?@ == ''].[`null`, 'some text']",
    ],
)
@pytest.mark.parametrize("element", ["", "\x01", [], None, 7])
def test_the_growth_holds_for_what_is_wide_and_small(expression: str, element: Any) -> None:
    mapping = compiled(expression)
    context = {"input": {"a": [element] * 1_000}, "results": {}, "saga": {}}
    try:
        value = mapping.evaluate(context)
    except PointsNowhere as error:
        named(error)
        return
    assert size(value["field"]) <= grown(mapping) * (size(context) + EXPRESSION_CHARS_MAX)


@rounds(150)
@given(st.one_of(expressions, texts, st.text(alphabet="[]{}()|&!@`'\".,*?:ab01 -\\", max_size=60)))
def test_what_is_no_expression_is_refused_and_named(expression: str) -> None:
    compiled(expression)


@pytest.mark.parametrize(
    "expression",
    [
        "input | " + " | ".join(["[@, @]"] * 60),
        "input | " + " | ".join(["[@, @][]"] * 60),
        "input" + ".{a: @, b: @}" * 60,
        "length(input | " + " | ".join(["[@, @]"] * 60) + ")",
        "input[?@ == (" + " | ".join(["[@, @]"] * 60) + ")]",
        "to_string(input | " + " | ".join(["[@, @]"] * 8) + ")",
        "map(&[@, @][], " * 20 + "input" + ")" * 20,
        "merge(" * 100 + "input" + ")" * 100,
        "join(input.a, input.b)",
        "(" * 900 + "input" + ")" * 900,
        "!" * 1900 + "input",
        " || ".join(["input"] * 240),
        "input." + "a" * EXPRESSION_CHARS_MAX,
        "`" + "[" * 990 + "]" * 990 + "`",
        "&input",
        "input.a | nonsense(@)",
    ],
    ids=range(16),
)
def test_what_would_fill_the_memory_or_the_stack_is_refused_when_it_is_applied(expression: str) -> None:
    began_s = time.process_time()
    assert compiled(expression) is None
    assert time.process_time() - began_s < 1.0


@pytest.mark.parametrize(
    "expression",
    [
        "input.lines[].{stock_code: stock_code, quantity: quantity, price: price, note: note || ''}",
        "{" + ", ".join(f"f{i}: input.f{i}" for i in range(60)) + "}",
        "input.lines[?quantity > `0`] | sort_by(@, &price) | [0].{code: stock_code}",
        "join(', ', input.lines[].stock_code)",
        "to_string(input.order)",
        "input.a || input.b || input.c || 'a default of some length, which is no danger to anybody'",
        "not_null(input.a, input.b, 'x')",
        "to_string({id: input.id, name: input.name, city: input.address.city})",
        "merge(input.address, {country: input.country, name: input.name})",
        "sum(input.lines[].quantity)",
    ],
)
def test_what_people_write_is_taken(expression: str) -> None:
    assert compiled(expression) is not None


def test_an_input_of_nothing_but_empty_objects_does_not_become_a_request_of_millions() -> None:
    fields = ", ".join(f"field_{i}: field_{i}" for i in range(40))
    mapping = compiled(f"input.lines[].{{{fields}}}")
    context = {"input": {"lines": [{}] * 10_000}, "results": {}, "saga": {}}
    with pytest.raises(PointsNowhere, match=str(REQUEST_SIZE_MAX)):
        mapping.evaluate(context)


@pytest.mark.parametrize(
    "expression",
    [
        "min_by(input.a, &@)",
        "ceil(to_number('inf'))",
        "floor(to_number('nan'))",
        "input.a[::0]",
        "sum(input.b)",
        "avg([`1" + "0" * 400 + "`])",
        "input.a[" + "9" * 400 + "]",
    ],
)
def test_what_jmespath_itself_cannot_evaluate_names_its_field(expression: str) -> None:
    mapping = compiled(expression)
    if mapping is not None:
        with pytest.raises(PointsNowhere) as refused:
            mapping.evaluate({"input": {"a": [1, "x"], "b": "x"}, "results": {}, "saga": {}})
        assert [violation.field for violation in refused.value.violations] == ["request.field"]
