"""What replicas look for again and again costs the same however many sagas wait: as Postgres explains it."""

from __future__ import annotations

import psycopg

from benchmarks.polling import POLLED, Plan, explained
from orchestrator.sagalog.migrate import migrate

FEW, MANY = 500, 8_000
# An index twice as deep in its root: what a look may read more of when there are sixteen times as many.
BLOCKS_MORE_MAX = 6

# In every state that waits: later starts, delays, backoffs of compensations, and what waits until somebody speaks.
SLEEPERS = """
    INSERT INTO baton.saga
        (id, shard, request_id, request_hash, definition, version, state, input, next_run_at, sequence, epoch)
    SELECT gen_random_uuid(), 0, gen_random_uuid()::text, '', 'benchmark', 1,
        (ARRAY['PENDING', 'RUNNING', 'RUNNING', 'COMPENSATING'])[1 + n %% 4], '{}',
        CASE WHEN n %% 3 = 0 THEN 'infinity' ELSE clock_timestamp() + make_interval(hours => 1, secs => n) END, 1, 1
    FROM generate_series(1, %s) AS n
"""


def looked(connection: psycopg.Connection) -> list[Plan]:
    """Each statement with a plan for its parameters, and with the plan that a prepared statement keeps."""
    return [*explained(connection, generic=False), *explained(connection, generic=True)]


def test_no_look_reads_the_sagas_that_wait_whether_the_statistics_know_of_them_or_not(database: str) -> None:
    migrate(database)
    with psycopg.connect(database, autocommit=True) as connection:
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
