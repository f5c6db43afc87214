"""Reads of the saga log for the API, on any replica; and the request to cancel, which only leaves a note.

Nothing here writes what the leader writes. Every read is bounded: in rows, in bytes, and in time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import orjson

from orchestrator.saga.model import SagaId
from orchestrator.sagalog.pool import Pool, Row
from orchestrator.sagalog.queries import load
from orchestrator.sagalog.records import (
    Fence,
    News,
    SagaFilter,
    SagaRecord,
    TransitionRecord,
    saga_record,
    transition_record,
)

_SQL = load("reader.sql")

# Inputs and results that take more in the table are left out of lists.
_LISTED_BYTES_MAX = 2000
# An id's time is its replica's, `created_at` is Postgres': how far the two clocks may differ before a list by time
# could miss a saga.
_CLOCKS_APART = timedelta(hours=1)
# Finished sagas are counted on at most so many pages of the table (8 kB each); beyond, the count is an estimate.
_SAMPLED_PAGES = 4000

_FIRST_ID = UUID(int=0)
_LAST_ID = UUID(int=(1 << 128) - 1)


class Reader:
    """Every method raises LogUnavailable when Postgres does not answer in time."""

    def __init__(self, pool: Pool, shard: int) -> None:
        self._pool = pool
        self._shard = shard

    async def saga(self, saga_id: SagaId) -> SagaRecord | None:
        """One saga; None when there is none of this id."""
        rows = await self._pool.fetch(_SQL["saga"], {"id": saga_id})
        return saga_record(rows[0]) if rows else None

    async def history(self, saga: SagaRecord, after: int, rows: int, bytes_max: int) -> list[TransitionRecord]:
        """The transitions behind sequence `after` that `saga` has counted in, in order.

        At most `rows`, and as many as have results of `bytes_max` bytes together, but at least one if there is any.
        """
        bounds = {"id": saga.id, "after": after, "last": saga.sequence, "rows": rows, "bytes": bytes_max}
        found = await self._pool.fetch(_SQL["history"], bounds)
        return [transition_record(saga.id, saga.state, saga.sequence, row) for row in found]

    async def find(self, wanted: SagaFilter, before: SagaId | None, page: int) -> list[SagaRecord]:
        """At most `page` sagas, newest first, behind the saga `before`; large inputs and results are left out."""
        rows = await self._pool.fetch(
            _SQL["sagas"],
            {
                "stored_bytes_max": _LISTED_BYTES_MAX,
                "id_from": _bound(wanted.created_after, -_CLOCKS_APART, _FIRST_ID),
                "id_before": min(before or _LAST_ID, _bound(wanted.created_before, _CLOCKS_APART, _LAST_ID)),
                "states": list(wanted.states) or None,
                "definition": wanted.definition or None,
                "labels": orjson.dumps(dict(wanted.labels)).decode() if wanted.labels else None,
                "created_after": wanted.created_after,
                "created_before": wanted.created_before,
                "page": page,
            },
        )
        return [saga_record(row) for row in rows]

    async def news(self, known: Mapping[SagaId, int], rows: int) -> list[News]:
        """What has happened to the sagas behind the sequences given: at most `rows` transitions of each, in order.

        A saga to which nothing has happened is not named, unless it is terminal.
        """
        found = await self._pool.fetch(_SQL["news"], {"ids": list(known), "after": list(known.values()), "rows": rows})
        by_saga: dict[SagaId, list[Row]] = {}
        for row in found:
            by_saga.setdefault(row[0], []).append(row)
        return [_news(SagaId(saga_id), of_saga) for saga_id, of_saga in by_saga.items()]

    async def ended(self, sagas: Sequence[SagaId]) -> list[SagaId]:
        """Those of the sagas that are terminal."""
        return [SagaId(row[0]) for row in await self._pool.fetch(_SQL["ended"], {"ids": list(sagas)})]

    async def request_cancel(self, saga_id: SagaId, reason: str) -> bool:
        """Leave a note for the leader that the saga is to be undone; False when it is terminal, noted, or unknown."""
        rows = await self._pool.fetch(_SQL["request_cancel"], {"id": saga_id, "reason": reason})
        return bool(rows[0][0])

    async def fence(self) -> Fence | None:
        """Who leads the shard by the saga log; None before the first term."""
        rows = await self._pool.fetch(_SQL["fence"], {"shard": self._shard})
        return Fence(*rows[0]) if rows else None

    async def counts(self) -> dict[tuple[str, str], int]:
        """Sagas by definition and state. Exact for those that are not finished, and for the others while they are few.

        Beyond some 40,000 finished sagas their number is estimated from a sample of the table.
        """
        counts = {(row[0], row[1]): int(row[2]) for row in await self._pool.fetch(_SQL["count_unfinished"], {})}
        pages = int((await self._pool.fetch(_SQL["pages"], {}))[0][0])
        share = min(1.0, _SAMPLED_PAGES / max(1, pages))
        for definition, state, count in await self._pool.fetch(_SQL["count_finished"], {"percent": 100 * share}):
            counts[definition, state] = round(count / share)
        return counts

    async def oldest(self) -> dict[str, float]:
        """When the oldest saga of each state that is not done was started, in Unix time; 0 where there is none."""
        return {row[0]: float(row[1]) for row in await self._pool.fetch(_SQL["oldest"], {"shard": self._shard})}

    async def ping(self) -> None:
        """Return if Postgres answers, and has the schema."""
        await self._pool.fetch(_SQL["ping"], {})


def _bound(at: datetime | None, slack: timedelta, otherwise: UUID) -> UUID:
    if at is None:
        return otherwise
    milliseconds = round((at.timestamp() + slack.total_seconds()) * 1000)
    return UUID(int=min(max(milliseconds, 0), (1 << 48) - 1) << 80)


def _news(saga_id: SagaId, rows: list[Row]) -> News:
    _, state, last, *_ = rows[0]
    transitions = (transition_record(saga_id, state, last, row[3:]) for row in rows if row[3] is not None)
    return News(saga_id, state, last, tuple(transitions))
