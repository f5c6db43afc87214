-- Every action of an operator, and every attempt at one that was refused. Rows are only ever added: whoever keeps the
-- log from being changed gives the replicas' user INSERT and SELECT on it, and nothing else.
CREATE TABLE baton.audit_log (
    -- Made by the replica, in the order of time, so that a row whose fate is unknown can be sent again.
    id uuid PRIMARY KEY,
    at timestamptz NOT NULL,
    replica text NOT NULL,
    caller text NOT NULL,
    -- certificate, token, jwt, or nothing.
    recognized_by text NOT NULL,
    peer text NOT NULL,
    action text NOT NULL,
    target jsonb NOT NULL,
    -- OK, or the code of the error.
    outcome text NOT NULL,
    message text NOT NULL
);
