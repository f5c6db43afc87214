"""baton.v1.PauseService: definitions and participants are paused and resumed, on any replica."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol
from uuid import UUID

from orchestrator.api import checks, conversion
from orchestrator.api.errors import Context, UnknownName, answered
from orchestrator.api.patience import looks
from orchestrator.api.port import Definitions, Registry
from orchestrator.errors import NotFound, Rejected, WrongState
from orchestrator.pb.baton.v1 import pauses_pb2 as pb
from orchestrator.pb.baton.v1 import pauses_pb2_grpc
from orchestrator.saga.pausing import PauseKind
from orchestrator.sagalog.port import StoredPause
from orchestrator.security.caller import current

_ADDRESS_CHARS_MAX = 300
_ENDED_MAX = 1000
_NAMED_MAX = 20

_KINDS = {
    PauseKind.DEFINITION: pb.PauseKind.PAUSE_KIND_DEFINITION,
    PauseKind.PARTICIPANT: pb.PauseKind.PAUSE_KIND_PARTICIPANT,
}


class PauseLog(Protocol):
    """Where pauses are kept. All methods raise LogUnavailable, and Overloaded."""

    async def pause(self, kind: PauseKind, name: str, by: str, reason: str) -> tuple[StoredPause, bool]:
        """Store a pause; the one in force, and whether it is this one."""

    async def resume(self, kind: PauseKind, name: str, by: str, reason: str) -> StoredPause | None:
        """Store the end of a pause; None when nothing was paused."""

    async def one(self, number: UUID) -> StoredPause | None:
        """The pause of an id."""

    async def in_force(self) -> list[StoredPause]:
        """What is paused now."""

    async def ended(self, rows: int) -> list[StoredPause]:
        """At most `rows` pauses that have ended, the newest first."""


class PauseService(pauses_pb2_grpc.PauseServiceServicer):
    """Serves the API."""

    def __init__(self, pauses: PauseLog, definitions: Definitions, registry: Registry) -> None:
        self._pauses = pauses
        self._definitions = definitions
        self._registry = registry

    @answered
    async def PauseDefinition(self, request: pb.PauseDefinitionRequest, context: Context) -> pb.PauseAnswer:
        """Its sagas call nobody until it is resumed."""
        name = checks.name("definition", request.definition)
        current().require(name)
        by, reason = checks.who_and_why(request.by, request.reason)
        if await self._definitions.get_definition(name, 0) is None:
            raise UnknownName("definition", f"there is no definition {name!r}")
        return await self._pause(PauseKind.DEFINITION, name, by, reason, context)

    @answered
    async def ResumeDefinition(self, request: pb.ResumeDefinitionRequest, context: Context) -> pb.ResumeAnswer:
        """Its sagas go on."""
        name = checks.name("definition", request.definition)
        current().require(name)
        by, reason = checks.who_and_why(request.by, request.reason)
        return await self._resume(PauseKind.DEFINITION, name, by, reason, context)

    @answered
    async def PauseParticipant(self, request: pb.PauseParticipantRequest, context: Context) -> pb.PauseAnswer:
        """Nobody calls it until it is resumed."""
        address = _address(request.participant)
        by, reason = checks.who_and_why(request.by, request.reason)
        called = await self._participants()
        if address not in called:
            known = ", ".join(sorted(called)[:_NAMED_MAX]) or "nobody"
            raise UnknownName("participant", f"no definition calls {address!r}; they call {known}")
        return await self._pause(PauseKind.PARTICIPANT, address, by, reason, context)

    @answered
    async def ResumeParticipant(self, request: pb.ResumeParticipantRequest, context: Context) -> pb.ResumeAnswer:
        """It is called again, by and by."""
        address = _address(request.participant)
        by, reason = checks.who_and_why(request.by, request.reason)
        return await self._resume(PauseKind.PARTICIPANT, address, by, reason, context)

    @answered
    async def ListPauses(self, request: pb.ListPausesRequest, context: Context) -> pb.ListPausesResponse:
        """What is paused, and what was."""
        found = await self._pauses.in_force()
        if request.ended:
            found += await self._pauses.ended(_ENDED_MAX)
        seen = [one for one in found if one.pause.kind is PauseKind.PARTICIPANT or current().may_touch(one.pause.name)]
        return pb.ListPausesResponse(pauses=[_pause(one) for one in seen])

    async def _pause(self, kind: PauseKind, name: str, by: str, reason: str, context: Context) -> pb.PauseAnswer:
        stored, ours = await self._pauses.pause(kind, name, by, reason)
        if not ours:
            raise WrongState(f"{stored.pause} (it is paused already)")
        stored = await self._until(stored, lambda one: bool(one.heeded_at or one.resumed_at), context)
        return pb.PauseAnswer(pause=_pause(stored), heeded=stored.heeded_at is not None)

    async def _resume(self, kind: PauseKind, name: str, by: str, reason: str, context: Context) -> pb.ResumeAnswer:
        stored = await self._pauses.resume(kind, name, by, reason)
        if stored is None:
            raise WrongState(f"{kind} {name} is not paused")
        stored = await self._until(stored, lambda one: one.released_at is not None, context)
        return pb.ResumeAnswer(pause=_pause(stored), released=stored.released_at is not None)

    async def _until(self, stored: StoredPause, done: Callable[[StoredPause], bool], context: Context) -> StoredPause:
        """The pause, as soon as a leader has done its part, or as it is when the patience is over."""
        if done(stored):
            return stored
        async for _ in looks(context.time_remaining()):
            stored = await self._pauses.one(stored.pause.id) or stored
            if done(stored):
                break
        return stored

    async def _participants(self) -> set[str]:
        """The addresses that any version of a definition calls."""
        called: set[str] = set()
        for listed in await self._definitions.list_definitions():
            try:
                compiled = await self._registry.get(listed.name, listed.version)
            except (NotFound, Rejected):
                continue  # A version that cannot be used calls nobody.
            called.update(step.service for step in compiled.definition.steps if step.service)
        return called


def _address(text: str) -> str:
    """A participant's address. Raises Rejected."""
    if not text:
        raise checks.rejected("participant", "is missing")
    if len(text) > _ADDRESS_CHARS_MAX or not text.isprintable():
        raise checks.rejected("participant", f"{text!r:.60} is not the address of a participant")
    return text


def _pause(stored: StoredPause) -> pb.Pause:
    pause = stored.pause
    return pb.Pause(
        kind=_KINDS[pause.kind],
        name=pause.name,
        paused_by=pause.by,
        reason=pause.reason,
        paused_at=conversion.timestamp(pause.since),
        heeded_at=conversion.timestamp(stored.heeded_at),
        resumed_by=stored.resumed_by,
        resumed_reason=stored.resumed_reason,
        resumed_at=conversion.timestamp(stored.resumed_at),
        released_at=conversion.timestamp(stored.released_at),
    )
