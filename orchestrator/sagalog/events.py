"""The event stream in Postgres: pages of the step log in the order of their log positions, and consumers' positions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence

from orchestrator.errors import LogUnavailable
from orchestrator.events.model import ConsumerRecord, Cursor, EventFilter, EventPage, EventRecord
from orchestrator.saga.model import SagaId
from orchestrator.sagalog.pool import Pool, Row
from orchestrator.sagalog.queries import load
from orchestrator.sagalog.records import transition_record

_SQL = load("events.sql")

_CONSUMERS_MAX = 1000
_LAG_COUNTED_MAX = 10_000
# Results in one page take at most so many bytes as they are stored, but for the first.
_PAYLOAD_BYTES_MAX = 1_000_000
_RACES_MAX = 20

Shown = Callable[[EventRecord], Awaitable[EventRecord]]


class PostgresEvents:
    """Implements `EventLog` for one shard, on connections of the pool. `shown` hides the secrets of an event."""

    def __init__(self, pool: Pool, shard: int, shown: Shown) -> None:
        self._pool = pool
        self._shard = shard
        self._shown = shown

    async def page(self, after: Cursor, wanted: EventFilter, rows: int) -> EventPage:
        """The wanted events among the next `rows`. See `EventLog.page`."""
        parameters = {
            "shard": self._shard,
            "epoch": after.epoch,
            "position": after.position,
            "saga": wanted.saga_id,
            "rows": rows,
            "payloads": wanted.payloads,
            "bytes": _PAYLOAD_BYTES_MAX,
        }
        found = await self._pool.fetch(_SQL["page"], parameters)
        if not found:
            return EventPage((), after, True, 0)
        looked, horizon, epoch, position, *_ = found[-1]
        # A row without a saga is another shard's, or its saga is being removed.
        events = [_event(row, after.accepted) for row in found if row[4] is not None]
        if wanted.payloads:
            events = [await self._shown(event) for event in events]
        last = len(found) == looked < rows
        end = Cursor(epoch, position, after.accepted)
        return EventPage(tuple(filter(wanted.fits, events)), end, last, horizon)

    async def head(self) -> Cursor:
        """The place behind the last event."""
        rows = await self._pool.fetch(_SQL["head"], {})
        return Cursor(*rows[0]) if rows else Cursor(0, 0)

    async def horizon(self) -> int:
        """The highest log position that was ever removed."""
        return int((await self._pool.fetch(_SQL["horizon"], {}))[0][0])

    async def consumer(self, name: str) -> Cursor | None:
        """How far a consumer has come."""
        rows = await self._pool.fetch(_SQL["consumer"], {"name": name})
        return Cursor(*rows[0]) if rows else None

    async def commit(self, name: str, cursor: Cursor) -> Cursor:
        """Move a consumer forward. See `EventLog.commit`."""
        place = _place(name, cursor)
        for _ in range(_RACES_MAX):
            if rows := await self._pool.fetch(_SQL["commit"], place) or await self._pool.fetch(_SQL["consumer"], place):
                return Cursor(*rows[0])
            # Somebody deleted the consumer between the two: make it anew.
        raise LogUnavailable(f"the consumer {name!r} is deleted again and again; commit again")

    async def advance(self, name: str, seen: Cursor, cursor: Cursor) -> Cursor | None:
        """Move a consumer from where it was seen. See `EventLog.advance`."""
        parameters = {**_place(name, cursor), "seen_epoch": seen.epoch, "seen_position": seen.position}
        rows = await self._pool.fetch(_SQL["advance"], parameters)
        return Cursor(*rows[0]) if rows else await self.consumer(name)

    async def reset(self, name: str, cursor: Cursor) -> None:
        """Set a consumer to `cursor`."""
        await self._pool.fetch(_SQL["reset"], _place(name, cursor))

    async def delete(self, name: str) -> bool:
        """Forget a consumer."""
        return bool(await self._pool.fetch(_SQL["delete"], {"name": name}))

    async def consumers(self) -> list[ConsumerRecord]:
        """All consumers by name."""
        bounds = {"counted_max": _LAG_COUNTED_MAX, "limit": _CONSUMERS_MAX}
        rows = await self._pool.fetch(_SQL["consumers"], bounds)
        return [
            ConsumerRecord(name, Cursor(epoch, position, accepted), committed_at, lag, oldest, expired)
            for name, epoch, position, accepted, committed_at, lag, oldest, expired in rows
        ]


class UnseenEvents:
    """Implements `Keepers`: a saga stays until the consumer `name` has come past its last event."""

    def __init__(self, pool: Pool, name: str) -> None:
        self._pool = pool
        self._name = name

    async def kept(self, sagas: Sequence[SagaId]) -> Collection[SagaId]:
        """Those of the sagas that must not go yet. Raises LogUnavailable, Overloaded."""
        rows = await self._pool.fetch(_SQL["unseen"], {"ids": list(sagas), "name": self._name})
        return {SagaId(row[0]) for row in rows}


def _place(name: str, cursor: Cursor) -> dict[str, str | int]:
    return {"name": name, "epoch": cursor.epoch, "position": cursor.position, "accepted": cursor.accepted}


def _event(row: Row, accepted: int) -> EventRecord:
    _, _, epoch, position, saga_id, definition, version, state, last, *log_row = row
    transition = transition_record(SagaId(saga_id), state, last, tuple(log_row))
    return EventRecord(Cursor(epoch, position, accepted), definition, version, transition)
