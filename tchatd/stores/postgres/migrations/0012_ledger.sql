-- The double-entry ledger (docs/adr/0014). Amounts are in the currency's minor unit,
-- times are milliseconds since 1970. What may move is decided by the daemon
-- (domains/payment/ledger); the constraints here are a second line of defence.

-- currency: ISO 4217 number. kind, status: see domains/payment/ledger/models.py.
-- available = balance - held. version: the count of its postings. day, month and what
-- was spent in them: as the account's owner numbers them. A row changes with every
-- batch it is in: nothing that changes is indexed, and half of each page is free, so
-- that a new version of a row stays on its page (HOT).
CREATE TABLE accounts (
    number      bigint   GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    balance     bigint   NOT NULL DEFAULT 0,
    held        bigint   NOT NULL DEFAULT 0 CHECK (held >= 0),
    version     bigint   NOT NULL DEFAULT 0 CHECK (version >= 0),
    floor       bigint,
    ceiling     bigint,
    day_spent   bigint   NOT NULL DEFAULT 0,
    month_spent bigint   NOT NULL DEFAULT 0,
    created_ms  bigint   NOT NULL,
    day         integer  NOT NULL DEFAULT 0,
    month       integer  NOT NULL DEFAULT 0,
    day_count   integer  NOT NULL DEFAULT 0,
    currency    smallint NOT NULL,
    kind        smallint NOT NULL,
    status      smallint NOT NULL DEFAULT 1,
    name        text,
    CONSTRAINT accounts_floor CHECK (balance - held >= floor)
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX accounts_name ON accounts (name, currency) WHERE name IS NOT NULL;

-- Both sides of every transfer, for ever: two rows with the same transfer_id and
-- created_ms. balance: of the account after it. counter: the other account. There is
-- no row for a transfer besides. No foreign keys: a batch has locked its accounts.
CREATE TABLE postings (
    account      bigint   NOT NULL,
    version      bigint   NOT NULL CHECK (version >= 1),
    created_ms   bigint   NOT NULL,
    amount_minor bigint   NOT NULL CHECK (amount_minor <> 0),
    balance      bigint   NOT NULL,
    counter      bigint   NOT NULL CHECK (counter <> account),
    transfer_id  uuid     NOT NULL,
    code         smallint NOT NULL,
    PRIMARY KEY (account, version, created_ms)
) PARTITION BY RANGE (created_ms);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'such rows of % are never changed', TG_TABLE_NAME;
END $$;
CREATE TRIGGER postings_immutable BEFORE UPDATE OR DELETE ON postings
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- state: 1 pending, 2 posted, 3 voided, 4 expired; it ends once. posted_minor, transfer_id: of the
-- one posting.
CREATE TABLE holds (
    debit        bigint   NOT NULL,
    credit       bigint   NOT NULL CHECK (credit <> debit),
    amount_minor bigint   NOT NULL CHECK (amount_minor >= 1),
    posted_minor bigint   NOT NULL DEFAULT 0,
    expires_ms   bigint   NOT NULL,
    created_ms   bigint   NOT NULL,
    id           uuid     PRIMARY KEY,
    transfer_id  uuid,
    code         smallint NOT NULL,
    state        smallint NOT NULL CHECK (state BETWEEN 1 AND 4),
    CHECK (posted_minor BETWEEN 0 AND amount_minor),
    CHECK ((state = 2) = (posted_minor > 0)),
    CHECK ((state = 2) = (transfer_id IS NOT NULL))
) WITH (fillfactor = 80);
CREATE TRIGGER holds_end_once BEFORE DELETE OR UPDATE ON holds
    FOR EACH ROW WHEN (OLD.state <> 1) EXECUTE FUNCTION refuse_change();
CREATE INDEX holds_due ON holds (expires_ms, id) WHERE state = 1;

-- Answers of requests with an Idempotency-Key, written with their effects. digest,
-- fingerprint: keyed hashes. created_ms is the first of its month, so that a digest is
-- unique in a partition; around the turn of a month a key is written to both months,
-- because the clocks of two nodes may differ. A key is known until its partition goes.
CREATE TABLE ledger_keys (
    created_ms  bigint NOT NULL,
    digest      bytea  NOT NULL CHECK (length(digest) = 32),
    fingerprint bytea  NOT NULL CHECK (length(fingerprint) = 32),
    answer      bytea  NOT NULL,
    PRIMARY KEY (digest, created_ms)
) PARTITION BY RANGE (created_ms);

-- The last batch that each batcher committed: whoever lost the answer to a COMMIT
-- waits for the row's lock, and then knows.
CREATE TABLE ledger_batchers (
    id        uuid   PRIMARY KEY,
    batch     bigint NOT NULL,
    active_ms bigint NOT NULL
) WITH (fillfactor = 50);
