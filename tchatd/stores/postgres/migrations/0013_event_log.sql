-- The event log, who reads it, and what could not be handled. Times are milliseconds
-- since 1970. How it is read: tchatd/events/horizon.py.

-- Dense but for rollbacks and crashes, which is what readers wait by: hence CACHE 1.
CREATE SEQUENCE event_log_position AS bigint CACHE 1;

-- Partitions by month are made by the daemon (stores/postgres/partitions.py). Whoever
-- inserts holds the lock on the aggregate's row, so positions rise with its versions.
-- A transaction has its id before it has a position: that is how a reader knows which
-- transactions could still fill a hole. So the order in the CASE matters.
CREATE TABLE event_log (
    position     bigint NOT NULL DEFAULT
        CASE WHEN pg_current_xact_id() IS NOT NULL
        THEN nextval('event_log_position') END,
    version      bigint NOT NULL CHECK (version >= 1),
    created_ms   bigint NOT NULL,
    id           uuid   NOT NULL,
    aggregate_id uuid   NOT NULL,
    domain       text   NOT NULL,
    type         text   NOT NULL,
    data         text   NOT NULL,  -- JSON
    metadata     text   NOT NULL,  -- JSON
    PRIMARY KEY (position, created_ms),
    UNIQUE (aggregate_id, version, created_ms)
) PARTITION BY RANGE (created_ms);
ALTER SEQUENCE event_log_position OWNED BY event_log.position;

-- Where each subscriber is: it has handled everything up to the position, or it is
-- among the dead letters. holder: the node that hands it events until lease_until, by
-- this server's clock.
CREATE TABLE event_subscriptions (
    name        text        PRIMARY KEY,
    position    bigint      NOT NULL,
    holder      text,
    lease_until timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL
) WITH (fillfactor = 50);

-- The events that a subscriber has not handled, in whole. attempts 0: never tried,
-- because an earlier event of the same aggregate is here. error: a class, no values.
-- is_released: to be tried again by whoever holds the subscription.
CREATE TABLE dead_letters (
    number       bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    position     bigint  NOT NULL,
    version      bigint  NOT NULL,
    created_ms   bigint  NOT NULL,
    dead_ms      bigint  NOT NULL,
    id           uuid    NOT NULL,
    aggregate_id uuid    NOT NULL,
    attempts     integer NOT NULL,
    is_released  boolean NOT NULL,
    subscriber   text    NOT NULL,
    error        text    NOT NULL,
    domain       text    NOT NULL,
    type         text    NOT NULL,
    data         text    NOT NULL,
    metadata     text    NOT NULL,
    UNIQUE (subscriber, aggregate_id, position)
);
CREATE INDEX dead_letters_released ON dead_letters (subscriber, position)
    WHERE is_released;

-- For subscribers in this database: the events whose effects are here, written with
-- them. Forgotten once the subscription's position is past.
CREATE TABLE event_handled (
    event_id   uuid   NOT NULL,
    position   bigint NOT NULL,
    handled_ms bigint NOT NULL,
    subscriber text   NOT NULL,
    PRIMARY KEY (subscriber, event_id)
);
CREATE INDEX event_handled_handled ON event_handled (handled_ms);
