"""A service whose messages have everything that protobuf has: each of its own types, maps, recursion, proto2."""

from __future__ import annotations

from google.protobuf import (
    any_pb2,
    descriptor_pool,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf import descriptor_pb2 as d
from google.protobuf.descriptor import Descriptor

T = d.FieldDescriptorProto

_OWN = [any_pb2, duration_pb2, empty_pb2, field_mask_pb2, struct_pb2, timestamp_pb2, wrappers_pb2]
_OWN_TYPES = (
    *("Any", "Duration", "Empty", "FieldMask", "Struct", "Value", "ListValue", "Timestamp"),
    *("BytesValue", "Int64Value", "StringValue", "DoubleValue"),
)
_SCALARS = {name.removeprefix("TYPE_").lower(): number for name, number in T.Type.items()}
_KEYS = ("int32", "uint64", "sint32", "fixed64", "bool", "string")


def _field(name: str, number: int, kind: int, type_name: str = "", *, many: bool = False) -> d.FieldDescriptorProto:
    label = T.LABEL_REPEATED if many else T.LABEL_OPTIONAL
    return T(name=name, number=number, type=kind, type_name=type_name or None, label=label)  # type: ignore[arg-type]


def _odd() -> d.DescriptorProto:
    odd = d.DescriptorProto(name="Odd")
    numbers = iter(range(1, 1000))
    for name, kind in _SCALARS.items():
        if name not in ("group", "message", "enum"):
            odd.field.append(_field(f"one_{name}", next(numbers), kind))
            odd.field.append(_field(f"many_{name}", next(numbers), kind, many=True))
    odd.field.append(_field("colour", next(numbers), T.TYPE_ENUM, ".odd.Colour"))
    odd.field.append(_field("colours", next(numbers), T.TYPE_ENUM, ".odd.Colour", many=True))
    odd.field.append(_field("inner", next(numbers), T.TYPE_MESSAGE, ".odd.Odd"))
    odd.field.append(_field("inners", next(numbers), T.TYPE_MESSAGE, ".odd.Odd", many=True))
    odd.field.append(_field("old", next(numbers), T.TYPE_MESSAGE, ".old.Old"))
    for name in _OWN_TYPES:
        odd.field.append(_field(f"own_{name.lower()}", next(numbers), T.TYPE_MESSAGE, f".google.protobuf.{name}"))
    for key in _KEYS:
        entry = f"By{key.capitalize()}Entry"
        fields = [_field("key", 1, _SCALARS[key]), _field("value", 2, T.TYPE_MESSAGE, ".odd.Odd")]
        options = d.MessageOptions(map_entry=True)
        odd.nested_type.append(d.DescriptorProto(name=entry, field=fields, options=options))
        odd.field.append(_field(f"by_{key}", next(numbers), T.TYPE_MESSAGE, f".odd.Odd.{entry}", many=True))
    odd.oneof_decl.add(name="choice")
    for name in ("left", "right"):
        odd.field.append(_field(name, next(numbers), T.TYPE_STRING))
        odd.field[-1].oneof_index = 0
    return odd


def files() -> d.FileDescriptorSet:
    """The descriptors of `odd.Service/Do`, which takes an Odd and gives one."""
    values = [d.EnumValueDescriptorProto(name=name, number=number) for number, name in enumerate(("NONE", "RED"))]
    old = d.FileDescriptorProto(
        name="old.proto",
        package="old",
        message_type=[
            d.DescriptorProto(
                name="Old", field=[_field("text", 1, T.TYPE_STRING), _field("colour", 2, T.TYPE_ENUM, ".old.Colour")]
            )
        ],
        enum_type=[d.EnumDescriptorProto(name="Colour", value=values)],
    )
    own = [d.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb) for module in _OWN]
    file = d.FileDescriptorProto(
        name="odd.proto",
        package="odd",
        syntax="proto3",
        dependency=["old.proto", *(other.name for other in own)],
        message_type=[_odd()],
        enum_type=[d.EnumDescriptorProto(name="Colour", value=values)],
        service=[
            d.ServiceDescriptorProto(
                name="Service",
                method=[d.MethodDescriptorProto(name="Do", input_type=".odd.Odd", output_type=".odd.Odd")],
            )
        ],
    )
    return d.FileDescriptorSet(file=[file, old, *own])


def odd_descriptor() -> Descriptor:
    """The descriptor of Odd."""
    pool = descriptor_pool.DescriptorPool()
    pending = list(files().file)
    for file in [*pending[1:], pending[0]]:
        pool.Add(file)  # type: ignore[no-untyped-call]
    return pool.FindMessageTypeByName("odd.Odd")
