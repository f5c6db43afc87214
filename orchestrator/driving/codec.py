"""Between JSON values and protobuf messages, by the descriptors that are kept with a definition.

Fields go by the names of the .proto file. Integers stay integers to 64 bits, bytes are base64, enums go by name, and
google.protobuf's own types as protobuf's JSON mapping has them. Every step of a saga passes here, so the fields of a
message are looked up once: protobuf's json_format takes ten times as long, and makes 64-bit integers strings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from orchestrator.driving.scalars import Decode, Encode, WrongType, key_converters, kind, scalar_converters
from orchestrator.saga.model import Json

NESTING_MAX = 32

# A message that is empty takes two bytes in a reply, and in JSON a place for each of its fields: without a bound of its
# own on the values, a reply of a megabyte would become a gigabyte. A small one cannot.
VALUES_MAX = 50_000
SURELY_FEW_BYTES = 4_000


@dataclass(frozen=True, slots=True)
class MethodCodec:
    """Turns a request into bytes, and the bytes of a reply into JSON."""

    request: MessageCodec
    reply: MessageCodec

    def encode(self, request: Json) -> bytes:
        """The serialized request message. Raises WrongType, naming the field."""
        return self.request.encode(request, "").SerializeToString()

    def decode(self, data: bytes) -> Json:
        """The reply as JSON. Raises ValueError when the bytes are not such a message."""
        try:
            message = self.reply.message_class.FromString(data)
            if len(data) > SURELY_FEW_BYTES and _exceeds(message, VALUES_MAX):
                raise ValueError(f"the reply has more than the {VALUES_MAX} values that are allowed")
            reply: Json = self.reply.decode(message)
            return reply
        except (DecodeError, RecursionError) as error:
            raise ValueError(f"the reply is no {self.reply.descriptor.full_name}: {error}") from None

    def normal_reply(self, value: Json) -> Json:
        """A reply that came as JSON, as it would be had it come as a message. Raises WrongType and ValueError."""
        message: Any = self.reply.encode(value, "")
        if missing := message.FindInitializationErrors():
            raise WrongType(missing[0], f"is missing, and {self.reply.descriptor.full_name} requires it")
        return self.decode(message.SerializeToString())


class Descriptors:
    """A set of descriptors in a pool of its own, so that no two definitions can ever collide."""

    def __init__(self, descriptor_set: bytes) -> None:
        """Raises ValueError when the bytes are not a complete FileDescriptorSet."""
        self.pool = descriptor_pool.DescriptorPool()
        self._messages: dict[str, MessageCodec] = {}
        try:
            files = descriptor_pb2.FileDescriptorSet.FromString(descriptor_set).file
        except DecodeError as error:
            raise ValueError(f"not a FileDescriptorSet: {error}") from None
        by_name = {file.name: file for file in files}
        added: set[str] = set()
        try:
            for name in by_name:
                self._add(name, by_name, added)
        except RecursionError:
            raise ValueError("the descriptors import one another too deeply") from None

    def _add(self, name: str, files: dict[str, descriptor_pb2.FileDescriptorProto], added: set[str]) -> None:
        if name in added:
            return
        added.add(name)
        if name not in files:
            raise ValueError(f"the descriptors lack the file {name!r}")
        for dependency in files[name].dependency:
            self._add(dependency, files, added)
        try:
            self.pool.Add(files[name])
        except TypeError as error:
            raise ValueError(f"the descriptors of {name!r} are broken: {error}") from None

    def method(self, service_name: str, method_name: str) -> MethodCodec:
        """The codec of a unary method. Raises KeyError naming the service or method that is not there."""
        try:
            service = self.pool.FindServiceByName(service_name)
        except KeyError:
            raise KeyError(f"there is no service {service_name}") from None
        method = service.methods_by_name.get(method_name)
        if method is None:
            known = ", ".join(sorted(service.methods_by_name))
            raise KeyError(f"{service_name} has no method {method_name}; it has {known}")
        if method.client_streaming or method.server_streaming:
            raise KeyError(f"{service_name}/{method_name} is a streaming method; a step needs a unary one")
        return MethodCodec(self.message(method.input_type), self.message(method.output_type))

    def message(self, descriptor: Descriptor) -> MessageCodec:
        """The codec of a message type; made once."""
        codec = self._messages.get(descriptor.full_name)
        if codec is None:
            codec = self._messages[descriptor.full_name] = MessageCodec(descriptor, self)
        return codec


class MessageCodec:
    """The fields of one message type, each with its converters. They are made at the first use of the type."""

    __slots__ = ("_descriptors", "_fields", "descriptor", "message_class")

    def __init__(self, descriptor: Descriptor, descriptors: Descriptors) -> None:
        self.descriptor = descriptor
        self.message_class = message_factory.GetMessageClass(descriptor)
        self._descriptors = descriptors
        self._fields: dict[str, _Field] | None = None

    @property
    def well_known(self) -> bool:
        """Whether protobuf defines a JSON form of its own for this type."""
        return self.descriptor.full_name.startswith("google.protobuf.")

    def fields(self) -> dict[str, _Field]:
        """The fields by name."""
        if self._fields is None:
            self._fields = {f.name: _field(f, self._descriptors) for f in self.descriptor.fields}
        return self._fields

    def encode(self, value: Any, path: str) -> Message:
        """The message of a JSON value. Raises WrongType."""
        if self.well_known:
            return self._encode_well_known(value, path)
        if not isinstance(value, dict):
            raise WrongType(path or "request", f"must be an object of {self.descriptor.full_name}, not {kind(value)}")
        if path.count(".") > NESTING_MAX:
            raise WrongType(path, f"is nested deeper than {NESTING_MAX} levels")
        fields = self.fields()
        message = self.message_class()
        for name, item in value.items():
            field = fields.get(name)
            where = f"{path}.{name}" if path else name
            if field is None:
                raise WrongType(where, f"{self.descriptor.full_name} has no such field; it has {', '.join(fields)}")
            if item is not None:
                field.write(message, item, where)
        return message

    def _encode_well_known(self, value: Any, path: str) -> Message:
        if self.descriptor.full_name == _ANY:
            return self._encode_any(value, path)
        try:
            return json_format.ParseDict(value, self.message_class(), descriptor_pool=self._descriptors.pool)
        except _NOT_CONVERTED:
            name = self.descriptor.full_name
            example = f", such as {_EXAMPLES[name]}" if name in _EXAMPLES else ""
            raise WrongType(path, f"must be a {name}{example}, which {kind(value)} is not") from None

    def decode(self, message: Message) -> Any:
        """The JSON value of a message: every scalar field, and of the others those that are set. Raises ValueError."""
        if self.well_known:
            return self._decode_well_known(message)
        value = {}
        for name, field in self.fields().items():
            if field.presence and not message.HasField(name):
                continue
            value[name] = field.read(getattr(message, name))
        return value

    def _encode_any(self, value: Any, path: str) -> Message:
        """An Any is an object with the type's name in `@type`; a type with a JSON form of its own stands in `value`."""
        if not isinstance(value, dict) or not isinstance(url := value.get("@type"), str):
            raise WrongType(path, "must be an object whose `@type` names its message type")
        codec = self._packed(url)
        if codec is None:
            raise WrongType(f"{path}.@type", "names no message type of the definition's descriptors")
        rest = {name: item for name, item in value.items() if name != "@type"}
        if codec.well_known and rest.keys() != {"value"}:
            raise WrongType(path, f"must have what is in the {codec.descriptor.full_name} as its field `value`")
        inner = codec.encode(rest["value"], f"{path}.value") if codec.well_known else codec.encode(rest, path)
        packed: Any = self.message_class()
        packed.type_url, packed.value = url, inner.SerializeToString(deterministic=True)
        message: Message = packed
        return message

    def _decode_any(self, packed: Any) -> Any:
        codec = self._packed(packed.type_url)
        if codec is None:
            raise ValueError(f"an Any has the type {packed.type_url!r:.100}, which the descriptors do not have")
        inner = codec.message_class.FromString(packed.value)
        if len(packed.value) > SURELY_FEW_BYTES and _exceeds(inner, VALUES_MAX):
            raise ValueError(f"an Any has more than the {VALUES_MAX} values that are allowed")
        value = codec.decode(inner)
        return {"@type": packed.type_url, **({"value": value} if codec.well_known else value)}

    def _packed(self, url: str) -> MessageCodec | None:
        """The codec of what an Any of this type has inside."""
        try:
            found: Descriptor = self._descriptors.pool.FindMessageTypeByName(url.rpartition("/")[2])
        except KeyError:
            return None
        return self._descriptors.message(found)

    def _decode_well_known(self, message: Message) -> Any:
        if self.descriptor.full_name == _ANY:
            return self._decode_any(message)
        if self.descriptor.full_name in _WRAPPERS:
            # protobuf's JSON has 64-bit integers as text.
            return self.fields()["value"].read(message.value)  # type: ignore[attr-defined]
        try:
            return json_format.MessageToDict(
                message, preserving_proto_field_name=True, descriptor_pool=self._descriptors.pool
            )
        except _NOT_CONVERTED as error:
            raise ValueError(f"a {self.descriptor.full_name} has no JSON form: {error!s:.200}") from None


_ANY = "google.protobuf.Any"
_WRAPPERS = {
    f"google.protobuf.{kind_}Value"
    for kind_ in ("Bool", "Bytes", "Double", "Float", "Int32", "Int64", "String", "UInt32", "UInt64")
}
_EXAMPLES = {
    "google.protobuf.Timestamp": "2026-01-02T03:04:05Z",
    "google.protobuf.Duration": "3.5s",
    "google.protobuf.FieldMask": "name,address.city",
}

# What json_format raises for values that it does not take; an Any of an unknown type is a TypeError.
_NOT_CONVERTED = (json_format.Error, DecodeError, TypeError, ValueError, KeyError, AttributeError, OverflowError)


def _exceeds(message: Message, values_max: int) -> bool:
    """Whether a message has more values than that, the empty fields of its parts included."""
    count, pending = 0, [message]
    while pending and count <= values_max:
        part = pending.pop()
        count += len(part.DESCRIPTOR.fields)
        for field, value in part.ListFields():
            if field.is_repeated:
                count += len(value)
            if count > values_max:
                break
            pending.extend(_parts(field, value))
    return count > values_max


def _parts(field: FieldDescriptor, value: Any) -> Iterable[Message]:
    entry = field.message_type
    if entry is None:
        return ()
    if entry.GetOptions().map_entry:
        return value.values() if entry.fields_by_name["value"].message_type is not None else ()
    return value if field.is_repeated else (value,)


@dataclass(frozen=True, slots=True)
class _Field:
    """One field: how a JSON value is written into a message, and read from it."""

    write: Callable[[Message, Any, str], None]
    read: Decode
    presence: bool


def _field(field: FieldDescriptor, descriptors: Descriptors) -> _Field:
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        return _map_field(field, entry, descriptors)
    name = field.name
    encode, decode = _converters(field, descriptors)
    is_message = field.message_type is not None
    if field.is_repeated:

        def write_list(message: Message, value: Any, path: str) -> None:
            if not isinstance(value, list | tuple):
                raise WrongType(path, f"must be a list, not {kind(value)}")
            items = [encode(item, f"{path}[{index}]") for index, item in enumerate(value)]
            try:
                getattr(message, name).extend(items)
            except (TypeError, ValueError, OverflowError) as error:
                raise WrongType(path, _misfit(error)) from None

        return _Field(write_list, lambda items: [decode(item) for item in items], presence=False)

    def write_message(message: Message, value: Any, path: str) -> None:
        getattr(message, name).CopyFrom(encode(value, path))

    def write_scalar(message: Message, value: Any, path: str) -> None:
        try:
            setattr(message, name, encode(value, path))
        except (TypeError, ValueError, OverflowError) as error:
            raise WrongType(path, _misfit(error)) from None

    return _Field(write_message if is_message else write_scalar, decode, presence=field.has_presence)


def _misfit(error: Exception) -> str:
    """Why a value does not fit, without the value, which may be a secret."""
    return "does not fit: it is out of range" if isinstance(error, OverflowError | ValueError) else "does not fit"


def _map_field(field: FieldDescriptor, entry: Descriptor, descriptors: Descriptors) -> _Field:
    name = field.name
    key_field, value_field = entry.fields_by_name["key"], entry.fields_by_name["value"]
    encode, decode = _converters(value_field, descriptors)
    is_message = value_field.message_type is not None
    read_key, write_key = key_converters(key_field)

    def write(message: Message, value: Any, path: str) -> None:
        if not isinstance(value, dict):
            raise WrongType(path, f"must be an object, not {kind(value)}")
        entries = getattr(message, name)
        for key, item in value.items():
            try:
                converted = encode(item, f"{path}.{key}")
                if is_message:
                    entries[write_key(key)].CopyFrom(converted)
                else:
                    entries[write_key(key)] = converted
            except (TypeError, ValueError, OverflowError) as error:
                raise WrongType(f"{path}.{key}", _misfit(error)) from None

    return _Field(write, lambda entries: {read_key(key): decode(item) for key, item in entries.items()}, presence=False)


def _converters(field: FieldDescriptor, descriptors: Descriptors) -> tuple[Encode, Decode]:
    if field.message_type is not None:
        codec = descriptors.message(field.message_type)
        return codec.encode, codec.decode
    return scalar_converters(field)
