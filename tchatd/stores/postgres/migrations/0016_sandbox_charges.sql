-- The sandbox of payments: charges, refunds and payouts that move no money. Production
-- has none. amount_minor: by ISO 4217. of: the charge of a refund. expires_ms: 0 of what
-- does not expire. Times are milliseconds since 1970.
CREATE TABLE sandbox_charges (
    id           text   PRIMARY KEY,
    kind         text   NOT NULL CHECK (kind IN ('charge', 'refund', 'payout')),
    key          text   NOT NULL,
    amount_minor bigint NOT NULL CHECK (amount_minor > 0),
    currency     text   NOT NULL,
    country      text   NOT NULL,
    method       text   NOT NULL,
    state        text   NOT NULL
        CHECK (state IN ('pending', 'paid', 'failed', 'cancelled', 'expired')),
    created_ms   bigint NOT NULL,
    updated_ms   bigint NOT NULL,
    expires_ms   bigint NOT NULL,
    description  text   NOT NULL,
    return_url   text   NOT NULL,
    "of"         text   REFERENCES sandbox_charges (id),
    CHECK ((kind = 'refund') = ("of" IS NOT NULL)),
    UNIQUE (kind, key)
);
CREATE INDEX sandbox_charges_of ON sandbox_charges ("of") WHERE "of" IS NOT NULL;
