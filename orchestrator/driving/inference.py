"""What an expression gives, as far as it is known before a saga runs: by the shapes of what it reads.

An expression of literals alone is evaluated. Of any other one the syntax tree is walked; what it gives for sure is
told, and all that depends on values is any value. Pure: no I/O. JMESPath: https://jmespath.org/specification.html
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jmespath
from jmespath.functions import Functions

from orchestrator.driving.shapes import (
    ANY,
    INTEGER,
    TEXT,
    TRUTH,
    UNKNOWN,
    Kind,
    Shape,
    along,
    either,
    of_fields,
    of_value,
)
from orchestrator.saga.mapping import Leaf, PointsNowhere, Tree, value_of

SAGA = of_fields({"id": TEXT, "definition": TEXT, "version": INTEGER, "labels": Shape(Kind.OBJECT, inner=TEXT)})

_Node = dict[str, Any]


def shape_of(leaf: Leaf, scope: Shape) -> Shape:
    """What an expression gives in a context of this shape; Kind.NOTHING when it gives null, or cannot be evaluated."""
    if leaf.path is not None:
        return along(scope, *leaf.path)
    read = [along(scope, *path) for path in leaf.reads]
    if ("@",) not in leaf.reads and all(part.value is not UNKNOWN or part.kind is Kind.NOTHING for part in read):
        return _evaluated(leaf, scope)
    try:
        return _shape(dict(jmespath.compile(leaf.expression).parsed), scope)
    except _Fails as error:
        return Shape(Kind.NOTHING, why=str(error))
    except RecursionError:
        return ANY


def shape_of_tree(tree: Tree, scope: Shape) -> Shape:
    """The object that a mapping makes."""
    return of_fields(
        {
            name: shape_of(node, scope) if isinstance(node, Leaf) else shape_of_tree(node, scope)
            for name, node in tree.items()
        }
    )


def _evaluated(leaf: Leaf, scope: Shape) -> Shape:
    try:
        return of_value(value_of(leaf, _literals(scope)))
    except PointsNowhere as error:
        return Shape(Kind.NOTHING, why=error.violations[0].description)


def _literals(shape: Shape) -> Any:
    """The literals within a shape, without what is not known."""
    if shape.value is not UNKNOWN or shape.fields is None:
        return None if shape.value is UNKNOWN else shape.value
    return {name: _literals(part) for name, part in shape.fields.items()}


class _Fails(Exception):
    """The expression cannot be evaluated, whatever the values are."""


def _shape(node: _Node, scope: Shape) -> Shape:
    rule = _RULES.get(node["type"])
    return ANY if rule is None else rule(node, scope)


def _chain(node: _Node, scope: Shape) -> Shape:
    for child in node["children"]:
        scope = _shape(child, scope)
    return scope


def _index(_node: _Node, scope: Shape) -> Shape:
    return _missing(scope, "[0]") if scope.kind not in _LISTED else scope.inner or ANY


def _slice(_node: _Node, scope: Shape) -> Shape:
    return _missing(scope, "[:]") if scope.kind not in _LISTED else scope


def _flat(node: _Node, scope: Shape) -> Shape:
    base = _shape(node["children"][0], scope)
    if base.kind not in _LISTED:
        return _missing(base, "[]")
    inner = base.inner or ANY
    if inner.kind is Kind.LIST:
        return Shape(Kind.LIST, inner=inner.inner)
    return Shape(Kind.LIST, inner=None if inner.kind is Kind.ANY else inner)


def _projected(node: _Node, scope: Shape) -> Shape:
    base = _shape(node["children"][0], scope)
    if base.kind not in _LISTED:
        return _missing(base, "[*]")
    try:
        each = _shape(node["children"][1], base.inner or ANY)
    except _Fails:
        return Shape(Kind.LIST)  # There may be no elements.
    return Shape(Kind.LIST, inner=None if each.kind in (Kind.ANY, Kind.NOTHING) else each)


def _values(node: _Node, scope: Shape) -> Shape:
    base = _shape(node["children"][0], scope)
    return _LIST if base.kind in (Kind.OBJECT, Kind.ANY) else _missing(base, "*")


def _missing(shape: Shape, part: str) -> Shape:
    return shape if shape.kind is Kind.NOTHING else Shape(Kind.NOTHING, why=f"{part} is looked for in {shape}")


def _choice(node: _Node, scope: Shape) -> Shape:
    first = _shape(node["children"][0], scope)
    if first.kind is Kind.NOTHING:
        return _shape(node["children"][1], scope)
    try:
        otherwise = _shape(node["children"][1], scope)
    except _Fails:
        return ANY
    return first if otherwise.kind is Kind.NOTHING else either(first, otherwise)


def _conjunction(node: _Node, scope: Shape) -> Shape:
    first = _shape(node["children"][0], scope)
    if first.kind is Kind.NOTHING:
        return first
    try:
        return either(first, _shape(node["children"][1], scope))
    except _Fails:
        return ANY


def _comparison(node: _Node, scope: Shape) -> Shape:
    for child in node["children"]:
        _shape(child, scope)
    # What has no order is compared to null.
    return TRUTH if node.get("value") in ("eq", "ne", None) else ANY


def _list_of(node: _Node, scope: Shape) -> Shape:
    if scope.kind is Kind.NOTHING:
        return scope
    for child in node["children"]:
        _shape(child, scope)
    return _LIST


def _selection(node: _Node, scope: Shape) -> Shape:
    if scope.kind is Kind.NOTHING:
        return scope
    return of_fields({child["value"]: _shape(child["children"][0], scope) for child in node["children"]})


# Functions: what they take, in JMESPath's words, and what they give.
_TAKEN = {
    Kind.INTEGER: {"number"},
    Kind.NUMBER: {"number", "string"},  # What is not finite is a text.
    Kind.NUMERIC: {"number", "string"},
    Kind.TRUTH: {"boolean"},
    Kind.TEXT: {"string"},
    Kind.BYTES: {"string"},
    Kind.ENUM: {"string", "number"},
    Kind.OBJECT: {"object"},
    Kind.LIST: {"array", "array-number", "array-string"},
    Kind.NOTHING: {"null"},
}
_WORDS = {"string": "text", "array": "a list", "object": "an object", "number": "a number"}
_NUMERIC = Shape(Kind.NUMERIC)
_LIST = Shape(Kind.LIST)
_GIVEN = {
    **dict.fromkeys(("contains", "ends_with", "starts_with"), TRUTH),
    **dict.fromkeys(("join", "to_string", "type"), TEXT),
    **dict.fromkeys(("ceil", "floor", "length"), INTEGER),
    **dict.fromkeys(("abs", "avg", "sum", "to_number"), _NUMERIC),
    **dict.fromkeys(("keys", "map", "sort", "sort_by", "to_array", "values"), _LIST),
    "merge": Shape(Kind.OBJECT),
}


def _called(node: _Node, scope: Shape) -> Shape:
    name, children = node["value"], node["children"]
    known = Functions.FUNCTION_TABLE.get(name)
    if known is None:
        raise _Fails(f"there is no function {name}()")
    signature: Sequence[dict[str, Any]] = known["signature"]
    if len(children) < len(signature) or (len(children) > len(signature) and not signature[-1].get("variadic")):
        raise _Fails(f"{name}() takes {len(signature)} arguments, not {len(children)}")
    for number, child in enumerate(children):
        # Of any number of arguments jmespath looks at the first one.
        taken = signature[number]["types"] if number < len(signature) else []
        given = ANY if child["type"] == "expref" else _shape(child, scope)
        if taken and given.kind is not Kind.ANY and not _TAKEN[given.kind] & set(taken):
            wanted = " or ".join(_WORDS.get(kind, "a list") for kind in taken)
            raise _Fails(f"{name}() takes {wanted}, not {given}")
    return _GIVEN.get(name, ANY)


_LISTED = frozenset({Kind.LIST, Kind.ANY})
_RULES: dict[str, Callable[[_Node, Shape], Shape]] = {
    "current": lambda _node, scope: scope,
    "identity": lambda _node, scope: scope,
    "field": lambda node, scope: along(scope, node["value"]),
    "literal": lambda node, _scope: of_value(node["value"]),
    "subexpression": _chain,
    "index_expression": _chain,
    "pipe": _chain,
    "index": _index,
    "slice": _slice,
    "flatten": _flat,
    "projection": _projected,
    "filter_projection": _projected,
    "value_projection": _values,
    "or_expression": _choice,
    "and_expression": _conjunction,
    "comparator": _comparison,
    "not_expression": _comparison,
    "multi_select_list": _list_of,
    "multi_select_dict": _selection,
    "function_expression": _called,
}
