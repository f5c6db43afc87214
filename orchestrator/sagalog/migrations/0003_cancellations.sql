-- The leader looks for cancellations whenever there may be new work: that must not cost a look at every live saga.
CREATE INDEX saga_cancelling ON baton.saga (shard, id)
    WHERE cancel_reason IS NOT NULL AND state IN ('PENDING', 'RUNNING', 'COMPENSATING');
