"""baton.v1.DefinitionService: definitions are checked, stored as immutable versions, and read."""

from __future__ import annotations

import asyncio

from orchestrator.api import checks, conversion
from orchestrator.api.errors import Context, UnknownName, answered
from orchestrator.api.port import Definitions, Registry
from orchestrator.api.retirements import NEWEST_FRESH_S
from orchestrator.errors import Rejected
from orchestrator.pb.baton.v1 import saga_pb2, saga_pb2_grpc
from orchestrator.saga.lint import lint
from orchestrator.saga.parse import locate, parse
from orchestrator.security.caller import current

YAML_CHARS_MAX = 1_000_000


class DefinitionService(saga_pb2_grpc.DefinitionServiceServicer):
    """Serves the API."""

    def __init__(self, registry: Registry, definitions: Definitions) -> None:
        self._registry = registry
        self._definitions = definitions

    @answered
    async def ApplyDefinition(
        self, request: saga_pb2.ApplyDefinitionRequest, context: Context
    ) -> saga_pb2.ApplyDefinitionResponse:
        """Check a definition, asking its participants for their descriptors if none were sent, and store it."""
        yaml_text(request.yaml)
        try:
            stored, existing = await self._registry.apply(request.yaml, request.descriptor_set)
        except Rejected as error:
            raise in_file(request.file_name, error) from None
        if not existing:
            # Every replica may take the version before for the newest one for so long.
            await asyncio.sleep(NEWEST_FRESH_S)
        return saga_pb2.ApplyDefinitionResponse(
            definition=conversion.definition(stored), existing=existing, warnings=warnings(stored.yaml)
        )

    @answered
    async def GetDefinition(self, request: saga_pb2.GetDefinitionRequest, context: Context) -> saga_pb2.Definition:
        """One version, with its text."""
        name, version = checks.name("name", request.name), checks.version(request.version)
        current().require(name)
        stored = await self._definitions.get_definition(name, version)
        if stored is None:
            if version and await self._definitions.get_definition(name, 0) is not None:
                raise UnknownName("version", f"there is no version {version} of definition {name!r}")
            raise UnknownName("name", f"there is no definition {name!r}")
        return conversion.definition(stored)

    @answered
    async def ListDefinitions(
        self, request: saga_pb2.ListDefinitionsRequest, context: Context
    ) -> saga_pb2.ListDefinitionsResponse:
        """All versions that the caller has a right to, without their texts."""
        listed = [entry for entry in await self._definitions.list_definitions() if current().may_touch(entry.name)]
        return saga_pb2.ListDefinitionsResponse(definitions=[conversion.definition(entry) for entry in listed])


def yaml_text(text: str) -> None:
    """Check the size of a definition's text. Raises Rejected."""
    if len(text) > YAML_CHARS_MAX:
        raise checks.rejected("yaml", f"has {len(text)} characters; {YAML_CHARS_MAX} are allowed")
    if not text.strip():
        raise checks.rejected("yaml", "is missing")


def warnings(yaml: str) -> list[str]:
    """What the linter warns of in a definition that is right otherwise, a line for each."""
    return [violation.told for violation in locate(yaml, lint(parse(yaml)).warnings)]


def in_file(file_name: str, error: Rejected) -> Rejected:
    """The error with the name of the caller's file before it."""
    if not file_name:
        return error
    return Rejected(f"{file_name:.200}: the definition is refused", error.violations) if error.violations else error
