-- Dialogs, their members and their logs, as far as the journal has been flushed.
-- A dialog's number is the journal position of its creation. Snapshots are updated in
-- place without touching an index, hence the room left in their pages.
CREATE TABLE dialogs (
    number           bigint   PRIMARY KEY,
    id               uuid     NOT NULL UNIQUE,
    created_ms       bigint   NOT NULL,
    active_position  bigint   NOT NULL,  -- of its creation or latest message
    active_ms        bigint   NOT NULL,
    last_position    bigint   NOT NULL,  -- of its latest event
    last_seq         integer  NOT NULL,
    message_count    integer  NOT NULL,
    last_message_seq integer  NOT NULL,  -- 0: none yet
    creator          integer  NOT NULL,  -- user number
    type             smallint NOT NULL,  -- 0 user, 1 group, 2 channel, 3 business
    name             text,
    avatar           text,
    participants     bytea    NOT NULL,  -- 16-byte ids of the first 100 of the members
    members          bytea    NOT NULL   -- Roaring bitmap of user numbers, portable
) WITH (fillfactor = 70);

CREATE TABLE members (
    dialog_number bigint   NOT NULL,
    read_at_ms    bigint   NOT NULL DEFAULT 0,
    client_ms     bigint   NOT NULL DEFAULT -1,  -- latest time in their client_ids
    user_number   integer  NOT NULL,
    read_seq      integer  NOT NULL DEFAULT 0,
    read_ordinal  integer  NOT NULL DEFAULT 0,   -- messages read
    role          smallint NOT NULL DEFAULT 0,   -- 0 member, 1 owner, 2 admin, 3 guest
    PRIMARY KEY (user_number, dialog_number)
) WITH (fillfactor = 70);

-- The log: every durable change of a dialog has the next seq. The kind stands in the
-- key so that a page of messages skips other events within the index.
CREATE TABLE events (
    dialog_number bigint   NOT NULL,
    position      bigint   NOT NULL,
    at_ms         bigint   NOT NULL,
    seq           integer  NOT NULL,
    actor         integer  NOT NULL,  -- user number
    ordinal       integer  NOT NULL,  -- of a message, its number; of a read, how many
    kind          smallint NOT NULL,  -- 1 dialog.created, 2 message.new, 3 message.read
    actor_id      bytea    NOT NULL,  -- 16 bytes
    client_id     bytea,              -- 16 bytes
    body          text     NOT NULL,  -- JSON
    PRIMARY KEY (dialog_number, seq, kind)
);
CREATE INDEX events_client_id ON events (client_id) WHERE client_id IS NOT NULL;

-- The seq of the dialog's last event at or before a journal position; 0 if it has none.
-- Both rise together, so it is found by probing backwards from the end in growing
-- steps, then halving: 2 log2 (events after the position) probes, and no index of its own.
CREATE FUNCTION event_seq_at(dialog bigint, until_position bigint, last_seq integer)
RETURNS integer LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
    low  integer;              -- 0, or an event at or before the position
    high integer := last_seq;  -- every event after it is later than the position
    step integer := 1;
    probe integer;
    found bigint;
BEGIN
    LOOP
        EXIT WHEN high < 1;
        SELECT e.position INTO found FROM events e
        WHERE e.dialog_number = dialog AND e.seq = high;
        IF found <= until_position THEN
            low := high;
            EXIT;
        END IF;
        high := high - step;
        step := step * 2;
    END LOOP;
    IF low IS NULL THEN
        low := 0;
    END IF;
    high := least(last_seq, low + step / 2);
    WHILE low < high LOOP
        probe := (low + high + 1) / 2;
        SELECT e.position INTO found FROM events e
        WHERE e.dialog_number = dialog AND e.seq = probe;
        IF found <= until_position THEN
            low := probe;
        ELSE
            high := probe - 1;
        END IF;
    END LOOP;
    RETURN low;
END
$$;
