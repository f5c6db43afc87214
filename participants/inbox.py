"""The inbox: each event takes effect once, however often it is delivered.

The event's id is written into the processed log in the transaction of the effect. An event that comes again finds its
id and has no effect; one that comes while the first is at work waits for the end of that transaction. So what is
delivered "at least once" takes effect "exactly once", as long as ids are kept longer than events may come again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn

import psycopg
import structlog

from participants.database import Connection, Database
from participants.sql import load_queries

_QUERIES = load_queries("inbox")

_FORGET_ROWS = 1000
_FORGET_INTERVAL_S = 60.0

Effect = Callable[[Connection], Awaitable[None]]

log = structlog.get_logger()


class Inbox:
    """The processed log of one service. Ids are kept for `keep_s` seconds."""

    def __init__(self, database: Database, keep_s: float) -> None:
        self._database = database
        self._keep_s = keep_s

    async def once(self, event_id: str, effect: Effect) -> bool:
        """Run `effect` on a connection with an open transaction, and commit; False if it was done before.

        Raises what `effect` raises, and psycopg.Error. Nothing has taken effect then, or nobody knows: deliver the
        event again.
        """
        async with self._database.connection() as connection:
            await connection.execute(b"BEGIN")
            cursor = await connection.execute(_QUERIES["claim"], {"id": event_id}, prepare=True)
            fresh = await cursor.fetchone() is not None
            if fresh:
                await effect(connection)
            await connection.commit()
            return fresh

    async def forget_old(self) -> NoReturn:
        """Remove ids that are too old to come again, a few at a time, until cancelled."""
        while True:
            try:
                async with self._database.connection() as connection:
                    parameters = {"keep_s": self._keep_s, "rows": _FORGET_ROWS}
                    cursor = await connection.execute(_QUERIES["forget"], parameters)
                    more = cursor.rowcount == _FORGET_ROWS
            except psycopg.Error as error:
                log.warning("old events not forgotten", error=" ".join(str(error).split()))
                more = False
            await asyncio.sleep(0 if more else _FORGET_INTERVAL_S)
