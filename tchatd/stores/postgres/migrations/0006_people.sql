-- What people let others see of them, whom they know, whom they block, and when they
-- were last here. Times are milliseconds since 1970, set by the daemon.

-- Whether search may find them by name; who else may see what is in `circles`.
ALTER TABLE users ADD COLUMN findable boolean NOT NULL DEFAULT true;

-- One row for whoever ever changed anything of this; its lock makes changes of one
-- person follow each other, and `version` rises with each.
CREATE TABLE circles (
    user_number integer PRIMARY KEY REFERENCES users (number),
    version     bigint  NOT NULL,
    privacy     bytea   NOT NULL,  -- MessagePack, see domains/people/models.py
    preferences bytea              -- JSON, theirs
) WITH (fillfactor = 80);

CREATE TABLE contacts (
    user_number integer NOT NULL,
    contact     integer NOT NULL,  -- user number
    added_ms    bigint  NOT NULL,
    PRIMARY KEY (user_number, contact)
);

CREATE TABLE blocks (
    user_number integer NOT NULL,
    blocked     integer NOT NULL,  -- user number
    added_ms    bigint  NOT NULL,
    PRIMARY KEY (user_number, blocked)
);

-- Updated in place, in batches, without touching an index.
CREATE TABLE last_seen (
    user_number integer PRIMARY KEY,
    seen_ms     bigint  NOT NULL
) WITH (fillfactor = 50);
