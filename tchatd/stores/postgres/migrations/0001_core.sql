-- How far each journal has been flushed into these tables. The row changes in the same
-- transaction as what was flushed, so after a crash replay starts right after it.
CREATE TABLE journal_positions (
    journal  text   PRIMARY KEY,
    position bigint NOT NULL CHECK (position >= 0)
);
