"""The leader's upkeep of the saga log: sums of the tally, removal of what is over, the watermark of participants.

What it writes is fenced as every write of a leader, by single statements on a connection of their own, so that driving
sagas never waits for it. The connection bears the name of the term's writer: a successor finds it, and ends it, when
it holds the fence row (R11).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg

from orchestrator.errors import Fenced, LogUnavailable
from orchestrator.failpoints import effects
from orchestrator.saga.definition import HoldStarts
from orchestrator.saga.model import Epoch, SagaId
from orchestrator.sagalog.connection import connect, execute
from orchestrator.sagalog.pool import Pool
from orchestrator.sagalog.postgres import writer_application, writer_set_up
from orchestrator.sagalog.queries import Statement, load
from orchestrator.sagalog.records import SagaRecord, TransitionRecord, saga_record, transition_record
from orchestrator.sagalog.term import scope
from orchestrator.sagalog.upkeep_port import Ended, FinishedPage, FinishedSaga, LatelyEnded

_SQL = load("upkeep.sql")

# Bounds of one statement: changes folded, rows of the log read and the bytes of their results.
_FOLDED_MAX = 10_000
_HISTORY_ROWS = 2_000
_HISTORY_BYTES_MAX = 4_000_000

_NO_ID = UUID(int=0)
_FIRST = Ended(datetime.fromtimestamp(0, UTC), SagaId(_NO_ID))
_LAST = Ended(datetime(9999, 1, 1, tzinfo=UTC), SagaId(_NO_ID))


@dataclass(frozen=True, slots=True)
class UpkeepLogSettings:
    """How to reach Postgres, and how long to wait for it and for the fence row, in seconds."""

    dsn: str
    replica: str
    shard: int
    timeout_s: float
    fence_wait_max_s: float


class PostgresUpkeepLog:
    """Implements `UpkeepLog`. `pool` is for reads; the connection that writes is made when it is needed."""

    def __init__(self, settings: UpkeepLogSettings, pool: Pool) -> None:
        self._settings = settings
        self._pool = pool
        self._connection: psycopg.AsyncConnection | None = None
        self._writing = asyncio.Lock()

    async def fold_tally(self, epoch: Epoch) -> int:
        """See `UpkeepLog.fold_tally`."""
        return int(await self._write("fold_tally", epoch, {"rows": _FOLDED_MAX}))

    async def finished(self, behind: Ended | None, until: Ended | None, after_s: float, rows: int) -> FinishedPage:
        """See `UpkeepLog.finished`."""
        behind, until = behind or _FIRST, until or _LAST
        parameters = {
            "shard": self._settings.shard,
            "after_s": after_s,
            "behind_at": behind.at,
            "behind": behind.id,
            "until_at": until.at,
            "until": until.id,
            "rows": rows,
        }
        found = await self._pool.fetch(_SQL["finished"], parameters)
        over = tuple(FinishedSaga(SagaId(row[0]), row[1], row[2]) for row in found if row[4])
        last = Ended(found[-1][3], SagaId(found[-1][0])) if found else None
        return FinishedPage(over, last, len(found) == rows)

    async def sagas(self, ids: Sequence[SagaId]) -> list[SagaRecord]:
        """See `UpkeepLog.sagas`."""
        return [saga_record(row) for row in await self._pool.fetch(_SQL["archived_sagas"], {"ids": list(ids)})]

    async def history(self, sagas: Sequence[SagaRecord]) -> AsyncGenerator[list[TransitionRecord]]:
        """See `UpkeepLog.history`."""
        by_id = {saga.id: saga for saga in sagas}
        saga_id, sequence = _NO_ID, 0
        while True:
            parameters = {
                "ids": list(by_id),
                "saga": saga_id,
                "after": sequence,
                "rows": _HISTORY_ROWS,
                "bytes": _HISTORY_BYTES_MAX,
            }
            rows = await self._pool.fetch(_SQL["archived_history"], parameters)
            if not rows:
                return
            yield [_transition(by_id[row[0]], row) for row in rows]
            saga_id, sequence = rows[-1][:2]

    async def remove(self, sagas: Sequence[FinishedSaga], after_s: float, epoch: Epoch) -> list[SagaId]:
        """See `UpkeepLog.remove`."""
        parameters = {
            "ids": [saga.id for saga in sagas],
            "sequences": [saga.sequence for saga in sagas],
            "after_s": after_s,
        }
        return [SagaId(identity) for identity in await self._write("remove", epoch, parameters) or ()]

    async def raise_watermark(self, margin_s: float, epoch: Epoch) -> SagaId:
        """See `UpkeepLog.raise_watermark`."""
        await self._write("raise_watermark", epoch, {"margin_s": margin_s})
        rows = await self._pool.fetch(_SQL["watermark"], {"shard": self._settings.shard})
        return SagaId(rows[0][0] if rows else _NO_ID)

    async def lately_ended(self, definition: str, rows: int) -> LatelyEnded:
        """See `HoldLog.lately_ended`."""
        parameters = {"shard": self._settings.shard, "definition": definition, "rows": rows}
        let_through_at, held, states = (await self._pool.fetch(_SQL["lately_ended"], parameters))[0]
        return LatelyEnded(let_through_at, held, tuple(states))

    async def hold_starts(
        self, definition: str, policy: HoldStarts, ended: LatelyEnded, turned_back: int, epoch: Epoch
    ) -> datetime | None:
        """See `HoldLog.hold_starts`."""
        parameters = {
            "definition": definition,
            "for_s": policy.for_s,
            "of_last": policy.of_last,
            "turned_back": turned_back,
            "let_through_at": ended.let_through_at,
        }
        until: datetime | None = await self._write("hold_starts", epoch, parameters)
        return until

    async def close(self) -> None:
        """Drop the connection that writes."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _write(self, query: str, epoch: Epoch, parameters: dict[str, Any]) -> Any:
        """What a fenced statement says in its second column. Raises Fenced, LogUnavailable.

        A repetition of it does no harm, and none is needed: whatever was not done is found by the next round.
        """
        async with self._writing:
            row = await self._row(query, {**parameters, **scope(self._settings.shard, epoch)})
        if row is None or row[0] != 1:
            raise Fenced(f"epoch {epoch} no longer holds the fence of shard {self._settings.shard}")
        return row[1]

    async def _row(self, query: str, parameters: dict[str, Any]) -> tuple[Any, ...] | None:
        try:
            if self._connection is None:
                self._connection = await self._connect()
            cursor = await execute(self._connection, _SQL[query], self._settings.timeout_s, parameters)
            return await cursor.fetchone()
        except psycopg.Error as error:
            await self.close()
            raise LogUnavailable(f"the upkeep's statement {query} failed: {str(error).strip()}") from error
        except BaseException:
            await self.close()
            raise

    async def _connect(self) -> psycopg.AsyncConnection:
        settings = self._settings
        name = writer_application(settings.shard, f"upkeep-{settings.replica}")
        connection = await connect(settings.dsn, name, settings.timeout_s)
        try:
            set_up = Statement(effects.SET_UP, writer_set_up(settings.fence_wait_max_s))
            await execute(connection, set_up, settings.timeout_s)
        except BaseException:
            await connection.close()
            raise
        return connection


def _transition(saga: SagaRecord, row: tuple[Any, ...]) -> TransitionRecord:
    # The state after each row is not looked for: the rows tell it, and the archive has all of them.
    return transition_record(saga.id, saga.state, saga.sequence, (*row[1:], None, None))
