"""Checks of a saga's input: a JSON object that the log can store, and participants can be given, without loss."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import orjson

from orchestrator.api.checks import rejected
from orchestrator.errors import FieldViolation, Rejected
from orchestrator.saga.model import Json

DEPTH_MAX = 64

_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1
_PATH_CHARS_MAX = 200
_VIOLATIONS_MAX = 20


def saga_input(text: str, bytes_max: int) -> Json:
    """The input of a saga. Raises Rejected, naming `input_json`, or the fields inside it as `input.<path>`."""
    if not text:
        raise rejected("input_json", "is missing; an empty input is {}")
    data = text.encode()
    if len(data) > bytes_max:
        raise rejected("input_json", f"has {len(data)} bytes; {bytes_max} are allowed (BATON_INPUT_BYTES_MAX)")
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise rejected("input_json", f"is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise rejected("input_json", f"must be a JSON object, not {_kind(value)}")
    violations, doubtful = _inspect(value)
    if doubtful and not violations:
        # orjson makes floats of integers that do not fit; Python's own parser tells the two apart.
        violations, _ = _inspect(json.loads(text))
    if violations:
        raise Rejected("the input cannot be stored", tuple(violations[:_VIOLATIONS_MAX]))
    return value


def _inspect(value: Json) -> tuple[list[FieldViolation], bool]:
    """What is wrong inside an input, and whether a float in it may have been an integer that is too large."""
    violations: list[FieldViolation] = []
    doubtful = False
    pending: list[tuple[str, Any, int]] = [("input", value, 0)]
    while pending:
        path, item, depth = pending.pop()
        if isinstance(item, dict | list) and depth < DEPTH_MAX:
            pending.extend((child_path, child, depth + 1) for child_path, child in _children(path, item))
        problem = _problem(item, depth)
        if problem is not None:
            violations.append(FieldViolation(f"{path:.{_PATH_CHARS_MAX}}", problem))
        doubtful = doubtful or (type(item) is float and abs(item) >= -_INT_MIN)
    return violations, doubtful


def _children(path: str, item: Json | list[Any]) -> Iterator[tuple[str, Any]]:
    if isinstance(item, dict):
        return ((f"{path}.{key}", child) for key, child in item.items())
    return ((f"{path}[{index}]", child) for index, child in enumerate(item))


def _problem(item: Any, depth: int) -> str | None:
    """What is wrong with one value, apart from the values inside it."""
    if isinstance(item, str):
        return "has a NUL character (\\u0000), which cannot be stored" if "\x00" in item else None
    if isinstance(item, int):
        return None if _INT_MIN <= item <= _INT_MAX else f"{item} does not fit into 64 bits; send it as a string"
    if isinstance(item, dict | list) and depth >= DEPTH_MAX:
        return f"is nested deeper than {DEPTH_MAX} levels"
    if isinstance(item, dict) and any("\x00" in key for key in item):
        return "has a field whose name contains a NUL character, which cannot be stored"
    return None


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    return {list: "a list", str: "text", bool: "true or false"}.get(type(value), "a number")
