-- SHA-256 of the request that claimed the key, in its deterministic serialization: the same key with another request is
-- somebody's mistake, and must not be answered as if it were a duplicate. NULL for rows from before this column, which
-- are duplicates of anything, and for tombstones, whose action was never seen.
ALTER TABLE barrier ADD COLUMN request_hash bytea CHECK (octet_length(request_hash) = 32);
