"""How much larger than what it reads the value of a JMESPath expression can be, found in its syntax alone.

JMESPath has no loops, but it can name one value many times, and the result again: `[@, @] | [@, @] | ...` doubles with
each bar, so that a line of text makes a terabyte of a small input. Here the size of a value is three for every node and
one for every character of its texts, as if nothing were shared; `check` bounds the size of every value on the way by a
multiple of the size of what the expression is evaluated on. Every rule is linear in it, so the bound holds for all.

Pure. The syntax tree is jmespath's: nodes {"type", "children", "value"}.
"""

from __future__ import annotations

import json
from typing import Any

Node = dict[str, Any]

# A selection of some hundred fields; what is deeper was not written by a person.
GROWTH_MAX = 300
DEPTH_MAX = 64

_SELECTIONS = ("multi_select_list", "multi_select_dict")

# A character is spelled in JSON by twelve at the most (a pair of \uXXXX), a number by fewer than three times twelve.
_SPELLED = 12

# What a function gives is no larger than a number or a truth ...
_SMALL = frozenset({"abs", "avg", "ceil", "contains", "ends_with", "floor", "length", "starts_with", "sum"})
# ... or no larger than what it is given: all of it, or a part.
_LIKE_ARGUMENTS = frozenset({"merge", "not_null", "reverse", "sort", "to_number", "values"})
_LIKE_ARGUMENTS |= {"max", "max_by", "min", "min_by", "sort_by"}


class Unbounded(Exception):
    """No bound can be given, or none should be; the message says why."""


def check(syntax: Node) -> int:
    """The growth of an expression: no value that it makes has more than so many times the size of what it reads.

    Raises Unbounded when that is more than GROWTH_MAX, when no bound can be given, and when the expression is nested
    deeper than DEPTH_MAX or calls a function that does not exist.
    """
    if _deeper(syntax, DEPTH_MAX):
        raise Unbounded(f"is nested deeper than {DEPTH_MAX} levels")
    return _growth(syntax, 1, many=False)


def _growth(node: Node, base: int, *, many: bool) -> int:
    """The growth of the value of `node`, evaluated on a value that has grown to `base` already.

    With `many` it is evaluated on each of the elements that together have grown to `base`, and what is returned is
    the growth of all the values together.
    """
    children = node["children"]
    match node["type"]:
        case "literal":
            # Once it is nothing, beside all the input. For each element it counts by its size.
            grown = base * _units(node["value"]) if many else base
        case "subexpression" | "index_expression" | "pipe":
            grown = base
            for child in children:
                grown = _growth(child, grown, many=many)
        case "projection" | "value_projection" | "filter_projection":
            grown = _of_projection(children, base, many=many)
        case "function_expression":
            grown = _of_function(node["value"], children, base, many=many)
        case "expref":
            raise Unbounded("has `&` where it is no argument of a function")
        case kind:
            # A selection makes a value of all its parts. Everything else (a field, a condition, a choice) gives a
            # part of what is there, or one of its own parts.
            parts = [_growth(child, base, many=many) for child in children if isinstance(child, dict)]
            grown = base + sum(parts) if kind in _SELECTIONS else max([base, *parts])
    if grown > GROWTH_MAX:
        raise Unbounded(f"can give more than {GROWTH_MAX} times what it reads")
    return grown


def _of_projection(children: list[Node], base: int, *, many: bool) -> int:
    elements = _growth(children[0], base, many=many)
    # Behind the result stands the condition of a filter, which gives nothing but is evaluated as well.
    result, *_ = [_growth(child, elements, many=True) for child in children[1:]]
    return result


def _of_function(name: str, arguments: list[Node], base: int, *, many: bool) -> int:
    values = [argument for argument in arguments if argument["type"] != "expref"]
    given = max(base, sum(_growth(value, base, many=many) for value in values))
    applied = given
    for argument in arguments:
        if argument["type"] == "expref":
            applied = _growth(argument["children"][0], applied, many=True)
    # The names of a selection count as soon as they become text.
    names = sum(_names_chars(value) for value in values)
    if name in _SMALL:
        return base
    if name in _LIKE_ARGUMENTS:
        return given
    factors = {"to_array": 2, "type": _units("boolean"), "keys": 1 + names, "to_string": _SPELLED + names}
    if name in factors:
        return given * factors[name]
    if name == "map":
        return applied
    if name != "join":
        raise Unbounded(f"calls {name:.60}(), which is no function of JMESPath")
    if not arguments or arguments[0]["type"] != "literal":
        # As long as the one times as many as the other: the square of the input.
        raise Unbounded("joins by a separator that is no literal, as in join(', ', ...)")
    return given * (1 + _units(arguments[0]["value"]))


def _units(literal: Any) -> int:
    """The size of a literal as a multiple of the least that anything has."""
    return -(-len(json.dumps(literal)) // 3)


def _names_chars(node: Node) -> int:
    """The characters of all names that selections give: in a text that spells them they count."""
    own = len(node["value"]) if node["type"] == "key_val_pair" else 0
    return own + sum(_names_chars(child) for child in node["children"] if isinstance(child, dict))


def _deeper(node: Node, levels: int) -> bool:
    """Whether the tree has more levels; found without going down by recursion."""
    level = [node]
    for _ in range(levels):
        level = [child for parent in level for child in parent.get("children", ()) if isinstance(child, dict)]
        if not level:
            return False
    return True
