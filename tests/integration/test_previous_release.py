"""The release before this one, on the schema of this one: its statements, the rows it left, and what it may not do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import psycopg
import pytest

from orchestrator.errors import Resign
from orchestrator.pb.baton.v1 import saga_pb2
from orchestrator.saga.commands import Outcome, Ready, Succeeded
from orchestrator.saga.machine import decide
from orchestrator.saga.model import Epoch, Saga, SagaId
from orchestrator.sagalog.level import READING_LEVEL
from orchestrator.sagalog.migrate import SchemaTooNew, migrate, migrations
from orchestrator.sagalog.port import Claim
from orchestrator.sagalog.postgres import LogSettings, PostgresSagaLog
from orchestrator.sagalog.rows import append_parameters
from orchestrator.sagalog.term import scope
from orchestrator.telemetry import Metrics
from tests.integration.api_world import api_world
from tests.previous_release import statements
from tests.unit.sagas import definition, moment

_RECORDED = Path(__file__).resolve().parents[1] / "recorded" / "log_of_level_1.sql"
_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_WITHIN_S = 60.0

Connection = psycopg.Connection[tuple[Any, ...]]


def claimed(revision: int, holder: str = "old") -> dict[str, Any]:
    return {"shard": 0, "revision": revision, "etcd_cluster": "c1", "holder": holder, "cause": "vacant"}


@pytest.fixture
def log(database: str) -> Iterator[Connection]:
    """A connection as the previous release has it, to a log with the schema of this one."""
    migrate(database)
    with psycopg.connect(database, autocommit=True) as connection:
        yield connection


def start(log: Connection, *ids: int) -> None:
    """Start sagas by the statement of the previous release."""
    new = {
        "id": [UUID(int=number) for number in ids],
        "request_id": [f"r{number}" for number in ids],
        "request_hash": [b"" for _ in ids],
        "definition": ["test" for _ in ids],
        "version": [1 for _ in ids],
        "input": ["{}" for _ in ids],
        "labels": ['{"team": "shop"}' for _ in ids],
    }
    found = log.execute(statements("intake.sql")["start"], {**new, "shard": 0, "work": "0:pending"}).fetchall()
    assert [row[0] for row in found] == new["id"]


def drive(log: Connection, number: int, epoch: int, *outcomes: Outcome) -> None:
    """Write the transitions of a saga by the statement of the previous release."""
    append = statements("term.sql")["append"]
    saga = Saga(SagaId(UUID(int=number)), definition(True, True), {}, {}, _NOW)
    for outcome in outcomes:
        saga, events = decide(saga, outcome, replace(moment(Epoch(epoch)), now=_NOW))
        row = log.execute(append, append_parameters([(saga, events, ())]) | scope(0, epoch)).fetchone()
        assert row == (1, len(events))


def rows(log: Connection, query: str) -> list[tuple[Any, ...]]:
    return log.execute(query.encode()).fetchall()


def reading(log: Connection) -> Mapping[str, int]:
    """How many rows each reading statement of its leader finds."""
    page = {**scope(0, 99), "after": UUID(int=0), "page": 10, "limit": 10, "exclude": [], "sagas": [UUID(int=1)]}
    names = (
        "unfinished_running",
        "unfinished_compensating",
        "unfinished_unknown",
        "pending",
        "events",
        "cancellations",
    )
    found = statements("term.sql")
    return {name: len(log.execute(found[name], page).fetchall()) for name in names}


def test_its_statements_work_on_the_schema_of_this_release_and_the_counts_labels_and_events_are_kept(
    log: Connection,
) -> None:
    term = statements("term.sql")
    assert log.execute(term["raise_epoch"], claimed(7)).fetchone() == (7,)
    start(log, 1, 2, 3)
    drive(log, 1, 7, Ready(), Succeeded({}))
    drive(log, 2, 7, Ready(), Succeeded({}), Succeeded({}))
    parked = {"saga": UUID(int=3), "sequence": 1, "error": "{}", "code": "CORRUPT_LOG", "message": "why"}
    assert log.execute(term["prove"], scope(0, 7)).fetchone() == (1, 0)
    found = reading(log)
    assert (found["unfinished_running"], found["pending"], found["events"]) == (1, 1, 3)
    assert log.execute(term["park"], {**parked, **scope(0, 7)}).fetchone() == (1, 0)

    states = "SELECT state, count(*)::int FROM baton.saga GROUP BY state ORDER BY state"
    counts = (
        "SELECT state, sum(change)::int FROM baton.tally_change GROUP BY state HAVING sum(change) <> 0 ORDER BY state"
    )
    assert rows(log, counts) == rows(log, states) == [("COMPLETED", 1), ("FAILED", 1), ("RUNNING", 1)]
    assert len(rows(log, "SELECT 1 FROM baton.saga_label WHERE key = 'team' AND value = 'shop'")) == 3
    positions = [row[0] for row in rows(log, "SELECT log_position FROM baton.step_log ORDER BY log_position")]
    assert len(positions) == len(set(positions)) == 8
    assert None not in positions


@pytest.mark.parametrize("reader", ["saga", "sagas", "history", "news"])
def test_its_readers_work_on_the_schema_of_this_release(log: Connection, reader: str) -> None:
    log.execute(statements("term.sql")["raise_epoch"], claimed(7))
    start(log, 1)
    drive(log, 1, 7, Ready())
    one = UUID(int=1)
    bounds = {"id_before": UUID(int=9), "id_from": UUID(int=0), "page": 5, "stored_bytes_max": 999}
    filters = dict.fromkeys(("states", "definition", "labels", "created_after", "created_before"))
    history = {"id": one, "after": 0, "last": 9, "rows": 9, "bytes": 999, "ids": [one]}
    parameters: dict[str, Any] = {**bounds, **filters, **history}
    if reader == "news":
        parameters |= {"after": [0]}
    assert len(log.execute(statements("reader.sql")[reader], parameters).fetchall()) == 1


def test_a_start_is_passed_over_that_was_stored_before(log: Connection) -> None:
    start(log, 1)
    found = log.execute(statements("intake.sql")["started"], {"request_ids": ["r1"]}).fetchall()
    assert [row[:2] for row in found] == [("r1", UUID(int=1))]


def level(log: Connection) -> int:
    return int(rows(log, "SELECT level FROM baton.reading_level")[0][0])


async def test_it_leads_until_a_newer_release_has_led_and_never_again(log: Connection, database: str) -> None:
    term = statements("term.sql")
    assert log.execute(term["raise_epoch"], claimed(1)).fetchone() == (1,)
    assert level(log) == 1

    newer = PostgresSagaLog(LogSettings(database, "new", 0, 5.0, 0.2, 4.0, 4000), Metrics("test", "new"))
    led = await newer.raise_epoch(Claim(0, "new", "c1", 2, "vacant"))
    assert led is not None
    assert level(log) == READING_LEVEL
    for statement in ("raise_epoch", "raise_epoch_again"):
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match=r"may not lead.*level 2.*level 1"):
            log.execute(term[statement], {**claimed(3), "seen": 2})
    assert rows(log, "SELECT holder FROM baton.epoch_history ORDER BY epoch") == [("old",), ("new",)]
    await led.prove()
    start(log, 1)  # What does not lead takes starts all the same.
    await led.close()
    await newer.close()


async def test_a_leader_of_today_that_reads_too_little_says_so_and_stays_out_of_the_campaign(
    log: Connection, database: str
) -> None:
    log.execute("UPDATE baton.reading_level SET level = %s", [READING_LEVEL + 1])
    today = PostgresSagaLog(LogSettings(database, "r1", 0, 5.0, 0.2, 4.0, 4000), Metrics("test", "r1"))
    with pytest.raises(Resign, match="replace it by the newer release") as refused:
        await today.raise_epoch(Claim(0, "r1", "c1", 2, "vacant"))
    assert refused.value.cooldown_s >= 10
    assert rows(log, "SELECT 1 FROM baton.fence") == []
    await today.close()


_NEW_DEFINITION = (
    b"INSERT INTO baton.definition (name, version, content_hash, yaml, descriptor_set) VALUES ('n', 1, '', '', '')"
)
_DELAYED_START = (
    b"INSERT INTO baton.saga (id, shard, request_id, request_hash, definition, version, state, input, start_at)"
    b" VALUES ('00000000-0000-0000-0000-000000000009', 0, 'r9', '', 'test', 1, 'PENDING', '{}', now() + interval '1 h')"
)


@pytest.mark.parametrize("stored", [_NEW_DEFINITION, _DELAYED_START])
@pytest.mark.parametrize("led", [True, False])
def test_it_writes_nothing_any_more_once_something_is_stored_that_it_may_not_understand(
    log: Connection, stored: bytes, led: bool
) -> None:
    term = statements("term.sql")
    if led:
        log.execute(term["raise_epoch"], claimed(1))
    log.execute(b"BEGIN")
    log.execute(f"SET LOCAL baton.level = '{READING_LEVEL}'".encode())
    log.execute(stored)
    log.execute(b"COMMIT")
    assert level(log) == READING_LEVEL
    assert log.execute(term["prove"], scope(0, 1)).fetchone() == (0, 0)
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="may not lead"):
        log.execute(term["raise_epoch"], claimed(2))


def test_its_own_definitions_and_starts_require_nothing(log: Connection) -> None:
    log.execute(_NEW_DEFINITION)
    start(log, 1)
    assert level(log) == 1


def test_a_newer_leader_is_not_disturbed_by_definitions(log: Connection) -> None:
    log.execute(f"SET baton.level = '{READING_LEVEL}'".encode())
    log.execute(statements("term.sql")["raise_epoch"], claimed(1))
    log.execute(_NEW_DEFINITION)
    log.execute(_DELAYED_START)
    assert rows(log, "SELECT epoch FROM baton.fence") == [(1,)]


def test_a_release_that_does_not_know_the_schema_refuses_to_start(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(database)
    known = tuple(migration for migration in migrations() if migration.number <= 3)
    monkeypatch.setattr("orchestrator.sagalog.migrate.migrations", lambda: known)
    with pytest.raises(SchemaTooNew, match="ends at 3: run the release that made it"):
        migrate(database)


# What each recorded saga, by its request id, must come to when today's participants do all that they are asked.
_ENDS = {
    "completed": "COMPLETED",
    "compensated": "COMPENSATED",
    "running-first": "COMPLETED",
    "running-second": "COMPLETED",
    "backoff": "COMPLETED",
    "compensating": "COMPENSATED",
    "compensation-backoff": "COMPENSATED",
    "cancelling": "COMPENSATED",
    "parked": "FAILED",
    "pending": "COMPLETED",
}


async def test_what_the_previous_release_left_in_the_middle_is_ended_by_the_leader_of_this_one(database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute(_RECORDED.read_bytes())
        before = rows(connection, "SELECT saga_id, sequence, status, epoch FROM baton.step_log")
    migrate(database)
    async with api_world(database) as world:
        async with world.leading():
            give_up_at = time.monotonic() + _WITHIN_S
            live = "SELECT request_id FROM baton.saga WHERE state IN ('PENDING', 'RUNNING', 'COMPENSATING')"
            while unfinished := world.rows(live):
                assert time.monotonic() < give_up_at, f"not ended: {unfinished}"
                await asyncio.sleep(0.02)
        assert dict(world.rows("SELECT request_id, state FROM baton.saga")) == _ENDS
        # What was written is as it was, and every saga can be read with all its history.
        assert set(before) <= set(world.rows("SELECT saga_id, sequence, status, epoch FROM baton.step_log"))
        for (saga_id,) in world.rows("SELECT id::text FROM baton.saga"):
            answer = await world.get(saga_id)
            assert answer.saga.HasField("finished_at")
            assert [row.sequence for row in answer.history] == list(range(1, len(answer.history) + 1))
        found = await world.sagas.ListSagas(saga_pb2.ListSagasRequest(labels={"plan": "backoff"}))
        assert [orjson.loads(saga.input_json)["order_id"] for saga in found.sagas] == ["o-1"]


def test_the_recorded_log_has_sagas_in_the_middle_of_everything(database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute(_RECORDED.read_bytes())
        states = rows(connection, "SELECT DISTINCT state FROM baton.saga")
        last = rows(
            connection, "SELECT DISTINCT ON (saga_id) status FROM baton.step_log ORDER BY saga_id, sequence DESC"
        )
    assert {state for (state,) in states} == {
        "PENDING",
        "RUNNING",
        "COMPENSATING",
        "COMPLETED",
        "COMPENSATED",
        "FAILED",
    }
    assert {"executing", "retrying", "compensating", "compensation_retrying", "parked"} <= {s for (s,) in last}
