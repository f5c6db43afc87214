"""The highest epoch that calls have carried, for each shard: R6, a second fence behind the barrier.

A leader that was deposed without knowing it still calls with its old epoch. The first call of its successor raises the
epoch here, and from then on the old leader is refused. The epoch is raised in a statement of its own, and only when it
is higher; every other call merely reads it within its claim of the key, so the row is no bottleneck. Reading without a
lock is enough: what an old and a new leader do to one step is put in order by the barrier's key, not by this row.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import cast

import grpc

from participants.call import CallIdentity
from participants.database import Database
from participants.sql import load_queries
from participants.status import Reason, Refusal

_QUERIES = load_queries("barrier")


class Epochs:
    """The epochs in Postgres, with a copy in memory that may lag behind but never runs ahead."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen: dict[int, int] = {}
        # One raise at a time for each shard: after a failover hundreds of calls carry the new epoch at once.
        self._raising: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def admit(self, call: CallIdentity) -> None:
        """Return when the call's epoch is the highest seen, raising it if need be; else raise Refusal (ABORTED)."""
        if call.epoch > self._seen.get(call.shard, -1):
            async with self._raising[call.shard]:
                if call.epoch > self._seen.get(call.shard, -1):
                    await self._raise(call.shard, call.epoch)
        seen = self._seen[call.shard]
        if call.epoch < seen:
            raise stale_epoch(call, seen)

    async def highest(self, shard: int) -> int:
        """The highest epoch that calls have carried; 0 without any. Raises psycopg.Error."""
        async with self._database.connection() as connection:
            cursor = await connection.execute(_QUERIES["highest_epoch"], {"shard": shard})
            row = await cursor.fetchone()
        return cast(int, row[0]) if row is not None else 0

    def learn(self, shard: int, epoch: int) -> None:
        """Note an epoch that another process of this participant has seen."""
        self._seen[shard] = max(epoch, self._seen.get(shard, -1))

    async def _raise(self, shard: int, epoch: int) -> None:
        async with self._database.connection() as connection:
            await connection.execute(_QUERIES["raise_epoch"], {"shard": shard, "epoch": epoch})
            cursor = await connection.execute(_QUERIES["highest_epoch"], {"shard": shard})
            row = await cursor.fetchone()
        if row is not None:
            self.learn(shard, cast(int, row[0]))


def stale_epoch(call: CallIdentity, seen: int) -> Refusal:
    """What a leader of the past gets. ABORTED: transient, so that nobody takes it for the participant's decision."""
    return Refusal(
        grpc.StatusCode.ABORTED,
        f"stale epoch: the call carries {call.epoch}, but {seen} has been seen for shard {call.shard}: "
        "another replica leads",
        Reason.STALE_EPOCH,
    )
