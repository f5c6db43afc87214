"""What participants send, and what expressions give them: converted without loss, or refused by one kind of error."""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import orjson
import pytest
from google.protobuf import any_pb2, struct_pb2, timestamp_pb2
from google.protobuf import descriptor_pb2 as d
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.driving.codec import Descriptors, MethodCodec
from orchestrator.driving.scalars import WrongType

from . import odd_service
from .protobufs import broken, messages
from .rounds import rounds
from .values import json_values

REPLY_BYTES_MAX = 1_000_000

_SET = odd_service.files().SerializeToString()
CODEC: MethodCodec = Descriptors(_SET).method("odd.Service", "Do")
ODD = odd_service.odd_descriptor()
# In one order, as maps have none: the same examples in every process.
_odds = messages(ODD).map(lambda message: message.SerializeToString(deterministic=True))


def decoded(data: bytes) -> dict[str, Any] | None:
    """The reply as JSON, or None when it is refused as it ought to be."""
    began_s = time.process_time()
    value: dict[str, Any] | None = None
    reason = ""
    try:
        value = CODEC.decode(data)
    except ValueError as error:
        reason = str(error)
    assert time.process_time() - began_s < 3.0
    if value is None:
        assert 0 < len(reason) < 500
    else:
        orjson.dumps(value)
    return value


@rounds(200)
@given(_odds)
def test_every_message_is_read_or_refused(data: bytes) -> None:
    decoded(data)


@rounds(300)
@given(broken(_odds))
def test_broken_bytes_are_read_or_refused(data: bytes) -> None:
    decoded(data)


@rounds(300)
@given(st.dictionaries(st.sampled_from([field.name for field in ODD.fields] + ["none"]), json_values(8), max_size=4))
def test_every_request_is_made_or_its_field_named(request: dict[str, Any]) -> None:
    where = ""
    try:
        CODEC.encode(request)
    except WrongType as error:
        where = error.field
        assert where or error.description  # noqa: PT017
    if where:
        assert where.partition(".")[0].partition("[")[0] in request


@rounds(200)
@given(_odds)
def test_what_is_read_is_written_again(data: bytes) -> None:
    value = decoded(data)
    if value is not None:
        assert repr(_set(CODEC.decode(CODEC.encode(value)))) == repr(_set(value))


def _set(value: Any) -> Any:
    """A value without its nulls, for a field that is null is one that is not set, and with its keys in order."""
    if isinstance(value, dict):
        return {key: _set(item) for key, item in sorted(value.items()) if item is not None}
    return [_set(item) for item in value] if isinstance(value, list) else value


def _nested(levels: int) -> bytes:
    data = b""
    number = ODD.fields_by_name["inner"].number
    for _ in range(levels):
        data = _tag(number) + _varint(len(data)) + data
    return data


def _tag(number: int, wire_type: int = 2) -> bytes:
    return _varint(number << 3 | wire_type)


def _varint(number: int) -> bytes:
    data = b""
    while number > 0x7F:
        data += bytes([number & 0x7F | 0x80])
        number >>= 7
    return data + bytes([number])


def _many(field: str, unit: bytes, bytes_max: int = REPLY_BYTES_MAX) -> bytes:
    piece = _tag(ODD.fields_by_name[field].number) + _varint(len(unit)) + unit
    return piece * (bytes_max // len(piece))


def _struct(levels: int) -> bytes:
    data = struct_pb2.Value(number_value=1).SerializeToString()
    for _ in range(levels):
        data = _tag(1) + _varint(len(data)) + data
        data = _tag(6) + _varint(len(data)) + data
    return _own("own_value", data)


def _own(field: str, data: bytes) -> bytes:
    return _tag(ODD.fields_by_name[field].number) + _varint(len(data)) + data


@pytest.mark.parametrize(
    "data",
    [
        _many("inners", b""),
        _many("by_int32", b""),
        _many("many_string", b""),
        _many("many_double", b"\0" * 8),
        _own("many_int32", b"\0" * (REPLY_BYTES_MAX - 10)),
        _own("many_bool", b"\1" * (REPLY_BYTES_MAX - 10)),
        _own("one_bytes", b"\0" * (REPLY_BYTES_MAX - 10)),
        _own("one_string", b"\x01" * (REPLY_BYTES_MAX - 10)),
        _own("own_listvalue", b"\x0a\x00" * (REPLY_BYTES_MAX // 2 - 10)),
        b"\xff" * REPLY_BYTES_MAX,
    ],
    ids=range(10),
)
def test_a_reply_that_unfolds_is_refused_before_it_fills_the_memory(data: bytes) -> None:
    tracemalloc.start()
    try:
        decoded(data)
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < 60_000_000


@pytest.mark.parametrize(
    "data",
    [
        _nested(98),
        _nested(101),
        _struct(30),
        _struct(60),
        _own("own_timestamp", timestamp_pb2.Timestamp(seconds=2**62).SerializeToString()),
        _own("own_timestamp", timestamp_pb2.Timestamp(nanos=-5).SerializeToString()),
        _own("own_duration", b"\x08" + b"\xff" * 9 + b"\x01"),
        _own("own_fieldmask", b"\x0a\x03A_B"),
        _own("own_value", struct_pb2.Value(number_value=float("nan")).SerializeToString()),
        _own("own_value", b""),
        _own("own_any", any_pb2.Any(type_url="x/unknown.Type", value=b"x").SerializeToString()),
        _own("own_any", any_pb2.Any(type_url="x/odd.Odd", value=b"\xff").SerializeToString()),
        _own("own_any", any_pb2.Any(value=b"x").SerializeToString()),
        _own("old", b"\x0a\x02\xff\xfe"),
        _own("one_string", b"\xff\xfe"),
        _own("by_string", b"\x0a\x01\x00"),
    ],
    ids=range(16),
)
def test_what_protobuf_alone_finds_wrong_is_refused(data: bytes) -> None:
    decoded(data)


@rounds(200)
@given(broken(st.just(_SET)))
def test_broken_descriptors_are_refused(data: bytes) -> None:
    try:
        Descriptors(data).method("odd.Service", "Do").decode(b"")
    except (ValueError, KeyError) as error:
        reason = str(error)
    else:
        reason = "none"
    assert 0 < len(reason) < 1000


def _chain(files: int) -> bytes:
    made = d.FileDescriptorSet()
    for number in range(files):
        made.file.add(name=f"{number}.proto", dependency=[f"{number + 1}.proto"] if number + 1 < files else [])
    return made.SerializeToString()


def _deep(levels: int) -> bytes:
    message = d.DescriptorProto(name="M")
    for _ in range(levels):
        message = d.DescriptorProto(name="M", nested_type=[message])
    return d.FileDescriptorSet(file=[d.FileDescriptorProto(name="a", message_type=[message])]).SerializeToString()


@pytest.mark.parametrize(
    "data",
    [
        _chain(3_000),
        d.FileDescriptorSet(file=[d.FileDescriptorProto(name="a", dependency=["a"])]).SerializeToString(),
        d.FileDescriptorSet(
            file=[d.FileDescriptorProto(name="a", dependency=["b"]), d.FileDescriptorProto(name="b", dependency=["a"])]
        ).SerializeToString(),
        _deep(90),
        d.FileDescriptorSet(file=[d.FileDescriptorProto()]).SerializeToString(),
        d.FileDescriptorSet(file=[d.FileDescriptorProto(name="\x00")]).SerializeToString(),
        d.FileDescriptorSet(file=[d.FileDescriptorProto(name="a", package="é.ü")]).SerializeToString(),
    ],
    ids=range(7),
)
def test_descriptors_that_are_made_to_hurt_are_refused(data: bytes) -> None:
    with pytest.raises((ValueError, KeyError)):
        Descriptors(data).method("odd.Service", "Do")
