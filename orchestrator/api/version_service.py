"""baton.v1.VersionService: definitions are checked, compared, retired and reinstated, and sagas moved between them."""

from __future__ import annotations

import asyncio

from orchestrator.api import checks, conversion
from orchestrator.api.definition_service import in_file, warnings, yaml_text
from orchestrator.api.errors import Context, UnknownName, answered
from orchestrator.api.moves import Moves, definition_change
from orchestrator.api.port import Definitions, Registry
from orchestrator.api.retirements import NEWEST_FRESH_S
from orchestrator.errors import Rejected
from orchestrator.pb.baton.v1 import versions_pb2, versions_pb2_grpc
from orchestrator.saga.difference import changes
from orchestrator.saga.parse import parse
from orchestrator.sagalog.port import StoredDefinition
from orchestrator.security.caller import current


class VersionService(versions_pb2_grpc.VersionServiceServicer):
    """Serves the API."""

    def __init__(self, registry: Registry, definitions: Definitions, moves: Moves) -> None:
        self._moves = moves
        self._registry = registry
        self._definitions = definitions

    @answered
    async def CheckDefinition(
        self, request: versions_pb2.CheckDefinitionRequest, context: Context
    ) -> versions_pb2.CheckDefinitionResponse:
        """Check a definition, asking its participants for their descriptors if none were sent; store nothing."""
        yaml_text(request.yaml)
        try:
            definition, _ = await self._registry.check(request.yaml, request.descriptor_set)
        except Rejected as error:
            raise in_file(request.file_name, error) from None
        return versions_pb2.CheckDefinitionResponse(name=definition.name, warnings=warnings(request.yaml))

    @answered
    async def DiffDefinitions(
        self, request: versions_pb2.DiffDefinitionsRequest, context: Context
    ) -> versions_pb2.DiffDefinitionsResponse:
        """What differs between two versions in meaning."""
        name = checks.name("name", request.name)
        old = await self._stored("from_version", name, request.from_version)
        new = await self._stored("to_version", name, request.to_version)
        found = changes(parse(old.yaml, old.version), parse(new.yaml, new.version))
        return versions_pb2.DiffDefinitionsResponse(
            from_version=old.version,
            to_version=new.version,
            changes=[definition_change(change) for change in found],
        )

    @answered
    async def RetireDefinition(
        self, request: versions_pb2.RetireDefinitionRequest, context: Context
    ) -> versions_pb2.RetireDefinitionResponse:
        """Refuse new sagas of a version, or of all, from now on."""
        name = checks.name("name", request.name)
        by, reason = checks.who_and_why(request.by, request.reason)
        await self._stored("version", name, request.version)
        retirement, existing = await self._definitions.retire(name, request.version, reason, by)
        # Every replica may go by what it knew before for so long.
        await asyncio.sleep(NEWEST_FRESH_S)
        return versions_pb2.RetireDefinitionResponse(retirement=conversion.retirement(retirement), existing=existing)

    @answered
    async def ReinstateDefinition(
        self, request: versions_pb2.ReinstateDefinitionRequest, context: Context
    ) -> versions_pb2.ReinstateDefinitionResponse:
        """Take a retirement back."""
        name = checks.name("name", request.name)
        await self._stored("version", name, request.version)
        existing = await self._definitions.reinstate(name, request.version)
        await asyncio.sleep(NEWEST_FRESH_S)
        return versions_pb2.ReinstateDefinitionResponse(existing=existing)

    @answered
    async def ListRetirements(
        self, request: versions_pb2.ListRetirementsRequest, context: Context
    ) -> versions_pb2.ListRetirementsResponse:
        """Everything that is retired."""
        found = [entry for entry in await self._definitions.retirements() if current().may_touch(entry.name)]
        return versions_pb2.ListRetirementsResponse(retirements=[conversion.retirement(entry) for entry in found])

    @answered
    async def PlanMove(self, request: versions_pb2.PlanMoveRequest, context: Context) -> versions_pb2.PlanMoveResponse:
        """What a move of a saga to another version would do now."""
        return await self._moves.plan(request)

    @answered
    async def MoveSaga(self, request: versions_pb2.MoveSagaRequest, context: Context) -> versions_pb2.MoveSagaResponse:
        """Let a saga go on under another version."""
        return await self._moves.move(request, context.time_remaining())

    async def _stored(self, field: str, name: str, version: int) -> StoredDefinition:
        """One version; `field` names it in errors. Raises Rejected, UnknownName."""
        if version < 0:
            raise checks.rejected(field, f"{version} is not a version; they count from 1, and 0 is the newest")
        current().require(name)
        stored = await self._definitions.get_definition(name, version)
        if stored is None:
            if version and await self._definitions.get_definition(name, 0) is not None:
                raise UnknownName(field, f"there is no version {version} of definition {name!r}")
            raise UnknownName("name", f"there is no definition {name!r}")
        return stored
