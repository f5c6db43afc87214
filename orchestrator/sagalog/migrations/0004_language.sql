-- Steps that wait: sagas asleep until a time, and what others tell sagas meanwhile.

-- Who ordered a transition, why, and by which evidence: {"by", "reason", "evidence"}.
ALTER TABLE baton.step_log ADD COLUMN ordered jsonb;

-- A saga that was started ahead of its time begins then.
ALTER TABLE baton.saga ADD COLUMN start_at timestamptz;

-- `next_run_at` says until when a live saga has nothing to do ('infinity': until something is heard). A new leader takes
-- up what has something to do now, and looks for what is due: neither grows with the sagas that wait.
CREATE INDEX saga_awake ON baton.saga (shard, state, id)
    WHERE state IN ('PENDING', 'RUNNING', 'COMPENSATING') AND next_run_at IS NULL;
CREATE INDEX saga_due ON baton.saga (shard, next_run_at, id)
    WHERE state IN ('PENDING', 'RUNNING', 'COMPENSATING') AND next_run_at IS NOT NULL;

-- Answers, approvals and orders for sagas, stored by any replica and heeded by the leader, in the order of their ids.
CREATE TABLE baton.signal (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Made by whoever stores it, so that storing it again after a lost connection finds it there.
    key      uuid NOT NULL UNIQUE,
    saga_id  uuid NOT NULL,
    shard    integer NOT NULL,
    verb     text NOT NULL,
    step     text NOT NULL DEFAULT '',
    result   jsonb,
    code     text NOT NULL DEFAULT '',
    message  text NOT NULL DEFAULT '',
    ordered  jsonb,
    sent_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    heard_at timestamptz,
    refusal  text
);
CREATE INDEX signal_unheard ON baton.signal (shard, id) WHERE heard_at IS NULL;
CREATE INDEX signal_of_saga ON baton.signal (saga_id, id);
-- A step's answer waits to be heard once: a second one meanwhile is told so.
CREATE UNIQUE INDEX signal_answer ON baton.signal (saga_id, step)
    WHERE heard_at IS NULL AND verb IN ('complete', 'fail', 'approve', 'reject');
