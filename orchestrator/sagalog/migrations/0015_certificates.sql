-- What `baton certify` found, one row for each run that was recorded. The newest of a method pair counts.
CREATE TABLE baton.certificate (
    participant   text        NOT NULL,
    action        text        NOT NULL,
    compensation  text        NOT NULL,
    at            timestamptz NOT NULL,
    contract_hash text        NOT NULL,
    safe          boolean     NOT NULL,
    content       text        NOT NULL,
    PRIMARY KEY (participant, action, compensation, at)
);
