"""Between JSON and protobuf: every kind of field, both ways, and what does not fit."""

from __future__ import annotations

import base64
import contextlib
from typing import Any

import pytest
from google.protobuf import descriptor_pb2 as d
from google.protobuf import timestamp_pb2
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.driving.codec import Descriptors, MethodCodec
from orchestrator.driving.scalars import WrongType

T = d.FieldDescriptorProto


def field(name: str, number: int, kind: int, type_name: str = "", repeated: bool = False) -> d.FieldDescriptorProto:
    label = T.LABEL_REPEATED if repeated else T.LABEL_OPTIONAL
    return T(name=name, number=number, type=kind, type_name=type_name or None, label=label)  # type: ignore[arg-type]


def descriptor_set() -> bytes:
    entry = d.DescriptorProto(
        name="CountsEntry",
        field=[field("key", 1, T.TYPE_INT64), field("value", 2, T.TYPE_MESSAGE, ".t.Line")],
        options=d.MessageOptions(map_entry=True),
    )
    everything = d.DescriptorProto(
        name="Everything",
        field=[
            field("text", 1, T.TYPE_STRING),
            field("i64", 2, T.TYPE_INT64),
            field("u64", 3, T.TYPE_UINT64),
            field("i32", 4, T.TYPE_INT32),
            field("number", 5, T.TYPE_DOUBLE),
            field("flag", 6, T.TYPE_BOOL),
            field("data", 7, T.TYPE_BYTES),
            field("colour", 8, T.TYPE_ENUM, ".t.Colour"),
            field("line", 9, T.TYPE_MESSAGE, ".t.Line"),
            field("lines", 10, T.TYPE_MESSAGE, ".t.Line", repeated=True),
            field("tags", 11, T.TYPE_STRING, repeated=True),
            field("counts", 12, T.TYPE_MESSAGE, ".t.Everything.CountsEntry", repeated=True),
            field("numbers", 14, T.TYPE_INT32, repeated=True),
            field("at", 13, T.TYPE_MESSAGE, ".google.protobuf.Timestamp"),
        ],
        nested_type=[entry],
    )
    line = d.DescriptorProto(name="Line", field=[field("sku", 1, T.TYPE_STRING), field("n", 2, T.TYPE_INT32)])
    colour = d.EnumDescriptorProto(
        name="Colour",
        value=[d.EnumValueDescriptorProto(name="NONE", number=0), d.EnumValueDescriptorProto(name="RED", number=1)],
    )
    method = d.MethodDescriptorProto(name="Do", input_type=".t.Everything", output_type=".t.Everything")
    streaming = d.MethodDescriptorProto(
        name="Stream", input_type=".t.Line", output_type=".t.Line", server_streaming=True
    )
    file = d.FileDescriptorProto(
        name="t.proto",
        package="t",
        syntax="proto3",
        dependency=["google/protobuf/timestamp.proto"],
        message_type=[everything, line],
        enum_type=[colour],
        service=[d.ServiceDescriptorProto(name="S", method=[method, streaming])],
    )
    timestamp = d.FileDescriptorProto.FromString(timestamp_pb2.DESCRIPTOR.serialized_pb)
    return d.FileDescriptorSet(file=[file, timestamp]).SerializeToString()


DESCRIPTORS = Descriptors(descriptor_set())
CODEC: MethodCodec = DESCRIPTORS.method("t.S", "Do")
FULL: dict[str, Any] = {
    "text": "é",
    "i64": 2**63 - 1,
    "u64": 2**64 - 1,
    "i32": -(2**31),
    "number": 1.5,
    "flag": True,
    "data": base64.b64encode(b"\x00\xff").decode(),
    "colour": "RED",
    "line": {"sku": "a", "n": 1},
    "lines": [{"sku": "b", "n": 2}, {"sku": "c", "n": 0}],
    "tags": ["x", "y"],
    "numbers": [1, -1],
    "counts": {"7": {"sku": "d", "n": 4}},
    "at": "2026-01-02T03:04:05Z",
}


def test_every_kind_of_field_survives_the_way_there_and_back() -> None:
    assert CODEC.decode(CODEC.encode(FULL)) == FULL


def test_scalars_that_were_not_set_have_their_defaults_and_messages_are_left_out() -> None:
    empty = CODEC.decode(CODEC.encode({}))
    assert empty == {
        "text": "",
        "i64": 0,
        "u64": 0,
        "i32": 0,
        "number": 0.0,
        "flag": False,
        "data": "",
        "colour": "NONE",
        "lines": [],
        "tags": [],
        "numbers": [],
        "counts": {},
    }


@pytest.mark.parametrize(
    ("request_", "where"),
    [
        ({"text": 3}, "text"),
        ({"i64": "3"}, "i64"),
        ({"i64": 1.5}, "i64"),
        ({"i64": True}, "i64"),
        ({"i64": 2**63}, "i64"),
        ({"i32": 2**31}, "i32"),
        ({"u64": -1}, "u64"),
        ({"number": "1"}, "number"),
        ({"flag": 1}, "flag"),
        ({"data": "not base64!"}, "data"),
        ({"colour": "GREEN"}, "colour"),
        ({"line": "x"}, "line"),
        ({"line": {"n": "x"}}, "line.n"),
        ({"lines": {}}, "lines"),
        ({"lines": [{}, {"n": None, "m": 1}]}, "lines[1].m"),
        ({"tags": ["a", 1]}, "tags[1]"),
        ({"numbers": [1, 2**31]}, "numbers"),
        ({"counts": []}, "counts"),
        ({"counts": {"x": {}}}, "counts.x"),
        ({"counts": {"1": {"n": "x"}}}, "counts.1.n"),
        ({"at": "yesterday"}, "at"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_what_does_not_fit_is_named_by_its_path(request_: dict[str, Any], where: str) -> None:
    with pytest.raises(WrongType) as error:
        CODEC.encode(request_)
    assert error.value.field == where


@pytest.mark.parametrize(
    "reply", [{}, {"line": None}, {"number": 2, "colour": 1, "at": "2026-01-02T04:04:05+01:00"}, FULL]
)
def test_a_reply_as_json_is_what_the_message_of_it_is(reply: dict[str, Any]) -> None:
    assert CODEC.normal_reply(reply) == CODEC.decode(CODEC.encode(reply))


def test_a_reply_as_json_has_names_for_numbers_of_enums_and_its_times_in_utc() -> None:
    reply = CODEC.normal_reply({"colour": 1, "number": 2, "at": "2026-01-02T04:04:05+01:00"})
    assert (reply["colour"], reply["number"], reply["at"]) == ("RED", 2.0, "2026-01-02T03:04:05Z")


@given(st.integers(-(2**63), 2**63 - 1), st.text(st.characters(exclude_categories=["Cs"])))
def test_integers_and_texts_are_exact(number: int, text: str) -> None:
    decoded = CODEC.decode(CODEC.encode({"i64": number, "text": text}))
    assert (decoded["i64"], decoded["text"]) == (number, text)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_message_are_a_value_error_and_nothing_else(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        CODEC.decode(data)


@pytest.mark.parametrize(
    ("service", "method", "part"),
    [("t.X", "Do", "no service t.X"), ("t.S", "Go", "it has Do, Stream"), ("t.S", "Stream", "streaming")],
)
def test_a_method_that_cannot_be_called_is_named(service: str, method: str, part: str) -> None:
    with pytest.raises(KeyError, match=part):
        DESCRIPTORS.method(service, method)


def test_broken_descriptors_are_a_value_error() -> None:
    lacking = d.FileDescriptorSet(file=[d.FileDescriptorProto(name="a.proto", dependency=["b.proto"])])
    for data in (b"\xff\xff", lacking.SerializeToString()):
        with pytest.raises(ValueError, match=r"(?i)descriptor"):
            Descriptors(data)
