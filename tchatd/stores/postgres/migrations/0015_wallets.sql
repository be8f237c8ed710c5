-- Wallets and what clients see of payments. Amounts are in the currency's minor unit,
-- times are milliseconds since 1970, 0 for not yet. Both tables are written in the
-- ledger's commits (stores/postgres/wallets.py, transactions.py).

-- account: of the ledger, which has balance, holds, status and what was spent.
-- suspended_by: 1 the owner, 2 an operator. version: of the wallet's events.
CREATE TABLE wallets (
    account      bigint   PRIMARY KEY REFERENCES accounts (number),
    created_ms   bigint   NOT NULL,
    updated_ms   bigint   NOT NULL,
    closed_ms    bigint   NOT NULL DEFAULT 0,
    id           uuid     NOT NULL UNIQUE,
    user_id      uuid     NOT NULL,
    user_number  integer  NOT NULL REFERENCES users (number),
    version      integer  NOT NULL DEFAULT 1,
    currency     smallint NOT NULL,
    suspended_by smallint CHECK (suspended_by IN (1, 2)),
    is_primary   boolean  NOT NULL,
    CHECK (NOT (is_primary AND closed_ms > 0))
) WITH (fillfactor = 80);
CREATE INDEX wallets_user ON wallets (user_number, account);
-- Second lines of defence: decisions see all wallets of a user. Whoever meets one of
-- these decides again.
CREATE UNIQUE INDEX wallets_one_a_currency ON wallets (user_number, currency)
    WHERE closed_ms = 0;

-- One side of a payment each. number: rises with the postings of an account, because
-- it is given while the account is locked; hence CACHE 1. The sides of a payment have
-- ids that follow from each other. type, status, counterpart_type: as numbered in
-- domains/payment/rows.py. net_amount: by how much the balance changed. counterpart:
-- a user's number, or 0; what others are called is counterpart_name. metadata: what
-- clients may see, JSON. No foreign keys: a batch has locked its accounts.
CREATE TABLE transactions (
    number             bigint   GENERATED ALWAYS AS IDENTITY (CACHE 1),
    account            bigint   NOT NULL,
    amount             bigint   NOT NULL CHECK (amount > 0),
    fee                bigint   NOT NULL CHECK (fee >= 0),
    net_amount         bigint   NOT NULL CHECK (net_amount >= 0),
    balance_before     bigint,
    balance_after      bigint,
    created_ms         bigint   NOT NULL,
    processed_ms       bigint   NOT NULL,
    completed_ms       bigint   NOT NULL,
    id                 uuid     PRIMARY KEY,
    wallet_id          uuid     NOT NULL,
    user_id            uuid     NOT NULL,
    counterpart_id     uuid,
    user_number        integer  NOT NULL,
    counterpart_number integer  NOT NULL,
    version            integer  NOT NULL,
    currency           smallint NOT NULL,
    type               smallint NOT NULL,
    status             smallint NOT NULL,
    counterpart_type   smallint,
    counterpart_name   text,
    description        text     NOT NULL,
    reference          text,
    metadata           jsonb    NOT NULL,
    CHECK ((balance_before IS NULL) = (balance_after IS NULL)),
    CHECK (balance_after IS NULL OR abs(balance_after - balance_before) = net_amount)
) WITH (fillfactor = 95);
-- A page of all types is merged from a page of each (nine probes), so that there is one
-- index to write to and not two.
CREATE INDEX transactions_history ON transactions (account, type, number DESC);
