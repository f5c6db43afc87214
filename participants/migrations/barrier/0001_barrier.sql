-- One row for each idempotency key that was ever claimed. `code` is a google.rpc.Code: 0 with the serialized response,
-- or the refusal. `tombstone` marks an action that must never take effect, since its compensation came first.
-- Half-full pages: every row is updated once, when its answer is known, and stays on its page.
CREATE TABLE barrier (
    saga_id   text        NOT NULL,
    step      text        NOT NULL,
    kind      text        NOT NULL CHECK (kind IN ('action', 'compensation')),
    epoch     bigint      NOT NULL,
    code      integer     NOT NULL DEFAULT 0,
    message   text        NOT NULL DEFAULT '',
    reason    text        NOT NULL DEFAULT '',
    response  bytea       NOT NULL DEFAULT '',
    tombstone boolean     NOT NULL DEFAULT false,
    at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (saga_id, step, kind)
) WITH (fillfactor = 60);

-- What really took effect, written in the transaction of the effect. No unique constraint on purpose: if an effect
-- ever happened twice, both rows must be there for an auditor to see.
CREATE TABLE ledger (
    id      bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    saga_id text        NOT NULL,
    step    text        NOT NULL,
    kind    text        NOT NULL,
    epoch   bigint      NOT NULL,
    effect  jsonb       NOT NULL,
    at      timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The highest epoch that any call has carried, for each shard.
CREATE TABLE epoch (
    shard integer PRIMARY KEY,
    epoch bigint  NOT NULL
);
