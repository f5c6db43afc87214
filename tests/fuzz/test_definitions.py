"""Definitions of a stranger: each is read, or refused by an error that names the places; neither takes long."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import Rejected
from orchestrator.saga.definition import Definition
from orchestrator.saga.document import BYTES_MAX, DEPTH_MAX, EXPANDED_MAX, read
from orchestrator.saga.parse import STEPS_MAX, VIOLATIONS_MAX, parse
from tests.unit.test_definition_language import RICH

from .rounds import rounds
from .values import json_values, numbers, texts

GOOD = """
name: order
description: &about an order
steps:
  - name: reserve
    service: inventory:7501
    action: {method: shop.v1.Inventory/Reserve, request: {order_id: input.order_id, lines: input.lines}}
    compensation: {method: /shop.v1.Inventory/Release, request: {reservation: results.reserve.id}}
    timeout: 250ms
    retry: &patience {retries: 7, initial: 2s, multiplier: 3, max: 1m, jitter: 0}
  - name: ship
    service: shipping:7504
    action: {method: shop.v1.Shipping/Ship, request: {reservation: results.reserve.id, note: "input.note || ''"}}
    compensation: none
    retry: {<<: *patience, retries: 2}
    barrier: none
"""

_YAML = "[]{}:,-&*!|>'\"%@`#?~<=\n\t \\ab01.\x00\ufeff\u2028\u0663\x85"

_PIECES = [
    *("<<: *patience", "&a [*a]", "&a {a: *a}", "*about", "!!python/object:os.system x", "!!binary x", "? [a]\n:"),
    *("2020-13-45", "2020-01-01", ".nan", "-.inf", "1:30", "0x" + "f" * 50, "1" * 50, "- " * 40, "[" * 40, "{a: " * 40),
    *("\t", "\ufeff", "\n---\n", "%YAML 9.9\n", "|\n x", "'", '"', "~", "on", "!!int x", "!!float", "0b", "=", "*"),
]


def judged(text: str) -> Definition | None:
    """The definition, or None when it is refused as it ought to be: in good time, and with the places named."""
    began_s = time.process_time()
    try:
        definition: Definition | None = parse(text)
    except Rejected as error:
        definition = None
        named(error)
    assert time.process_time() - began_s < 2.0
    if definition is not None:
        sound(definition)
    return definition


def named(error: Rejected) -> None:
    """Check that an error names places, and says of each what is wrong, at no length."""
    assert 1 <= len(error.violations) <= VIOLATIONS_MAX
    assert len(str(error)) < 30_000
    for violation in error.violations:
        assert violation.field
        assert 0 < len(violation.description) < 1000


def sound(definition: Definition) -> None:
    """Check that nothing is in a definition that the rest of Baton does not expect."""
    assert re.fullmatch("[a-z][a-z0-9-]{0,99}", definition.name)
    assert 1 <= len(definition.steps) <= STEPS_MAX
    assert len({step.name for step in definition.steps}) == len(definition.steps)
    for step in definition.steps:
        assert step.service.isascii()
        assert 0.001 <= step.timeout_s <= 86_400
        for policy in (step.retry, *((step.compensation.retry,) if step.compensation else ())):
            assert 0 <= policy.retries <= 1_000_000
            assert 0 <= policy.delay_s(1_000_000, 0.5) <= 86_400 * 2
            assert 0 <= policy.delay_s(1, 0.999) <= 86_400 * 2


@rounds(300)
@given(st.one_of(st.text(max_size=200), st.text(alphabet=_YAML, max_size=80), texts))
def test_text_is_read_or_refused(text: str) -> None:
    judged(text)


@rounds(300)
@given(
    st.sampled_from([GOOD, RICH]),
    st.lists(st.tuples(st.integers(0, len(RICH)), st.integers(0, 40), st.sampled_from(["", *_PIECES])), max_size=4),
)
def test_a_definition_with_a_few_places_overwritten_is_read_or_refused(
    text: str, edits: list[tuple[int, int, str]]
) -> None:
    for at, length, piece in edits:
        text = text[:at] + piece + text[at + length :]
    judged(text)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value inside a document."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, child in children for place in _places(child, (*path, key)))]


_PLACES = [(text, place) for text in (GOOD, RICH) for place in _places(yaml.safe_load(text)) if place]
_ODD_VALUES = st.one_of(
    json_values(6),
    numbers,
    texts,
    st.sampled_from(
        ["input.a", "results.ship.x", "5s", "24h", "1e9h", "10s ", "none", "a.B/C", "h:99999", "h:1", "é:1"]
    ),
    st.dates(),
    st.binary(max_size=8),
)


@rounds(300)
@given(st.lists(st.tuples(st.sampled_from(_PLACES), _ODD_VALUES), max_size=3), st.booleans())
def test_a_definition_with_values_of_other_types_is_read_or_refused(
    changes: list[tuple[tuple[str, tuple[Any, ...]], Any]], flow: bool
) -> None:
    document = yaml.safe_load(changes[0][0][0] if changes else GOOD)
    for (_, place), value in changes:
        holder = document
        for key in place[:-1]:
            holder = holder[key] if isinstance(holder, dict | list) and _has(holder, key) else {}
        if isinstance(holder, dict) or (isinstance(holder, list) and _has(holder, place[-1])):
            holder[place[-1]] = value
    try:
        text = yaml.safe_dump(document, default_flow_style=flow, allow_unicode=True)
    except (yaml.YAMLError, ValueError):
        return  # PyYAML cannot write it either
    judged(text)


def _has(holder: Any, key: Any) -> bool:
    return key in holder if isinstance(holder, dict) else isinstance(key, int) and key < len(holder)


def test_the_sound_definition_is_read() -> None:
    definition = judged(GOOD)
    assert definition is not None
    assert definition.steps[1].retry.max_s == 60.0


_LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(9)
)
_STEP = "  - {{name: s{}, service: 'h:1', action: {{method: a.B/C, request: {{x: {}}}}}, compensation: none}}\n"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (_LAUGHS, "line 6"),
        ("a: &a " + "x" * 50_000 + "\n" + "b: [" + "*a, " * 1000 + "]", "line 2"),
        ("a: &a {b: *a}", "line 1, column 11"),
        ("&a [*a]", "line 1, column 5"),
        ("a: &m {x: 1}\n" + "".join(f"a{i}: &m {{<<: [*m, *m]}}\n" for i in range(40)), "aliases"),
        ("[" * 90_000, f"deeper than {DEPTH_MAX}"),
        ("- " * 200 + "a", f"deeper than {DEPTH_MAX}"),
        ("name: a\nname: b", "line 2, column 1: 'name' is there twice"),
        ("name: x\nsteps:\n" + "".join(_STEP.format(i, 7) for i in range(1_000)), f"1 to {STEPS_MAX}"),
        ("x" * (BYTES_MAX + 1), f"{BYTES_MAX} are allowed"),
        ("é" * (BYTES_MAX // 2 + 1), f"{BYTES_MAX} are allowed"),
        ("".join(f"k{i}: 1\n" for i in range(10_000)), "k0"),
        ("name: x\nsteps:\n" + _STEP.format(0, "'" + "||".join(["b"] * 600) + "'"), "steps[0].action.request.x"),
        ("name: x\nsteps:\n" + _STEP.format(0, "{" + "x: {" * 25 + "}" * 26), "steps[0].action.request.x"),
        ("a: !!python/object/apply:os.system [id]", "line 1, column 4"),
        ("a: 1\n--- \nb: 2", "second document"),
        ("%YAML 7.0\n---\na: 1", "line 1"),
        ("name: \ud800", "\\ud800"),
        ("<<: [1]", "line 1"),
        ("? {a: b}\n: c", "line 1"),
    ],
    ids=range(20),
)
def test_bombs_are_refused_where_they_are(text: str, place: str) -> None:
    with pytest.raises(Rejected) as refused:
        parse(text)
    assert place in str(refused.value)
    assert judged(text) is None


def test_ten_thousand_steps_are_refused_for_their_bytes_and_their_number() -> None:
    text = "name: x\nsteps:\n" + "  - {}\n" * 10_000
    with pytest.raises(Rejected, match=rf"steps: must be a list of 1 to {STEPS_MAX} steps"):
        parse(text)


def test_the_largest_definition_is_read_in_good_time() -> None:
    request = "{" + ", ".join(f"field_{i}: 'input.a_field_of_the_input_{i} || results.s0.x'" for i in range(15)) + "}"
    step = "  - {{name: s{0}, service: 'h:1', action: {{method: a.B/C, request: {1}}}, compensation: none}}\n"
    text = "name: x\nsteps:\n" + "".join(step.format(i, request if i else "{}") for i in range(STEPS_MAX))
    assert BYTES_MAX * 0.9 < len(text) <= BYTES_MAX
    definition = judged(text)
    assert definition is not None
    assert len(definition.steps) == STEPS_MAX


@rounds(200)
@given(json_values(12))
def test_what_is_written_as_yaml_is_read_as_pyyaml_reads_it(value: Any) -> None:
    try:
        text = yaml.safe_dump(value, allow_unicode=True)
        expected = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return
    try:
        found = read(text)
    except Rejected as error:
        why = str(error)
    else:
        why = ""
    if why:
        # Numbers and keys that no definition has a use for.
        assert re.search("is a number of more|is there twice|deeper|bytes", why)
        return
    # NaN is not equal to itself; its spelling is. Dates stay text, but json_values has none.
    assert repr(found) == repr(expected)


def test_aliases_are_read_as_long_as_they_stay_small() -> None:
    text = "a: &a " + "x" * 1000 + "\nb: [" + ", ".join(["*a"] * 300) + "]"
    assert read(text)["b"] == ["x" * 1000] * 300
    assert EXPANDED_MAX > 300_000
