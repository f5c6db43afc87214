"""A YAML document as plain values: mappings, lists, text, numbers, true and false, and nothing; within bounds.

What a general YAML reader does besides, a definition has no use for, and an attacker has: aliases that expand to
gigabytes, cycles, tags that construct objects, nesting that ends the interpreter's stack, keys that silently hide
others. So the parser's events are read here, and every one of these is an error that names its line.

Pure: text in, values out. YAML 1.1 as PyYAML reads it, dates excepted: they stay text. https://yaml.org/spec/1.1/
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

from orchestrator.errors import FieldViolation, Rejected

# A hundred steps of a kilobyte each; read in a tenth of a second.
BYTES_MAX = 100_000
DEPTH_MAX = 32
# What all values have together, in nodes and characters, aliases written out: room for every step to share its parts.
EXPANDED_MAX = 4 * BYTES_MAX

_CORE = "tag:yaml.org,2002:"
# No number that a definition may have has more characters; Python refuses to spell some that have thousands.
_NUMBER_CHARS_MAX = 40
_SHOWN_CHARS = 60

# libyaml's parser where PyYAML was built with it: fifteen times as fast, and not quadratic in the nesting.
_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Event = Any


@dataclass(slots=True)
class Place:
    """Where a value stands: its line, counted from 1, and the places of what is inside it.

    Parts go by the names of fields, and the elements of a list by `[0]`, `[1]`, ...
    """

    line: int = 1
    parts: dict[str, Place] = field(default_factory=dict)

    def line_of(self, path: str) -> int:
        """The line of a field such as `steps[1].action.method`, or of what is nearest to it from above."""
        place = self
        for name in _PATH_PARTS.findall(path):
            inner = place.parts.get(name)
            if inner is None:
                break
            place = inner
        return place.line


_PATH_PARTS = re.compile(r"[^.\[\]]+|\[[0-9]+\]")


def read(text: str) -> Any:
    """The values of the one document in `text`. Raises Rejected, naming the line."""
    return read_placed(text)[0]


def read_placed(text: str) -> tuple[Any, Place]:
    """The values of the one document in `text`, and where they stand. Raises Rejected, naming the line."""
    size_bytes = len(text.encode(errors="replace"))
    if size_bytes > BYTES_MAX:
        raise _rejected(f"has {size_bytes} bytes; {BYTES_MAX} are allowed")
    if surrogate := re.search("[\ud800-\udfff]", text):
        raise _rejected(f"has the character {surrogate[0]!r}, which no text may have")
    try:
        return _Document(yaml.parse(text, Loader=_Loader)).values()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise _rejected(where + (getattr(error, "problem", None) or str(error).partition("\n")[0])) from None


@dataclass(frozen=True, slots=True)
class _Anchored:
    """A value that aliases may stand for, and how much of `EXPANDED_MAX` each use of it takes."""

    value: Any
    weight: int
    parts: dict[str, Place]


class _Document:
    """Composes values from the parser's events."""

    def __init__(self, events: Iterator[Event]) -> None:
        self._events = events
        self._anchors: dict[str, _Anchored] = {}
        self._weight = 0

    def values(self) -> tuple[Any, Place]:
        """The document's value and its place; None for an empty text."""
        value, documents, place = None, 0, Place()
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    _wrong(event, "a second document begins; one definition is one document")
                value = self._value(next(self._events), 0, place)
        return value, place

    def _value(self, event: Event, depth: int, place: Place) -> Any:
        """The value that begins with `event`; what is inside it is noted in `place`."""
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, place)
        if depth > DEPTH_MAX:
            _wrong(event, f"it is nested deeper than {DEPTH_MAX} levels")
        before = self._weight
        self._weigh(1, event)
        value: Any
        if isinstance(event, yaml.ScalarEvent):
            self._weigh(len(event.value), event)
            value = _scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            _expect_tag(event, "seq")
            value = self._list(depth, place)
        else:
            _expect_tag(event, "map")
            value = self._mapping(depth, place)
        if event.anchor is not None:
            # Known from here on and no earlier: so nothing can be inside itself.
            self._anchors[event.anchor] = _Anchored(value, self._weight - before, place.parts)
        return value

    def _alias(self, event: Event, place: Place) -> Any:
        anchored = self._anchors.get(event.anchor)
        if anchored is None:
            _wrong(event, f"*{event.anchor:.{_SHOWN_CHARS}} names nothing that stands, complete, before it")
        self._weigh(anchored.weight, event)
        place.parts = anchored.parts
        return anchored.value

    def _weigh(self, weight: int, event: Event) -> None:
        self._weight += weight
        if self._weight > EXPANDED_MAX:
            _wrong(event, f"its aliases, written out, have more than {EXPANDED_MAX} values and characters")

    def _list(self, depth: int, place: Place) -> list[Any]:
        value: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            inner = place.parts[f"[{len(value)}]"] = Place(event.start_mark.line + 1)
            value.append(self._value(event, depth + 1, inner))
        return value

    def _mapping(self, depth: int, place: Place) -> dict[Any, Any]:
        value: dict[Any, Any] = {}
        merged: dict[Any, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            inner = Place(event.start_mark.line + 1)
            key = self._value(event, depth + 1, Place())
            if isinstance(key, dict | list):
                _wrong(event, "a list or a mapping cannot be the name of a field")
            child = self._value(next(self._events), depth + 1, inner)
            if _is_merge(event):
                merged = _merged(event, child) | merged
            elif key in value:
                _wrong(event, f"{_shown(key)} is there twice")
            else:
                value[key] = child
                place.parts[str(key)] = inner
        # What a mapping says itself goes before what it merges in.
        return merged | value if merged else value


def _is_merge(event: Event) -> bool:
    return isinstance(event, yaml.ScalarEvent) and event.value == "<<" and event.implicit[0]


def _merged(event: Event, value: Any) -> dict[Any, Any]:
    """What `<<` merges in: a mapping, or the mappings of a list, of which earlier ones go before later ones."""
    merged: dict[Any, Any] = {}
    for source in reversed(value) if isinstance(value, list) else [value]:
        if not isinstance(source, dict):
            _wrong(event, "`<<` merges in mappings alone")
        merged |= source
    return merged


# PyYAML's resolver has no annotations.
_resolver: Any = Resolver()
_numbers = SafeConstructor()


def _scalar(event: Event) -> Any:
    text: str = event.value
    tag = event.tag
    if tag is None or tag == "!":
        tag = _resolver.resolve(yaml.ScalarNode, text, event.implicit)
    elif tag not in (f"{_CORE}str", f"{_CORE}int", f"{_CORE}float", f"{_CORE}bool", f"{_CORE}null"):
        _wrong(event, f"the tag {_shown(tag)} is of no use here: there are text, numbers, booleans and null")
    match tag.removeprefix(_CORE):
        case "null":
            return None
        case "bool":
            value = SafeConstructor.bool_values.get(text.lower())
            if value is None:
                _wrong(event, f"{_shown(text)} is neither true nor false")
            return value
        case "int" | "float" as kind:
            return _number(event, kind)
        case _:
            return text


def _number(event: Event, kind: str) -> int | float:
    text = event.value
    if len(text) > _NUMBER_CHARS_MAX:
        _wrong(event, f"{_shown(text)} is a number of more than {_NUMBER_CHARS_MAX} characters")
    node = yaml.ScalarNode(_CORE + kind, text)
    try:
        number: int | float = (
            _numbers.construct_yaml_int(node) if kind == "int" else _numbers.construct_yaml_float(node)
        )
    except (ValueError, IndexError, OverflowError):
        _wrong(event, f"{_shown(text)} is not a number")
    return number


def _expect_tag(event: Event, kind: str) -> None:
    if event.tag not in (None, "!", _CORE + kind):
        _wrong(event, f"the tag {_shown(event.tag)} is of no use here")


def _shown(value: Any) -> str:
    return f"{value!r:.{_SHOWN_CHARS}}"


def _wrong(event: Event, problem: str) -> NoReturn:
    mark = event.start_mark
    raise _rejected(f"line {mark.line + 1}, column {mark.column + 1}: {problem}")


def _rejected(problem: str) -> Rejected:
    return Rejected("the definition is not YAML that can be read", (FieldViolation("yaml", problem),))
