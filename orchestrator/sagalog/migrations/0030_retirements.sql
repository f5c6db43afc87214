-- Definitions of which no new sagas are started, and why. Version 0 stands for every version of the name, those that
-- come later among them. Sagas that have begun go on, so nothing of the leader's reads this.
CREATE TABLE baton.retirement (
    name    text NOT NULL,
    version integer NOT NULL CHECK (version >= 0),
    reason  text NOT NULL,
    by      text NOT NULL,
    at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (name, version)
);
