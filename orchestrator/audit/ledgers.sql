-- What the audit reads, from the saga log and from the participants' databases. Plain SQL: nothing of the code that
-- wrote the rows stands between them and the audit.

-- name: sagas
SELECT id::text, request_id, shard, definition, version, state, error, input FROM baton.saga ORDER BY id;

-- name: steps
SELECT saga_id::text, sequence, coalesce(step, ''), status, epoch, at FROM baton.step_log ORDER BY saga_id, sequence;

-- name: epochs
SELECT shard, epoch, holder, cause, raised_at FROM baton.epoch_history ORDER BY shard, epoch;

-- name: definitions
SELECT name, version, yaml FROM baton.definition;

-- name: first_outcome
-- When the first step under a later epoch than the given one had an outcome: the end of a gap without a leader.
SELECT min(at) FROM baton.step_log
WHERE epoch > %(epoch)s AND status IN ('completed', 'failed', 'compensated') AND at >= %(since)s;

-- name: services
-- Every participant that keeps a ledger, whatever it is called.
SELECT table_schema FROM information_schema.tables
WHERE table_name = 'ledger' AND table_schema IN (
    SELECT table_schema FROM information_schema.tables WHERE table_name = 'barrier')
ORDER BY table_schema;

-- name: effects
SELECT {service}, id, saga_id, step, kind, epoch, effect, at FROM {schema}.ledger ORDER BY id;

-- name: tombstones
SELECT {service}, saga_id, step FROM {schema}.barrier WHERE tombstone;

-- name: stock
-- Two sums over movements that stand, each article once.
SELECT stock_code, initial, available, coalesce(reserved, 0)::bigint, coalesce(restocked, 0)::bigint
FROM inventory.stock LEFT JOIN (
    SELECT stock_code,
        sum(quantity) FILTER (WHERE kind = 'reservation') AS reserved,
        sum(quantity) FILTER (WHERE kind = 'restock') AS restocked
    FROM inventory.movement_line JOIN inventory.movement ON movement.id = movement_id
    WHERE NOT undone
    GROUP BY stock_code
) AS moved USING (stock_code)
ORDER BY stock_code;

-- name: money
SELECT
    coalesce(sum(amount) FILTER (WHERE kind = 'charge' AND NOT undone), 0),
    coalesce(sum(amount) FILTER (WHERE kind = 'refund' AND NOT undone), 0),
    (SELECT coalesce(sum(balance), 0) FROM payment.account)
FROM payment.payment;

-- name: census
-- The picture of the moment, for people: sagas by state.
SELECT state, count(*) FROM baton.saga GROUP BY state;

-- name: fence
SELECT epoch, holder FROM baton.fence ORDER BY shard LIMIT 1;

-- name: next_term
-- The first raise above an epoch.
SELECT raised_at FROM baton.epoch_history WHERE epoch > %(epoch)s ORDER BY epoch LIMIT 1;

-- name: clock
SELECT clock_timestamp(), (SELECT count(*) FROM baton.saga);

-- name: now
SELECT clock_timestamp();

-- name: longest_silence
-- The longest time within a window in which no transition was written; its ends count as transitions.
SELECT max(at - before) FROM (
    SELECT at, lag(at) OVER (ORDER BY at) AS before FROM (
        SELECT at FROM baton.step_log WHERE at BETWEEN %(since)s AND %(until)s
        UNION ALL SELECT %(since)s::timestamptz
        UNION ALL SELECT %(until)s::timestamptz
    ) AS transitions
) AS silences;

-- name: ended
-- When sagas ended, and how, in buckets of so many seconds from a moment on.
SELECT floor(extract(epoch FROM finished_at - %(since)s) / %(bucket_s)s)::integer AS bucket, state, count(*)
FROM baton.saga WHERE finished_at >= %(since)s GROUP BY 1, 2 ORDER BY 1, 2;

-- name: epochs_since
SELECT epoch, holder, cause, raised_at FROM baton.epoch_history
WHERE raised_at >= coalesce((SELECT max(raised_at) FROM baton.epoch_history WHERE raised_at < %(since)s), '-infinity')
ORDER BY epoch;

-- name: definition_names
SELECT count(DISTINCT name) FROM baton.definition;
