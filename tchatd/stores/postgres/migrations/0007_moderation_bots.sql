-- Bots, their webhooks, and what moderators do. Times are milliseconds since 1970.

-- A bot is a user that signs in with a token of its owner's instead of a code.
ALTER TABLE users ADD COLUMN is_bot boolean NOT NULL DEFAULT false;
ALTER TABLE users
    DROP CONSTRAINT users_check3,
    ADD CONSTRAINT users_reachable CHECK (
        deleted_ms IS NOT NULL OR is_bot
        OR phone_hash IS NOT NULL OR email_hash IS NOT NULL
    );

-- token_hash: keyed. session_id: of the token that is good now; another token, another id.
CREATE TABLE bots (
    number     integer PRIMARY KEY REFERENCES users (number),
    id         uuid    NOT NULL UNIQUE,
    owner      integer NOT NULL REFERENCES users (number),
    username   text    NOT NULL,
    token_hash bytea   NOT NULL,
    session_id uuid    NOT NULL,
    created_ms bigint  NOT NULL,
    deleted_ms bigint
);
CREATE UNIQUE INDEX bots_username ON bots (username) WHERE deleted_ms IS NULL;
CREATE INDEX bots_owner ON bots (owner) WHERE deleted_ms IS NULL;

-- secret: sealed under the bot's data key. dead_run: events given up since one arrived.
CREATE TABLE webhooks (
    bot          integer  PRIMARY KEY REFERENCES bots (number),
    url          text     NOT NULL,
    secret       bytea    NOT NULL,
    events       text[]   NOT NULL,
    updated_ms   bigint   NOT NULL,
    dead_run     smallint NOT NULL DEFAULT 0,
    disabled_ms  bigint,
    disabled_why text,
    CHECK ((disabled_ms IS NULL) = (disabled_why IS NULL))
);

-- What is still to be delivered, in order of number for each bot.
CREATE TABLE webhook_events (
    number     bigint   GENERATED ALWAYS AS IDENTITY,
    bot        integer  NOT NULL,
    id         uuid     NOT NULL,
    type       text     NOT NULL,
    body       text     NOT NULL,  -- JSON, as it is sent
    created_ms bigint   NOT NULL,
    due_ms     bigint   NOT NULL,
    attempts   smallint NOT NULL DEFAULT 0,
    PRIMARY KEY (bot, number)
);

-- What was given up.
CREATE TABLE webhook_dead_letters (
    number     bigint   PRIMARY KEY,
    bot        integer  NOT NULL,
    id         uuid     NOT NULL,
    type       text     NOT NULL,
    body       text     NOT NULL,
    created_ms bigint   NOT NULL,
    attempts   smallint NOT NULL,
    dead_ms    bigint   NOT NULL,
    why        text     NOT NULL
);
CREATE INDEX webhook_dead_letters_dead ON webhook_dead_letters (dead_ms);
CREATE INDEX webhook_dead_letters_bot ON webhook_dead_letters (bot);

-- reporter: user number; 0 is a filter of ours. accused: of whose doing it is; 0 of
-- nobody's. comment, evidence: sealed under the data keys of reporter and accused, so
-- that erasing a person erases what is theirs.
CREATE TABLE reports (
    number      bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    thing       text    NOT NULL CHECK (thing IN ('message', 'user', 'dialog')),
    thing_id    uuid    NOT NULL,
    dialog_id   uuid,
    reporter    integer NOT NULL,
    accused     integer NOT NULL,
    reason      text    NOT NULL,
    comment     bytea,
    evidence    bytea,
    created_ms  bigint  NOT NULL,
    updated_ms  bigint  NOT NULL,
    resolved_ms bigint,
    action      text,
    CHECK ((resolved_ms IS NULL) = (action IS NULL)),
    UNIQUE (thing_id, reporter, thing)
);
CREATE INDEX reports_open ON reports (number) WHERE resolved_ms IS NULL;

-- Who is shut out of the whole server, or may not write. until_ms: 0 until it is ended.
CREATE TABLE sanctions (
    number   integer NOT NULL REFERENCES users (number),
    kind     text    NOT NULL CHECK (kind IN ('ban', 'silence')),
    until_ms bigint  NOT NULL,
    since_ms bigint  NOT NULL,
    reason   text    NOT NULL,
    PRIMARY KEY (number, kind)
);

-- Every decision of an operator; nothing of it is ever changed.
CREATE TABLE moderation_log (
    number bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at_ms  bigint  NOT NULL,
    who    text    NOT NULL,
    action text    NOT NULL,
    thing  text    NOT NULL,  -- "user ID", "message ID", "report N"
    reason text    NOT NULL
);
