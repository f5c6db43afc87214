"""What is paused beside single sagas, in Postgres, as every replica stores and sees it."""

from __future__ import annotations

from uuid import UUID, uuid4

from orchestrator.saga.pausing import PauseKind
from orchestrator.sagalog.pool import Pool
from orchestrator.sagalog.port import StoredPause
from orchestrator.sagalog.queries import load
from orchestrator.sagalog.rows import stored_pause

_SQL = load("pauses.sql")


class PostgresPauses:
    """All methods raise LogUnavailable, and Overloaded when too many wait for a connection."""

    def __init__(self, pool: Pool, shard: int) -> None:
        self._pool = pool
        self._shard = shard

    async def pause(self, kind: PauseKind, name: str, by: str, reason: str) -> tuple[StoredPause, bool]:
        """Store a pause, durably; the one in force, and whether it is this one.

        One by the same person for the same reason is: its answer was lost. A leader heeds it later.
        """
        number = uuid4()
        wanted = {"id": number, "shard": self._shard, "kind": kind.value, "name": name, "by": by, "reason": reason}
        while True:
            await self._pool.fetch(_SQL["pause"], wanted)
            # Without a row the other one has ended in between: then this one is stored now.
            rows = await self._pool.fetch(_SQL["one"], wanted)
            if rows:
                stored = stored_pause(rows[0])
                found = stored.pause
                return stored, found.id == number or (found.by, found.reason) == (by, reason)

    async def resume(self, kind: PauseKind, name: str, by: str, reason: str) -> StoredPause | None:
        """Store the end of the pause in force, durably; what was ended, None when nothing was paused."""
        wanted = {"shard": self._shard, "kind": kind.value, "name": name, "by": by, "reason": reason}
        rows = await self._pool.fetch(_SQL["resume"], wanted)
        return await self.one(rows[0][0]) if rows else None

    async def one(self, number: UUID) -> StoredPause | None:
        """The pause of an id."""
        wanted = {"id": number, "shard": self._shard, "kind": "", "name": ""}
        rows = await self._pool.fetch(_SQL["one"], wanted)
        return stored_pause(rows[0]) if rows else None

    async def in_force(self) -> list[StoredPause]:
        """What is paused now, by kind and name."""
        return [stored_pause(row) for row in await self._pool.fetch(_SQL["in_force"], {"shard": self._shard})]

    async def ended(self, rows: int) -> list[StoredPause]:
        """At most `rows` pauses that have ended, the newest first."""
        found = await self._pool.fetch(_SQL["ended"], {"shard": self._shard, "rows": rows})
        return [stored_pause(row) for row in found]
