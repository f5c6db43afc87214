"""Reads of the saga log for the API, on any replica; and the request to cancel, which only leaves a note.

Nothing here writes what the leader writes. Every read is bounded: in rows, in bytes, and in time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.saga.model import SagaId
from orchestrator.sagalog.pool import Pool, Row
from orchestrator.sagalog.port import child_request
from orchestrator.sagalog.queries import load
from orchestrator.sagalog.records import (
    Fence,
    Found,
    News,
    SagaFilter,
    SagaRecord,
    Started,
    TransitionRecord,
    saga_record,
    transition_record,
)
from orchestrator.sagalog.search import LISTED_BYTES_MAX, Search, id_range

_SQL = load("reader.sql")


class Reader:
    """Every method raises LogUnavailable when Postgres does not answer in time."""

    def __init__(self, pool: Pool, shard: int, searches: Pool | None = None) -> None:
        self._pool = pool
        self._shard = shard
        self._search = Search(searches or pool)

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
        """At most `page` sagas, newest first, behind the saga `before`; large inputs and results are left out.

        A filter by label or input is searched for as long as that takes; `search` says how far it came meanwhile.
        """
        if wanted.searched:
            return await self._found(wanted, before, page)
        rows = await self._pool.fetch(
            _SQL["sagas"],
            {
                "stored_bytes_max": LISTED_BYTES_MAX,
                **id_range(wanted, before),
                "states": list(wanted.states) or None,
                "definition": wanted.definition or None,
                "created_after": wanted.created_after,
                "created_before": wanted.created_before,
                "page": page,
            },
        )
        return [saga_record(row) for row in rows]

    async def parked(self, definition: str, page: int) -> list[SagaRecord]:
        """At most `page` parked sagas, of one definition or of all, the longest first."""
        wanted = {"stored_bytes_max": LISTED_BYTES_MAX, "definition": definition or None, "page": page}
        return [saga_record(row) for row in await self._pool.fetch(_SQL["parked_sagas"], wanted)]

    async def _found(self, wanted: SagaFilter, before: SagaId | None, page: int) -> list[SagaRecord]:
        sagas: list[SagaRecord] = []
        while True:
            found = await self._search.find(wanted, before, page - len(sagas))
            sagas += found.sagas
            before = found.reached
            if before is None or len(sagas) == page:
                return sagas

    async def search(self, wanted: SagaFilter, before: SagaId | None, page: int) -> Found:
        """A page of the sagas that a filter searches for; see `Search.find`."""
        return await self._search.find(wanted, before, page)

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

    async def started_as(self, request_id: str, request_hash: bytes) -> Started | None:
        """The saga that a start with this request id and body has made, as the start was answered then."""
        rows = await self._pool.fetch(_SQL["started_as"], {"request_id": request_id})
        if not rows or bytes(rows[0][2]) != request_hash:
            return None
        return Started(SagaId(rows[0][0]), rows[0][1], existing=True)

    async def child(self, parent: SagaId, step: str) -> SagaId | None:
        """The child saga of a step; None when it was never begun."""
        rows = await self._pool.fetch(_SQL["started_as"], {"request_id": child_request(parent, step)})
        return SagaId(rows[0][0]) if rows else None

    async def request_cancel(self, saga_id: SagaId, reason: str) -> bool:
        """Leave a note for the leader that the saga is to be undone; False when it is terminal, noted, or unknown."""
        rows = await self._pool.fetch(_SQL["request_cancel"], {"id": saga_id, "reason": reason})
        return bool(rows[0][0])

    async def fence(self) -> Fence | None:
        """Who leads the shard by the saga log; None before the first term."""
        rows = await self._pool.fetch(_SQL["fence"], {"shard": self._shard})
        return Fence(*rows[0]) if rows else None

    async def counts(self, definition: str = "", states: Sequence[str] = ()) -> dict[tuple[str, str], int]:
        """Sagas by definition and state, exactly, of one definition or of all; the states without any are left out."""
        wanted = {"definition": definition or None, "states": list(states) or None}
        return {(row[0], row[1]): int(row[2]) for row in await self._pool.fetch(_SQL["counts"], wanted)}

    async def oldest(self) -> dict[str, float]:
        """When the oldest saga of each state that is not done was started, in Unix time; 0 where there is none.

        What waits because a person has paused it counts for no state of life; PAUSED has the oldest saga that was
        paused by itself.
        """
        return {row[0]: float(row[1]) for row in await self._pool.fetch(_SQL["oldest"], {"shard": self._shard})}

    async def ping(self) -> None:
        """Return if Postgres answers, and has the schema."""
        await self._pool.fetch(_SQL["ping"], {})


def _news(saga_id: SagaId, rows: list[Row]) -> News:
    _, state, last, *_ = rows[0]
    transitions = (transition_record(saga_id, state, last, row[3:]) for row in rows if row[3] is not None)
    return News(saga_id, state, last, tuple(transitions))
