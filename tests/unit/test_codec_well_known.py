"""google.protobuf's own types between JSON and protobuf: exact to 64 bits, and both ways."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from google.protobuf import any_pb2, duration_pb2, struct_pb2, timestamp_pb2, wrappers_pb2
from google.protobuf import descriptor_pb2 as d
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.driving.codec import Descriptors
from orchestrator.driving.scalars import WrongType

T = d.FieldDescriptorProto
TYPES = {
    "at": "Timestamp",
    "took": "Duration",
    "i64": "Int64Value",
    "u64": "UInt64Value",
    "text": "StringValue",
    "data": "BytesValue",
    "flag": "BoolValue",
    "ratio": "DoubleValue",
    "free": "Struct",
    "one": "Value",
    "packed": "Any",
}


def _codec() -> Any:
    fields = [
        T(name=name, number=number, type=T.TYPE_MESSAGE, type_name=f".google.protobuf.{kind}", label=T.LABEL_OPTIONAL)
        for number, (name, kind) in enumerate(TYPES.items(), start=1)
    ]
    fields.append(T(name="number", number=50, type=T.TYPE_DOUBLE, label=T.LABEL_OPTIONAL))
    fields.append(T(name="big", number=51, type=T.TYPE_INT64, label=T.LABEL_REPEATED))
    imported = [any_pb2, duration_pb2, struct_pb2, timestamp_pb2, wrappers_pb2]
    file = d.FileDescriptorProto(
        name="w.proto",
        package="w",
        syntax="proto3",
        dependency=[module.DESCRIPTOR.name for module in imported],
        message_type=[d.DescriptorProto(name="All", field=fields)],
        service=[
            d.ServiceDescriptorProto(
                name="S", method=[d.MethodDescriptorProto(name="Do", input_type=".w.All", output_type=".w.All")]
            )
        ],
    )
    files = [d.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb) for module in imported]
    return Descriptors(d.FileDescriptorSet(file=[*files, file]).SerializeToString()).method("w.S", "Do")


CODEC = _codec()


def there_and_back(**fields: Any) -> Any:
    decoded = CODEC.decode(CODEC.encode(fields))
    return {name: decoded[name] for name in fields}


@pytest.mark.parametrize(
    "fields",
    [
        {"at": "2026-01-02T03:04:05.123456789Z"},
        {"took": "3.500s"},
        {"text": "é", "flag": False, "data": "AP8="},
        {"free": {"a": [1.0, "x", None, True], "b": {}}, "one": ["x"]},
        {"packed": {"@type": "type.googleapis.com/w.All", "number": 1.5, "big": [2**63 - 1]}},
        {"packed": {"@type": "type.googleapis.com/google.protobuf.Duration", "value": "1s"}},
        {"packed": {"@type": "x/google.protobuf.Int64Value", "value": -(2**63)}},
        {"number": "NaN", "ratio": 0.1},
        {"number": "-Infinity"},
    ],
)
def test_what_is_written_is_read_again(fields: dict[str, Any]) -> None:
    assert there_and_back(**fields) == fields


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**64 - 1))
def test_wrapped_and_packed_integers_stay_integers_to_64_bits(signed: int, unsigned: int) -> None:
    fields = {"i64": signed, "u64": unsigned, "packed": {"@type": "x/w.All", "number": 0.0, "big": [signed]}}
    assert there_and_back(**fields) == fields


@given(st.datetimes().map(lambda at: at.isoformat(timespec="microseconds") + "Z"), st.floats())
def test_times_and_numbers_survive(at: str, number: float) -> None:
    decoded = CODEC.decode(CODEC.encode({"at": at, "number": number}))
    again = CODEC.decode(CODEC.encode(decoded))
    assert again == decoded
    assert datetime.fromisoformat(decoded["at"]) == datetime.fromisoformat(at)


@pytest.mark.parametrize(
    ("fields", "where", "part"),
    [
        ({"at": "yesterday"}, "at", "2026-01-02T03:04:05Z"),
        ({"took": 3}, "took", "such as 3.5s"),
        ({"i64": 2**63}, "i64", "Int64Value"),
        ({"packed": {"number": 1}}, "packed", "@type"),
        ({"packed": {"@type": "x/w.None"}}, "packed.@type", "names no message type"),
        ({"packed": {"@type": "x/w.All", "numbr": 1}}, "packed.numbr", "no such field"),
        ({"packed": {"@type": "x/google.protobuf.Duration", "seconds": 1}}, "packed", "field `value`"),
    ],
)
def test_what_does_not_fit_is_named(fields: dict[str, Any], where: str, part: str) -> None:
    with pytest.raises(WrongType) as refused:
        CODEC.encode(fields)
    assert refused.value.field == where
    assert part in refused.value.description


@pytest.mark.parametrize(
    "value", ["s3cret-card", 4111111111111111, {"s3cret": "s3cret-card"}, ["s3cret-card"], 3.14159, True]
)
def test_no_error_quotes_a_value(value: Any) -> None:
    for name in [*TYPES, "number", "big"]:
        try:
            CODEC.encode({name: value})
        except WrongType as refused:
            assert not any(secret in refused.description for secret in ("s3cret-card", "4111", "3.14"))  # noqa: PT017
