"""What is known of an expression's value before it is there is true of it once it is, whatever the expression is."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.driving.inference import shape_of
from orchestrator.driving.shapes import ANY, Kind, Shape, of_fields, of_value
from orchestrator.saga.mapping import Leaf, PointsNowhere, value_of

from .rounds import rounds
from .test_expressions import compiled, expressions
from .values import json_values


def blurred(value: Any) -> Shape:
    """What is known of a value that is no literal."""
    if isinstance(value, dict):
        return of_fields({name: blurred(item) for name, item in value.items()})
    if isinstance(value, list):
        inner = [blurred(item) for item in value]
        return Shape(Kind.LIST, inner=inner[0] if inner and all(one == inner[0] for one in inner) else None)
    return Shape(of_value(value).kind)


def true_of(shape: Shape, value: Any) -> bool:
    """Whether a value may have this shape. Anything may be missing, but for what is said to be nothing."""
    if value is None or shape.kind is Kind.ANY:
        return True
    match shape.kind:
        case Kind.TEXT:
            return isinstance(value, str)
        case Kind.TRUTH:
            return isinstance(value, bool)
        case Kind.INTEGER:
            return isinstance(value, int) and not isinstance(value, bool)
        case Kind.NUMBER | Kind.NUMERIC:
            return isinstance(value, int | float) and not isinstance(value, bool)
        case Kind.LIST:
            return isinstance(value, list) and (shape.inner is None or all(true_of(shape.inner, v) for v in value))
        case Kind.OBJECT:
            return isinstance(value, dict) and all(
                name in (shape.fields or {}) and true_of((shape.fields or {})[name], item)
                for name, item in value.items()
                if shape.fields is not None and not shape.partial and item is not None
            )
        case _:
            return False


@rounds(300)
@given(expressions, json_values(), json_values(), st.booleans())
def test_what_is_said_of_an_expression_is_true_of_its_value(expression: str, a: Any, b: Any, known: bool) -> None:
    mapping = compiled(f"input | {expression}") or compiled(expression)
    if mapping is None:
        return
    (leaf,) = mapping.leaves()
    given_ = {"a": a, "b": b, "input": [a, b, [a]]}
    literal = of_value(a) if known else blurred(a)
    scope = of_fields({"input": of_fields({"a": literal, "b": ANY, "input": blurred([a, b, [a]])}), "results": ANY})
    shape = shape_of(leaf, scope)
    value = evaluated(leaf, {"input": given_, "results": {"one": {"a": a}}})
    assert true_of(shape, value), f"{expression}: {shape} is not {value!r}"


def evaluated(leaf: Leaf, context: dict[str, Any]) -> Any:
    try:
        return value_of(leaf, context)
    except PointsNowhere:
        return None
