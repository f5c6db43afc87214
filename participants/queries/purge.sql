-- name: raise_watermark
-- Remember a later watermark; never lowers it.
INSERT INTO watermark (shard, saga_id) VALUES (%(shard)s, %(saga_id)s)
ON CONFLICT (shard) DO UPDATE SET saga_id = excluded.saga_id, next_page = 0, at = clock_timestamp()
WHERE watermark.saga_id < excluded.saga_id;

-- name: watermark
SELECT saga_id, next_page FROM watermark WHERE shard = %(shard)s;

-- name: go_on_at
-- Where the next call goes on, unless the watermark has been raised since.
UPDATE watermark SET next_page = %(page)s WHERE shard = %(shard)s AND saga_id = %(saga_id)s;

-- name: pages
-- How long the table of the barrier is, in pages.
SELECT pg_relation_size('barrier') / current_setting('block_size')::bigint;

-- name: purge
-- Delete what is behind the watermark on some pages of the table: small transactions, and no page is read twice.
DELETE FROM barrier
WHERE ctid >= format('(%%s,0)', %(first)s::bigint)::tid AND ctid < format('(%%s,0)', %(end)s::bigint)::tid
    AND shard = %(shard)s AND saga_id < %(saga_id)s COLLATE "C";
