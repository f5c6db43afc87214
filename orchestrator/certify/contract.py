"""The hash that stands for the messages of a method pair: it changes when, and only when, one of them does.

Pure: no I/O.
"""

from __future__ import annotations

from hashlib import sha256

from google.protobuf.descriptor import Descriptor, EnumDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto

from orchestrator.driving.codec import Descriptors


def contract_hash(descriptors: Descriptors, *methods: str) -> str:
    """SHA-256, in hex, over these methods (`/pkg.Service/Name`) and every type that their messages are made of.

    Descriptors of the same types agree, wherever they come from: other services of the same files do not count.
    Raises KeyError naming the service or method that is not there.
    """
    digest = sha256()
    types: dict[str, bytes] = {}
    for method in methods:
        service, _, name = method.lstrip("/").rpartition("/")
        codec = descriptors.method(service, name)
        digest.update(f"{method.lstrip('/')} {codec.request.descriptor.full_name} ".encode())
        digest.update(f"{codec.reply.descriptor.full_name}\n".encode())
        for message in (codec.request.descriptor, codec.reply.descriptor):
            _collect(message, types)
    for full_name in sorted(types):
        digest.update(full_name.encode() + b"\n" + types[full_name])
    return digest.hexdigest()


def _collect(message: Descriptor, types: dict[str, bytes]) -> None:
    pending = [message]
    while pending:
        descriptor = pending.pop()
        if descriptor.full_name in types:
            continue
        types[descriptor.full_name] = _serialized(descriptor, DescriptorProto())
        for field in descriptor.fields:
            if field.message_type is not None:
                pending.append(field.message_type)
            if field.enum_type is not None:
                types[field.enum_type.full_name] = _serialized(field.enum_type, EnumDescriptorProto())


def _serialized(descriptor: Descriptor | EnumDescriptor, into: DescriptorProto | EnumDescriptorProto) -> bytes:
    descriptor.CopyToProto(into)  # type: ignore[arg-type]  # each copies into its own kind
    if isinstance(into, DescriptorProto):
        for field in into.field:
            # Made up by protobuf, or left out, depending on where the descriptor comes from.
            field.ClearField("json_name")
    return into.SerializeToString(deterministic=True)
