"""What a term reads of the saga log, on a connection of its own: work to take up, and signals to heed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg.types.numeric import Int8

from orchestrator.errors import LogUnavailable
from orchestrator.saga.model import SagaId
from orchestrator.sagalog.connection import execute
from orchestrator.sagalog.port import RELEASED_LATELY_S, StoredPause, StoredSaga, StoredSignal
from orchestrator.sagalog.queries import load
from orchestrator.sagalog.rows import stored_pause, stored_sagas, stored_signal

_SQL = load("term.sql")

Connect = Callable[[], Awaitable[psycopg.AsyncConnection]]


class TermReader:
    """The reads of `TermLog`. Each raises LogUnavailable when Postgres does not answer in time."""

    def __init__(
        self, scope: dict[str, Any], timeout_s: float, reader: psycopg.AsyncConnection, connect_reader: Connect
    ) -> None:
        self._scope = scope
        self._timeout_s = timeout_s
        self._reader = reader
        self._connect_reader = connect_reader
        self._reading = asyncio.Lock()

    async def unfinished(self, first: int, most: int) -> AsyncGenerator[list[StoredSaga]]:
        """What is compensating, running, or in no known state, a page at a time. See `TermLog.unfinished`."""
        page = first
        for query in ("unfinished_compensating", "unfinished_running", "unfinished_unknown"):
            after = UUID(int=0)
            while sagas := await self._read(query, {**self._scope, "after": after, "page": page}):
                yield sagas
                after = sagas[-1].id
                page = min(page * 2, most)

    async def pending(self, limit: int, exclude: Sequence[SagaId]) -> list[StoredSaga]:
        """Sagas that nobody has begun. See `TermLog.pending`."""
        return await self._read("pending", {**self._scope, "limit": limit, "exclude": list(exclude)})

    async def due(self, page: int) -> AsyncGenerator[list[StoredSaga]]:
        """Sagas that slept and are due. See `TermLog.due`."""
        async for sagas in self._by_time("due", {**self._scope, "page": page}):
            yield sagas

    async def held(self, until: datetime, page: int) -> AsyncGenerator[list[StoredSaga]]:
        """Sagas that a pause has put to sleep. See `TermLog.held`."""
        async for sagas in self._by_time("held", {**self._scope, "page": page, "until_s": until.timestamp()}):
            yield sagas

    async def pauses(self) -> list[StoredPause]:
        """What is paused. See `TermLog.pauses`."""
        return [
            stored_pause(row) for row in await self._fetch("pauses", {**self._scope, "lately_s": RELEASED_LATELY_S})
        ]

    async def _by_time(self, query: str, parameters: dict[str, Any]) -> AsyncGenerator[list[StoredSaga]]:
        """Sagas in the order of the times until which they sleep, a page at a time."""
        after_s, after = 0.0, UUID(int=0)
        while True:
            rows = await self._fetch(query, {**parameters, "after_s": after_s, "after": after})
            if rows:
                yield await self._with_events(query, rows)
            if len(rows) < parameters["page"]:
                return
            after, after_s = rows[-1][0], rows[-1][-1]

    async def next_due_s(self) -> float | None:
        """In how many seconds the next saga is due. See `TermLog.next_due_s`."""
        rows = await self._fetch("next_due", self._scope)
        return float(rows[0][0]) if rows else None

    async def sagas(self, ids: Sequence[SagaId]) -> list[StoredSaga]:
        """These sagas. See `TermLog.sagas`."""
        return await self._read("sagas", {**self._scope, "sagas": list(ids)})

    async def signals(self, after: int, page: int) -> list[StoredSignal]:
        """Signals that nobody has heeded. See `TermLog.signals`."""
        rows = await self._fetch("signals", {**self._scope, "after": Int8(after), "page": page})
        return [stored_signal(row) for row in rows]

    async def _read(self, query: str, parameters: dict[str, Any]) -> list[StoredSaga]:
        sagas = await self._fetch(query, parameters)
        return await self._with_events(query, sagas) if sagas else []

    async def _with_events(self, query: str, sagas: list[tuple[Any, ...]]) -> list[StoredSaga]:
        events: list[tuple[Any, ...]] = []
        if query != "pending":
            events = await self._fetch("events", {"sagas": [row[0] for row in sagas]})
        return stored_sagas(sagas, events)

    async def cancellations(self) -> list[tuple[SagaId, str]]:
        """Live sagas that somebody wants undone. See `TermLog.cancellations`."""
        rows = await self._fetch("cancellations", self._scope)
        return [(SagaId(row[0]), str(row[1])) for row in rows]

    async def _fetch(self, query: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        """Read once more on a new connection when the old one is gone. Raises LogUnavailable."""
        async with self._reading:
            try:
                if self._reader.closed:
                    self._reader = await self._connect_reader()
                cursor = await execute(self._reader, _SQL[query], self._timeout_s, parameters)
                return await cursor.fetchall()
            except psycopg.Error as error:
                await self._reader.close()
                raise LogUnavailable(f"cannot read the saga log: {str(error).strip()}") from error
