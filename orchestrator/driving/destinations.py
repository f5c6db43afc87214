"""Looks up the versions that sagas are to be moved to, and compares what the pure core cannot see of them.

A version never changes once it is there, so what was looked up stays right until the signal is heeded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto

from orchestrator.driving.codec import MethodCodec
from orchestrator.driving.registry import Compiled, Registry
from orchestrator.driving.trial import methods_of
from orchestrator.errors import NotFound, Rejected
from orchestrator.saga.model import Saga
from orchestrator.saga.moving import Destination
from orchestrator.saga.secrets import scrubbed, secret_texts
from orchestrator.saga.signals import Signal, Verb

# The version that a saga goes by and the one that a move goes to; or why that one cannot be had.
Route = tuple[Compiled, Compiled] | str


async def look_up(registry: Registry, signals: Iterable[Signal]) -> dict[int, Compiled | str]:
    """By the numbers of the signals, what the moves among them go to, or why not. Raises LogUnavailable."""
    found: dict[int, Compiled | str] = {}
    for signal in signals:
        if signal.verb is Verb.MOVE:
            try:
                found[signal.id] = await registry.get(*signal.version)
            except (NotFound, Rejected) as error:
                found[signal.id] = str(error)
    return found


async def route(registry: Registry, saga: Saga, to: Compiled | str) -> Route:
    """From where the saga is to there. Raises LogUnavailable."""
    return to if isinstance(to, str) else (await registry.get(saga.definition.name, saga.definition.version), to)


def addressed(signal: Signal, way: Route | None, saga: Saga) -> Signal:
    """The signal as the saga is told it: a move with where it goes to, any other one as it is."""
    match way:
        case None:
            return signal
        case str(why_not):
            return replace(signal, destination=Destination(None, why_not))
        case (present, to):
            return replace(signal, destination=destination(present, to, saga))


def destination(present: Compiled, to: Compiled, saga: Saga) -> Destination:
    """What a move of the saga from one version to another has to do with."""
    hidden = {*present.definition.secrets, *to.definition.secrets}
    texts = secret_texts(saga.input, hidden)
    complaints = to.check_input(saga.input, saga.labels)
    unusable = tuple(replace(one, description=scrubbed(one.description, texts)) for one in complaints)
    return Destination(to.definition, "", present.definition.version, unusable, frozenset(_described_anew(present, to)))


def _described_anew(present: Compiled, to: Compiled) -> Iterator[str]:
    """The steps that call the same methods, with messages that are described otherwise."""
    others = {step.name: step for step in to.definition.steps}
    for step in present.definition.steps:
        other = others.get(step.name)
        if other is None:
            continue
        for (_, method), (_, its) in zip(methods_of(step), methods_of(other), strict=False):
            if method.path == its.path and not _alike(present.codecs.get(method.path), to.codecs.get(its.path)):
                yield step.name


def _alike(one: MethodCodec | None, other: MethodCodec | None) -> bool:
    if one is None or other is None:
        return one is other
    return all(
        _described(a.descriptor) == _described(b.descriptor)
        for a, b in ((one.request, other.request), (one.reply, other.reply))
    )


def _described(message: Descriptor) -> dict[str, bytes]:
    """The message type, and all types that it is made of, by their names."""
    found: dict[str, bytes] = {}
    pending = [message]
    while pending:
        here = pending.pop()
        if here.full_name in found:
            continue
        proto = DescriptorProto()
        here.CopyToProto(proto)
        found[here.full_name] = proto.SerializeToString(deterministic=True)
        for field in here.fields:
            if field.message_type is not None:
                pending.append(field.message_type)
            elif field.enum_type is not None:
                enum = EnumDescriptorProto()
                field.enum_type.CopyToProto(enum)
                found[field.enum_type.full_name] = enum.SerializeToString(deterministic=True)
    return found
