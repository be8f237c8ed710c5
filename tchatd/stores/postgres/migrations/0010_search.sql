-- What the search index reads after a crash: what was written after a position. The log
-- is written in that order, so a block range index (a few kilobytes) finds it; writing
-- it costs a flush next to nothing, a B-tree would cost one more insert a row.
CREATE INDEX events_position ON events USING brin (position)
    WITH (pages_per_range = 32, autosummarize = on);

-- Whose name may have changed since.
CREATE INDEX users_updated ON users (updated_ms, number);
