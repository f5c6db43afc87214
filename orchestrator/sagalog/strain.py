"""How Postgres bears its load: the sagas that wait in it, the time of a commit, and since when it takes no write.

It has a connection of its own, so that what is measured is Postgres, not the queue for a connection.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass

import psycopg

from orchestrator.errors import LogUnavailable
from orchestrator.sagalog.connection import connect, execute
from orchestrator.sagalog.queries import load

_SQL = load("strain.sql")

INTERVAL_S = 1.0
_AGAIN_S = 0.25
# One slow commit is nothing: a checkpoint, a busy disk. So many in a row are.
_SLOW_IN_A_ROW = 3
# Counting takes no more than this share of the time, however long one count is.
_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Backlog:
    """Sagas that wait to be begun, and how long the oldest has waited, in seconds."""

    sagas: int
    age_s: float


class Strain:
    """Measures while `run` runs. What was measured last can be read at any time."""

    def __init__(self, dsn: str, replica: str, shard: int, timeout_s: float, count_max: int) -> None:
        self._dsn = dsn
        self._name = f"baton-strain-{shard}-{replica}"
        self._shard = shard
        self._timeout_s = timeout_s
        self._count_max = count_max
        self._commits_s: deque[float] = deque(maxlen=_SLOW_IN_A_ROW)
        self._written_at_s = time.monotonic()
        self._asking_since_s: float | None = None
        self.backlog: Backlog | None = None

    @property
    def commit_s(self) -> float | None:
        """The time that commits take, in seconds: the shortest of the last few, so that one slow one is forgiven.

        One that is under way counts as soon as it has taken longer than those before it.
        """
        known_s = [*self._commits_s]
        if self._asking_since_s is not None and len(known_s) == _SLOW_IN_A_ROW:
            so_far_s = time.monotonic() - self._asking_since_s
            return max(min(known_s), min(*known_s[1:], so_far_s))
        return min(known_s) if len(known_s) == _SLOW_IN_A_ROW else None

    @property
    def absent_s(self) -> float:
        """How long no write was taken, in seconds, not counting the pause between two of them."""
        return max(0.0, time.monotonic() - self._written_at_s - INTERVAL_S)

    async def run(self) -> None:
        """Measure until cancelled. Waits out every absence of Postgres."""
        while True:
            try:
                connection = await connect(self._dsn, self._name, self._timeout_s)
                try:
                    await self._measure(connection)
                finally:
                    await connection.close()
            except (LogUnavailable, psycopg.Error):
                # How long it lasts, `absent_s` says; the reason is in the log of whoever needs Postgres.
                await asyncio.sleep(_AGAIN_S)

    async def _measure(self, connection: psycopg.AsyncConnection) -> None:
        count_at_s = 0.0
        while True:
            await self._commit(connection)
            began_s = time.monotonic()
            if began_s >= count_at_s:
                parameters = {"shard": self._shard, "most": self._count_max}
                cursor = await execute(connection, _SQL["backlog"], self._timeout_s, parameters)
                for sagas, age_s in await cursor.fetchall():
                    self.backlog = Backlog(int(sagas), float(age_s))
                count_at_s = began_s + (time.monotonic() - began_s) / _SHARE
            await asyncio.sleep(INTERVAL_S)

    async def _commit(self, connection: psycopg.AsyncConnection) -> None:
        self._asking_since_s = time.monotonic()
        try:
            await execute(connection, _SQL["commit"], self._timeout_s)
            self._written_at_s = time.monotonic()
            self._commits_s.append(self._written_at_s - self._asking_since_s)
        finally:
            self._asking_since_s = None
