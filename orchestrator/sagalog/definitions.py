"""The versions of definitions in Postgres. A version never changes, and none is ever taken away; some are retired."""

from __future__ import annotations

from orchestrator.errors import LogUnavailable
from orchestrator.sagalog.pool import Pool
from orchestrator.sagalog.port import StoredDefinition
from orchestrator.sagalog.queries import load
from orchestrator.sagalog.records import ListedDefinition, Retirement

_SQL = load("reader.sql")
_RETIREMENTS = load("retirements.sql")
_LISTED_MAX = 10_000
_RACES_MAX = 20


class PostgresDefinitions:
    """Implements `DefinitionStore`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def get_definition(self, name: str, version: int) -> StoredDefinition | None:
        """One version; 0 is the newest. See `DefinitionStore.get_definition`."""
        rows = await self._pool.fetch(_SQL["definition"], {"name": name, "version": version})
        return StoredDefinition(*rows[0]) if rows else None

    async def list_definitions(self) -> list[ListedDefinition]:
        """All versions by name, the newest first. Raises LogUnavailable."""
        rows = await self._pool.fetch(_SQL["definitions"], {"limit": _LISTED_MAX})
        return [ListedDefinition(*row) for row in rows]

    async def retirements(self) -> list[Retirement]:
        """All of them, by name and version. Raises LogUnavailable."""
        return [Retirement(*row) for row in await self._pool.fetch(_RETIREMENTS["retirements"], {"limit": _LISTED_MAX})]

    async def retire(self, name: str, version: int, reason: str, by: str) -> tuple[Retirement, bool]:
        """Retire a version, or with 0 every version; returns what is in force and whether it was so before."""
        wanted = {"name": name, "version": version, "reason": reason, "by": by}
        rows = await self._pool.fetch(_RETIREMENTS["retire"], wanted)
        if not rows:
            raise LogUnavailable(f"definition {name!r} is retired and reinstated at the same moment; ask again")
        *retirement, existing = rows[0]
        return Retirement(*retirement), bool(existing)

    async def started(self, request_id: str) -> bool:
        """Whether a request id has started a saga already."""
        return bool((await self._pool.fetch(_RETIREMENTS["started"], {"request_id": request_id}))[0][0])

    async def reinstate(self, name: str, version: int) -> bool:
        """Take a retirement back; False when there is none."""
        return bool(await self._pool.fetch(_RETIREMENTS["reinstate"], {"name": name, "version": version}))

    async def insert_definition(
        self, name: str, content_hash: str, yaml: str, descriptor_set: bytes
    ) -> tuple[StoredDefinition, bool]:
        """Store the next version, or find this content. See `DefinitionStore.insert_definition`."""
        content = {"name": name, "content_hash": content_hash}
        for _ in range(_RACES_MAX):
            if found := await self._pool.fetch(_SQL["definition_by_content"], content):
                return StoredDefinition(*found[0]), True
            new = {**content, "yaml": yaml, "descriptor_set": descriptor_set}
            if stored := await self._pool.fetch(_SQL["insert_definition"], new):
                return StoredDefinition(*stored[0]), False
        raise LogUnavailable(f"definition {name!r} is applied by too many at once; apply it again")
