"""What is known of a JSON value before it is there: its kind, and of objects and lists what is inside.

A shape is taken from the descriptor of a field, from a literal, or put together by a mapping. One that may be anything
fits everything: what is not known is never held against a definition. Pure: no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

_F = FieldDescriptor


class Kind(Enum):
    """What a value is in JSON, as far as fields tell one from another."""

    ANY = "any value"
    NOTHING = "nothing"
    INTEGER = "an integer"
    NUMBER = "a number"
    NUMERIC = "a number, perhaps an integer"
    TRUTH = "true or false"
    TEXT = "text"
    BYTES = "bytes"
    ENUM = "the name of an enum's value"
    OBJECT = "an object"
    LIST = "a list"


class _Unknown(Enum):
    UNKNOWN = "unknown"


UNKNOWN = _Unknown.UNKNOWN


@dataclass(frozen=True, slots=True)
class Shape:
    """The kind of a value; the message type of an object, the shape of the elements of a list or of a map's values.

    `fields` are those of an object that a mapping makes; when it is `partial`, there may be others. `given` is what
    somebody gives, not a participant, as a field takes it: of a message that it is, any field may be missing. `wrapped`
    fields take the text of a number as well. `value` is that of a literal, and `why` says why there is nothing.
    """

    kind: Kind
    message: Descriptor | None = None
    inner: Shape | None = None
    fields: Mapping[str, Shape] | None = None
    partial: bool = False
    given: bool = False
    wrapped: bool = False
    value: Any = UNKNOWN
    why: str = ""

    def __str__(self) -> str:
        """In words."""
        if self.message is not None:
            return f"a {self.message.full_name}"
        return f"a list of {self.inner.kind.value}" if self.kind is Kind.LIST and self.inner else self.kind.value


ANY = Shape(Kind.ANY)
TEXT = Shape(Kind.TEXT)
TRUTH = Shape(Kind.TRUTH)
INTEGER = Shape(Kind.INTEGER)

_PREFIX = "google.protobuf."
_WELL_KNOWN = {
    **dict.fromkeys(("Timestamp", "Duration", "FieldMask", "StringValue"), TEXT),
    **dict.fromkeys(("Struct", "Empty", "Any"), Shape(Kind.OBJECT)),
    **dict.fromkeys(("Int32Value", "Int64Value", "UInt32Value", "UInt64Value"), Shape(Kind.INTEGER, wrapped=True)),
    **dict.fromkeys(("FloatValue", "DoubleValue"), Shape(Kind.NUMBER, wrapped=True)),
    "ListValue": Shape(Kind.LIST, inner=ANY),
    "BoolValue": TRUTH,
    "BytesValue": Shape(Kind.BYTES),
}
_SCALARS = {
    **dict.fromkeys((_F.CPPTYPE_INT32, _F.CPPTYPE_INT64, _F.CPPTYPE_UINT32, _F.CPPTYPE_UINT64), Kind.INTEGER),
    **dict.fromkeys((_F.CPPTYPE_FLOAT, _F.CPPTYPE_DOUBLE), Kind.NUMBER),
    _F.CPPTYPE_BOOL: Kind.TRUTH,
    _F.CPPTYPE_ENUM: Kind.ENUM,
    _F.CPPTYPE_STRING: Kind.TEXT,
}
# What fits beside the same kind: base64 is text, and an enum goes by name, which may be base64, or by number.
_FITS = {
    (Kind.INTEGER, Kind.NUMBER),
    (Kind.INTEGER, Kind.ENUM),
    (Kind.NUMERIC, Kind.INTEGER),
    (Kind.NUMERIC, Kind.NUMBER),
    (Kind.NUMERIC, Kind.ENUM),
    (Kind.TEXT, Kind.BYTES),
    (Kind.TEXT, Kind.ENUM),
    (Kind.BYTES, Kind.TEXT),
    (Kind.ENUM, Kind.TEXT),
    (Kind.ENUM, Kind.BYTES),
}
# Beside those, what a field takes that wraps a number.
_WRAPPED = frozenset({Kind.INTEGER, Kind.NUMBER, Kind.NUMERIC, Kind.TEXT, Kind.BYTES})
_DEPTH_MAX = 8


def of_message(message: Descriptor) -> Shape:
    """What a participant answers with a message."""
    return _of_message(message)


def of_field(field: FieldDescriptor) -> Shape:
    """What a field takes, and what a result has in it."""
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        return Shape(Kind.OBJECT, inner=_of_one(entry.fields_by_name["value"]))
    return Shape(Kind.LIST, inner=_of_one(field)) if field.is_repeated else _of_one(field)


def _of_one(field: FieldDescriptor) -> Shape:
    if field.message_type is not None:
        return _of_message(field.message_type)
    return Shape(Kind.BYTES) if field.type == _F.TYPE_BYTES else Shape(_SCALARS[field.cpp_type])


def _of_message(message: Descriptor) -> Shape:
    if message.full_name.startswith(_PREFIX):
        return _WELL_KNOWN.get(message.full_name.removeprefix(_PREFIX), ANY)
    return Shape(Kind.OBJECT, message)


def of_value(value: Any) -> Shape:
    """The shape of a literal."""
    match value:
        case None:
            return Shape(Kind.NOTHING, value=None, why="it is null")
        case dict():
            return Shape(Kind.OBJECT, fields={name: of_value(item) for name, item in value.items()}, value=value)
        case list():
            return Shape(Kind.LIST, value=value)
        case bool():
            return Shape(Kind.TRUTH, value=value)
        case str():
            return Shape(Kind.TEXT, value=value)
        case int():
            return Shape(Kind.INTEGER, value=value)
        case _:
            return Shape(Kind.NUMBER, value=value)


def of_fields(fields: Mapping[str, Shape], *, partial: bool = False) -> Shape:
    """The shape of an object that is made of these fields, those with nothing in them left out."""
    there = {name: shape for name, shape in fields.items() if shape.kind is not Kind.NOTHING}
    known = not partial and all(shape.value is not UNKNOWN for shape in there.values())
    value = {name: shape.value for name, shape in there.items()} if known else UNKNOWN
    return Shape(Kind.OBJECT, fields=there, partial=partial, value=value)


def accepted(field: Shape) -> Shape:
    """What a value is that somebody gives, once a field has taken it."""
    match field.kind:
        case Kind.ANY | Kind.ENUM | Kind.NOTHING:
            return ANY
        case Kind.NUMBER | Kind.INTEGER if field.wrapped:
            return ANY
        case Kind.NUMBER:
            return Shape(Kind.NUMERIC, given=True)
        case _:
            # Of a list nobody knows whether it has any elements.
            return Shape(field.kind, field.message, given=True)


def either(one: Shape, other: Shape) -> Shape:
    """What is one or the other."""
    if one == other:
        return one
    return Shape(one.kind) if one.kind is other.kind and one.kind is not Kind.NOTHING else ANY


def along(shape: Shape, *names: str) -> Shape:
    """What is found on the way of `names` into a value; Kind.NOTHING, with the reason, where there is nothing."""
    for name in names:
        shape = _inside(shape, name)
    return shape


def _inside(shape: Shape, name: str) -> Shape:
    if shape.kind in (Kind.ANY, Kind.NOTHING):
        return shape
    if shape.message is not None:
        field = shape.message.fields_by_name.get(name)
        if field is None:
            return _nothing(f"{shape.message.full_name} has {listed(shape.message)}")
        return accepted(of_field(field)) if shape.given else of_field(field)
    if shape.fields is not None:
        missing = ANY if shape.partial else _nothing(f"there is no {name!r}")
        return shape.fields.get(name, missing)
    if shape.kind is Kind.OBJECT:
        return shape.inner or ANY
    if shape.kind is Kind.LIST:
        return _nothing(f"{name!r} is looked for in a list; go through its elements with [] or take one with [0]")
    return _nothing(f"{name!r} is looked for in {shape}")


def _nothing(why: str) -> Shape:
    return Shape(Kind.NOTHING, why=why)


def misfit(source: Shape, target: Shape, depth: int = 0) -> str | None:
    """Why a value of one shape does not fit another; empty where the two say it themselves, None if it fits."""
    if Kind.ANY in (source.kind, target.kind) or source.kind is Kind.NOTHING or depth > _DEPTH_MAX:
        return None
    if target.wrapped and source.kind in _WRAPPED:
        return None
    if source.kind is not target.kind:
        return None if (source.kind, target.kind) in _FITS else ""
    if source.fields is not None:
        return _unfit_fields(source.fields, target, depth)
    if source.inner is not None and target.inner is not None:
        inner = misfit(source.inner, target.inner, depth + 1)
        return None if inner is None else f": inside it {source.inner} does not fit {target.inner}"
    if source.given or source.message is None or target.message is None:
        return None
    if source.message.full_name == target.message.full_name:
        return None
    return _unfit_fields({f.name: of_field(f) for f in source.message.fields}, target, depth)


def _unfit_fields(fields: Mapping[str, Shape], target: Shape, depth: int) -> str | None:
    """The same of an object that has these fields, whatever else it has."""
    for name, field in fields.items():
        wanted = target.inner
        if target.message is not None:
            descriptor = target.message.fields_by_name.get(name)
            if descriptor is None:
                return f", which has no field {name!r}; select what it has, as in {{{_selection(target.message)}}}"
            wanted = of_field(descriptor)
        if wanted is not None and misfit(field, wanted, depth + 1) is not None:
            return f": the field {name!r} does not fit"
    return None


def _selection(message: Descriptor) -> str:
    return ", ".join(f"{name}: ..." for name in list(message.fields_by_name)[:3])


def listed(message: Descriptor) -> str:
    """The fields of a message, for a person to choose from."""
    return ", ".join(message.fields_by_name) or "no fields"
