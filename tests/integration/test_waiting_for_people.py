"""What waits for a person, as the leader's statement marks it on the saga's row: what asks, and what was set aside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from orchestrator.saga.commands import Succeeded, Unknown
from orchestrator.saga.model import Epoch, Saga, SagaId
from orchestrator.saga.pausing import Pause, PauseKind, held_by
from orchestrator.saga.signals import Verb
from orchestrator.sagalog.migrate import migrate, migrations
from orchestrator.sagalog.queries import load
from orchestrator.sagalog.rows import append_parameters
from orchestrator.sagalog.term import scope
from tests.unit.sagas import EPOCH, NOW, Walk, graph, new_saga

ASKS = {"approval": {"question": "May it?"}}
APPEND = load("term.sql")["append"].text
PAUSED = Pause(UUID(int=1), PauseKind.PARTICIPANT, "h:1", "ann", "moving", NOW)

Connection = psycopg.Connection[tuple[Any, ...]]


class Logged:
    """A saga whose transitions go into the log, by the statement of the leader, as they come."""

    def __init__(self, log: Connection, saga: Saga, began_s_ago: float = 0.0) -> None:
        self.log = log
        self.walk = Walk(replace(saga, id=SagaId(uuid4())))
        self._written = 0
        log.execute(
            "INSERT INTO baton.saga"
            " (id, shard, request_id, request_hash, definition, version, state, input, created_at)"
            " VALUES (%s, 0, %s, '', 'test', 1, 'PENDING', '{}', now() - %s * interval '1 s')",
            [self.walk.saga.id, str(self.walk.saga.id), began_s_ago],
        )

    def does(self, *deeds: Callable[[Walk], object]) -> Logged:
        """Each is one write."""
        for deed in deeds:
            deed(self.walk)
            events = self.walk.log[self._written :]
            row = self.log.execute(
                APPEND, append_parameters([(self.walk.saga, events, ())]) | scope(0, EPOCH)
            ).fetchone()
            assert row is not None
            assert row[:2] == (1, len(events))
            self._written = len(self.walk.log)
        return self

    def column(self, name: str) -> Any:
        row = self.log.execute(f"SELECT {name} FROM baton.saga WHERE id = %s".encode(), [self.walk.saga.id]).fetchone()
        assert row is not None
        return row[0]


@pytest.fixture
def log(database: str) -> Iterator[Connection]:
    migrate(database)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("INSERT INTO baton.fence VALUES (0, %s, 'c', 1, 'r1', now())", [EPOCH])
        yield connection


def ready(walk: Walk) -> object:
    return walk.ready()


def told(step: str) -> Callable[[Walk], object]:
    return lambda walk: walk.tell(step, Succeeded({}))


def approved(step: str) -> Callable[[Walk], object]:
    return lambda walk: walk.signal(Verb.APPROVE, step)


def held(step: str) -> Callable[[Walk], object]:
    return lambda walk: walk.tell(step, held_by(PAUSED, 0.0))


def test_a_saga_asks_from_its_first_open_approval_to_the_last(log: Connection) -> None:
    saga = Logged(log, graph({}, {**ASKS}, {**ASKS}, {"after": ["c"]}))
    saga.does(ready)
    assert saga.column("asked_at") is None
    saga.does(told("a"))
    first = saga.column("asked_at")
    assert first == saga.column("updated_at")
    saga.does(approved("b"))
    assert saga.column("asked_at") > first, "it is another approval that it asks for"
    saga.does(approved("c"))
    assert (saga.column("state"), saga.column("asked_at")) == ("RUNNING", None)


def test_one_batch_has_one_time_for_every_row_that_it_changes(log: Connection) -> None:
    finish, ask = [Logged(log, new_saga(True)) for _ in range(100)], [Logged(log, graph(ASKS)) for _ in range(100)]
    for saga in finish:
        saga.walk.ready()
        saga.walk.tell("s1", Succeeded({}))
    for saga in ask:
        saga.walk.ready()
    batch = [(saga.walk.saga, saga.walk.log, ()) for saga in finish + ask]
    log.execute(APPEND, append_parameters(batch) | scope(0, EPOCH))
    times = "SELECT DISTINCT updated_at, coalesce(finished_at, asked_at) FROM baton.saga"
    [(updated, finished_or_asked)] = log.execute(times).fetchall()
    assert updated == finished_or_asked


def test_a_saga_that_does_something_else_meanwhile_asks_all_the_same_until_all_is_answered(log: Connection) -> None:
    saga = Logged(log, graph({}, {**ASKS, "after": []}, {**ASKS, "after": ["a"]})).does(ready)
    since = saga.column("asked_at")
    assert (saga.column("next_run_at"), since is None) == (None, False)
    saga.does(told("a"))
    assert saga.column("asked_at") == since, "it asks for a second approval beside"
    saga.does(approved("b"))
    assert saga.column("asked_at") == since
    saga.does(lambda walk: walk.signal(Verb.REJECT, "c"))
    assert (saga.column("state"), saga.column("asked_at")) == ("COMPENSATING", None)


@pytest.mark.parametrize(
    "steps",
    [({"delay": "1h"},), ({"answer": "later"},), ({"retry": {"retries": 3}},)],
    ids=["a time", "an answer", "the next attempt"],
)
def test_what_waits_for_anything_else_is_not_marked(log: Connection, steps: tuple[dict[str, object], ...]) -> None:
    saga = Logged(log, graph(*steps)).does(ready)
    if "retry" in steps[0]:
        saga.does(lambda walk: walk.tell("a", Unknown("UNAVAILABLE", "away")))
    assert (saga.column("asked_at"), saga.column("set_aside")) == (None, None)


def test_a_saga_is_set_aside_while_nothing_but_a_pause_keeps_it(log: Connection) -> None:
    saga = Logged(log, graph({}, {"after": []})).does(ready, held("a"))
    assert saga.column("set_aside") is None, "a call is under way"
    saga.does(held("b"))
    assert saga.column("set_aside") is True
    saga.does(lambda walk: walk.ready("a", 2000))
    assert saga.column("set_aside") is None, "it asks again"
    mixed = Logged(log, graph({"retry": {"retries": 3}}, {"after": []})).does(ready, held("b"))
    mixed.does(lambda walk: walk.tell("a", Unknown("INTERNAL", "no")))
    assert mixed.column("next_run_at") is not None
    assert mixed.column("set_aside") is None, "the other step waits for its next attempt"

    paused = Logged(log, graph(ASKS)).does(ready, lambda walk: walk.signal(Verb.PAUSE))
    assert (paused.column("set_aside"), paused.column("asked_at") is None) == (True, False)
    paused.does(lambda walk: walk.signal(Verb.RESUME))
    assert paused.column("set_aside") is None
    undone = Logged(log, new_saga(True, True)).does(ready, told("s1"), lambda walk: walk.signal(Verb.PAUSE))
    assert undone.column("set_aside") is None, "a call is under way"


def oldest(log: Connection, state: str) -> float:
    """How many seconds ago the oldest saga of a state began that nobody has paused; 0 when there is none."""
    found = dict(log.execute(load("reader.sql")["oldest"].text, {"shard": 0}).fetchall())
    now = log.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
    assert now is not None
    return now[0] - found[state] if found[state] else 0.0


def test_the_oldest_saga_is_one_that_nobody_has_paused(log: Connection) -> None:
    again = Logged(log, graph({}), began_s_ago=9000).does(ready, held("a"))
    Logged(log, graph(ASKS), began_s_ago=8000).does(ready, lambda walk: walk.signal(Verb.PAUSE))
    assert (oldest(log, "RUNNING"), oldest(log, "PAUSED")) == (0, pytest.approx(8000, abs=60))
    # What is held asks again now and then, in vain: it is awake for a moment, and that is no reason for an alarm.
    again.does(lambda walk: walk.ready("a", 2000))
    assert (again.column("next_run_at"), oldest(log, "RUNNING")) == (None, 0)
    # But if that takes long, it is a call that hangs.
    log.execute("UPDATE baton.saga SET updated_at = now() - interval '11 s' WHERE id = %s", [again.walk.saga.id])
    assert oldest(log, "RUNNING") == pytest.approx(9000, abs=60)
    again.does(held("a"))
    assert oldest(log, "RUNNING") == 0

    Logged(log, graph({}), began_s_ago=5000).does(ready)
    assert oldest(log, "RUNNING") == pytest.approx(5000, abs=60)
    Logged(log, graph(ASKS), began_s_ago=6000).does(ready)
    assert oldest(log, "RUNNING") == pytest.approx(6000, abs=60), "asleep, and nobody has paused it"
    back = Logged(log, new_saga(True, True), began_s_ago=7000)
    back.does(ready, told("s1"), lambda walk: walk.cancelled().tell("s2", Succeeded({})))
    assert (back.column("state"), oldest(log, "COMPENSATING")) == ("COMPENSATING", pytest.approx(7000, abs=60))
    back.does(held("s2"))
    assert oldest(log, "COMPENSATING") == 0


def test_ordinary_transitions_stay_on_their_page_and_touch_no_new_index(log: Connection) -> None:
    log.execute("BEGIN")
    Logged(log, new_saga(*(True,) * 10)).does(ready, *(told(f"s{number}") for number in range(1, 10)))
    counted = "SELECT pg_stat_get_xact_tuples_updated(c), pg_stat_get_xact_tuples_hot_updated(c) FROM"
    updates, hot = log.execute(f"{counted} (SELECT 'baton.saga'::regclass::oid AS c) AS t".encode()).fetchone() or (
        0,
        0,
    )
    log.execute("COMMIT")
    # The first goes from PENDING to RUNNING, which every release's indexes have by the state.
    assert (updates, hot) == (10, 9)
    sizes = "SELECT pg_relation_size('baton.saga_asked'), pg_relation_size('baton.saga_asleep')"
    assert log.execute(sizes).fetchone() == (8192, 8192), "nothing but their first page"


LEGACY = """
    INSERT INTO baton.definition (name, version, content_hash, yaml, descriptor_set) VALUES
        ('plain', 1, 'h', 'steps: [{name: a, delay: 1h}]', ''),
        ('asks', 1, 'h', 'steps: [{name: a, answer: later}, {name: b, approval: {question: yes}}]', ''),
        ('odd', 1, 'h', '{"steps": [{"name": "a", "appro\\u0076al": {"question": "yes"}}]}', '');
    INSERT INTO baton.saga (id, shard, request_id, request_hash, definition, version, state, input, next_run_at)
    SELECT id::uuid, 0, id, '', definition, 1, state, '{}', next_run_at::timestamptz FROM (VALUES
        ('00000000-0000-0000-0000-000000000001', 'plain', 'RUNNING', '2100-01-01'),
        ('00000000-0000-0000-0000-000000000002', 'asks', 'RUNNING', 'infinity'),
        ('00000000-0000-0000-0000-000000000003', 'asks', 'RUNNING', 'infinity'),
        ('00000000-0000-0000-0000-000000000004', 'asks', 'FAILED', NULL),
        ('00000000-0000-0000-0000-000000000005', 'odd', 'RUNNING', 'infinity'),
        ('00000000-0000-0000-0000-000000000006', 'asks', 'RUNNING', 'infinity')
    ) AS s (id, definition, state, next_run_at);
    INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, epoch, at)
    SELECT ('00000000-0000-0000-0000-00000000000' || saga)::uuid, sequence, 'x', position, status, 1, 1, '2026-01-01'
    FROM (VALUES
        (1, 1, 1, 'waiting'),
        (2, 1, 1, 'executing'), (2, 2, 1, 'waiting'),
        (3, 1, 1, 'executing'), (3, 2, 1, 'completed'), (3, 3, 2, 'waiting'),
        (4, 1, 2, 'waiting'), (4, 2, 0, 'parked'),
        (5, 1, 1, 'waiting'), (5, 2, 0, 'paused'),
        (6, 1, 2, 'waiting'), (6, 2, 0, 'paused'), (6, 3, 0, 'resumed')
    ) AS l (saga, sequence, position, status);
"""


def test_what_waited_for_people_before_is_marked_by_the_migration(database: str) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("CREATE SCHEMA baton")
        for migration in migrations():
            if migration.number < 63:
                connection.execute(migration.sql.encode())
        connection.execute(LEGACY.encode())
        for migration in migrations():
            if migration.number >= 63:
                connection.execute(migration.sql.encode())
        marked = connection.execute(
            "SELECT right(id::text, 1)::int, asked_at = '2026-01-01', set_aside FROM baton.saga"
            " WHERE asked_at IS NOT NULL OR set_aside ORDER BY id"
        ).fetchall()
    assert marked == [(3, True, None), (5, True, True), (6, True, None)]


def test_an_epoch_that_is_over_marks_nothing(log: Connection) -> None:
    saga = Logged(log, graph(ASKS))
    saga.walk.ready()
    parameters = append_parameters([(saga.walk.saga, saga.walk.log, ())]) | scope(0, Epoch(EPOCH - 1))
    assert (log.execute(APPEND, parameters).fetchone() or (1,))[0] == 0
    assert saga.column("asked_at") is None
