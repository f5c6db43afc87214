-- Definitions and participants that an operator has paused. Any replica stores a pause, and its end; the leader heeds
-- both under its fence, and a new leader reads what is in force before it drives anything. The rows stay, for whoever
-- looks into it later: who paused what and resumed it, why, and from when on it was so.
CREATE TABLE baton.pause (
    -- Made by whoever stores it, so that storing it again after a lost connection finds it there.
    id             uuid PRIMARY KEY,
    shard          integer NOT NULL,
    kind           text NOT NULL CHECK (kind IN ('definition', 'participant')),
    name           text NOT NULL,
    paused_by      text NOT NULL,
    reason         text NOT NULL,
    paused_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- When a leader first went by it, and under which epoch.
    heeded_at      timestamptz,
    heeded_epoch   bigint,
    resumed_by     text,
    resumed_reason text,
    resumed_at     timestamptz,
    -- When a leader had let go on what was held.
    released_at    timestamptz,
    released_epoch bigint
);

-- One pause at a time of whatever is paused.
CREATE UNIQUE INDEX pause_in_force ON baton.pause (shard, kind, name) WHERE resumed_at IS NULL;

-- What a leader goes by: few rows, however many there were.
CREATE INDEX pause_released ON baton.pause (shard, released_at);

-- What has ended, the newest first.
CREATE INDEX pause_ended ON baton.pause (shard, paused_at DESC) WHERE resumed_at IS NOT NULL;
