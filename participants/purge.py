"""Forgets sagas that are over: deletes what the barrier holds of them, behind a watermark that never goes back.

A row of the barrier is what keeps a late call from taking effect again. So the watermark is durable before the first
row goes, and every call of a saga behind it is refused. No lock is needed for that. A call that had begun before the
watermark was there can only profit from a missing row if that row was deleted before the call claimed its key, hence
after the watermark was committed; and a call looks for the watermark once more, in a later statement, when it stores
its answer. The same holds for every other statement that takes a missing row for a sign.

Rows are found page by page, so that each transaction is small and no page is read twice.
"""

from __future__ import annotations

import time
from typing import Any, cast
from uuid import RFC_4122, UUID

import grpc
import structlog

from participants.barrier import Barrier
from participants.call import CallIdentity, Kind
from participants.sql import load_queries
from participants.status import Refusal

log = structlog.get_logger()

_QUERIES = load_queries("purge")

# A few thousand rows.
_PAGES = 128
# How long one call goes on; the caller asks again.
BUDGET_S = 1.0


async def purge(barrier: Barrier, before: str, shard: int, epoch: int) -> tuple[int, bool]:
    """Raise the watermark of `shard` to `before` and delete behind it; how many rows went, and whether that is all.

    Goes on where the last call for the same watermark stopped. `epoch` 0 is none. Raises Refusal, and psycopg.Error.
    """
    _check(before)
    if epoch:
        await barrier.epochs.admit(CallIdentity(before, "purge", Kind.ACTION, epoch, shard=shard))
    async with barrier.database.connection() as connection:

        async def run(query: str, **more: Any) -> Any:
            parameters = {"shard": shard, "saga_id": before, **more}
            return await connection.execute(_QUERIES[query], parameters)

        await run("raise_watermark")
        watermark, page = cast(tuple[str, int], await (await run("watermark")).fetchone())
        (pages,) = cast(tuple[int], await (await run("pages")).fetchone())
        removed, give_up_at_s = 0, time.monotonic() + BUDGET_S
        while page < pages:
            cursor = await run("purge", saga_id=watermark, first=page, end=page + _PAGES)
            removed += cursor.rowcount
            page += _PAGES
            if time.monotonic() >= give_up_at_s:
                break
        done = page >= pages
        await run("go_on_at", saga_id=watermark, page=0 if done else page)
    log.info("barrier purged", watermark=watermark, shard=shard, removed=removed, done=done)
    return removed, done


def _check(watermark: str) -> None:
    """A watermark cannot be taken back: one that is wrong would turn away sagas that are alive. Raises Refusal."""
    try:
        identity = UUID(watermark)
    except ValueError:
        raise _invalid(f"{watermark!r:.60} is not a UUID") from None
    if str(identity) != watermark or identity.version != 7 or identity.variant != RFC_4122:
        raise _invalid(f"{watermark!r:.60} is not a UUID of version 7 in its usual form, lower case with hyphens")
    if identity.int >> 80 > time.time_ns() // 1_000_000:
        raise _invalid(f"{watermark} is of the future: it would turn away sagas that have not begun")


def _invalid(what: str) -> Refusal:
    return Refusal(grpc.StatusCode.INVALID_ARGUMENT, f"before_saga_id: {what}")
