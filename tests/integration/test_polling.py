"""What replicas look for again and again costs the same however many sagas wait: as Postgres explains it."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import psycopg

from benchmarks.polling import POLLED, Plan, explained, plan_of
from orchestrator.sagalog.migrate import migrate

FEW, MANY = 500, 8_000
# An index twice as deep in its root: what a look may read more of when there are sixteen times as many.
BLOCKS_MORE_MAX = 6

# In every state that waits: later starts, delays, backoffs of compensations, and what waits until somebody speaks; some
# of them paused by a person.
SLEEPERS = """
    INSERT INTO baton.saga
        (id, shard, request_id, request_hash, definition, version, state, input, next_run_at, sequence, epoch,
        set_aside)
    SELECT gen_random_uuid(), 0, gen_random_uuid()::text, '', 'benchmark', 1,
        (ARRAY['PENDING', 'RUNNING', 'RUNNING', 'COMPENSATING'])[1 + n %% 4], '{}',
        CASE WHEN n %% 3 = 0 THEN 'infinity' ELSE clock_timestamp() + make_interval(hours => 1, secs => n) END, 1, 1,
        CASE WHEN n %% 5 = 0 THEN true END
    FROM generate_series(1, %s) AS n
"""

# Sagas that ask for an approval, one after the other, of two definitions.
ASKING = """
    WITH asks AS (
        INSERT INTO baton.saga (id, shard, request_id, request_hash, definition, version, state, input, next_run_at,
            sequence, epoch, asked_at)
        SELECT gen_random_uuid(), 0, gen_random_uuid()::text, '', (ARRAY['benchmark', 'another'])[1 + n %% 2], 1,
            'RUNNING', '{}', 'infinity', 2, 1, clock_timestamp()
        FROM generate_series(1, %s) AS n
        RETURNING id
    )
    INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, epoch)
    SELECT id, n, 'step', n, (ARRAY['completed', 'waiting'])[n], 1, 1 FROM asks, generate_series(1, 2) AS n
"""

MIDDLE = "SELECT asked_at, id FROM baton.saga WHERE asked_at IS NOT NULL ORDER BY asked_at, id OFFSET 100 LIMIT 1"
LONG_AGO = datetime.fromtimestamp(0, UTC)


def looked(connection: psycopg.Connection) -> list[Plan]:
    """Each statement with a plan for its parameters, and with the plan that a prepared statement keeps."""
    return [*explained(connection, generic=False), *explained(connection, generic=True)]


def test_no_look_reads_the_sagas_that_wait_whether_the_statistics_know_of_them_or_not(database: str) -> None:
    migrate(database)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(ASKING.encode(), [20])
        connection.execute(SLEEPERS.encode(), [FEW])
        few = looked(connection)
        connection.execute(SLEEPERS.encode(), [MANY - FEW])
        unknown = looked(connection)
        connection.execute("VACUUM ANALYZE baton.saga")
        known = looked(connection)
    assert len(few) == 2 * len(POLLED)
    for before, after in [*zip(few, unknown, strict=True), *zip(few, known, strict=True)]:
        assert after.name == before.name
        assert after.blocks <= before.blocks + BLOCKS_MORE_MAX, (after.name, before.blocks, after.blocks, after.nodes)
        assert "Seq Scan saga" not in after.scans, (after.name, after.scans)
    indexes = {plan.name: plan.scans for plan in known}
    assert indexes["term.due"] == "Index Scan saga_due"
    assert indexes["term.next_due"] == "Index Only Scan saga_due"
    assert indexes["term.pending"] == "Index Scan saga_awake"
    assert indexes["signals.asked"] == "Index Scan saga_asked"
    assert indexes["upkeep.finished"].startswith("Index Scan saga_over")
    assert "saga_asleep" in indexes["reader.oldest"]
    assert "saga_live" not in indexes["reader.oldest"]


def test_a_page_of_approvals_reads_its_own_sagas_however_many_ask_and_however_many_wait_for_something_else(
    database: str,
) -> None:
    migrate(database)
    wanted = {"definitions": ["another", "benchmark"], "after_at": LONG_AGO, "after": UUID(int=0), "page": 20}
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(ASKING.encode(), [200])

        def pages(generic: bool) -> list[Plan]:
            """The first page, and one in the middle."""
            middle = connection.execute(MIDDLE.encode()).fetchone()
            assert middle is not None
            behind = {**wanted, "after_at": middle[0], "after": middle[1]}
            return [plan_of(connection, "signals.sql", "asked", asked, generic=generic) for asked in (wanted, behind)]

        few = [*pages(generic=False), *pages(generic=True)]
        connection.execute(ASKING.encode(), [MANY])
        connection.execute(SLEEPERS.encode(), [MANY])
        unknown = [*pages(generic=False), *pages(generic=True)]
        connection.execute("VACUUM ANALYZE baton.saga, baton.step_log")
        known = [*pages(generic=False), *pages(generic=True)]
    for before, after in [*zip(few, unknown, strict=True), *zip(few, known, strict=True)]:
        assert after.blocks <= before.blocks + BLOCKS_MORE_MAX, (before.blocks, after.blocks, after.nodes)
        assert {"saga_asked"} == {node["Index Name"] for node in after.nodes if node.get("Relation Name") == "saga"}


ENDED = """
    INSERT INTO baton.saga
        (id, shard, request_id, request_hash, definition, version, state, input, sequence, epoch, finished_at)
    SELECT gen_random_uuid(), 0, gen_random_uuid()::text, '', 'benchmark', 1,
        (ARRAY['COMPLETED', 'COMPENSATED', 'FAILED'])[1 + n %% 3], '{}', 2, 1, now() - make_interval(secs => %s + n)
    FROM generate_series(1, %s) AS n
"""


def test_a_page_of_what_may_go_reads_its_own_sagas_however_many_are_kept(database: str) -> None:
    migrate(database)
    wanted = next(parameters for _, name, parameters in POLLED if name == "finished") | {"rows": 50}
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(ENDED.encode(), [7200, 300])

        def pages() -> list[Plan]:
            """The first page, and one in the middle, up to a place that is not far behind it."""
            places = connection.execute(PLACES.encode()).fetchall()
            middle = {
                "behind_at": places[0][0],
                "behind": places[0][1],
                "until_at": places[1][0],
                "until": places[1][1],
            }
            return [
                plan_of(connection, "upkeep.sql", "finished", wanted | behind, generic=generic)
                for generic in (False, True)
                for behind in ({}, middle)
            ]

        few = pages()
        connection.execute(ENDED.encode(), [10_000, MANY])
        connection.execute(ENDED.encode(), [-MANY - 10, MANY])
        connection.execute(SLEEPERS.encode(), [MANY])
        unknown = pages()
        connection.execute("VACUUM ANALYZE baton.saga")
        known = pages()
    for before, after in [*zip(few, unknown, strict=True), *zip(few, known, strict=True)]:
        assert after.blocks <= before.blocks + BLOCKS_MORE_MAX, (before.blocks, after.blocks, after.nodes)
        assert "Index Scan saga_over" in after.scans
        assert "Seq Scan saga" not in after.scans


PLACES = """
    SELECT finished_at, id FROM (
        SELECT finished_at, id, row_number() OVER (ORDER BY finished_at, id) AS n
        FROM baton.saga
        WHERE state IN ('COMPLETED', 'COMPENSATED') AND finished_at < now() - interval '1 hour'
    ) AS over
    WHERE n IN (60, 130)
    ORDER BY n
"""
