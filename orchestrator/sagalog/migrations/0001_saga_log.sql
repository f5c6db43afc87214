-- The saga log: who may write, what is defined, the state of each saga, and every transition.

-- One row a shard. The leader's every write takes it FOR SHARE under its epoch; a new leader raises the epoch.
CREATE TABLE baton.fence (
    shard         integer PRIMARY KEY,
    epoch         bigint NOT NULL,
    etcd_cluster  text NOT NULL,
    etcd_revision bigint NOT NULL,
    holder        text NOT NULL,
    raised_at     timestamptz NOT NULL
);

-- Every epoch that ever was, written by the raise itself: the history of leadership, for people and for audits.
CREATE TABLE baton.epoch_history (
    shard     integer NOT NULL,
    epoch     bigint NOT NULL,
    holder    text NOT NULL,
    cause     text NOT NULL,
    raised_at timestamptz NOT NULL,
    PRIMARY KEY (shard, epoch)
);

-- Immutable versions. `yaml` is the text with its variables expanded; the descriptors make a saga in flight
-- independent of what its participants deploy later.
CREATE TABLE baton.definition (
    name           text NOT NULL,
    version        integer NOT NULL,
    content_hash   text NOT NULL,
    yaml           text NOT NULL,
    descriptor_set bytea NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (name, version),
    UNIQUE (name, content_hash)
);

-- fillfactor: most updates of a saga leave its indexed columns alone and stay on their page (HOT).
CREATE TABLE baton.saga (
    id            uuid PRIMARY KEY,
    shard         integer NOT NULL,
    request_id    text NOT NULL UNIQUE,
    request_hash  bytea NOT NULL,
    definition    text NOT NULL,
    version       integer NOT NULL,
    state         text NOT NULL,
    current_step  text,
    sequence      bigint NOT NULL DEFAULT 0,
    epoch         bigint NOT NULL DEFAULT 0,
    input         jsonb NOT NULL,
    result        jsonb,
    error         jsonb,
    labels        jsonb NOT NULL DEFAULT '{}',
    cancel_reason text,
    next_run_at   timestamptz,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at   timestamptz
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000);

-- Makes takeover and the search for pending sagas cheap however many finished sagas there are.
CREATE INDEX saga_live ON baton.saga (shard, state, id)
    WHERE state IN ('PENDING', 'RUNNING', 'COMPENSATING');

-- The parked queue.
CREATE INDEX saga_parked ON baton.saga (shard, id) WHERE state = 'FAILED';

CREATE INDEX saga_by_definition ON baton.saga (definition, id);

-- Only labelled sagas: a query by label says `labels <> '{}'` as well, so that unlabelled sagas pay nothing.
CREATE INDEX saga_by_label ON baton.saga USING gin (labels jsonb_path_ops) WHERE labels <> '{}';

-- Append-only. `at` is read after the fence row is locked, so it can be compared with epoch_history.raised_at.
CREATE TABLE baton.step_log (
    saga_id       uuid NOT NULL,
    sequence      bigint NOT NULL,
    step          text,
    position      integer NOT NULL,
    status        text NOT NULL,
    attempt       integer NOT NULL,
    result        jsonb,
    error_code    text,
    error_message text,
    retry_at      timestamptz,
    epoch         bigint NOT NULL,
    at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (saga_id, sequence)
);
