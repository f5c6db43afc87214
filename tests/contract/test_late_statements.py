"""A write of the saga log that arrives late, after it was repeated and others have followed: on Postgres and its model.

A client that hears nothing closes its connection and sends the same write on a new one. The first may still be on its
way, or its backend may have been stopped for a while: it commits when the saga has gone on, under the same epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import orjson
import psycopg

from orchestrator.saga.commands import Outcome, Ready, Succeeded
from orchestrator.saga.events import Event
from orchestrator.saga.machine import decide
from orchestrator.saga.model import Epoch, Saga, SagaId, SagaState
from orchestrator.sagalog.memory import MemorySagaLog
from orchestrator.sagalog.memory_rows import Row
from orchestrator.sagalog.migrate import migrate
from orchestrator.sagalog.port import Claim
from orchestrator.sagalog.queries import load
from orchestrator.sagalog.rows import append_parameters
from orchestrator.sagalog.term import scope
from tests.unit.sagas import definition, moment

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OURS = SagaId(UUID(int=7))
EPOCH = Epoch(5)

Transition = tuple[Saga, Sequence[Event]]


def transitions(*outcomes: Outcome) -> list[Transition]:
    """What a leader writes, one after the other, when this comes of a saga of two steps."""
    saga = Saga(OURS, definition(True, True), {}, {}, NOW)
    written: list[Transition] = []
    for outcome in outcomes:
        saga, events = decide(saga, outcome, replace(moment(EPOCH), now=NOW))
        written.append((saga, events))
    return written


WRITTEN = transitions(Ready(), Succeeded({}), Succeeded({}))
LATE = WRITTEN[1]


def test_a_late_write_leaves_the_model_as_it_is() -> None:
    model = MemorySagaLog(lambda: 0.0)
    model.insert(Row(OURS, "test", 1, {}, {}, NOW))
    model.raised(Claim(0, "r1", "c1", EPOCH, "vacant"))
    assert [model.write(EPOCH, *transition) for transition in WRITTEN] == [1, 2, 1]
    assert model.write(EPOCH, *LATE) == 0
    assert model.rows[OURS].state is SagaState.COMPLETED


def test_a_late_write_leaves_postgres_as_it_is(database: str) -> None:
    migrate(database)
    append = load("term.sql")["append"].text
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO baton.saga (id, shard, request_id, request_hash, definition, version, state, input, labels)"
            " VALUES (%s, 0, 'r', '', 'test', 1, 'PENDING', %s, '{}')",
            [OURS, orjson.dumps({}).decode()],
        )
        connection.execute(
            "INSERT INTO baton.fence (shard, epoch, etcd_cluster, etcd_revision, holder, raised_at)"
            " VALUES (0, %s, 'c1', 1, 'r1', now())"
            " ON CONFLICT (shard) DO UPDATE SET epoch = excluded.epoch",
            [EPOCH],
        )

        def write(transition: Transition) -> tuple[int, int]:
            parameters = append_parameters([(*transition, ())]) | scope(0, EPOCH)
            row = connection.execute(append, parameters).fetchone()
            assert row is not None
            return row[0], row[1]

        assert [write(transition) for transition in WRITTEN] == [(1, 1), (1, 2), (1, 1)]
        assert write(LATE) == (1, 0)
        row = connection.execute("SELECT state, sequence, current_step FROM baton.saga").fetchone()
        assert row == ("COMPLETED", 4, None)
