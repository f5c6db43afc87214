-- The saga log of the release before, as its own code left it when its leader was killed in the middle of everything.
-- Its schema (migrations 1 to 3), then its rows. Each saga's request id says in which state it is.

CREATE SCHEMA baton;
CREATE TABLE baton.migration (number integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT clock_timestamp());

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

-- Sagas in a state that this release does not know. There should be none, so the index is empty: it lets a new leader
-- find and park them at no cost.
CREATE INDEX saga_unknown ON baton.saga (shard, id)
    WHERE state NOT IN ('PENDING', 'RUNNING', 'COMPENSATING', 'COMPLETED', 'COMPENSATED', 'FAILED');

-- The leader looks for cancellations whenever there may be new work: that must not cost a look at every live saga.
CREATE INDEX saga_cancelling ON baton.saga (shard, id)
    WHERE cancel_reason IS NOT NULL AND state IN ('PENDING', 'RUNNING', 'COMPENSATING');


INSERT INTO baton.definition (name, version, content_hash, yaml, descriptor_set, created_at) VALUES ('brief', '1', '22f5c0d34cc09672a398e556a7e164fa1e82ab77255a301e71ce05c896887560', '
name: brief
description: ''''
steps:
  - name: reserve
    service: 127.0.0.1:1
    action:
      method: shop.v1.InventoryService/Reserve
      request:
        order_id: input.order_id
        lines: input.lines
    compensation:
      method: shop.v1.InventoryService/Release
      request: {order_id: input.order_id}
      retry: {retries: 1, initial: 50ms, multiplier: 1}
  - name: pay
    service: 127.0.0.1:1
    action:
      method: shop.v1.PaymentService/Charge
      request: {order_id: input.order_id, amount: input.amount}
    compensation:
      method: shop.v1.PaymentService/Refund
      request: {order_id: input.order_id}
    retry: {retries: 1000, initial: 50ms, multiplier: 1}
', '\x0aa10a0a1773686f702f76312f696e76656e746f72792e70726f746f120773686f702e7631222c0a044c696e6512120a0a73746f636b5f636f646518012001280912100a087175616e7469747918022001280322400a0e526573657276655265717565737412100a086f726465725f6964180120012809121c0a056c696e657318022003280b320d2e73686f702e76312e4c696e65223b0a0f52657365727665526573706f6e736512160a0e7265736572766174696f6e5f696418012001280312100a087175616e7469747918022001280322220a0e52656c656173655265717565737412100a086f726465725f696418012001280922230a0f52656c65617365526573706f6e736512100a087175616e7469747918012001280322410a0e526573746f636b5265717565737412110a0972657475726e5f6964180120012809121c0a056c696e657318022003280b320d2e73686f702e76312e4c696e6522370a0f526573746f636b526573706f6e736512120a0a726573746f636b5f696418012001280312100a087175616e7469747918022001280322270a12556e646f526573746f636b5265717565737412110a0972657475726e5f696418012001280922270a13556e646f526573746f636b526573706f6e736512100a087175616e7469747918012001280322370a0f53657453746f636b5265717565737412120a0a73746f636b5f636f646518012001280912100a087175616e74697479180220012803222b0a1053657453746f636b526573706f6e736512170a0f7175616e746974795f6265666f726518012001280322250a0f47657453746f636b5265717565737412120a0a73746f636b5f636f6465180120012809224b0a1047657453746f636b526573706f6e736512120a0a73746f636b5f636f646518012001280912110a09617661696c61626c6518022001280312100a08726573657276656418032001280322180a16496e76656e746f7279546f74616c7352657175657374225a0a0f496e76656e746f7279546f74616c73120f0a07696e697469616c18012001280312100a08726573657276656418022001280312110a09726573746f636b656418032001280312110a09617661696c61626c6518042001280332e0030a10496e76656e746f727953657276696365123c0a075265736572766512172e73686f702e76312e52657365727665526571756573741a182e73686f702e76312e52657365727665526573706f6e7365123c0a0752656c6561736512172e73686f702e76312e52656c65617365526571756573741a182e73686f702e76312e52656c65617365526573706f6e7365123c0a07526573746f636b12172e73686f702e76312e526573746f636b526571756573741a182e73686f702e76312e526573746f636b526573706f6e736512480a0b556e646f526573746f636b121b2e73686f702e76312e556e646f526573746f636b526571756573741a1c2e73686f702e76312e556e646f526573746f636b526573706f6e7365123f0a0853657453746f636b12182e73686f702e76312e53657453746f636b526571756573741a192e73686f702e76312e53657453746f636b526573706f6e7365123f0a0847657453746f636b12182e73686f702e76312e47657453746f636b526571756573741a192e73686f702e76312e47657453746f636b526573706f6e736512460a09476574546f74616c73121f2e73686f702e76312e496e76656e746f7279546f74616c73526571756573741a182e73686f702e76312e496e76656e746f7279546f74616c73620670726f746f330a89080a1573686f702f76312f7061796d656e742e70726f746f120773686f702e763122460a0d4368617267655265717565737412100a086f726465725f696418012001280912130a0b637573746f6d65725f6964180220012809120e0a06616d6f756e7418032001280922340a0e436861726765526573706f6e736512120a0a7061796d656e745f6964180120012803120e0a06616d6f756e7418022001280922460a0d526566756e645265717565737412100a086f726465725f696418012001280912130a0b637573746f6d65725f6964180220012809120e0a06616d6f756e7418032001280922330a0e526566756e64526573706f6e736512110a09726566756e645f6964180120012803120e0a06616d6f756e7418022001280922230a0f52656368617267655265717565737412100a086f726465725f696418012001280922220a105265636861726765526573706f6e7365120e0a06616d6f756e7418012001280922470a0e536574436172645265717565737412130a0b637573746f6d65725f696418012001280912100a086465636c696e6564180220012808120e0a06726561736f6e18032001280922110a0f53657443617264526573706f6e736522280a1147657442616c616e63655265717565737412130a0b637573746f6d65725f696418012001280922250a1247657442616c616e6365526573706f6e7365120f0a0762616c616e636518012001280922160a145061796d656e74546f74616c735265717565737422430a0d5061796d656e74546f74616c73120f0a076368617267656418012001280912100a08726566756e646564180220012809120f0a0762616c616e63651803200128093290030a0e5061796d656e745365727669636512390a0643686172676512162e73686f702e76312e436861726765526571756573741a172e73686f702e76312e436861726765526573706f6e736512390a06526566756e6412162e73686f702e76312e526566756e64526571756573741a172e73686f702e76312e526566756e64526573706f6e7365123f0a08526563686172676512182e73686f702e76312e5265636861726765526571756573741a192e73686f702e76312e5265636861726765526573706f6e7365123c0a075365744361726412172e73686f702e76312e53657443617264526571756573741a182e73686f702e76312e53657443617264526573706f6e736512450a0a47657442616c616e6365121a2e73686f702e76312e47657442616c616e6365526571756573741a1b2e73686f702e76312e47657442616c616e6365526573706f6e736512420a09476574546f74616c73121d2e73686f702e76312e5061796d656e74546f74616c73526571756573741a162e73686f702e76312e5061796d656e74546f74616c73620670726f746f33', '2026-11-22 11:14:13.54723+00');
INSERT INTO baton.definition (name, version, content_hash, yaml, descriptor_set, created_at) VALUES ('order', '1', '9f9e7d13d9807073a518829a61c96d0b95cab5f28b21a88e00bf0d34a6e984f9', '
name: order
description: ''''
steps:
  - name: reserve
    service: 127.0.0.1:1
    action:
      method: shop.v1.InventoryService/Reserve
      request:
        order_id: input.order_id
        lines: input.lines
    compensation:
      method: shop.v1.InventoryService/Release
      request: {order_id: input.order_id}
  - name: pay
    service: 127.0.0.1:1
    action:
      method: shop.v1.PaymentService/Charge
      request: {order_id: input.order_id, amount: input.amount}
    compensation:
      method: shop.v1.PaymentService/Refund
      request: {order_id: input.order_id}
    retry: {retries: 1000, initial: 50ms, multiplier: 1}
', '\x0aa10a0a1773686f702f76312f696e76656e746f72792e70726f746f120773686f702e7631222c0a044c696e6512120a0a73746f636b5f636f646518012001280912100a087175616e7469747918022001280322400a0e526573657276655265717565737412100a086f726465725f6964180120012809121c0a056c696e657318022003280b320d2e73686f702e76312e4c696e65223b0a0f52657365727665526573706f6e736512160a0e7265736572766174696f6e5f696418012001280312100a087175616e7469747918022001280322220a0e52656c656173655265717565737412100a086f726465725f696418012001280922230a0f52656c65617365526573706f6e736512100a087175616e7469747918012001280322410a0e526573746f636b5265717565737412110a0972657475726e5f6964180120012809121c0a056c696e657318022003280b320d2e73686f702e76312e4c696e6522370a0f526573746f636b526573706f6e736512120a0a726573746f636b5f696418012001280312100a087175616e7469747918022001280322270a12556e646f526573746f636b5265717565737412110a0972657475726e5f696418012001280922270a13556e646f526573746f636b526573706f6e736512100a087175616e7469747918012001280322370a0f53657453746f636b5265717565737412120a0a73746f636b5f636f646518012001280912100a087175616e74697479180220012803222b0a1053657453746f636b526573706f6e736512170a0f7175616e746974795f6265666f726518012001280322250a0f47657453746f636b5265717565737412120a0a73746f636b5f636f6465180120012809224b0a1047657453746f636b526573706f6e736512120a0a73746f636b5f636f646518012001280912110a09617661696c61626c6518022001280312100a08726573657276656418032001280322180a16496e76656e746f7279546f74616c7352657175657374225a0a0f496e76656e746f7279546f74616c73120f0a07696e697469616c18012001280312100a08726573657276656418022001280312110a09726573746f636b656418032001280312110a09617661696c61626c6518042001280332e0030a10496e76656e746f727953657276696365123c0a075265736572766512172e73686f702e76312e52657365727665526571756573741a182e73686f702e76312e52657365727665526573706f6e7365123c0a0752656c6561736512172e73686f702e76312e52656c65617365526571756573741a182e73686f702e76312e52656c65617365526573706f6e7365123c0a07526573746f636b12172e73686f702e76312e526573746f636b526571756573741a182e73686f702e76312e526573746f636b526573706f6e736512480a0b556e646f526573746f636b121b2e73686f702e76312e556e646f526573746f636b526571756573741a1c2e73686f702e76312e556e646f526573746f636b526573706f6e7365123f0a0853657453746f636b12182e73686f702e76312e53657453746f636b526571756573741a192e73686f702e76312e53657453746f636b526573706f6e7365123f0a0847657453746f636b12182e73686f702e76312e47657453746f636b526571756573741a192e73686f702e76312e47657453746f636b526573706f6e736512460a09476574546f74616c73121f2e73686f702e76312e496e76656e746f7279546f74616c73526571756573741a182e73686f702e76312e496e76656e746f7279546f74616c73620670726f746f330a89080a1573686f702f76312f7061796d656e742e70726f746f120773686f702e763122460a0d4368617267655265717565737412100a086f726465725f696418012001280912130a0b637573746f6d65725f6964180220012809120e0a06616d6f756e7418032001280922340a0e436861726765526573706f6e736512120a0a7061796d656e745f6964180120012803120e0a06616d6f756e7418022001280922460a0d526566756e645265717565737412100a086f726465725f696418012001280912130a0b637573746f6d65725f6964180220012809120e0a06616d6f756e7418032001280922330a0e526566756e64526573706f6e736512110a09726566756e645f6964180120012803120e0a06616d6f756e7418022001280922230a0f52656368617267655265717565737412100a086f726465725f696418012001280922220a105265636861726765526573706f6e7365120e0a06616d6f756e7418012001280922470a0e536574436172645265717565737412130a0b637573746f6d65725f696418012001280912100a086465636c696e6564180220012808120e0a06726561736f6e18032001280922110a0f53657443617264526573706f6e736522280a1147657442616c616e63655265717565737412130a0b637573746f6d65725f696418012001280922250a1247657442616c616e6365526573706f6e7365120f0a0762616c616e636518012001280922160a145061796d656e74546f74616c735265717565737422430a0d5061796d656e74546f74616c73120f0a076368617267656418012001280912100a08726566756e646564180220012809120f0a0762616c616e63651803200128093290030a0e5061796d656e745365727669636512390a0643686172676512162e73686f702e76312e436861726765526571756573741a172e73686f702e76312e436861726765526573706f6e736512390a06526566756e6412162e73686f702e76312e526566756e64526571756573741a172e73686f702e76312e526566756e64526573706f6e7365123f0a08526563686172676512182e73686f702e76312e5265636861726765526571756573741a192e73686f702e76312e5265636861726765526573706f6e7365123c0a075365744361726412172e73686f702e76312e53657443617264526571756573741a182e73686f702e76312e53657443617264526573706f6e736512450a0a47657442616c616e6365121a2e73686f702e76312e47657442616c616e6365526571756573741a1b2e73686f702e76312e47657442616c616e6365526573706f6e736512420a09476574546f74616c73121d2e73686f702e76312e5061796d656e74546f74616c73526571756573741a162e73686f702e76312e5061796d656e74546f74616c73620670726f746f33', '2026-11-22 11:14:12.960212+00');
INSERT INTO baton.definition (name, version, content_hash, yaml, descriptor_set, created_at) VALUES ('slow', '1', 'f6352a58e78196796cb0bde6275ff15184e31669dca818508a8403a47e5dc994', '
name: slow
description: ''''
steps:
  - name: reserve
    service: 127.0.0.1:1
    action:
      method: shop.v1.InventoryService/Reserve
      request:
        order_id: input.order_id
        lines: input.lines
    compensation:
      method: shop.v1.InventoryService/Release
      request: {order_id: input.order_id}
    retry: {retries: 1000, initial: 10s, multiplier: 1}
  - name: pay
    service: 127.0.0.1:1
    action:
      method: shop.v1.PaymentService/Charge
      request: {order_id: input.order_id, amount: input.amount}
    compensation:
      method: shop.v1.PaymentService/Refund
      request: {order_id: input.order_id}
    retry: {retries: 1000, initial: 10s, multiplier: 1}
', '\x0aa10a0a1773686f702f76312f696e76656e746f72792e70726f746f120773686f702e7631222c0a044c696e6512120a0a73746f636b5f636f646518012001280912100a087175616e7469747918022001280322400a0e526573657276655265717565737412100a086f726465725f6964180120012809121c0a056c696e657318022003280b320d2e73686f702e76312e4c696e65223b0a0f52657365727665526573706f6e736512160a0e7265736572766174696f6e5f696418012001280312100a087175616e7469747918022001280322220a0e52656c656173655265717565737412100a086f726465725f696418012001280922230a0f52656c65617365526573706f6e736512100a087175616e7469747918012001280322410a0e526573746f636b5265717565737412110a0972657475726e5f6964180120012809121c0a056c696e657318022003280b320d2e73686f702e76312e4c696e6522370a0f526573746f636b526573706f6e736512120a0a726573746f636b5f696418012001280312100a087175616e7469747918022001280322270a12556e646f526573746f636b5265717565737412110a0972657475726e5f696418012001280922270a13556e646f526573746f636b526573706f6e736512100a087175616e7469747918012001280322370a0f53657453746f636b5265717565737412120a0a73746f636b5f636f646518012001280912100a087175616e74697479180220012803222b0a1053657453746f636b526573706f6e736512170a0f7175616e746974795f6265666f726518012001280322250a0f47657453746f636b5265717565737412120a0a73746f636b5f636f6465180120012809224b0a1047657453746f636b526573706f6e736512120a0a73746f636b5f636f646518012001280912110a09617661696c61626c6518022001280312100a08726573657276656418032001280322180a16496e76656e746f7279546f74616c7352657175657374225a0a0f496e76656e746f7279546f74616c73120f0a07696e697469616c18012001280312100a08726573657276656418022001280312110a09726573746f636b656418032001280312110a09617661696c61626c6518042001280332e0030a10496e76656e746f727953657276696365123c0a075265736572766512172e73686f702e76312e52657365727665526571756573741a182e73686f702e76312e52657365727665526573706f6e7365123c0a0752656c6561736512172e73686f702e76312e52656c65617365526571756573741a182e73686f702e76312e52656c65617365526573706f6e7365123c0a07526573746f636b12172e73686f702e76312e526573746f636b526571756573741a182e73686f702e76312e526573746f636b526573706f6e736512480a0b556e646f526573746f636b121b2e73686f702e76312e556e646f526573746f636b526571756573741a1c2e73686f702e76312e556e646f526573746f636b526573706f6e7365123f0a0853657453746f636b12182e73686f702e76312e53657453746f636b526571756573741a192e73686f702e76312e53657453746f636b526573706f6e7365123f0a0847657453746f636b12182e73686f702e76312e47657453746f636b526571756573741a192e73686f702e76312e47657453746f636b526573706f6e736512460a09476574546f74616c73121f2e73686f702e76312e496e76656e746f7279546f74616c73526571756573741a182e73686f702e76312e496e76656e746f7279546f74616c73620670726f746f330a89080a1573686f702f76312f7061796d656e742e70726f746f120773686f702e763122460a0d4368617267655265717565737412100a086f726465725f696418012001280912130a0b637573746f6d65725f6964180220012809120e0a06616d6f756e7418032001280922340a0e436861726765526573706f6e736512120a0a7061796d656e745f6964180120012803120e0a06616d6f756e7418022001280922460a0d526566756e645265717565737412100a086f726465725f696418012001280912130a0b637573746f6d65725f6964180220012809120e0a06616d6f756e7418032001280922330a0e526566756e64526573706f6e736512110a09726566756e645f6964180120012803120e0a06616d6f756e7418022001280922230a0f52656368617267655265717565737412100a086f726465725f696418012001280922220a105265636861726765526573706f6e7365120e0a06616d6f756e7418012001280922470a0e536574436172645265717565737412130a0b637573746f6d65725f696418012001280912100a086465636c696e6564180220012808120e0a06726561736f6e18032001280922110a0f53657443617264526573706f6e736522280a1147657442616c616e63655265717565737412130a0b637573746f6d65725f696418012001280922250a1247657442616c616e6365526573706f6e7365120f0a0762616c616e636518012001280922160a145061796d656e74546f74616c735265717565737422430a0d5061796d656e74546f74616c73120f0a076368617267656418012001280912100a08726566756e646564180220012809120f0a0762616c616e63651803200128093290030a0e5061796d656e745365727669636512390a0643686172676512162e73686f702e76312e436861726765526571756573741a172e73686f702e76312e436861726765526573706f6e736512390a06526566756e6412162e73686f702e76312e526566756e64526571756573741a172e73686f702e76312e526566756e64526573706f6e7365123f0a08526563686172676512182e73686f702e76312e5265636861726765526571756573741a192e73686f702e76312e5265636861726765526573706f6e7365123c0a075365744361726412172e73686f702e76312e53657443617264526571756573741a182e73686f702e76312e53657443617264526573706f6e736512450a0a47657442616c616e6365121a2e73686f702e76312e47657442616c616e6365526571756573741a1b2e73686f702e76312e47657442616c616e6365526573706f6e736512420a09476574546f74616c73121d2e73686f702e76312e5061796d656e74546f74616c73526571756573741a162e73686f702e76312e5061796d656e74546f74616c73620670726f746f33', '2026-11-22 11:14:13.281502+00');

INSERT INTO baton.epoch_history (shard, epoch, holder, cause, raised_at) VALUES ('0', '1', 'r1', 'vacant', '2026-11-22 11:14:14.179942+00');

INSERT INTO baton.fence (shard, epoch, etcd_cluster, etcd_revision, holder, raised_at) VALUES ('0', '1', 'c1', '1', 'r1', '2026-11-22 11:14:14.179942+00');

INSERT INTO baton.migration (number, name, applied_at) VALUES ('1', 'saga_log', '2026-11-22 11:14:12.661413+00');
INSERT INTO baton.migration (number, name, applied_at) VALUES ('2', 'unknown_states', '2026-11-22 11:14:12.670992+00');
INSERT INTO baton.migration (number, name, applied_at) VALUES ('3', 'cancellations', '2026-11-22 11:14:12.703128+00');

INSERT INTO baton.saga (id, shard, request_id, request_hash, definition, version, state, current_step, sequence, epoch, input, result, error, labels, cancel_reason, next_run_at, created_at, updated_at, finished_at) VALUES ('01a202f6-baab-7dcb-ad72-263c875664ca', '0', 'completed', '\xd58cd1adc7581cba09940cb75f612b763f9fff8b754b8e5f65b1b67874bc8f6a', 'slow', '1', 'COMPLETED', NULL, '4', '1', '{"lines": [{"quantity": 2, "stock_code": "85123A"}], "amount": "17.85", "order_id": "o-1"}', '{"result": {"did": "pay"}, "steps_executed": [1, 2], "steps_compensated": []}', NULL, '{"plan": "completed"}', NULL, NULL, '2026-11-22 11:14:13.916663+00', '2026-11-22 11:14:14.339842+00', '2026-11-22 11:14:14.339842+00');
INSERT INTO baton.saga (id, shard, request_id, request_hash, definition, version, state, current_step, sequence, epoch, input, result, error, labels, cancel_reason, next_run_at, created_at, updated_at, finished_at) VALUES ('01a202f6-bb39-7509-8c24-96a63a05ec43', '0', 'compensated', '\x2771a6b69878f1e7dd56fea1a2d8df9b594edead4afb6c1a78ae34a7beea9e03', 'slow', '1', 'COMPENSATED', NULL, '6', '1', '{"lines": [{"quantity": 2, "stock_code": "85123A"}], "amount": "17.85", "order_id": "o-1"}', '{"result": null, "steps_executed": [1], "steps_compensated": [1]}', '{"code": "FAILED_PRECONDITION", "step": "pay", "message": "no"}', '{"plan": "compensated"}', NULL, NULL, '2026-11-22 11:14:13.952041+00', '2026-11-22 11:14:14.385216+00', '2026-11-22 11:14:14.385216+00');
INSERT INTO baton.saga (id, shard, request_id, request_hash, definition, version, state, current_step, sequence, epoch, input, result, error, labels, cancel_reason, next_run_at, created_at, updated_at, finished_at) VALUES ('01a202f6-bb43-7917-bd16-809316d35006', '0', 'running-first', '\x303fdc082f0d80e5b3419f51228942f6152df38c618649d668f6098c8e106814', 'slow', '1', 'RUNNING', 'reserve', '1', '1', '{"lines": [{"quantity": 2, "stock_code": "85123A"}], "amount": "17.85", "order_id": "o-1"}', NULL, NULL, '{"plan": "running-first"}', NULL, NULL, '2026-11-22 11:14:13.956307+00', '2026-11-22 11:14:14.245935+00', NULL);
INSERT INTO baton.saga (id, shard, request_id, request_hash, definition, version, state, current_step, sequence, epoch, input, result, error, labels, cancel_reason, next_run_at, created_at, updated_at, finished_at) VALUES ('01a202f6-bb4e-7bdd-a52a-9d1b2870122d', '0', 'running-second', '\x9439c90a4a3f9e94abbce54bd2d8b1ac78ad43d7bf7dac7fd30cce6fa1b3763b', 'slow', '1', 'RUNNING', 'pay', '3', '1', '{"lines": [{"quantity": 2, "stock_code": "85123A"}], "amount": "17.85", "order_id": "o-1"}', NULL, NULL, '{"plan": "running-second"}', NULL, NULL, '2026-11-22 11:14:13.967308+00', '2026-11-22 11:14:14.323117+00', NULL);
INSERT INTO baton.saga (id, shard, request_id, request_hash, definition, version, state, current_step, sequence, epoch, input, result, error, labels, cancel_reason, next_run_at, created_at, updated_at, finished_at) VALUES ('01a202f6-bb51-7347-94de-0c3a2357f228', '0', 'backoff', '\x02ab5327bf963408dc621e600308b46fc64ef6b6aec6dd62c48d906b90216eab', 'slow', '1', 'RUNNING', 'pay', '4', '1', '{"lines": [{"quantity": 2, "stock_code": "85123A"}], "amount": "17.85", "order_id": "o-1"}', NULL, NULL, '{"plan": "backoff"}', NULL, '2026-11-22 11:14:23.427783+00', '2026-11-22 11:14:13.969944+00', '2026-11-22 11:14:14.339917+00', NULL);
INSERT INTO baton.saga (id, shard, request_id, request_hash, definition, version, state, current_step, sequence, epoch, input, result, error, labels, cancel_reason, next_run_at, created_at, updated_at, finished_at) VALUES ('01a202f6-bb53-7750-96d7-7fa234394efb', '0', 'compensating', '\x78e2f44bcd0cd8aacddc259823c26a76616db91e0f480cfb12644d3b9299d82c', 'slow', '1', 'COMPENSATING', 'reserve', '5', '1', '{"lines": [{"quantity": 2, "stock_code": "85123A"}], "amount": "17.85", "order_id": "o-1"}', NULL, '{"code": "FAILED_PRECONDITION", "step": "pay", "message": "no"}', '{"plan": "compensating"}', NULL, NULL, '2026-11-22 11:14:13.973936+00', '2026-11-22 11:14:14.33992+00', NULL);
INSERT INTO baton.saga (id, shard, request_id, request_hash, definition, version, state, current_step, sequence, epoch, input, result, error, labels, cancel_reason, next_run_at, created_at, updated_at, finished_at) VALUES ('01a202f6-bb57-7c5c-9e7c-9a967419acf6', '0', 'compensation-backoff', '\x9d69d6a0b1c10a34351be594f44b05dbc21c9e9059daef8d87277659269536bf', 'slow', '1', 'COMPENSATING', 'reserve', '10', '1', '{"lines": [{"quantity": 2, "stock_code": "85123A"}], "amount": "17.85", "order_id": "o-1"}', NULL, '{"code": "FAILED_PRECONDITION", "step": "pay", "message": "no"}', '{"plan": "compensation-backoff"}', NULL, '2026-11-22 11:14:20.758152+00', '2026-11-22 11:14:13.976513+00', '2026-11-22 11:14:16.921325+00', NULL);
INSERT INTO baton.saga (id, shard, request_id, request_hash, definition, version, state, current_step, sequence, epoch, input, result, error, labels, cancel_reason, next_run_at, created_at, updated_at, finished_at) VALUES ('01a202f6-bb5a-7367-b21c-9f6febfdf205', '0', 'cancelling', '\x21387a0c95bd5e2b0ffc70696250395e5e56a4adf25aeb29ed3c3d671bef1f55', 'slow', '1', 'RUNNING', 'pay', '4', '1', '{"lines": [{"quantity": 2, "stock_code": "85123A"}], "amount": "17.85", "order_id": "o-1"}', NULL, NULL, '{"plan": "cancelling"}', 'the customer called', '2026-11-22 11:14:23.146122+00', '2026-11-22 11:14:13.978984+00', '2026-11-22 11:14:18.190759+00', NULL);
INSERT INTO baton.saga (id, shard, request_id, request_hash, definition, version, state, current_step, sequence, epoch, input, result, error, labels, cancel_reason, next_run_at, created_at, updated_at, finished_at) VALUES ('01a202f6-bb5e-787c-a6ef-18b185ea51aa', '0', 'parked', '\x785cc67a5759f2818de586fbe492553bb40dd27725675e550c8e8c3a56b74949', 'brief', '1', 'FAILED', NULL, '9', '1', '{"lines": [{"quantity": 2, "stock_code": "85123A"}], "amount": "17.85", "order_id": "o-1"}', '{"result": null, "steps_executed": [1], "steps_compensated": []}', '{"code": "FAILED_PRECONDITION", "step": "reserve", "message": "no"}', '{"plan": "parked"}', NULL, NULL, '2026-11-22 11:14:13.983213+00', '2026-11-22 11:14:14.475845+00', '2026-11-22 11:14:14.475845+00');
INSERT INTO baton.saga (id, shard, request_id, request_hash, definition, version, state, current_step, sequence, epoch, input, result, error, labels, cancel_reason, next_run_at, created_at, updated_at, finished_at) VALUES ('01a202f6-cbfb-7f73-a33f-91af37e7deb9', '0', 'pending', '\x70e97bf80ad5f282ab1c2fbf693dbeebef6712c1bcc7d014f1d67ef45d6f225f', 'slow', '1', 'PENDING', NULL, '0', '0', '{"lines": [{"quantity": 2, "stock_code": "85123A"}], "amount": "17.85", "order_id": "o-1"}', NULL, NULL, '{"plan": "pending"}', NULL, NULL, '2026-11-22 11:14:18.237172+00', '2026-11-22 11:14:18.237172+00', NULL);

INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-baab-7dcb-ad72-263c875664ca', '1', 'reserve', '1', 'executing', '1', NULL, NULL, NULL, NULL, '1', '2026-11-22 11:14:14.24548+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-baab-7dcb-ad72-263c875664ca', '2', 'reserve', '1', 'completed', '1', '{"did": "reserve"}', NULL, NULL, NULL, '1', '2026-11-22 11:14:14.322905+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-baab-7dcb-ad72-263c875664ca', '3', 'pay', '2', 'executing', '1', NULL, NULL, NULL, NULL, '1', '2026-11-22 11:14:14.322936+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-baab-7dcb-ad72-263c875664ca', '4', 'pay', '2', 'completed', '1', '{"did": "pay"}', NULL, NULL, NULL, '1', '2026-11-22 11:14:14.339717+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb39-7509-8c24-96a63a05ec43', '1', 'reserve', '1', 'executing', '1', NULL, NULL, NULL, NULL, '1', '2026-11-22 11:14:14.245649+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb39-7509-8c24-96a63a05ec43', '2', 'reserve', '1', 'completed', '1', '{"did": "reserve"}', NULL, NULL, NULL, '1', '2026-11-22 11:14:14.322942+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb39-7509-8c24-96a63a05ec43', '3', 'pay', '2', 'executing', '1', NULL, NULL, NULL, NULL, '1', '2026-11-22 11:14:14.322946+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb39-7509-8c24-96a63a05ec43', '4', 'pay', '2', 'failed', '1', NULL, 'FAILED_PRECONDITION', 'no', NULL, '1', '2026-11-22 11:14:14.339747+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb39-7509-8c24-96a63a05ec43', '5', 'reserve', '1', 'compensating', '1', NULL, NULL, NULL, NULL, '1', '2026-11-22 11:14:14.339753+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb39-7509-8c24-96a63a05ec43', '6', 'reserve', '1', 'compensated', '1', '{"did": "reserve"}', NULL, NULL, NULL, '1', '2026-11-22 11:14:14.377462+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb43-7917-bd16-809316d35006', '1', 'reserve', '1', 'executing', '1', NULL, NULL, NULL, NULL, '1', '2026-11-22 11:14:14.245668+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb4e-7bdd-a52a-9d1b2870122d', '1', 'reserve', '1', 'executing', '1', NULL, NULL, NULL, NULL, '1', '2026-11-22 11:14:14.245671+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb4e-7bdd-a52a-9d1b2870122d', '2', 'reserve', '1', 'completed', '1', '{"did": "reserve"}', NULL, NULL, NULL, '1', '2026-11-22 11:14:14.322958+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb4e-7bdd-a52a-9d1b2870122d', '3', 'pay', '2', 'executing', '1', NULL, NULL, NULL, NULL, '1', '2026-11-22 11:14:14.322972+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb51-7347-94de-0c3a2357f228', '1', 'reserve', '1', 'executing', '1', NULL, NULL, NULL, NULL, '1', '2026-11-22 11:14:14.245684+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb51-7347-94de-0c3a2357f228', '2', 'reserve', '1', 'completed', '1', '{"did": "reserve"}', NULL, NULL, NULL, '1', '2026-11-22 11:14:14.322976+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb51-7347-94de-0c3a2357f228', '3', 'pay', '2', 'executing', '1', NULL, NULL, NULL, NULL, '1', '2026-11-22 11:14:14.322979+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb51-7347-94de-0c3a2357f228', '4', 'pay', '2', 'retrying', '1', NULL, 'UNAVAILABLE', 'away', '2026-11-22 11:14:23.427783+00', '1', '2026-11-22 11:14:14.339758+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb53-7750-96d7-7fa234394efb', '1', 'reserve', '1', 'executing', '1', NULL, NULL, NULL, NULL, '1', '2026-11-22 11:14:14.245702+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb53-7750-96d7-7fa234394efb', '2', 'reserve', '1', 'completed', '1', '{"did": "reserve"}', NULL, NULL, NULL, '1', '2026-11-22 11:14:14.322982+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb53-7750-96d7-7fa234394efb', '3', 'pay', '2', 'executing', '1', NULL, NULL, NULL, NULL, '1', '2026-11-22 11:14:14.322985+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb53-7750-96d7-7fa234394efb', '4', 'pay', '2', 'failed', '1', NULL, 'FAILED_PRECONDITION', 'no', NULL, '1', '2026-11-22 11:14:14.339761+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb53-7750-96d7-7fa234394efb', '5', 'reserve', '1', 'compensating', '1', NULL, NULL, NULL, NULL, '1', '2026-11-22 11:14:14.339765+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb57-7c5c-9e7c-9a967419acf6', '1', 'reserve', '1', 'executing', '1', NULL, NULL, NULL, NULL, '1', '2026-11-22 11:14:14.245704+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb57-7c5c-9e7c-9a967419acf6', '10', 'reserve', '1', 'compensation_retrying', '3', NULL, 'UNAVAILABLE', 'away', '2026-11-22 11:14:20.758152+00', '1', '2026-11-22 11:14:16.921231+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb57-7c5c-9e7c-9a967419acf6', '2', 'reserve', '1', 'completed', '1', '{"did": "reserve"}', NULL, NULL, NULL, '1', '2026-11-22 11:14:14.322994+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb57-7c5c-9e7c-9a967419acf6', '3', 'pay', '2', 'executing', '1', NULL, NULL, NULL, NULL, '1', '2026-11-22 11:14:14.322997+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb57-7c5c-9e7c-9a967419acf6', '4', 'pay', '2', 'failed', '1', NULL, 'FAILED_PRECONDITION', 'no', NULL, '1', '2026-11-22 11:14:14.339775+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb57-7c5c-9e7c-9a967419acf6', '5', 'reserve', '1', 'compensating', '1', NULL, NULL, NULL, NULL, '1', '2026-11-22 11:14:14.339778+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb57-7c5c-9e7c-9a967419acf6', '6', 'reserve', '1', 'compensation_retrying', '1', NULL, 'UNAVAILABLE', 'away', '2026-11-22 11:14:15.252276+00', '1', '2026-11-22 11:14:14.377491+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb57-7c5c-9e7c-9a967419acf6', '7', 'reserve', '1', 'compensating', '2', NULL, NULL, NULL, NULL, '1', '2026-11-22 11:14:15.279194+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb57-7c5c-9e7c-9a967419acf6', '8', 'reserve', '1', 'compensation_retrying', '2', NULL, 'UNAVAILABLE', 'away', '2026-11-22 11:14:16.913859+00', '1', '2026-11-22 11:14:15.297149+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb57-7c5c-9e7c-9a967419acf6', '9', 'reserve', '1', 'compensating', '3', NULL, NULL, NULL, NULL, '1', '2026-11-22 11:14:16.915884+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb5a-7367-b21c-9f6febfdf205', '1', 'reserve', '1', 'executing', '1', NULL, NULL, NULL, NULL, '1', '2026-11-22 11:14:14.245707+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb5a-7367-b21c-9f6febfdf205', '2', 'reserve', '1', 'completed', '1', '{"did": "reserve"}', NULL, NULL, NULL, '1', '2026-11-22 11:14:14.323+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb5a-7367-b21c-9f6febfdf205', '3', 'pay', '2', 'executing', '1', NULL, NULL, NULL, NULL, '1', '2026-11-22 11:14:14.323003+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb5a-7367-b21c-9f6febfdf205', '4', 'pay', '2', 'retrying', '1', NULL, 'UNAVAILABLE', 'away', '2026-11-22 11:14:23.146122+00', '1', '2026-11-22 11:14:14.339781+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb5e-787c-a6ef-18b185ea51aa', '1', 'reserve', '1', 'executing', '1', NULL, NULL, NULL, NULL, '1', '2026-11-22 11:14:14.245715+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb5e-787c-a6ef-18b185ea51aa', '2', 'reserve', '1', 'completed', '1', '{"did": "reserve"}', NULL, NULL, NULL, '1', '2026-11-22 11:14:14.323006+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb5e-787c-a6ef-18b185ea51aa', '3', 'pay', '2', 'executing', '1', NULL, NULL, NULL, NULL, '1', '2026-11-22 11:14:14.323009+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb5e-787c-a6ef-18b185ea51aa', '4', 'pay', '2', 'failed', '1', NULL, 'FAILED_PRECONDITION', 'no', NULL, '1', '2026-11-22 11:14:14.339785+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb5e-787c-a6ef-18b185ea51aa', '5', 'reserve', '1', 'compensating', '1', NULL, NULL, NULL, NULL, '1', '2026-11-22 11:14:14.339788+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb5e-787c-a6ef-18b185ea51aa', '6', 'reserve', '1', 'compensation_retrying', '1', NULL, 'FAILED_PRECONDITION', 'no', '2026-11-22 11:14:14.414627+00', '1', '2026-11-22 11:14:14.377497+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb5e-787c-a6ef-18b185ea51aa', '7', 'reserve', '1', 'compensating', '2', NULL, NULL, NULL, NULL, '1', '2026-11-22 11:14:14.452575+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb5e-787c-a6ef-18b185ea51aa', '8', 'reserve', '1', 'compensation_failed', '2', NULL, 'FAILED_PRECONDITION', 'no', NULL, '1', '2026-11-22 11:14:14.47575+00');
INSERT INTO baton.step_log (saga_id, sequence, step, position, status, attempt, result, error_code, error_message, retry_at, epoch, at) VALUES ('01a202f6-bb5e-787c-a6ef-18b185ea51aa', '9', NULL, '0', 'parked', '0', NULL, 'PARKED', 'could not compensate: reserve', NULL, '1', '2026-11-22 11:14:14.47578+00');
