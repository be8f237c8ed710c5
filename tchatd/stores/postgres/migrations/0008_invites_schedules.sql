-- Beside the journal: what may become a record of a dialog, and what is done for people
-- while they are away. Times are the daemon's, milliseconds since 1970; 0: never.

-- code_hash: keyed hash of the code; the code itself is computed from `seed` with a key
-- that is not in the database.
CREATE TABLE invites (
    code_hash      bytea   PRIMARY KEY CHECK (length(code_hash) = 32),
    seed           bytea   NOT NULL CHECK (length(seed) = 16),
    dialog_number  bigint  NOT NULL,
    creator        integer NOT NULL,
    creator_id     uuid    NOT NULL,
    created_ms     bigint  NOT NULL,
    expires_ms     bigint  NOT NULL,
    uses_max       integer NOT NULL,            -- 0: any number
    uses           integer NOT NULL DEFAULT 0,  -- claims and waiting requests among them
    needs_approval boolean NOT NULL,
    title          text    NOT NULL,
    CHECK (uses >= 0 AND (uses_max = 0 OR uses <= uses_max))
);
CREATE INDEX invites_dialog ON invites (dialog_number, created_ms);
CREATE INDEX invites_expiry ON invites (expires_ms) WHERE expires_ms > 0;

-- A use of somebody of whom it is not known yet whether they got in.
CREATE TABLE invite_claims (
    code_hash   bytea   NOT NULL REFERENCES invites ON DELETE CASCADE,
    user_number integer NOT NULL,
    token       uuid    NOT NULL,
    taken_ms    bigint  NOT NULL,
    PRIMARY KEY (code_hash, user_number)
);
CREATE INDEX invite_claims_taken ON invite_claims (taken_ms);

-- code_hash: of the invite by which they came, one use of which is theirs; or null.
CREATE TABLE join_requests (
    dialog_number bigint  NOT NULL,
    user_number   integer NOT NULL,
    user_id       uuid    NOT NULL,
    code_hash     bytea,
    asked_ms      bigint  NOT NULL,
    PRIMARY KEY (dialog_number, user_number)
);
CREATE INDEX join_requests_asked ON join_requests (dialog_number, asked_ms);

-- is_settled: the dialog's own settings are known to say so. free_ms: given up; another
-- dialog may take it from then on.
CREATE TABLE public_names (
    name          text    PRIMARY KEY,
    dialog_number bigint  NOT NULL,
    claimed_ms    bigint  NOT NULL,
    free_ms       bigint  NOT NULL DEFAULT 0,
    is_settled    boolean NOT NULL DEFAULT false
);
CREATE INDEX public_names_dialog ON public_names (dialog_number);
CREATE INDEX public_names_unsettled ON public_names (claimed_ms)
    WHERE NOT is_settled AND free_ms = 0;
CREATE INDEX public_names_free ON public_names (free_ms) WHERE free_ms > 0;

-- id: also the message's client_id. due_ms: of the next try. is_claimed: it may have
-- been sent. failed: why it was not, and is not tried again.
CREATE TABLE scheduled_messages (
    id         uuid     PRIMARY KEY,
    author     integer  NOT NULL,
    author_id  uuid     NOT NULL,
    dialog_id  uuid     NOT NULL,
    send_at_ms bigint   NOT NULL,
    due_ms     bigint   NOT NULL,
    tries      integer  NOT NULL DEFAULT 0,
    is_claimed boolean  NOT NULL DEFAULT false,
    failed     text,
    message    text     NOT NULL                -- JSON
);
CREATE INDEX scheduled_messages_due ON scheduled_messages (due_ms) WHERE failed IS NULL;
CREATE INDEX scheduled_messages_failed ON scheduled_messages (due_ms)
    WHERE failed IS NOT NULL;
CREATE INDEX scheduled_messages_author ON scheduled_messages (author, send_at_ms);

-- profile: JSON. version: of all of it; agents_version: the version that changed who its
-- agents are. A dialog follows when its own agents_version is behind; followed_version:
-- up to which all of them have, so that it is known where to look.
CREATE TABLE businesses (
    user_number      integer PRIMARY KEY,
    user_id          uuid    NOT NULL,
    version          integer NOT NULL,
    agents_version   integer NOT NULL,
    followed_version integer NOT NULL,
    profile          text    NOT NULL
);
CREATE INDEX businesses_behind ON businesses (user_number)
    WHERE followed_version < agents_version;
CREATE TABLE business_dialogs (
    dialog_number  bigint  PRIMARY KEY,
    business       integer NOT NULL,
    customer       integer NOT NULL,
    agents_version integer NOT NULL DEFAULT 0,
    greeted_seq    integer NOT NULL DEFAULT 0,  -- of the message that began the conversation
    closed_seq     integer NOT NULL DEFAULT 0,  -- of the event that closed it; 0: open
    away_ms        bigint  NOT NULL DEFAULT 0   -- of the message that was answered so
);
CREATE INDEX business_dialogs_behind ON business_dialogs (business, agents_version);

-- What was decided to be done about a message, and may not have been done.
-- kind: 1 reopen the conversation, 2 greet, 3 say that nobody is there.
CREATE TABLE business_replies (
    dialog_number bigint   NOT NULL,
    seq           integer  NOT NULL,  -- of the message
    kind          smallint NOT NULL,
    at_ms         bigint   NOT NULL,  -- of the message
    PRIMARY KEY (dialog_number, seq, kind)
);
