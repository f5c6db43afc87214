"""Which definitions' starts are held, in Postgres, as every replica sees it."""

from __future__ import annotations

from orchestrator.sagalog.pool import Pool
from orchestrator.sagalog.queries import load
from orchestrator.sagalog.records import StartHold

_SQL = load("holds.sql")


class PostgresStartHolds:
    """Both methods raise LogUnavailable, and Overloaded when too many wait for a connection."""

    def __init__(self, pool: Pool, shard: int) -> None:
        self._pool = pool
        self._shard = shard

    async def start_holds(self) -> list[StartHold]:
        """What is held now, by definition."""
        return [StartHold(*row) for row in await self._pool.fetch(_SQL["start_holds"], {"shard": self._shard})]

    async def release(self, definition: str, by: str, reason: str) -> StartHold | None:
        """Let the starts of a definition through again; what held them, None when nothing did."""
        wanted = {"shard": self._shard, "definition": definition, "by": by, "reason": reason}
        rows = await self._pool.fetch(_SQL["release"], wanted)
        return StartHold(*rows[0]) if rows else None
