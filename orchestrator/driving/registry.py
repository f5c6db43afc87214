"""The definitions that sagas run by: checked against their participants when applied, compiled when first used."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Collection, Iterator
from dataclasses import dataclass

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from orchestrator.driving.codec import Descriptors, MethodCodec
from orchestrator.driving.scalars import WrongType
from orchestrator.errors import FieldViolation, NotFound, Rejected
from orchestrator.saga.definition import Definition, Method, Step
from orchestrator.saga.mapping import Leaf, PointsNowhere, Tree
from orchestrator.saga.model import Json
from orchestrator.saga.parse import parse
from orchestrator.sagalog.port import DefinitionStore, StoredDefinition

DESCRIBE_TIMEOUT_S = 5.0

# Asks the participant at an address for the descriptors of these services.
Describe = Callable[[str, Collection[str], float], Awaitable[FileDescriptorSet]]


@dataclass(frozen=True, slots=True)
class Compiled:
    """A version of a definition with the codecs of its methods, by their paths."""

    definition: Definition
    codecs: dict[str, MethodCodec]

    def check_input(self, value: Json, labels: dict[str, str]) -> tuple[FieldViolation, ...]:
        """What in a saga's input no step could use: every expression that reads the input alone is tried out."""
        saga = {"id": "", "definition": self.definition.name, "version": self.definition.version, "labels": labels}
        context = {"input": value, "results": {}, "saga": saga}
        violations: list[FieldViolation] = []
        for _, _, method in methods(self.definition):
            try:
                request = method.request.evaluate(context, input_alone=True)
                self.codecs[method.path].encode(request)
            except PointsNowhere as error:
                violations.extend(error.violations)
            except WrongType as error:
                violations.append(FieldViolation(_source(method, error.field), error.description))
        return tuple(dict.fromkeys(violations))


class Registry:
    """Compiled definitions by name and version. A version never changes, so what is compiled stays."""

    def __init__(self, store: DefinitionStore, describe: Describe) -> None:
        self._store = store
        self._describe = describe
        self._compiled: dict[tuple[str, int], Compiled] = {}

    async def get(self, name: str, version: int) -> Compiled:
        """One version. Raises NotFound, LogUnavailable, and Rejected when what is stored cannot be used."""
        compiled = self._compiled.get((name, version))
        if compiled is None:
            stored = await self._store.get_definition(name, version)
            if stored is None:
                raise NotFound(f"there is no version {version} of definition {name!r}")
            compiled = self._keep(stored)
        return compiled

    async def newest(self, name: str) -> Compiled:
        """The newest version. Raises as `get` does."""
        stored = await self._store.get_definition(name, 0)
        if stored is None:
            raise NotFound(f"there is no definition {name!r}; apply it first")
        return self._compiled.get((stored.name, stored.version)) or self._keep(stored)

    def codec(self, name: str, version: int, path: str) -> MethodCodec:
        """The codec of a method of a version that `get` has returned before."""
        return self._compiled[name, version].codecs[path]

    def services(self) -> set[str]:
        """The addresses of all participants of the definitions in use."""
        steps = (step for compiled in self._compiled.values() for step in compiled.definition.steps)
        return {step.service for step in steps if step.service}

    async def apply(self, yaml: str, descriptor_set: bytes = b"") -> tuple[StoredDefinition, bool]:
        """Check a definition and store it as the next version, unless the newest equal one is there already.

        Without `descriptor_set`, the participants are asked for their descriptors. Returns the stored version and
        whether it existed before. Raises Rejected with all violations, Retryable when a participant is away.
        """
        definition = parse(yaml)
        if not descriptor_set:
            descriptor_set = await self._ask_participants(definition)
        _compile(definition, descriptor_set)
        content = hashlib.sha256(yaml.encode() + b"\x00" + descriptor_set).hexdigest()
        stored, existing = await self._store.insert_definition(definition.name, content, yaml, descriptor_set)
        self._keep(stored)
        return stored, existing

    async def _ask_participants(self, definition: Definition) -> bytes:
        wanted: dict[str, set[str]] = {}
        fields: dict[str, str] = {}
        for index, step in enumerate(definition.steps):
            if step.service:
                wanted.setdefault(step.service, set())
                fields.setdefault(step.service, f"steps[{index}].service")
        for _, step, method in methods(definition):
            wanted[step.service].add(method.service_name)
        files = {}
        violations: list[FieldViolation] = []
        for address, services in wanted.items():
            try:
                described = await self._describe(address, sorted(services), DESCRIBE_TIMEOUT_S)
            except Rejected as error:
                violations.append(FieldViolation(fields[address], str(error)))
                continue
            files.update({file.name: file for file in described.file})
        if violations:
            raise Rejected("the definition is not valid", tuple(violations))
        return FileDescriptorSet(file=[files[name] for name in sorted(files)]).SerializeToString(deterministic=True)

    def _keep(self, stored: StoredDefinition) -> Compiled:
        definition = parse(stored.yaml, stored.version)
        compiled = Compiled(definition, _compile(definition, stored.descriptor_set))
        self._compiled[stored.name, stored.version] = compiled
        return compiled


def methods(definition: Definition) -> Iterator[tuple[str, Step, Method]]:
    """Every method of a definition, with its step and the path of its field."""
    for index, step in enumerate(definition.steps):
        if step.action is not None:
            yield f"steps[{index}].action", step, step.action
        if step.status is not None:
            yield f"steps[{index}].status", step, step.status
        if step.compensation is not None:
            yield f"steps[{index}].compensation", step, step.compensation.method


def _compile(definition: Definition, descriptor_set: bytes) -> dict[str, MethodCodec]:
    """The codecs of all methods. Raises Rejected when a method or a field of a request does not exist."""
    try:
        descriptors = Descriptors(descriptor_set)
    except ValueError as error:
        raise Rejected("the descriptors are not valid", (FieldViolation("descriptor_set", str(error)),)) from None
    codecs: dict[str, MethodCodec] = {}
    replies: dict[str, MethodCodec] = {}
    violations: list[FieldViolation] = []
    for field, step, method in methods(definition):
        try:
            codec = codecs[method.path] = descriptors.method(method.service_name, method.method_name)
        except KeyError as error:
            violations.append(FieldViolation(f"{field}.method", str(error.args[0])))
            continue
        violations.extend(_unknown_fields(codec, method.request.tree, f"{field}.request"))
        if method is step.action:
            replies[step.name] = codec
    for _, _, method in methods(definition):
        violations.extend(_unknown_results(method, replies))
    if violations:
        raise Rejected("the definition is not valid", tuple(violations))
    return codecs


def _unknown_fields(codec: MethodCodec, tree: Tree, field: str) -> Iterator[FieldViolation]:
    """Fields of a request mapping that the request message does not have."""
    pending = [(codec.request.descriptor, tree, field)]
    while pending:
        descriptor, node, path = pending.pop()
        if descriptor.full_name.startswith("google.protobuf.") or descriptor.GetOptions().map_entry:
            continue
        for name, child in node.items():
            known = descriptor.fields_by_name.get(name)
            if known is None:
                fields = ", ".join(descriptor.fields_by_name)
                yield FieldViolation(f"{path}.{name}", f"{descriptor.full_name} has no such field; it has {fields}")
            elif not isinstance(child, Leaf):
                if known.message_type is None:
                    yield FieldViolation(f"{path}.{name}", f"is no message in {descriptor.full_name}")
                else:
                    pending.append((known.message_type, child, f"{path}.{name}"))


def _unknown_results(method: Method, replies: dict[str, MethodCodec]) -> Iterator[FieldViolation]:
    """Plain paths into a step's result that its reply message does not have."""
    for leaf in method.request.leaves():
        path = leaf.path or ()
        if len(path) < 3 or path[0] != "results" or path[1] not in replies:
            continue
        descriptor = replies[path[1]].reply.descriptor
        if path[2] not in descriptor.fields_by_name:
            fields = ", ".join(descriptor.fields_by_name) or "no fields"
            yield FieldViolation(leaf.field, f"{leaf.expression!r}: {descriptor.full_name} has {fields}")


def _source(method: Method, field: str) -> str:
    """The caller's own field that feeds `field` of a request, where the mapping is a plain path into the input."""
    head, dot, rest = field.partition(".")
    bare = head.partition("[")[0]
    node = method.request.tree.get(bare)
    if isinstance(node, Leaf) and node.path is not None and node.path[0] == "input":
        return ".".join(node.path) + head[len(bare) :] + dot + rest
    return f"input (as {method.path} field {field})"
