-- An action that was accepted and is answered later: `accepted` while its answer is open, `answer_token` the name by
-- which the orchestrator knows it. One that was withdrawn by its compensation has a tombstone, and keeps the token.
ALTER TABLE barrier
    ADD COLUMN accepted boolean NOT NULL DEFAULT false,
    ADD COLUMN answer_token text NOT NULL DEFAULT '';
CREATE INDEX barrier_accepted ON barrier (at) WHERE accepted;

-- Answers that were stored with their effect and that the orchestrator has not confirmed yet; `next_at` is when to
-- tell it (again).
CREATE TABLE answer (
    saga_id  text        NOT NULL,
    step     text        NOT NULL,
    token    text        NOT NULL,
    code     integer     NOT NULL,
    message  text        NOT NULL,
    response bytea       NOT NULL,
    attempts integer     NOT NULL DEFAULT 0,
    next_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (saga_id, step)
);
CREATE INDEX answer_due ON answer (next_at);
