"""Request mappings: what expressions give, and what happens when they give nothing."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.saga.mapping import Mapping, PointsNowhere, compile_mapping

CONTEXT = {
    "input": {"order": {"id": "o1", "lines": [{"sku": "a", "n": 2}, {"sku": "b", "n": 3}]}, "big": 2**63 - 1},
    "results": {"reserve": {"id": "r1"}},
    "saga": {"id": "s1", "definition": "order", "version": 1, "labels": {"team": "x"}},
}


def mapping(source: dict[str, Any], *results: str, own: str | None = None) -> Mapping:
    compiled, violations = compile_mapping(source, "request", frozenset(results), own)
    assert violations == []
    return compiled


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("input.order.id", "o1"),
        ("input.big", 2**63 - 1),
        ("input.order.lines[1].sku", "b"),
        ("input.order.lines[*].n", [2, 3]),
        ("input.order.lines[?n > `2`].sku | [0]", "b"),
        ("join('-', [input.order.id, results.reserve.id])", "o1-r1"),
        ("'literal'", "literal"),
        ("`7`", 7),
        ("saga.labels.team", "x"),
        ("input.missing || 'fallback'", "fallback"),
        ("input.order.lines[*].{sku: sku, quantity: n} | [0]", {"sku": "a", "quantity": 2}),
    ],
)
def test_expressions_give_their_values(expression: str, value: object) -> None:
    assert mapping({"field": expression}, "reserve").evaluate(CONTEXT) == {"field": value}


def test_mappings_nest() -> None:
    nested = mapping({"order": {"id": "input.order.id", "ref": {"r": "results.reserve.id"}}}, "reserve")
    assert nested.evaluate(CONTEXT) == {"order": {"id": "o1", "ref": {"r": "r1"}}}


@pytest.mark.parametrize(
    ("expression", "field"),
    [("input.order.nr", "input.order.nr"), ("input.order.lines[9]", "request.a"), ("results.reserve.x", "request.a")],
)
def test_an_expression_that_gives_nothing_names_its_field(expression: str, field: str) -> None:
    with pytest.raises(PointsNowhere) as error:
        mapping({"a": expression}, "reserve").evaluate(CONTEXT)
    assert [v.field for v in error.value.violations] == [field]


def test_an_expression_that_cannot_be_evaluated_names_its_field() -> None:
    with pytest.raises(PointsNowhere, match=r"request\.a"):
        mapping({"a": "join('-', input.order)"}).evaluate(CONTEXT)


def test_a_compensation_leaves_out_what_its_own_missing_result_would_give() -> None:
    source = {"order_id": "input.order.id", "charge_id": "results.charge.id"}
    undo = mapping(source, "reserve", "charge", own="charge")
    assert undo.evaluate(CONTEXT) == {"order_id": "o1"}
    known = {**CONTEXT, "results": {"charge": {"id": "c1"}}}
    assert undo.evaluate(known) == {"order_id": "o1", "charge_id": "c1"}
    with pytest.raises(PointsNowhere):
        undo.evaluate({**CONTEXT, "results": {"charge": {}}})


def test_what_needs_no_results_can_be_evaluated_alone() -> None:
    both = mapping({"a": "input.order.id", "b": "results.reserve.id", "c": "input.x || results.reserve.id"}, "reserve")
    assert both.evaluate({**CONTEXT, "results": {}}, input_alone=True) == {"a": "o1"}


@pytest.mark.parametrize("expression", ["@", "@.input", "order.id", "results.*.id", "inputs[0]", "length(orders)"])
def test_an_expression_must_start_at_a_known_root(expression: str) -> None:
    _, violations = compile_mapping({"a": expression}, "request", frozenset({"reserve"}))
    assert [v.field for v in violations] == ["request.a"]
