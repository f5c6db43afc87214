"""A model of the event log in memory; tests/contract/test_event_log.py holds it to what Postgres does."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from orchestrator.errors import LogUnavailable
from orchestrator.events.model import ConsumerRecord, Cursor, EventFilter, EventPage, EventRecord
from orchestrator.saga.model import Failure, SagaId
from orchestrator.sagalog.records import TransitionRecord

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def an_event(
    position: int, saga: int = 1, sequence: int = 1, status: str = "completed", state: str = "RUNNING", epoch: int = 1
) -> EventRecord:
    """An event that says what is given, of a saga of the definition `order`."""
    saga_id = SagaId(UUID(int=saga))
    failure = Failure("pay", "FAILED_PRECONDITION", "a secret") if status == "failed" else None
    row = TransitionRecord(saga_id, sequence, "pay", 1, status, 1, '{"card": "secret"}', failure, epoch, NOW, state)
    return EventRecord(Cursor(epoch, position), "order", 3, row)


@dataclass
class MemoryEvents:
    """Implements `EventLog`. `away` makes it unreachable; `pages` counts the pages that were read."""

    events: list[EventRecord] = field(default_factory=list)
    kept: dict[str, Cursor] = field(default_factory=dict)
    removed: int = 0
    away: bool = False
    pages: int = 0

    def remove(self, count: int) -> None:
        """What retention does."""
        gone, self.events = self.events[:count], self.events[count:]
        self.removed = max([self.removed, *(event.cursor.position for event in gone)])

    async def page(self, after: Cursor, wanted: EventFilter, rows: int) -> EventPage:
        self._answer()
        self.pages += 1
        looked = [
            event
            for event in self.events
            if event.cursor > after and wanted.saga_id in (None, event.transition.saga_id)
        ][: rows + 1]
        taken = looked[:rows]
        end = taken[-1].cursor if taken else after
        last = len(looked) < rows
        return EventPage(tuple(filter(wanted.fits, taken)), end, last, self.removed if taken else 0)

    async def head(self) -> Cursor:
        self._answer()
        return max((event.cursor for event in self.events), default=Cursor(0, 0))

    async def horizon(self) -> int:
        self._answer()
        return self.removed

    async def consumer(self, name: str) -> Cursor | None:
        self._answer()
        return self.kept.get(name)

    async def commit(self, name: str, cursor: Cursor) -> Cursor:
        self._answer()
        self.kept[name] = max(self.kept.get(name, cursor), cursor)
        return self.kept[name]

    async def advance(self, name: str, seen: Cursor, cursor: Cursor) -> Cursor | None:
        self._answer()
        if self.kept.get(name) == seen:
            self.kept[name] = cursor
        return self.kept.get(name)

    async def reset(self, name: str, cursor: Cursor) -> None:
        self._answer()
        self.kept[name] = cursor

    async def delete(self, name: str) -> bool:
        self._answer()
        return self.kept.pop(name, None) is not None

    async def consumers(self) -> list[ConsumerRecord]:
        self._answer()
        return [
            ConsumerRecord(
                name,
                cursor,
                NOW,
                len(behind := [event for event in self.events if event.cursor > cursor]),
                behind[0].transition.at if behind else None,
                cursor.expired(self.removed),
            )
            for name, cursor in sorted(self.kept.items())
        ]

    def _answer(self) -> None:
        if self.away:
            raise LogUnavailable("away")
