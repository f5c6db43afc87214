-- Statements of the leader. Every write takes the fence row FOR SHARE under its epoch and inserts from it (R3):
-- a raise waits for it, and after the raise it finds no row, writes nothing, and returns 0.

-- name: raise_epoch
-- R2. Refuses when this etcd cluster was already seen at the same or a later revision.
WITH raised AS (
    INSERT INTO baton.fence AS f (shard, epoch, etcd_cluster, etcd_revision, holder, raised_at)
    VALUES (%(shard)s, greatest(1, %(revision)s), %(etcd_cluster)s, %(revision)s, %(holder)s, clock_timestamp())
    ON CONFLICT (shard) DO UPDATE
        SET epoch = greatest(f.epoch + 1, excluded.etcd_revision),
            etcd_cluster = excluded.etcd_cluster,
            etcd_revision = excluded.etcd_revision,
            holder = excluded.holder,
            raised_at = clock_timestamp()
        WHERE f.etcd_cluster <> excluded.etcd_cluster OR f.etcd_revision < excluded.etcd_revision
    RETURNING shard, epoch, holder, raised_at
), history AS (
    INSERT INTO baton.epoch_history (shard, epoch, holder, cause, raised_at)
    SELECT shard, epoch, holder, %(cause)s, raised_at FROM raised
)
SELECT epoch FROM raised;

-- name: raise_epoch_again
-- R2, after etcd's history was restored: by compare-and-swap on the epoch that was seen.
WITH raised AS (
    UPDATE baton.fence
    SET epoch = epoch + 1,
        etcd_cluster = %(etcd_cluster)s,
        etcd_revision = %(revision)s,
        holder = %(holder)s,
        raised_at = clock_timestamp()
    WHERE shard = %(shard)s AND epoch = %(seen)s
    RETURNING shard, epoch, holder, raised_at
), history AS (
    INSERT INTO baton.epoch_history (shard, epoch, holder, cause, raised_at)
    SELECT shard, epoch, holder, %(cause)s, raised_at FROM raised
)
SELECT epoch FROM raised;

-- name: fence_epoch
SELECT epoch FROM baton.fence WHERE shard = %(shard)s;

-- name: disconnect_older_terms
-- R11. A writer that stopped in the middle of a statement holds the fence row: its backend is ended. Whoever calls
-- this has won the election, so every writer of the shard that is connected belongs to an older epoch. A claimant that
-- stopped within its own raise still bears the name of a standby: those are spared that are not at it for so long.
SELECT pg_terminate_backend(pid)
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND (
    application_name LIKE %(writers)s
    OR (application_name LIKE %(standbys)s AND xact_start < clock_timestamp() - make_interval(secs => %(waited_s)s))
);

-- name: append
-- Many transitions in one statement. A repetition after a lost connection finds its own rows and leaves them; the
-- count of rows written tells the writer that this was so. No array holds a null ('' and 0 stand for it): so the
-- arrays have the same types in every batch, and one prepared statement serves them all.
-- A statement whose connection was given up may still be executed long after its repetition, when the saga has gone on
-- under the same epoch: it must not set the saga's row back, so a row that has come as far is left alone.
-- Signals are heard in the statement that writes what they led to. A parent is told of the end of its child, and why the
-- child will not be undone, in the very statement that writes it. The answer says what time it is by this clock.
-- The version changes when a saga is moved: in the same statement as the row that says so.
-- What waits for a person is marked on the saga's row: see migration 0063.
-- The clock is read once for all rows: a saga that ends was last updated when it finished, to the microsecond.
WITH fence AS MATERIALIZED (
    SELECT shard, clock_timestamp() AS at FROM baton.fence WHERE shard = %(shard)b AND epoch = %(epoch)b FOR SHARE
), logged AS (
    INSERT INTO baton.step_log
        (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, ordered, epoch)
    SELECT saga, sequence, nullif(step, ''), position, status, attempt, nullif(result, '')::jsonb, nullif(code, ''),
        nullif(message, ''), to_timestamp(nullif(retry_at_s, 0)), nullif(ordered, '')::jsonb, %(epoch)b
    FROM fence, unnest(
        %(log_saga)b::uuid[], %(log_sequence)b::bigint[], %(log_step)b::text[], %(log_position)b::integer[],
        %(log_status)b::text[], %(log_attempt)b::integer[], %(log_result)b::text[], %(log_code)b::text[],
        %(log_message)b::text[], %(log_retry_at_s)b::float8[], %(log_ordered)b::text[]
    ) AS e (saga, sequence, step, position, status, attempt, result, code, message, retry_at_s, ordered)
    ON CONFLICT (saga_id, sequence) DO NOTHING
    RETURNING 1
), changed AS (
    UPDATE baton.saga AS s
    SET state = c.state,
        current_step = nullif(c.step, ''),
        sequence = c.sequence,
        epoch = %(epoch)b,
        result = nullif(c.result, '')::jsonb,
        error = nullif(c.error, '')::jsonb,
        next_run_at = to_timestamp(nullif(c.next_run_at_s, 0)),
        updated_at = fence.at,
        finished_at = CASE WHEN c.finished THEN fence.at END,
        version = c.version,
        asked_at = CASE c.asks WHEN 1 THEN coalesce(s.asked_at, fence.at) WHEN 2 THEN fence.at END,
        set_aside = nullif(c.set_aside, false)
    FROM fence, unnest(
        %(saga)b::uuid[], %(state)b::text[], %(step)b::text[], %(sequence)b::bigint[],
        %(result)b::text[], %(error)b::text[], %(next_run_at_s)b::float8[], %(finished)b::boolean[],
        %(version)b::integer[], %(asks)b::integer[], %(set_aside)b::boolean[]
    ) AS c (id, state, step, sequence, result, error, next_run_at_s, finished, version, asks, set_aside)
    WHERE s.id = c.id AND s.sequence < c.sequence
    RETURNING s.parent, s.parent_step, s.shard, s.state, s.result, s.error
), heard AS (
    UPDATE baton.signal AS s
    SET heard_at = clock_timestamp(), refusal = nullif(h.refusal, '')
    FROM fence, unnest(%(heard)b::bigint[], %(refusal)b::text[]) AS h (id, refusal)
    WHERE s.id = h.id AND s.heard_at IS NULL
    RETURNING s.saga_id, s.shard, s.verb, s.refusal
), told AS (
    INSERT INTO baton.signal (key, saga_id, shard, verb, step, result)
    SELECT gen_random_uuid(), parent, shard, 'child', parent_step,
        jsonb_build_object('state', state, 'result', result, 'error', error)
    FROM changed
    WHERE parent IS NOT NULL AND state IN ('COMPLETED', 'COMPENSATED')
    UNION ALL
    SELECT gen_random_uuid(), c.parent, h.shard, 'child', c.parent_step,
        jsonb_build_object('state', 'REFUSED', 'error', jsonb_build_object('message', h.refusal))
    FROM heard AS h JOIN baton.saga AS c ON c.id = h.saga_id
    WHERE h.verb = 'undo' AND h.refusal IS NOT NULL AND c.parent IS NOT NULL
    RETURNING shard
), woken AS MATERIALIZED (
    -- Whoever leads hears of the child at once, and not by the next poll.
    SELECT pg_notify('baton_work', shard || ':child') FROM told
)
SELECT (SELECT count(*) FROM fence), (SELECT count(*) FROM logged), extract(epoch FROM clock_timestamp())::float8,
    (SELECT count(*) FROM woken);

-- name: begin_child
-- The child of a step, once; when it has ended already, its end is told again, since it may not have been heard. The
-- parent's row is locked and must be running: a late statement cannot begin a child behind its parent's back, when the
-- parent has turned and found no child to undo.
WITH fence AS MATERIALIZED (
    SELECT shard FROM baton.fence WHERE shard = %(shard)s AND epoch = %(epoch)s FOR SHARE
), parent AS MATERIALIZED (
    SELECT s.id, s.shard FROM baton.saga AS s, fence WHERE s.id = %(parent)s AND s.state = 'RUNNING' FOR NO KEY UPDATE OF s
), begun AS (
    INSERT INTO baton.saga
        (id, shard, request_id, request_hash, definition, version, state, input, labels, parent, parent_step)
    SELECT %(id)s, shard, %(request_id)s, ''::bytea, %(definition)s, %(version)s, 'PENDING', %(input)s::text::jsonb,
        %(labels)s::text::jsonb, id, %(step)s
    FROM parent
    ON CONFLICT (request_id) DO NOTHING
), told AS (
    INSERT INTO baton.signal (key, saga_id, shard, verb, step, result)
    SELECT gen_random_uuid(), c.parent, c.shard, 'child', c.parent_step,
        jsonb_build_object('state', c.state, 'result', c.result, 'error', c.error)
    FROM baton.saga AS c, parent
    WHERE c.request_id = %(request_id)s AND c.state IN ('COMPLETED', 'COMPENSATED')
)
SELECT count(*), 0, extract(epoch FROM clock_timestamp())::float8 FROM fence;

-- name: undo_child
-- Tell the child of a step to undo itself, once for each key, unless it has been undone or was never begun. Its
-- state, empty when there is no child, comes back beside the fence.
WITH fence AS MATERIALIZED (
    SELECT shard FROM baton.fence WHERE shard = %(shard)s AND epoch = %(epoch)s FOR SHARE
), child AS MATERIALIZED (
    SELECT s.id, s.shard, s.state FROM baton.saga AS s, fence WHERE s.request_id = %(request_id)s
), posted AS (
    INSERT INTO baton.signal (key, saga_id, shard, verb, step)
    SELECT %(key)s, id, shard, 'undo', '' FROM child WHERE state <> 'COMPENSATED'
    ON CONFLICT DO NOTHING
)
SELECT (SELECT count(*) FROM fence), 0, extract(epoch FROM clock_timestamp())::float8,
    coalesce((SELECT state FROM child), '');

-- name: acknowledged
-- Whether a row that was committed is there: Postgres may have failed over to a standby that had not received it.
SELECT EXISTS (SELECT 1 FROM baton.step_log WHERE saga_id = %(saga)s AND sequence = %(sequence)s);

-- name: prove
SELECT count(*), 0, extract(epoch FROM clock_timestamp())::float8 FROM (
    SELECT 1 FROM baton.fence WHERE shard = %(shard)s AND epoch = %(epoch)s FOR SHARE
) AS held;

-- name: park
-- A saga whose rows cannot be understood. Its sequence goes on behind the highest row that is there.
WITH fence AS MATERIALIZED (
    SELECT shard, clock_timestamp() AS at FROM baton.fence WHERE shard = %(shard)s AND epoch = %(epoch)s FOR SHARE
), parked AS (
    UPDATE baton.saga
    SET state = 'FAILED',
        sequence = %(sequence)s,
        epoch = %(epoch)s,
        error = %(error)s::jsonb,
        next_run_at = NULL,
        updated_at = fence.at,
        finished_at = fence.at,
        asked_at = NULL,
        set_aside = NULL
    FROM fence
    WHERE id = %(saga)s
), logged AS (
    INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, error_code, error_message, epoch)
    SELECT %(saga)s, %(sequence)s, NULL, 0, 'parked', 0, %(code)s, %(message)s, %(epoch)s FROM fence
    ON CONFLICT (saga_id, sequence) DO NOTHING
)
SELECT count(*), 0, extract(epoch FROM clock_timestamp())::float8 FROM fence;

-- name: unfinished_compensating
-- A page of the recovery scan, by keyset: what has something to do and this epoch has not written yet. The state is a
-- literal so that the partial index saga_awake serves it.
SELECT id, definition, version, input, labels, created_at, cancel_reason, state, sequence, start_at,
    parent, parent_step
FROM baton.saga
WHERE shard = %(shard)s AND state = 'COMPENSATING' AND next_run_at IS NULL AND id > %(after)s AND epoch < %(epoch)s
ORDER BY id
LIMIT %(page)s;

-- name: unfinished_running
-- A page of the recovery scan, by keyset: what has something to do and this epoch has not written yet. The state is a
-- literal so that the partial index saga_awake serves it.
SELECT id, definition, version, input, labels, created_at, cancel_reason, state, sequence, start_at,
    parent, parent_step
FROM baton.saga
WHERE shard = %(shard)s AND state = 'RUNNING' AND next_run_at IS NULL AND id > %(after)s AND epoch < %(epoch)s
ORDER BY id
LIMIT %(page)s;

-- name: unfinished_unknown
-- Sagas in a state that this release does not know, for parking. The list is a literal so that the partial index saga_unknown serves it.
SELECT id, definition, version, input, labels, created_at, cancel_reason, state, sequence, start_at,
    parent, parent_step
FROM baton.saga
WHERE shard = %(shard)s
    AND state NOT IN ('PENDING', 'RUNNING', 'COMPENSATING', 'COMPLETED', 'COMPENSATED', 'FAILED')
    AND id > %(after)s AND epoch < %(epoch)s
ORDER BY id
LIMIT %(page)s;

-- name: pending
SELECT id, definition, version, input, labels, created_at, cancel_reason, state, sequence, start_at,
    parent, parent_step
FROM baton.saga
WHERE shard = %(shard)s AND state = 'PENDING' AND next_run_at IS NULL AND id <> ALL (%(exclude)b::uuid[])
ORDER BY id
LIMIT %(limit)s;

-- name: events
SELECT saga_id, sequence, position, status, attempt, result, error_code, error_message, retry_at, ordered, epoch
FROM baton.step_log
WHERE saga_id = ANY (%(sagas)b::uuid[])
ORDER BY saga_id, sequence;

-- name: cancellations
-- Not of sagas that compensate: those have turned back already. saga_cancelling serves it.
SELECT id, cancel_reason
FROM baton.saga
WHERE shard = %(shard)s AND state IN ('PENDING', 'RUNNING') AND cancel_reason IS NOT NULL;

-- name: due
-- Sagas that slept and whose time has come, by keyset; saga_due serves it, whatever waits for later. The time is that of
-- the statement: clock_timestamp() may change from row to row, so no index scan can end at it, and all that sleep are read.
SELECT id, definition, version, input, labels, created_at, cancel_reason, state, sequence, start_at,
    parent, parent_step, extract(epoch FROM next_run_at)::float8
FROM baton.saga
WHERE shard = %(shard)s AND state IN ('PENDING', 'RUNNING', 'COMPENSATING') AND next_run_at IS NOT NULL
    AND next_run_at <= statement_timestamp()
    AND (next_run_at, id) > (to_timestamp(%(after_s)s), %(after)s)
ORDER BY next_run_at, id
LIMIT %(page)s;

-- name: next_due
-- In how many seconds the next saga is due that sleeps until a time; none when there is none. What is due already, or
-- was and is not vacuumed away yet, is passed over by the index: the time is that of the statement.
SELECT extract(epoch FROM next_run_at - clock_timestamp())::float8
FROM baton.saga
WHERE shard = %(shard)s AND state IN ('PENDING', 'RUNNING', 'COMPENSATING') AND next_run_at IS NOT NULL
    AND next_run_at > statement_timestamp() AND next_run_at < 'infinity'
ORDER BY next_run_at
LIMIT 1;

-- name: sagas
SELECT id, definition, version, input, labels, created_at, cancel_reason, state, sequence, start_at,
    parent, parent_step
FROM baton.saga
WHERE shard = %(shard)s AND id = ANY (%(sagas)b::uuid[]);

-- name: signals
-- What nobody has heeded yet, in the order in which it was stored.
SELECT id, saga_id, verb, step, result, code, message, ordered
FROM baton.signal
WHERE shard = %(shard)s AND heard_at IS NULL AND id > %(after)s
ORDER BY id
LIMIT %(page)s;

-- name: pauses
-- The pauses in force, and those that were ended: what they held may sleep still, if a leader has let go on it lately,
-- and died.
SELECT id, kind, name, paused_by, reason, paused_at, heeded_at, resumed_by, resumed_reason, resumed_at, released_at
FROM baton.pause
WHERE shard = %(shard)s
    AND (released_at IS NULL OR released_at > clock_timestamp() - make_interval(secs => %(lately_s)s))
ORDER BY paused_at, id;

-- name: held
-- Sagas that sleep because of a pause, by keyset. Nothing held sleeps for longer than until `until_s`: so this reads no
-- more of saga_due than will be due by then. Which of them may go on, whoever takes them up finds out. No EXISTS: the
-- planner may make a join of it that reads the whole step log, where a few rows of each saga do.
SELECT id, definition, version, input, labels, created_at, cancel_reason, state, sequence, start_at,
    parent, parent_step, extract(epoch FROM next_run_at)::float8
FROM baton.saga AS s
WHERE shard = %(shard)s AND state IN ('PENDING', 'RUNNING', 'COMPENSATING') AND next_run_at IS NOT NULL
    AND next_run_at <= to_timestamp(%(until_s)s)
    AND (next_run_at, id) > (to_timestamp(%(after_s)s), %(after)s)
    AND (SELECT true FROM baton.step_log AS l WHERE l.saga_id = s.id AND l.error_code = 'PAUSED' LIMIT 1)
ORDER BY next_run_at, id
LIMIT %(page)s;

-- name: heed_pauses
-- The leader goes by these pauses, and has let go on what those held that were ended. Repeated, it changes nothing.
WITH fence AS MATERIALIZED (
    SELECT shard FROM baton.fence WHERE shard = %(shard)s AND epoch = %(epoch)s FOR SHARE
), heeded AS (
    UPDATE baton.pause AS p
    SET heeded_at = clock_timestamp(), heeded_epoch = %(epoch)s
    FROM fence
    WHERE p.shard = fence.shard AND p.id = ANY (%(heeded)s::uuid[]) AND p.heeded_at IS NULL
), released AS (
    UPDATE baton.pause AS p
    SET released_at = clock_timestamp(), released_epoch = %(epoch)s
    FROM fence
    WHERE p.shard = fence.shard AND p.id = ANY (%(released)s::uuid[])
        AND p.resumed_at IS NOT NULL AND p.released_at IS NULL
)
SELECT count(*), 0, extract(epoch FROM clock_timestamp())::float8 FROM fence;
