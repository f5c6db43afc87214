"""The audit log: every action of an operator, as an event in the replica's log at once, and as a row soon after.

A row waits for Postgres as long as it must: handing leadership over must work, and be noted, while Postgres is away.
Between the event and its row a process may die, so the event is the first word, and the row the one to search.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections import deque
from dataclasses import asdict, dataclass
from uuid import UUID

import orjson
import structlog

from orchestrator.errors import LogUnavailable, Overloaded
from orchestrator.saga.ids import RANDOM_BITS, saga_id
from orchestrator.saga.model import SagaId
from orchestrator.sagalog.pool import Pool, Row
from orchestrator.sagalog.queries import load
from orchestrator.security.audit import Action

WAITING_MAX = 10_000
_BATCH_MAX = 200
_AGAIN_S = 1.0

_SQL = load("audit.sql")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Entry:
    """A row: what was done, and the replica that noted it."""

    id: UUID
    replica: str
    action: Action


class AuditLog:
    """Writes what it is told. `record` may be called from any thread; `run` belongs to the main loop."""

    def __init__(self, pool: Pool, replica: str) -> None:
        self._pool = pool
        self._replica = replica
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[dict[str, object]] = deque()
        self._wake = asyncio.Event()
        self._noting = threading.Lock()
        self._last_id: SagaId | None = None

    def record(self, action: Action) -> None:
        """Note an action."""
        log.info("audit", **asdict(action) | {"at": action.at.isoformat()})
        if len(self._waiting) >= WAITING_MAX:
            log.error("audit_not_stored", waiting=len(self._waiting), reaction="this event is all there is of it")
            return
        milliseconds = int(action.at.timestamp() * 1000)
        with self._noting:
            # Also within a millisecond: entries are listed by their ids.
            self._last_id = saga_id(milliseconds, secrets.randbits(RANDOM_BITS), after=self._last_id)
            self._waiting.append({"id": str(self._last_id), "replica": self._replica, **_storable(action)})
        self._loop.call_soon_threadsafe(self._wake.set)

    async def run(self) -> None:
        """Write rows as they come, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if not await self._write_all():
                await asyncio.sleep(_AGAIN_S)
                self._wake.set()

    async def entries(self, before: UUID | None, rows: int, caller: str = "", action: str = "") -> list[Entry]:
        """At most `rows` entries, newest first, older than the entry `before`. Raises LogUnavailable, Overloaded."""
        wanted = {"before": before, "rows": rows, "caller": caller or None, "action": action or None}
        return [_entry(row) for row in await self._pool.fetch(_SQL["entries"], wanted)]

    async def flush(self, timeout_s: float) -> None:
        """Write what waits, for at most so many seconds. Call it when `run` has ended."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._write_all()
        except TimeoutError:
            log.warning("audit_not_stored", waiting=len(self._waiting), reaction="their events are all there is")

    async def _write_all(self) -> bool:
        """Write what waits, batch by batch; False when Postgres does not take it now."""
        while self._waiting:
            batch = [self._waiting[index] for index in range(min(len(self._waiting), _BATCH_MAX))]
            try:
                await self._pool.fetch(_SQL["write"], {"entries": orjson.dumps(batch).decode()})
            except (LogUnavailable, Overloaded):
                return False
            for _ in batch:
                self._waiting.popleft()
        return True


def _entry(row: Row) -> Entry:
    entry_id, at, replica, caller, recognized_by, peer, action, target, outcome, message = row
    done = Action(at, caller, recognized_by, peer, action, orjson.loads(target), outcome, message)
    return Entry(entry_id, replica, done)


def _storable(action: Action) -> dict[str, object]:
    """The action as JSON that Postgres takes: it has no text with a NUL in it."""
    fields = asdict(action) | {"at": action.at.isoformat()}
    return {
        name: {key: text.replace("\x00", "") for key, text in value.items()}
        if isinstance(value, dict)
        else value.replace("\x00", "")
        for name, value in fields.items()
    }
