"""Waits for Postgres that really end.

A statement that is cancelled makes psycopg ask the server to cancel it, on a further connection, and then wait for
the answer: towards a server that is frozen, or behind a network that swallows packets, that takes ten seconds more.
Whoever waits for the statement should not: it goes on here, and its connection is not used again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from orchestrator.errors import LogUnavailable

T = TypeVar("T")


class Patience:
    """Bounds waits for Postgres to `timeout_s` seconds each, and owns the tasks that outlive their waits."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._abandoned: set[asyncio.Task[Any]] = set()

    async def wait(self, statement: Coroutine[Any, Any, T]) -> T:
        """The result of `statement`. Raises LogUnavailable after `timeout_s` seconds, and what the statement raises."""
        task = asyncio.get_running_loop().create_task(statement)
        try:
            done, _ = await asyncio.wait((task,), timeout=self._timeout_s)
        except asyncio.CancelledError:
            self._abandon(task)
            raise
        if not done:
            self._abandon(task)
            raise LogUnavailable(f"Postgres gave no answer within {self._timeout_s:g} s")
        return task.result()

    async def close(self) -> None:
        """Wait for the tasks that are still on their way to an end: ten seconds at the most, mostly none."""
        if self._abandoned:
            await asyncio.wait(self._abandoned)

    def _abandon(self, task: asyncio.Task[Any]) -> None:
        task.cancel()
        self._abandoned.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._abandoned.discard(task)
        if not task.cancelled():
            # Taken note of: nobody waits for this error any more.
            task.exception()
