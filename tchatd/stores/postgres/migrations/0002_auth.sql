-- Sign-in and users. Times are milliseconds since 1970 (bigint), set by the daemon whose
-- clock the rules use; hashes are HMAC-SHA-256 under keys that are not in the database.

-- number: dense, for bitmaps of members and of who is online; never shown outside.
-- phone_sealed, email_sealed: AES-256-GCM under the user's data key.
-- data_key: that key, wrapped by the master key data_key_id. Erasure sets it to null.
CREATE TABLE users (
    id           uuid     PRIMARY KEY,
    number       integer  GENERATED ALWAYS AS IDENTITY UNIQUE,
    phone_hash   bytea    CONSTRAINT users_phone UNIQUE,
    phone_sealed bytea,
    email_hash   bytea    CONSTRAINT users_email UNIQUE,
    email_sealed bytea,
    data_key     bytea,
    data_key_id  text,
    name         text     NOT NULL,
    avatar       text,
    country      text     NOT NULL,
    locale       text     NOT NULL,
    kyc_tier     smallint NOT NULL DEFAULT 1 CHECK (kyc_tier BETWEEN 1 AND 3),
    status       text     NOT NULL DEFAULT 'online',
    is_verified  boolean  NOT NULL DEFAULT true,
    created_ms   bigint   NOT NULL,
    updated_ms   bigint   NOT NULL,
    deleted_ms   bigint,
    CHECK ((phone_hash IS NULL) = (phone_sealed IS NULL)),
    CHECK ((email_hash IS NULL) = (email_sealed IS NULL)),
    CHECK ((data_key IS NULL) = (data_key_id IS NULL)),
    CHECK (deleted_ms IS NOT NULL OR phone_hash IS NOT NULL OR email_hash IS NOT NULL),
    CHECK (deleted_ms IS NOT NULL OR data_key IS NOT NULL)
);
CREATE INDEX users_data_key ON users (data_key_id) WHERE data_key IS NOT NULL;

-- One signed-in device and its family of refresh tokens.
-- sealed: device and address, under the user's data key.
-- refresh_hash: of the one token that is good; previous_hash: of the one before it.
CREATE TABLE sessions (
    id             uuid    PRIMARY KEY,
    user_number    integer NOT NULL REFERENCES users (number),
    sealed         bytea   NOT NULL,
    refresh_hash   bytea   NOT NULL,
    previous_hash  bytea,
    created_ms     bigint  NOT NULL,
    used_ms        bigint  NOT NULL,
    rotated_ms     bigint  NOT NULL,
    expires_ms     bigint  NOT NULL,
    revoked_ms     bigint,
    revoked_reason text,
    CHECK ((revoked_ms IS NULL) = (revoked_reason IS NULL))
);
CREATE INDEX sessions_live ON sessions (user_number) WHERE revoked_ms IS NULL;
CREATE INDEX sessions_revoked ON sessions (revoked_ms) WHERE revoked_ms IS NOT NULL;
CREATE INDEX sessions_over ON sessions ((coalesce(revoked_ms, expires_ms)));

-- One code that was sent. sealed: the identifier, under a master key; for an hour only.
CREATE TABLE challenges (
    id              uuid     PRIMARY KEY,
    kind            text     NOT NULL CHECK (kind IN ('phone', 'email')),
    identifier_hash bytea    NOT NULL,
    sealed          bytea    NOT NULL,
    code_hash       bytea    NOT NULL,
    country         text,
    created_ms      bigint   NOT NULL,
    expires_ms      bigint   NOT NULL,
    guesses         smallint NOT NULL DEFAULT 0,
    used_ms         bigint
);
CREATE INDEX challenges_created ON challenges (created_ms);

-- What the limits on codes are counted by: a row a scope (identifier, address, network,
-- range of numbers) and send.
CREATE TABLE code_sends (
    scope_hash bytea  NOT NULL,
    sent_ms    bigint NOT NULL
);
CREATE INDEX code_sends_scope ON code_sends (scope_hash, sent_ms);
CREATE INDEX code_sends_sent ON code_sends (sent_ms);
