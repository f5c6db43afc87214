"""The definitions that sagas run by: checked against their participants when applied, compiled when first used."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from orchestrator.certify.certificate import Certificate
from orchestrator.certify.demand import uncertified
from orchestrator.driving import trial
from orchestrator.driving.codec import Descriptors, MethodCodec
from orchestrator.driving.family import Family, Member, replies, unlike_children
from orchestrator.driving.fitting import unfit, unfit_status, unknown_results
from orchestrator.driving.giving import unfit_children
from orchestrator.driving.trial import methods
from orchestrator.errors import FieldViolation, NotFound, Rejected
from orchestrator.saga.definition import Definition
from orchestrator.saga.lint import leaves, lint
from orchestrator.saga.model import Json
from orchestrator.saga.parse import locate, parse
from orchestrator.sagalog.port import DefinitionStore, StoredDefinition

DESCRIBE_TIMEOUT_S = 5.0
# So many definitions, children of children among them, are looked at for a circle.
CHILDREN_MAX = 200

# Lists the newest certificate of each method pair of every participant.
ListCertificates = Callable[[], Awaitable[Sequence[Certificate]]]

# Asks the participant at an address for the descriptors of these services.
Describe = Callable[[str, Collection[str], float], Awaitable[FileDescriptorSet]]


@dataclass(frozen=True, slots=True)
class Compiled:
    """A version of a definition with the codecs of its methods, by their paths."""

    definition: Definition
    codecs: dict[str, MethodCodec]

    def check_input(self, value: Json, labels: dict[str, str]) -> tuple[FieldViolation, ...]:
        """What in a saga's input no step could use: every expression that reads the input alone is tried out."""
        return trial.complaints(self.definition, self.codecs, value, labels)


class Registry:
    """Compiled definitions by name and version. A version never changes, so what is compiled stays."""

    def __init__(
        self, store: DefinitionStore, describe: Describe, certificates: ListCertificates | None = None
    ) -> None:
        """Without `certificates` nobody asks whether participants are certified as a definition demands it."""
        self._certificates = certificates
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
        definition, descriptor_set = await self.check(yaml, descriptor_set)
        content = hashlib.sha256(yaml.encode() + b"\x00" + descriptor_set).hexdigest()
        stored, existing = await self._store.insert_definition(definition.name, content, yaml, descriptor_set)
        self._keep(stored)
        return stored, existing

    async def check(self, yaml: str, descriptor_set: bytes = b"") -> tuple[Definition, bytes]:
        """Check a definition as `apply` does, and store nothing; returns it with its descriptors."""
        definition = parse(yaml)
        try:
            if errors := lint(definition).errors:
                raise Rejected("the definition is not valid", errors)
            family = await self._family(definition)
            await self._check_children(definition, family)
            if not descriptor_set:
                descriptor_set = await self._ask_participants(definition)
            fitting_codecs(definition, descriptor_set, family)
            await self._check_certificates(definition, descriptor_set)
        except Rejected as error:
            raise Rejected("the definition is not valid", locate(yaml, error.violations)) from None
        return definition, descriptor_set

    async def _check_certificates(self, definition: Definition, descriptor_set: bytes) -> None:
        """Raises Rejected when the definition demands certified participants, and one is not."""
        if not definition.certified or self._certificates is None:
            return
        if violations := uncertified(definition, descriptor_set, await self._certificates()):
            raise Rejected("the definition is not valid", tuple(violations))

    async def _family(self, definition: Definition) -> Family:
        """The definitions that it runs, and that those run, as they are stored."""
        found: dict[tuple[str, int], Member] = {}
        pending = [definition]
        while pending:
            for step in pending.pop().steps:
                key = (step.child.definition, step.child.version) if step.child is not None else None
                if key is None or key in found or len(found) >= CHILDREN_MAX:
                    continue
                if (stored := await self._store.get_definition(*key)) is not None:
                    found[key] = member(parse(stored.yaml, stored.version), stored.descriptor_set)
                    pending.append(found[key].definition)
        return found

    async def _check_children(self, definition: Definition, family: Family) -> None:
        """Raises Rejected when a definition that is run as a child is unknown, or would run this one again.

        And when it reads what this one does not give, or one of the two would show a secret of the other.
        """
        violations = []
        for index, step in enumerate(definition.steps):
            if step.child is not None:
                way = await self._way_back(definition.name, step.child.definition, step.child.version)
                if way is not None:
                    violations.append(FieldViolation(f"steps[{index}].saga.definition", way))
        violations.extend(unlike_children(definition, family))
        if violations:
            raise Rejected("the definition is not valid", tuple(violations))

    async def _way_back(self, name: str, child: str, version: int) -> str | None:
        """Why a child cannot be run by the definition `name`; None if it can."""
        ways: dict[tuple[str, int], tuple[str, ...]] = {(child, version): (name, child)}
        pending = [(child, version)]
        while pending:
            known = pending.pop()
            way = ways[known]
            if known[0] == name:
                return f"makes a circle: {' runs '.join(way)}"
            stored = await self._store.get_definition(*known)
            if stored is None:
                which = f"version {known[1]} of {known[0]!r}" if known[1] else repr(known[0])
                return f"there is no definition {which}; apply it first" if len(way) == 2 else None
            for step in parse(stored.yaml).steps:
                further = (step.child.definition, step.child.version) if step.child is not None else None
                if further is not None and further not in ways and len(ways) < CHILDREN_MAX:
                    ways[further] = (*way, further[0])
                    pending.append(further)
        return None

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
        # What was stored was right by the rules of its day, and sagas run by it.
        definition = parse(stored.yaml, stored.version)
        codecs, violations = _codecs(definition, stored.descriptor_set)
        if violations:
            raise Rejected("the definition is not valid", tuple(violations))
        compiled = Compiled(definition, codecs)
        self._compiled[stored.name, stored.version] = compiled
        return compiled


def check_offline(definition: Definition, descriptor_set: bytes, family: Family) -> None:
    """Check a definition as `Registry.check` does, as far as descriptors and family are known. Raises Rejected."""
    violations = tuple(unlike_children(definition, family))
    if descriptor_set:
        try:
            fitting_codecs(definition, descriptor_set, family)
        except Rejected as error:
            violations += error.violations
    else:
        violations += tuple(unfit_children(Member(definition, {}), family))
    if violations:
        raise Rejected("the definition is not valid", violations)


def member(definition: Definition, descriptor_set: bytes) -> Member:
    """A definition as one of a family, with the codecs of those methods that the descriptors have."""
    try:
        return Member(definition, _codecs(definition, descriptor_set)[0])
    except Rejected:
        return Member(definition, {})


def fitting_codecs(
    definition: Definition, descriptor_set: bytes, family: Family = MappingProxyType({})
) -> dict[str, MethodCodec]:
    """The codecs of all methods.

    Raises Rejected when one does not exist, or when a request does not fit it, or what is given to a child of `family`.
    """
    codecs, violations = _codecs(definition, descriptor_set)
    of_steps = replies(Member(definition, codecs), family)
    for field, _, method in methods(definition):
        if method.path in codecs:
            violations.extend(unfit(method, field, codecs[method.path], of_steps))
    for index, step in enumerate(definition.steps):
        if (
            step.action is not None
            and step.status is not None
            and {step.action.path, step.status.path} <= codecs.keys()
        ):
            violations.extend(
                unfit_status(f"steps[{index}].status.method", codecs[step.status.path], of_steps[step.name])
            )
        for leaf in (*leaves(step), *((step.when,) if step.when is not None else ())):
            violations.extend(unknown_results(leaf, of_steps))
    violations.extend(unfit_children(Member(definition, codecs), family))
    if violations:
        raise Rejected("the definition is not valid", tuple(violations))
    return codecs


def _codecs(definition: Definition, descriptor_set: bytes) -> tuple[dict[str, MethodCodec], list[FieldViolation]]:
    """The codecs of the methods that exist, and what is wrong with the others. Raises Rejected."""
    try:
        descriptors = Descriptors(descriptor_set)
    except ValueError as error:
        raise Rejected("the descriptors are not valid", (FieldViolation("descriptor_set", str(error)),)) from None
    codecs: dict[str, MethodCodec] = {}
    violations: list[FieldViolation] = []
    for field, _, method in methods(definition):
        try:
            codecs[method.path] = descriptors.method(method.service_name, method.method_name)
        except KeyError as error:
            violations.append(FieldViolation(f"{field}.method", str(error.args[0])))
    return codecs, violations
