"""A standby runs the statements of a term once ahead of time, without effect.

The first statements of a new connection read the catalogue and make plans, which takes tens of milliseconds: as much
as all the rest of a takeover. A standby has the time; a new leader has not.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg.types.numeric import Int8

from orchestrator.failpoints import effects
from orchestrator.saga.definition import Definition
from orchestrator.saga.events import Event, Status
from orchestrator.saga.model import Epoch, Saga, SagaId, SagaState
from orchestrator.sagalog.connection import execute
from orchestrator.sagalog.port import Heard
from orchestrator.sagalog.queries import Statement, load
from orchestrator.sagalog.rows import append_parameters
from orchestrator.sagalog.term import scope

# The same texts as a term's, so that what is prepared here serves there; but no failpoint of a term strikes a standby.
_SQL = {name: Statement(effects.REHEARSE, statement.text) for name, statement in load("term.sql").items()}

# No fence has such an epoch, and no saga such a shard: what runs under them finds nothing and writes nothing.
_NO_EPOCH = Epoch(-1)
_NO_SHARD = -1


async def rehearse(writer: psycopg.AsyncConnection, reader: psycopg.AsyncConnection, timeout_s: float) -> None:
    """Run every statement of a term on the connection that will run it. Raises psycopg.Error."""
    nowhere = scope(_NO_SHARD, _NO_EPOCH)
    no_claim = {"holder": "", "etcd_cluster": "", "revision": 0, "cause": "", "seen": _NO_EPOCH}
    await execute(writer, _SQL["raise_epoch_again"], timeout_s, {**nowhere, **no_claim})
    await execute(writer, _SQL["prove"], timeout_s, nowhere)
    await execute(writer, _SQL["append"], timeout_s, {**append_parameters([_nothing()]), **nowhere})
    await execute(reader, _SQL["pauses"], timeout_s, {**nowhere, "lately_s": 0.0})
    page: dict[str, Any] = {**nowhere, "after": UUID(int=0), "page": 1}
    for query in ("unfinished_compensating", "unfinished_running", "unfinished_unknown"):
        await execute(reader, _SQL[query], timeout_s, page)
    await execute(reader, _SQL["events"], timeout_s, {"sagas": [UUID(int=0)]})
    await execute(reader, _SQL["pending"], timeout_s, {**nowhere, "limit": 1, "exclude": []})
    await execute(reader, _SQL["cancellations"], timeout_s, nowhere)
    await execute(reader, _SQL["due"], timeout_s, {**page, "after_s": 0.0})
    await execute(reader, _SQL["next_due"], timeout_s, nowhere)
    await execute(reader, _SQL["sagas"], timeout_s, {**nowhere, "sagas": [UUID(int=0)]})
    await execute(reader, _SQL["signals"], timeout_s, {**nowhere, "after": Int8(0), "page": 1})


def _nothing() -> tuple[Saga, tuple[Event, ...], tuple[Heard, ...]]:
    saga = Saga(
        id=SagaId(UUID(int=0)),
        definition=Definition("nothing", 0, ()),
        input={},
        labels={},
        created_at=datetime.fromtimestamp(0, UTC),
        state=SagaState.RUNNING,
    )
    return saga, (Event(1, Status.CANCELLED, _NO_EPOCH),), (Heard(0),)
