"""Between the JSON values and the protobuf values of single fields that are no messages, and of the keys of maps."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor

from orchestrator.errors import BatonError

# A converter takes a value and the path of its field, for the error message.
Encode = Callable[[Any, str], Any]
Decode = Callable[[Any], Any]


class WrongType(BatonError):
    """A value does not fit the field of the message. `field` is its path."""

    def __init__(self, field: str, description: str) -> None:
        super().__init__(f"{field}: {description}")
        self.field = field
        self.description = description


_INTEGERS = (
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_INT64,
    FieldDescriptor.CPPTYPE_UINT32,
    FieldDescriptor.CPPTYPE_UINT64,
)
_FLOATS = (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE)


def scalar_converters(field: FieldDescriptor) -> tuple[Encode, Decode]:
    """How the JSON value of a field is made a protobuf value, and the reverse. They raise WrongType and ValueError."""
    if field.enum_type is not None:
        return _enum_converters(field.enum_type)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _encode_bytes, lambda data: base64.b64encode(data).decode()
    if field.cpp_type in _INTEGERS:
        return _exactly(int, "an integer"), _same
    if field.cpp_type in _FLOATS:
        return _encode_float, _decode_float
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return _encode_bool, _same
    return _exactly(str, "text"), _text


def key_converters(field: FieldDescriptor) -> tuple[Callable[[Any], str], Callable[[str], Any]]:
    """From a key of a map to the JSON text of it, and back, as protobuf's JSON mapping has them.

    Both raise ValueError.
    """
    if field.cpp_type in _INTEGERS:
        return str, int
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return lambda key: "true" if key else "false", _bool_key
    return _text, str


def _bool_key(key: str) -> bool:
    if key in ("true", "false"):
        return key == "true"
    raise ValueError("the key is neither true nor false")


def _enum_converters(enum: EnumDescriptor) -> tuple[Encode, Decode]:
    by_name = {value.name: value.number for value in enum.values}
    by_number = {value.number: value.name for value in enum.values}

    def encode(value: Any, path: str) -> int:
        if isinstance(value, str) and value in by_name:
            return by_name[value]
        if type(value) is int and (value in by_number or not enum.is_closed):
            return value
        raise WrongType(path, f"must be one of {', '.join(by_name)}, which {kind(value)} is not")

    # A number that a later version of the participant knows stays a number.
    return encode, lambda number: by_number.get(number, number)


def _exactly(types: type | tuple[type, ...], wanted: str) -> Encode:
    def encode(value: Any, path: str) -> Any:
        if isinstance(value, types) and not isinstance(value, bool):
            return value
        raise WrongType(path, f"must be {wanted}, not {kind(value)}")

    return encode


def _encode_bool(value: Any, path: str) -> bool:
    if isinstance(value, bool):
        return value
    raise WrongType(path, f"must be true or false, not {kind(value)}")


# JSON has no numbers for these; protobuf's mapping has texts.
_NO_NUMBERS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def _encode_float(value: Any, path: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value in _NO_NUMBERS:
        return _NO_NUMBERS[value]
    raise WrongType(path, f"must be a number, not {kind(value)}")


def _decode_float(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _encode_bytes(value: Any, path: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise WrongType(path, f"must be base64 text, which {kind(value)} is not") from None


def _same(value: Any) -> Any:
    return value


def _text(value: Any) -> str:
    # proto2 lets any bytes pass as text, and protobuf hands them out as such.
    if isinstance(value, str):
        return value
    raise ValueError("a text is not UTF-8")


def kind(value: Any) -> str:
    """What a value is, in words, without the value itself: it may be a secret."""
    if value is None:
        return "null"
    return {dict: "an object", list: "a list", str: "text", bool: "true or false"}.get(type(value), "a number")
