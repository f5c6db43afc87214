-- Sagas before this id, of this shard, are over: their rows are gone or going, and their calls are refused. Ids are
-- compared byte by byte, which is the order of UUIDs and, for version 7, of time. `next_page` is where deleting goes on.
CREATE TABLE watermark (
    shard     integer     PRIMARY KEY,
    saga_id   text        COLLATE "C" NOT NULL,
    next_page bigint      NOT NULL DEFAULT 0,
    at        timestamptz NOT NULL DEFAULT clock_timestamp()
);
-- The shard that a row's saga belongs to; rows from before this column belong to shard 0.
ALTER TABLE barrier ADD COLUMN shard integer NOT NULL DEFAULT 0;
