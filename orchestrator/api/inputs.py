"""Checks of a saga's input: a JSON object that the log can store, and participants can be given, without loss."""

from __future__ import annotations

import asyncio
import json
import re
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

# An input that is larger, in bytes, is looked at in a thread: the main loop has sagas to drive.
_LARGE_BYTES = 50_000

# No input without one of these has a NUL in it, or an integer beyond 64 bits.
_SUSPICIOUS = re.compile(rb"\\u0000|[0-9]{19}")


async def saga_input(text: str, bytes_max: int) -> Json:
    """The input of a saga. Raises Rejected, naming `input_json`, or the fields inside it as `input.<path>`."""
    if not text:
        raise rejected("input_json", "is missing; an empty input is {}")
    data = text.encode()
    if len(data) > bytes_max:
        raise rejected("input_json", f"has {len(data)} bytes; {bytes_max} are allowed (BATON_INPUT_BYTES_MAX)")
    return parsed(data) if len(data) <= _LARGE_BYTES else await asyncio.to_thread(parsed, data)


def parsed(data: bytes) -> Json:
    """The input as JSON values. Raises Rejected as `saga_input` does."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise rejected("input_json", f"is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise rejected("input_json", f"must be a JSON object, not {_kind(value)}")
    # Nearly every input is found good by its text alone; only a suspicious one is walked through.
    if _SUSPICIOUS.search(data) or not _shallow(data, value):
        # orjson makes floats of integers that do not fit; Python's own parser keeps them.
        violations = _inspect(value) or _inspect(json.loads(data))
        if violations:
            raise Rejected("the input cannot be stored", tuple(violations[:_VIOLATIONS_MAX]))
    return value


def _shallow(data: bytes, value: Json) -> bool:
    """Whether the nesting stays within its bound."""
    if data.count(b"{") + data.count(b"[") <= DEPTH_MAX:
        return True
    level: list[Any] = [value]
    for _ in range(DEPTH_MAX):
        level = [
            child
            for item in level
            for child in (item.values() if type(item) is dict else item)
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return True
    return False


def _inspect(value: Json) -> list[FieldViolation]:
    """What is wrong inside an input, by the paths of its fields."""
    violations: list[FieldViolation] = []
    pending: list[tuple[str, Any, int]] = [("input", value, 0)]
    while pending:
        path, item, depth = pending.pop()
        if isinstance(item, dict | list) and depth < DEPTH_MAX:
            pending.extend((child_path, child, depth + 1) for child_path, child in _children(path, item))
        problem = _problem(item, depth)
        if problem is not None:
            violations.append(FieldViolation(f"{path:.{_PATH_CHARS_MAX}}", problem))
    return violations


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
