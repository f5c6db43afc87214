"""The production relay beside the leader: what it reads of the world, and what it leaves there, both witnessed.

A crash strikes the relay as it strikes the leader: what is published and not kept is published again, nothing is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from orchestrator.events.model import Cursor, EventFilter, EventPage, EventRecord
from orchestrator.events.port import EventLog
from orchestrator.events.relay import Relay
from orchestrator.sagalog.records import TransitionRecord
from orchestrator.telemetry import Metrics

from .witness import Witness
from .world import World, day_time

# So few that a page ends in the middle of a saga.
_PAGE = 3


async def relay(witness: Witness, metrics: Metrics, leading: Callable[[], bool]) -> None:
    """Relay until cancelled."""
    # What the relay does not ask for is not there.
    events = cast(EventLog, _Events(witness))
    await Relay(events, _Broker(witness), metrics, _PAGE, payloads=False).run(leading)


class _Events:
    """What the relay needs of an `EventLog`: the rows of the log in the order of their commits."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness

    async def page(self, after: Cursor, wanted: EventFilter, rows: int) -> EventPage:
        world = self._witness.world
        found = [_event(world, number) for number in range(after.position, len(world.log.order))][:rows]
        end = found[-1].cursor if found else after
        return EventPage(tuple(found), end, len(found) < rows, 0)

    async def horizon(self) -> int:
        return 0

    async def consumer(self, name: str) -> Cursor | None:
        return self._witness.world.relayed

    async def commit(self, name: str, cursor: Cursor) -> Cursor:
        def keep(world: World) -> Cursor:
            world.relayed = max(world.relayed or cursor, cursor)
            return world.relayed

        return await self._kept(keep)

    async def advance(self, name: str, seen: Cursor, cursor: Cursor) -> Cursor | None:
        def keep(world: World) -> Cursor:
            if world.relayed == seen:
                world.relayed = cursor
            return world.relayed or cursor

        return await self._kept(keep)

    async def _kept(self, keep: Callable[[World], Cursor]) -> Cursor:
        async def perform() -> Cursor:
            return keep(self._witness.world)

        return await self._witness.effect("keep position", perform, keep)


class _Broker:
    """Implements `Sink`: the broker has what it was sent, once for each time."""

    def __init__(self, witness: Witness) -> None:
        self._witness = witness

    async def publish(self, events: Sequence[EventRecord]) -> None:
        ids = [(event.transition.saga_id, event.transition.sequence) for event in events]

        def arrive(world: World) -> None:
            world.published += ids

        async def perform() -> None:
            arrive(self._witness.world)

        await self._witness.effect(f"publish {', '.join(str(number) for _, number in ids)}", perform, arrive)

    async def close(self) -> None:
        pass


def _event(world: World, number: int) -> EventRecord:
    """The event at a place in the order of commits, counted from 0."""
    saga_id, sequence = world.log.order[number]
    row = world.log.rows[saga_id]
    event = row.events[sequence - 1]
    at = day_time(world.log.dates[saga_id][sequence - 1])
    definition = world.flow.definition_of(row.definition)
    step = definition.step(event.position).name if event.position else None
    record = TransitionRecord(
        saga_id,
        sequence,
        step,
        event.position,
        str(event.status),
        event.attempt,
        None,
        None,
        event.epoch,
        at,
        row.state,
    )
    return EventRecord(Cursor(event.epoch, number + 1), row.definition, row.version, record)
