"""An operator who pauses definitions and participants, and resumes them, at whatever replica there is.

`PauseService` is production's, on a replica that is crashed in its middle: what was not answered is asked again at the
next one, as a person does. What it stores, and that the operator has the answer, are witnessed as the leader's effects
are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from orchestrator.api.errors import Context
from orchestrator.api.pause_service import PauseService
from orchestrator.api.port import Definitions
from orchestrator.api.port import Registry as AnyRegistry
from orchestrator.driving.port import Invocation
from orchestrator.driving.registry import Registry
from orchestrator.pb.baton.v1 import pauses_pb2 as pb
from orchestrator.saga.pausing import Pause, PauseKind, Pauses
from orchestrator.sagalog.port import StoredPause

if TYPE_CHECKING:
    from .flow import Flow
    from .witness import Witness
    from .world import DatedLog, World

BY, REASON, OVER = "ann", "moving house", "moved"

# Within so long the end of a pause is found again by whoever asks for it once more (sagalog/pauses.sql).
_FOUND_AGAIN = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Ask:
    """The operator asks for something when this holds of the world, and so many seconds later."""

    resumes: bool
    kind: PauseKind
    name: str
    when: Callable[[World], bool]
    after_s: float = 0.0


def paused_now(log: DatedLog) -> Pauses:
    """What a leader has said that it goes by."""
    return Pauses(one.pause for one in log.paused.values() if one.heeded_at is not None and one.resumed_at is None)


def begins(world: World, invocation: Invocation) -> None:
    """A call begins, which no pause may hold that a leader goes by."""
    if (holds := paused_now(world.log).holding(invocation.definition, invocation.service)) is not None:
        world.offences += (f"{invocation.idempotency_key} was called: {holds}",)


async def operate(witness: Witness, asks: Sequence[Ask], registry: Registry) -> None:
    """Ask for one thing after the other, from the first one on that was not answered."""
    definitions = cast(Definitions, _Definitions(witness.world.flow))
    service = PauseService(_Pauses(witness), definitions, cast(AnyRegistry, registry))
    while witness.world.answered < len(asks):
        ask = asks[witness.world.answered]
        await witness.changed.until(lambda ask=ask: ask.when(witness.world))  # type: ignore[misc]
        await asyncio.sleep(ask.after_s)
        # Refused: nothing is paused any more; it was resumed so long ago that nobody remembers who did it.
        with suppress(_Refused):
            await _put(service, ask)
        await _note(witness)


async def _put(service: PauseService, ask: Ask) -> None:
    context = cast(Context, _Call())
    if ask.kind is PauseKind.DEFINITION:
        if ask.resumes:
            await service.ResumeDefinition(pb.ResumeDefinitionRequest(definition=ask.name, by=BY, reason=OVER), context)
        else:
            await service.PauseDefinition(pb.PauseDefinitionRequest(definition=ask.name, by=BY, reason=REASON), context)
    elif ask.resumes:
        await service.ResumeParticipant(pb.ResumeParticipantRequest(participant=ask.name, by=BY, reason=OVER), context)
    else:
        await service.PauseParticipant(pb.PauseParticipantRequest(participant=ask.name, by=BY, reason=REASON), context)


async def _note(witness: Witness) -> None:
    """The operator has the answer."""

    async def perform() -> None:
        witness.world.answered += 1

    # An answer whose connection is gone never comes, and none comes twice.
    await witness.effect("answer", perform, lambda world: None)


class _Refused(Exception):
    """The service says no."""


class _Call:
    """What the service needs of the call that it serves."""

    def time_remaining(self) -> float | None:
        return None

    async def abort(self, code: object, details: str, trailers: object) -> None:
        if "is not paused" not in details:
            raise AssertionError(details)
        raise _Refused(details)


class _Definitions:
    """What the service needs of `Definitions`: the names and versions of the flow."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow

    async def get_definition(self, name: str, version: int) -> Any:
        return next((one for one in self._flow.definitions if one.name == name), None)

    async def list_definitions(self) -> list[Any]:
        return list(self._flow.definitions)


class _Pauses:
    """Implements `PauseLog` on the model, witnessed; the statements are those of sagalog/pauses.sql."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness

    async def pause(self, kind: PauseKind, name: str, by: str, reason: str) -> tuple[StoredPause, bool]:
        world = self._witness.world
        number = UUID(int=len(world.log.paused) + 1)
        made, answered = Pause(number, kind, name, by, reason, world.log.now()), world.answered

        def arrive(world: World) -> None:
            # A statement outlives its process by a moment, and not the one that repeats it and was answered.
            if _in_force(world, kind, name) is None and number not in world.log.paused and world.answered == answered:
                world.log.put_pause(made)

        async def perform() -> None:
            arrive(world)

        await self._witness.effect(f"store pause of {name}", perform, arrive)
        found = _in_force(world, kind, name) or world.log.paused[number]
        return found, (found.pause.by, found.pause.reason) == (by, reason)

    async def resume(self, kind: PauseKind, name: str, by: str, reason: str) -> StoredPause | None:
        world = self._witness.world

        def arrive(world: World) -> None:
            if (found := _in_force(world, kind, name)) is not None:
                ended = replace(found, resumed_by=by, resumed_reason=reason, resumed_at=world.log.now())
                world.log.paused[found.pause.id] = ended

        async def perform() -> None:
            arrive(world)

        await self._witness.effect(f"store end of pause of {name}", perform, arrive)
        lately = world.log.now() - _FOUND_AGAIN
        for one in reversed(world.log.paused.values()):
            its = (one.pause.kind, one.pause.name, one.resumed_by, one.resumed_reason) == (kind, name, by, reason)
            if its and one.resumed_at is not None and one.resumed_at > lately:
                return one
        return None

    async def one(self, number: UUID) -> StoredPause | None:
        return self._witness.world.log.paused.get(number)

    async def in_force(self) -> list[StoredPause]:
        return [one for one in self._witness.world.log.paused.values() if one.resumed_at is None]

    async def ended(self, rows: int) -> list[StoredPause]:
        return [one for one in self._witness.world.log.paused.values() if one.resumed_at is not None][:rows]


def _in_force(world: World, kind: PauseKind, name: str) -> StoredPause | None:
    stored = world.log.paused.values()
    return next(
        (one for one in stored if (one.pause.kind, one.pause.name) == (kind, name) and one.resumed_at is None), None
    )
