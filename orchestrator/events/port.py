"""What streams and the relay need of the saga log, and what the relay needs of a broker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from orchestrator.errors import BatonError
from orchestrator.events.model import ConsumerRecord, Cursor, EventFilter, EventPage, EventRecord


class CursorExpired(BatonError):
    """What follows this place was removed by retention: begin at the earliest event that is kept, or at the latest."""

    def __init__(self, cursor: Cursor) -> None:
        super().__init__(
            f"retention has removed events behind the cursor {cursor}; begin at the earliest event that is kept, or "
            "behind the last (a consumer: `baton events reset NAME --to earliest|latest`)"
        )


class SinkUnavailable(BatonError):
    """The broker did not take an event, or nobody knows whether it did: publish it again."""


class EventLog(Protocol):
    """The events in order, and the consumers' positions. All methods raise LogUnavailable and Overloaded."""

    async def page(self, after: Cursor, wanted: EventFilter, rows: int) -> EventPage:
        """The wanted events among the next `rows` behind `after`."""

    async def head(self) -> Cursor:
        """The place behind the last event."""

    async def horizon(self) -> int:
        """The highest log position that was ever removed; 0 when none was."""

    async def consumer(self, name: str) -> Cursor | None:
        """How far a consumer has come; None when it is not known."""

    async def commit(self, name: str, cursor: Cursor) -> Cursor:
        """Move a consumer forward to `cursor`, make it if need be; returns where it stands now."""

    async def advance(self, name: str, seen: Cursor, cursor: Cursor) -> Cursor | None:
        """Move a consumer from `seen` to `cursor`; returns where it stands now, elsewhere if somebody else moved it.

        None when the consumer is not known any more.
        """

    async def reset(self, name: str, cursor: Cursor) -> None:
        """Set a consumer to `cursor`, make it if need be."""

    async def delete(self, name: str) -> bool:
        """Forget a consumer; False when it was not known."""

    async def consumers(self) -> list[ConsumerRecord]:
        """All consumers by name."""


class Sink(Protocol):
    """A broker, as the relay sees it: the only thing that another broker needs to bring along."""

    async def publish(self, events: Sequence[EventRecord]) -> None:
        """Return when the broker has all of `events` durably. They are of different sagas: their order is free.

        May be repeated with events that the broker has; where it can it drops them by their ids. Raises
        SinkUnavailable when not all were acknowledged in time.
        """

    async def close(self) -> None:
        """Drop the connection."""
