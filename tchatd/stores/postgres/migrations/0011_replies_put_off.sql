-- What a business does by itself: which message was answered, and when to try again.

-- Of the message that was answered by an away reply; its time may be another's too.
ALTER TABLE business_dialogs ADD COLUMN away_seq integer NOT NULL DEFAULT 0;

-- Of the next try; 0: at once.
ALTER TABLE business_replies ADD COLUMN due_ms bigint NOT NULL DEFAULT 0;
CREATE INDEX business_replies_due ON business_replies (due_ms, at_ms);
