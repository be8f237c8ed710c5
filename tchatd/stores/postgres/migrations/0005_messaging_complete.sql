-- What becomes of messages, of memberships and of dialogs after they were made.
ALTER TABLE dialogs
    ADD COLUMN settings   bytea,                          -- MessagePack, see settings.py
    ADD COLUMN pins       text[]  NOT NULL DEFAULT '{}',  -- message ids, the latest last
    ADD COLUMN deleted    bytea,                          -- Roaring bitmap of message seqs
    ADD COLUMN banned     bytea,                          -- Roaring bitmap of user numbers
    ADD COLUMN is_dropped boolean NOT NULL DEFAULT false; -- deleted for everyone

-- A row stays when its member leaves: what they sent is theirs for ever.
ALTER TABLE members
    ADD COLUMN sent_ms         bigint  NOT NULL DEFAULT 0,  -- of their latest message
    ADD COLUMN joined_position bigint  NOT NULL DEFAULT 0,
    ADD COLUMN left_position   bigint  NOT NULL DEFAULT 0,  -- 0 while they are in
    ADD COLUMN own_position    bigint  NOT NULL DEFAULT 0,  -- of a change that is theirs alone
    ADD COLUMN delivered_seq   integer NOT NULL DEFAULT 0,
    ADD COLUMN joined_seq      integer NOT NULL DEFAULT 0,
    ADD COLUMN left_seq        integer NOT NULL DEFAULT 0,
    ADD COLUMN mentions        bytea,                       -- Roaring bitmap of message seqs
    ADD COLUMN extra           bytea;                       -- MessagePack, see member.py
CREATE INDEX members_role ON members (dialog_number, role)
    WHERE role <> 0 AND left_seq = 0;

-- A message's row is the message as it is now.
ALTER TABLE events
    ADD COLUMN expires_ms bigint  NOT NULL DEFAULT 0,
    ADD COLUMN thread_seq integer NOT NULL DEFAULT 0,  -- of the message whose thread it is in
    ADD COLUMN changed    bytea;                       -- MessagePack, see message_state.py
CREATE INDEX events_thread ON events (dialog_number, thread_seq, seq) WHERE thread_seq > 0;
CREATE INDEX events_expires ON events (expires_ms) WHERE expires_ms > 0;
COMMENT ON COLUMN events.kind IS 'as in domains/messaging/store.py';
