"""An order for many sagas, carried out by a replica that is crashed in its middle: the client goes on at the next one.

`carry_out` and `CancelOrder` are production's; what they read of the world, and what they leave there, is witnessed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from orchestrator.api.bulk_service import carry_out
from orchestrator.api.orders import CancelOrder
from orchestrator.api.port import SagaReader
from orchestrator.pb.baton.v1 import bulk_pb2
from orchestrator.saga.model import SagaId
from orchestrator.sagalog.memory_rows import Row
from orchestrator.sagalog.records import SagaFilter, SagaRecord

if TYPE_CHECKING:
    from .witness import Witness
    from .world import World

REASON = "the campaign is off"

# So few that the client has to come again for the rest.
_MOST = 2
_LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class Told:
    """What the client has been told: of which sagas, what came of the order, and behind which it is to go on."""

    items: tuple[tuple[str, int], ...] = ()
    reached: str = ""
    over: bool = False


async def cancel_many(witness: Witness, ripe: Callable[[World], bool]) -> None:
    """Have all sagas undone as soon as the world is `ripe`, from where the client knows that it was done."""
    while not ripe(witness.world):
        await asyncio.sleep(_LOOK_S)
    reader = cast(SagaReader, _Reader(witness))
    while not witness.world.bulk.over:
        request = bulk_pb2.BulkCancelRequest(reason=REASON, max=_MOST, after_saga_id=witness.world.bulk.reached)
        request.filter.all = True
        request.as_of.FromDatetime(witness.world.log.now())
        async for report in carry_out(CancelOrder(reader, REASON), reader, request):
            await _note(witness, report)


async def _note(witness: Witness, report: bulk_pb2.BulkReport) -> None:
    """The client has the report."""
    items = tuple((item.saga_id, int(item.outcome)) for item in report.items)
    over = report.finished and not report.more

    async def perform() -> None:
        world = witness.world
        world.bulk = Told((*world.bulk.items, *items), report.reached_saga_id, over)

    # What a broken stream had under way never comes, and nothing on it comes twice.
    await witness.effect("report", perform, lambda world: None)


class _Reader:
    """What the order needs of a `SagaReader`."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness

    async def find(self, wanted: SagaFilter, before: SagaId | None, page: int) -> list[SagaRecord]:
        rows = sorted(self._witness.world.log.rows.values(), key=lambda row: row.id, reverse=True)
        return [
            _record(row) for row in rows if row.state.value in wanted.states and (before is None or row.id < before)
        ][:page]

    async def saga(self, saga_id: SagaId) -> SagaRecord | None:
        return _record(self._witness.world.log.rows[saga_id])

    async def request_cancel(self, saga_id: SagaId, reason: str) -> bool:
        def arrive(world: World) -> bool:
            row = world.log.rows[saga_id]
            if row.state.terminal or row.cancel_reason is not None:
                return False
            world.log.request_cancel(saga_id, reason)
            return True

        async def perform() -> bool:
            return arrive(self._witness.world)

        return await self._witness.effect(f"cancel {saga_id.int}", perform, arrive)


def _record(row: Row) -> SagaRecord:
    at = row.created_at
    return SagaRecord(
        row.id, row.definition, row.version, row.state.value, None, len(row.events), None, None, None, row.labels, "",
        row.cancel_reason, row.wake_at, at, at, None,
    )  # fmt: skip
