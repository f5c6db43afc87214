"""Whether the requests of a definition fit the messages of their methods, as far as that is known before a saga runs.

Looked at are the names of all fields, literals, and plain paths into the results of earlier steps, whose reply
messages are known. What the input holds nobody knows before it is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from orchestrator.driving.codec import MethodCodec
from orchestrator.driving.scalars import WrongType
from orchestrator.errors import FieldViolation
from orchestrator.saga.definition import Method
from orchestrator.saga.mapping import Leaf, Tree, value_of

_F = FieldDescriptor


class Kind(Enum):
    """What a value is in JSON, as far as fields tell one from another."""

    ANY = "any value"
    INTEGER = "an integer"
    NUMBER = "a number"
    TRUTH = "true or false"
    TEXT = "text"
    BYTES = "bytes"
    ENUM = "the name of an enum's value"
    OBJECT = "an object"
    LIST = "a list"


@dataclass(frozen=True, slots=True)
class Shape:
    """The kind of a value; the message type of an object, the shape of the elements of a list or of a map's values."""

    kind: Kind
    message: Descriptor | None = None
    inner: Shape | None = None

    def __str__(self) -> str:
        """In words."""
        if self.message is not None:
            return f"a {self.message.full_name}"
        return f"a list of {self.inner.kind.value}" if self.kind is Kind.LIST and self.inner else self.kind.value


_ANY = Shape(Kind.ANY)
_TEXT = Shape(Kind.TEXT)
_SAGA = {"id": _TEXT, "definition": _TEXT, "version": Shape(Kind.INTEGER)}
_PREFIX = "google.protobuf."
_WELL_KNOWN = {
    **dict.fromkeys(("Timestamp", "Duration", "FieldMask", "StringValue"), _TEXT),
    **dict.fromkeys(("Struct", "Empty", "Any"), Shape(Kind.OBJECT)),
    **dict.fromkeys(("Int32Value", "Int64Value", "UInt32Value", "UInt64Value"), Shape(Kind.INTEGER)),
    **dict.fromkeys(("FloatValue", "DoubleValue"), Shape(Kind.NUMBER)),
    "ListValue": Shape(Kind.LIST, inner=_ANY),
    "BoolValue": Shape(Kind.TRUTH),
    "BytesValue": Shape(Kind.BYTES),
}
_SCALARS = {
    **dict.fromkeys((_F.CPPTYPE_INT32, _F.CPPTYPE_INT64, _F.CPPTYPE_UINT32, _F.CPPTYPE_UINT64), Kind.INTEGER),
    **dict.fromkeys((_F.CPPTYPE_FLOAT, _F.CPPTYPE_DOUBLE), Kind.NUMBER),
    _F.CPPTYPE_BOOL: Kind.TRUTH,
    _F.CPPTYPE_ENUM: Kind.ENUM,
    _F.CPPTYPE_STRING: Kind.TEXT,
}
# What fits beside the same kind: base64 is text, and an enum goes by name or number.
_FITS = {
    (Kind.INTEGER, Kind.NUMBER),
    (Kind.INTEGER, Kind.ENUM),
    (Kind.TEXT, Kind.BYTES),
    (Kind.TEXT, Kind.ENUM),
    (Kind.BYTES, Kind.TEXT),
    (Kind.ENUM, Kind.TEXT),
}


def unfit(
    method: Method, field: str, codec: MethodCodec, replies: Mapping[str, MethodCodec]
) -> Iterator[FieldViolation]:
    """What of the request of `method`, whose field is `field`, does not fit its message.

    `replies` are the codecs of the actions, by the names of their steps.
    """
    known = {name: Shape(Kind.OBJECT, reply.reply.descriptor) for name, reply in replies.items()}
    yield from _unfit_tree(method.request.tree, codec.request.descriptor, f"{field}.request", (), codec, known)


def unfit_status(field: str, status: MethodCodec, action: MethodCodec) -> Iterator[FieldViolation]:
    """That a status method does not answer with the action's message: what it says becomes the result of the step."""
    said, wanted = status.reply.descriptor.full_name, action.reply.descriptor.full_name
    if said != wanted:
        yield FieldViolation(field, f"answers with {said}; it must answer with the action's own message, {wanted}")


def unknown_results(leaf: Leaf, replies: Mapping[str, MethodCodec]) -> Iterator[FieldViolation]:
    """Paths of an expression into results that the reply messages of the steps do not have."""
    for path in leaf.reads:
        if path[0] == "results" and len(path) > 1 and path[1] in replies:
            shape = _along(Shape(Kind.OBJECT, replies[path[1]].reply.descriptor), path[2:])
            if isinstance(shape, str):
                yield FieldViolation(leaf.field, f"{leaf.shown}: {shape}")


def _unfit_tree(
    tree: Tree, message: Descriptor, field: str, path: tuple[str, ...], codec: MethodCodec, known: Mapping[str, Shape]
) -> Iterator[FieldViolation]:
    for name, node in tree.items():
        where = f"{field}.{name}"
        target = message.fields_by_name.get(name)
        if target is None:
            yield FieldViolation(where, f"{message.full_name} has no such field; it has {_fields(message)}")
            continue
        shape = _of_field(target)
        if isinstance(node, Leaf):
            if node.optional_without is not None and target.is_required and node.optional_without not in node.tolerates:
                yield FieldViolation(
                    where,
                    f"{message.full_name} requires it, but the result of {node.optional_without!r} is missing when "
                    "nobody knows whether the action took effect; say what is used then",
                )
            yield from _unfit_leaf(node, shape, (*path, name), codec, known)
        elif shape.kind is Kind.OBJECT and shape.message is not None:
            yield from _unfit_tree(node, shape.message, where, (*path, name), codec, known)
        elif shape.kind not in (Kind.OBJECT, Kind.ANY):
            yield FieldViolation(where, f"is {shape} in {message.full_name}, not an object")


def _unfit_leaf(
    leaf: Leaf, target: Shape, path: tuple[str, ...], codec: MethodCodec, known: Mapping[str, Shape]
) -> Iterator[FieldViolation]:
    if not leaf.roots:
        if problem := _literal_problem(leaf, path, codec):
            yield FieldViolation(leaf.field, f"{leaf.shown}: {problem}")
    elif leaf.path is not None:
        source = _source(leaf.path, known)
        # A path that leads nowhere is told by unknown_results.
        if isinstance(source, Shape) and (problem := _misfit(source, target, 0)) is not None:
            yield FieldViolation(leaf.field, f"{leaf.shown} gives {source}, but the field is {target}{problem}")


def _literal_problem(leaf: Leaf, path: tuple[str, ...], codec: MethodCodec) -> str | None:
    """What is wrong with a literal: it is put into a request that has nothing else."""
    value: Any = value_of(leaf, {})
    if value is None:
        return "gives nothing"
    for name in reversed(path):
        value = {name: value}
    try:
        codec.request.encode(value, "")
    except WrongType as error:
        return error.description
    return None


def _source(path: tuple[str, ...], known: Mapping[str, Shape]) -> Shape | str:
    """What a plain path gives, or why it gives nothing."""
    match path:
        case ("saga", "labels", *names) if len(names) < 2:
            return _TEXT if names else Shape(Kind.OBJECT)
        case ("saga", name) if name in _SAGA:
            return _SAGA[name]
        case ("results", step, *names) if step in known:
            return _along(known[step], tuple(names))
        case _:
            return _ANY


def _along(shape: Shape, names: tuple[str, ...]) -> Shape | str:
    """What is found on the way of `names` into a value, or why there is nothing."""
    for name in names:
        if shape.kind is Kind.ANY:
            return shape
        if shape.message is not None:
            field = shape.message.fields_by_name.get(name)
            if field is None:
                return f"{shape.message.full_name} has {_fields(shape.message)}"
            shape = _of_field(field)
        elif shape.kind is Kind.OBJECT:
            shape = shape.inner or _ANY
        elif shape.kind is Kind.LIST:
            return f"{name!r} is looked for in a list; go through its elements with [] or take one with [0]"
        else:
            return f"{name!r} is looked for in {shape}"
    return shape


def _of_field(field: FieldDescriptor) -> Shape:
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        return Shape(Kind.OBJECT, inner=_of_one(entry.fields_by_name["value"]))
    return Shape(Kind.LIST, inner=_of_one(field)) if field.is_repeated else _of_one(field)


def _of_one(field: FieldDescriptor) -> Shape:
    message = field.message_type
    if message is not None:
        if message.full_name.startswith(_PREFIX):
            return _WELL_KNOWN.get(message.full_name.removeprefix(_PREFIX), _ANY)
        return Shape(Kind.OBJECT, message)
    return Shape(Kind.BYTES) if field.type == _F.TYPE_BYTES else Shape(_SCALARS[field.cpp_type])


_DEPTH_MAX = 8


def _misfit(source: Shape, target: Shape, depth: int) -> str | None:
    """Why a value of one shape does not fit another; empty where the two say it themselves, None if it fits."""
    if Kind.ANY in (source.kind, target.kind) or depth > _DEPTH_MAX:
        return None
    if source.kind is not target.kind:
        return None if (source.kind, target.kind) in _FITS else ""
    if source.inner is not None and target.inner is not None:
        inner = _misfit(source.inner, target.inner, depth + 1)
        return None if inner is None else f": inside it {source.inner} does not fit {target.inner}"
    if source.message is None or target.message is None or source.message.full_name == target.message.full_name:
        return None
    for name, field in source.message.fields_by_name.items():
        wanted = target.message.fields_by_name.get(name)
        if wanted is None:
            return f", which has no field {name!r}; select what it has, as in {{{_selection(target.message)}}}"
        if _misfit(_of_field(field), _of_field(wanted), depth + 1) is not None:
            return f": the field {name!r} does not fit"
    return None


def _selection(message: Descriptor) -> str:
    return ", ".join(f"{name}: ..." for name in list(message.fields_by_name)[:3])


def _fields(message: Descriptor) -> str:
    return ", ".join(message.fields_by_name) or "no fields"
