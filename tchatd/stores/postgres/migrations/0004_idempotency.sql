-- First answers of requests with an Idempotency-Key. `key` and `fingerprint` are keyed
-- hashes, `answer` is sealed: nothing here can be read without the daemon's keys. A row
-- without an answer is a request that runs, or that a crash cut short; whoever repeats
-- it takes over `idempotency_id`, so that it has its effect once. Times are the
-- daemon's, in milliseconds since 1970.
CREATE TABLE idempotency_keys (
    key            bytea  PRIMARY KEY CHECK (length(key) = 32),
    fingerprint    bytea  NOT NULL CHECK (length(fingerprint) = 32),
    idempotency_id uuid   NOT NULL,
    node           text   NOT NULL,
    lease_until_ms bigint NOT NULL,
    expires_at_ms  bigint NOT NULL,
    answer         bytea
);

CREATE INDEX idempotency_keys_expiry ON idempotency_keys (expires_at_ms);
