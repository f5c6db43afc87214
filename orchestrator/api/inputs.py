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
# A value takes twenty times as much in memory as its two bytes of JSON: without a bound of their own, a thousand
# inputs of empty lists would fill a machine.
VALUES_MAX = 50_000

_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1
_PATH_CHARS_MAX = 200
_SHOWN_CHARS = 60
_VIOLATIONS_MAX = 20

# An input that is larger, in bytes, is looked at in a thread: the main loop has sagas to drive.
LARGE_BYTES = 50_000

# No input without one of these has a NUL in it, or an integer beyond 64 bits.
_SUSPICIOUS = re.compile(rb"\\u0000|[0-9]{19}")


async def saga_input(text: str, bytes_max: int) -> Json:
    """The input of a saga. Raises Rejected, naming `input_json`, or the fields inside it as `input.<path>`."""
    if not text:
        raise rejected("input_json", "is missing; an empty input is {}")
    data = text.encode()
    if len(data) > bytes_max:
        raise rejected("input_json", f"has {len(data)} bytes; {bytes_max} are allowed (BATON_INPUT_BYTES_MAX)")
    return parsed(data) if len(data) <= LARGE_BYTES else await asyncio.to_thread(parsed, data)


def parsed(data: bytes, field: str = "input_json", root: str = "input") -> Json:
    """The JSON object in `field`, which the log can store. Raises Rejected, naming it, or `<root>.<path>` inside it."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise rejected(field, f"is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise rejected(field, f"must be a JSON object, not {_kind(value)}")
    if (count := _values(data)) > VALUES_MAX and (count := _counted(value)) > VALUES_MAX:
        raise rejected(field, f"has {count} values; {VALUES_MAX} are allowed")
    # Nearly every input is found good by its text alone; only a suspicious one is walked through.
    if _SUSPICIOUS.search(data) or not _shallow(data, value):
        # orjson makes floats of integers that do not fit; Python's own parser keeps them.
        violations = _inspect(value, root) or _inspect(json.loads(data), root)
        if violations:
            raise Rejected(f"the {root} cannot be stored", tuple(violations))
    return value


def _values(data: bytes) -> int:
    """At least as many as there are values, found without looking at them."""
    return 1 + data.count(b",") + data.count(b"[") + data.count(b"{")


def _counted(value: Any) -> int:
    count, pending = 0, [value]
    while pending:
        item = pending.pop()
        count += 1
        if isinstance(item, dict):
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)
    return count


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


def _inspect(value: Json, root: str) -> list[FieldViolation]:
    """What is wrong inside an object, by the paths of its fields."""
    violations: list[FieldViolation] = []
    pending: list[tuple[str, Any, int]] = [(root, value, 0)]
    while pending and len(violations) < _VIOLATIONS_MAX:
        path, item, depth = pending.pop()
        if isinstance(item, dict | list) and depth < DEPTH_MAX:
            pending.extend((child_path, child, depth + 1) for child_path, child in _children(path, item))
        problem = _problem(item, depth)
        if problem is not None:
            violations.append(FieldViolation(path, problem))
    return violations


def _children(path: str, item: Json | list[Any]) -> Iterator[tuple[str, Any]]:
    """What is inside a value, with its path, which stays short: a name may be as long as the input."""
    if isinstance(item, dict):
        return ((f"{path}.{key}"[:_PATH_CHARS_MAX], child) for key, child in item.items())
    return ((f"{path}[{index}]"[:_PATH_CHARS_MAX], child) for index, child in enumerate(item))


def _problem(item: Any, depth: int) -> str | None:
    """What is wrong with one value, apart from the values inside it."""
    if isinstance(item, str):
        return "has a NUL character (\\u0000), which cannot be stored" if "\x00" in item else None
    if isinstance(item, int) and not _INT_MIN <= item <= _INT_MAX:
        return f"{item!s:.{_SHOWN_CHARS}} does not fit into 64 bits; send it as a string"
    if isinstance(item, dict | list) and depth >= DEPTH_MAX:
        return f"is nested deeper than {DEPTH_MAX} levels"
    if isinstance(item, dict) and any("\x00" in key for key in item):
        return "has a field whose name contains a NUL character, which cannot be stored"
    return None


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    return {list: "a list", str: "text", bool: "true or false"}.get(type(value), "a number")
