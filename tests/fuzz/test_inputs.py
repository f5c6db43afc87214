"""The input of a saga, as a stranger sends it: kept without loss, or refused with its fields named."""

from __future__ import annotations

import json
import time
import tracemalloc
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.api.inputs import DEPTH_MAX, VALUES_MAX, parsed
from orchestrator.errors import Rejected

from .rounds import rounds
from .values import json_values

_BYTES_MAX = 1_000_000


def judged(data: bytes) -> dict[str, Any] | None:
    """The input, or None when it is refused as it ought to be."""
    began_s = time.process_time()
    value: dict[str, Any] | None = None
    violations: list[tuple[str, str]] = []
    try:
        value = parsed(data)
    except Rejected as error:
        violations = [(violation.field, violation.description) for violation in error.violations]
    assert time.process_time() - began_s < 3.0
    if value is None:
        assert 1 <= len(violations) <= 20
        for field, description in violations:
            assert field == "input_json" or field.startswith("input")
            assert len(field) <= 200
            assert 0 < len(description) < 300
    else:
        storable(value)
    return value


def storable(value: dict[str, Any]) -> None:
    """Check that Postgres' jsonb can keep a value, and that JSON brings it back."""
    text = orjson.dumps(value)
    assert orjson.loads(text) == value
    assert len(text) < 30 * _BYTES_MAX
    pending: list[tuple[Any, int]] = [(value, 0)]
    count = 0
    while pending:
        item, depth = pending.pop()
        count += 1
        assert depth <= DEPTH_MAX
        if isinstance(item, str):
            assert "\x00" not in item
            item.encode()
        elif isinstance(item, dict):
            assert not any("\x00" in key for key in item)
            pending.extend((child, depth + 1) for child in item.values())
        elif isinstance(item, list):
            pending.extend((child, depth + 1) for child in item)
    assert count <= VALUES_MAX


@rounds(300)
@given(json_values(30), st.booleans())
def test_json_of_all_kinds_is_kept_or_refused(value: Any, ascii_only: bool) -> None:
    text = json.dumps({"a": value}, ensure_ascii=ascii_only)
    kept = judged(text.encode(errors="surrogatepass"))
    if kept is not None:
        # What Python's own parser reads is what is kept: no integer became a float, and nothing was cut off.
        assert repr(kept) == repr(json.loads(text))


@rounds(300)
@given(st.one_of(st.binary(max_size=60), st.text(alphabet='{}[]",:\\u0123456789dDeE+-.nltrfasINy \t\n', max_size=60)))
def test_what_is_no_json_is_refused(text: bytes | str) -> None:
    judged(text if isinstance(text, bytes) else text.encode())


def _filled(unit: bytes, around: tuple[bytes, bytes] = (b'{"a":[', b"0]}")) -> bytes:
    """About as much of `unit` as an input may have."""
    return around[0] + unit * ((_BYTES_MAX - 100) // len(unit)) + around[1]


@pytest.mark.parametrize(
    "data",
    [
        _filled(b"[],"),
        _filled(b"{},"),
        _filled(b"0,"),
        _filled(b'"\\u0000",'),
        _filled(b"123456789012345678901,"),
        _filled(b"[", (b'{"a":', b"")),
        b'{"a":' + b"[" * 400_000 + b"]" * 400_000 + b"}",
        b'{"a":' * 100_000 + b"0" + b"}" * 100_000,
        b'{"' + b"k" * 700_000 + b'":[' + b'"\\u0000",' * 30_000 + b"0]}",
        b'{"' + b"k" * 400_000 + b'":[' + b"[0]," * 100_000 + b'"\\u0000"]}',
        b"{" + b",".join(b'"%d":0' % number for number in range(100_000)) + b"}",
        b"{" + b'"a":0,' * 150_000 + b'"a":"\\u0000"}',
        b'{"a":' + b"9" * 900_000 + b"}",
        b'{"a":1' + b"0" * 300 + b"}",
        b'{"a":0.' + b"9" * 900_000 + b"}",
        b'{"a":"\\ud800"}',
        b'{"a":"\\udc00\\ud800"}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":1e999}',
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',
        b"\xef\xbb\xbf{}",
        b'{"a":"x\x00"}',
        b"{}{}",
        b"[]",
        b"null",
    ],
    ids=range(27),
)
def test_what_is_made_to_hurt_is_refused_and_takes_little_memory(data: bytes) -> None:
    tracemalloc.start()
    try:
        assert judged(data) is None or data.startswith(b'{"a":0.')
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < 120_000_000


def test_what_a_large_order_is_made_of_is_taken() -> None:
    line = {"stock_code": "85123A", "quantity": 2, "price": "2.55", "description": "WHITE HANGING HEART"}
    assert judged(orjson.dumps({"order_id": "1", "lines": [line] * 9_000})) is not None
