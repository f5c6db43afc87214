"""baton.v1.HoldService: what is held, and how it is let go on."""

from __future__ import annotations

import asyncio

from orchestrator.api import checks, conversion
from orchestrator.api.errors import Context, UnknownName, answered
from orchestrator.api.port import Definitions
from orchestrator.api.retirements import NEWEST_FRESH_S
from orchestrator.api.start_holds import StartHolds
from orchestrator.pb.baton.v1 import holds_pb2, holds_pb2_grpc
from orchestrator.sagalog.records import StartHold
from orchestrator.security.caller import current


class HoldService(holds_pb2_grpc.HoldServiceServicer):
    """Serves the API."""

    def __init__(self, start_holds: StartHolds, definitions: Definitions) -> None:
        self._start_holds = start_holds
        self._definitions = definitions

    @answered
    async def ListStartHolds(
        self, request: holds_pb2.ListStartHoldsRequest, context: Context
    ) -> holds_pb2.ListStartHoldsResponse:
        """What is held now."""
        found = [hold for hold in await self._start_holds.start_holds() if current().may_touch(hold.definition)]
        return holds_pb2.ListStartHoldsResponse(holds=[_start_hold(hold) for hold in found])

    @answered
    async def ReleaseStarts(
        self, request: holds_pb2.ReleaseStartsRequest, context: Context
    ) -> holds_pb2.ReleaseStartsResponse:
        """Let new starts of a definition through again."""
        name = checks.name("definition", request.definition)
        current().require(name)
        by, reason = checks.who_and_why(request.by, request.reason)
        if await self._definitions.get_definition(name, 0) is None:
            raise UnknownName("definition", f"there is no definition {name!r}")
        ended = await self._start_holds.release(name, by, reason)
        # Every replica may go by what it knew before for so long.
        await asyncio.sleep(NEWEST_FRESH_S)
        return holds_pb2.ReleaseStartsResponse(ended=None if ended is None else _start_hold(ended))


def _start_hold(hold: StartHold) -> holds_pb2.StartHold:
    return holds_pb2.StartHold(
        definition=hold.definition,
        since=conversion.timestamp(hold.since),
        until=conversion.timestamp(hold.until),
        of_last=hold.of_last,
        turned_back=hold.turned_back,
    )
