"""A statement of the leader that Postgres executes late: after its connection was given up, its rows were sent again,
and the saga has gone on. Found by the exhaustive search (`python -m tests.search --mutation state-out-of-order`)."""

from __future__ import annotations

import asyncio
import os
import signal
from datetime import UTC, datetime
from uuid import UUID

import psycopg

from orchestrator.saga.commands import Outcome, Ready, Succeeded
from orchestrator.saga.machine import decide
from orchestrator.saga.model import Saga, SagaId, SagaState
from orchestrator.sagalog.migrate import migrate
from orchestrator.sagalog.port import Claim
from orchestrator.sagalog.postgres import LogSettings, PostgresSagaLog
from orchestrator.telemetry import Metrics
from tests.unit.sagas import definition, moment

_STEPS: tuple[Outcome, ...] = (Ready(), Succeeded({}), Succeeded({}))


def _ask(dsn: str, question: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(question.encode()).fetchall()


def _writer_pid(dsn: str) -> int:
    found = _ask(dsn, "SELECT pid FROM pg_stat_activity WHERE application_name = 'baton-term-0-r1'")
    assert len(found) == 1
    return int(str(found[0][0]))


async def test_a_statement_that_arrives_late_does_not_set_the_saga_back(database: str) -> None:
    migrate(database)
    saga = Saga(SagaId(UUID(int=1)), definition(True, True), {}, {}, datetime.now(UTC))
    _ask(
        database,
        "INSERT INTO baton.saga (id, shard, request_id, request_hash, definition, version, state, input)"
        f" VALUES ('{saga.id}', 0, 'one', '', 'test', 1, 'PENDING', '{{}}') RETURNING id",
    )
    log = PostgresSagaLog(LogSettings(database, "r1", 0, 1.0, 0.2, 20.0, 4000), Metrics("test", "r1"))
    term = await log.raise_epoch(Claim(0, "r1", "c1", 1, "vacant"))
    assert term is not None
    writing = asyncio.create_task(term.run())
    frozen = _writer_pid(database)
    os.kill(frozen, signal.SIGSTOP)
    try:
        for outcome in _STEPS:
            # The first of these waits for the frozen backend in vain, and is sent again on a new connection.
            saga, events = decide(saga, outcome, moment(term.epoch))
            await asyncio.wait_for(term.append(saga, events), 15)
        assert saga.state is SagaState.COMPLETED
    finally:
        os.kill(frozen, signal.SIGCONT)
    async with asyncio.timeout(15):
        while _ask(database, f"SELECT FROM pg_stat_activity WHERE pid = {frozen}"):
            await asyncio.sleep(0.02)
    row = _ask(database, "SELECT state, sequence, finished_at IS NOT NULL FROM baton.saga")
    assert row == [("COMPLETED", saga.sequence, True)]
    assert _ask(database, "SELECT max(sequence) FROM baton.step_log") == [(saga.sequence,)]
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    await term.close()
    await log.close()
