"""Messages made up from their descriptors alone, and bytes that are nearly, or not at all, such messages."""

from __future__ import annotations

from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

from .values import texts

_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
}
_NESTED_MAX = 3
_FIELDS_MAX = 8


@st.composite
def messages(
    draw: st.DrawFn, descriptor: Descriptor, known: dict[str, st.SearchStrategy[Any]] | None = None, depth: int = 0
) -> Message:
    """Messages of a type: some of its fields are set, to any value that the type allows.

    `known` has strategies for fields by name that are used half of the time: values that get further than chance does.
    """
    known = known or {}
    fields = {f.name: f for f in descriptor.fields if depth < _NESTED_MAX or f.message_type is None}
    if not fields:
        return _made(descriptor, {})
    names = draw(st.sets(st.sampled_from(sorted(fields)), max_size=_FIELDS_MAX))
    return _made(descriptor, {name: draw(_values(fields[name], known, depth)) for name in sorted(names)})


def _made(descriptor: Descriptor, values: dict[str, Any]) -> Message:
    message = message_factory.GetMessageClass(descriptor)()
    for name, value in values.items():
        field = descriptor.fields_by_name[name]
        holder = getattr(message, name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            for key, item in value.items():
                if isinstance(item, Message):
                    holder[key].CopyFrom(item)
                else:
                    holder[key] = item
        elif field.is_repeated:
            holder.extend(value)
        elif field.message_type is not None:
            holder.CopyFrom(value)
        else:
            setattr(message, name, value)
    return message


def _values(field: FieldDescriptor, known: dict[str, st.SearchStrategy[Any]], depth: int) -> st.SearchStrategy[Any]:
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        keys = _single(entry.fields_by_name["key"], known, depth)
        made = st.dictionaries(keys, _single(entry.fields_by_name["value"], known, depth), max_size=3)
    elif field.is_repeated:
        made = st.lists(_single(field, known, depth), max_size=3)
    else:
        made = _single(field, known, depth)
    return st.one_of(known[field.name], made) if field.name in known else made


def _single(field: FieldDescriptor, known: dict[str, st.SearchStrategy[Any]], depth: int) -> st.SearchStrategy[Any]:
    kind = field.cpp_type
    if kind in _INTEGERS:
        low, high = _INTEGERS[kind]
        return st.one_of(st.integers(low, high), st.sampled_from([low, high, 0, 1]))
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    if kind == FieldDescriptor.CPPTYPE_FLOAT:
        return st.floats(width=32)
    if kind == FieldDescriptor.CPPTYPE_DOUBLE:
        return st.floats()
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        known_numbers = st.sampled_from([value.number for value in field.enum_type.values])
        # Of an open one, a number that this release does not know is valid as well.
        return known_numbers if field.enum_type.is_closed else st.one_of(known_numbers, st.integers(-9, 99))
    if kind == FieldDescriptor.CPPTYPE_MESSAGE:
        return messages(field.message_type, known, depth + 1)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=40)
    return texts


def broken(whole: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Bytes of a message with a few of them changed, cut off or put in; or any bytes."""

    def changed(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
        for at, length, piece in edits:
            at %= len(data) + 1
            data = data[:at] + piece + data[at + length :]
        return data

    # A length of gigabytes, an endless varint, an invalid UTF-8 text, a group that nobody closes, field number 0.
    pieces = st.sampled_from(
        [b"", b"\x0a\xff\xff\xff\xff\x7f", b"\xff" * 12, b"\x0a\x02\xff\xfe", b"\x0b", b"\x00", b"\x0a"]
    )
    edits = st.lists(
        st.tuples(st.integers(0, 500), st.integers(0, 20), st.one_of(pieces, st.binary(max_size=8))), max_size=3
    )
    return st.one_of(st.builds(changed, whole, edits), st.binary(max_size=100))
