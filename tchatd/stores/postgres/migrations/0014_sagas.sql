-- Sagas (docs/adr/0016). Times are milliseconds since 1970; 0: never.

-- current_step: steps done; while compensating, steps that are still to be undone.
-- revision: counts what runners did with it; a change that expects another one is refused.
-- data, compensation_data: JSON. signals: what it was told, by name.
-- runner: the life of an engine that runs it; null: nobody does, and it is due at run_ms.
CREATE TABLE sagas (
    id                uuid     PRIMARY KEY,
    saga_type         text     NOT NULL,
    version           smallint NOT NULL,
    status            text     NOT NULL DEFAULT 'started' CHECK (
        status IN ('started', 'completed', 'failed', 'compensating', 'compensated')
    ),
    current_step      smallint NOT NULL DEFAULT 0,
    total_steps       smallint NOT NULL,
    revision          integer  NOT NULL DEFAULT 0,
    data              text     NOT NULL,
    compensation_data text,
    in_doubt          boolean  NOT NULL DEFAULT false,
    signals           jsonb    NOT NULL DEFAULT '{}',
    signal_count      integer  NOT NULL DEFAULT 0,
    attempts          integer  NOT NULL DEFAULT 0,  -- of the current step, that failed
    run_ms            bigint   NOT NULL,
    runner            uuid,
    deadline_ms       bigint   NOT NULL,
    error             text,
    abort_reason      text,                         -- an operator wants it to go back
    started_ms        bigint   NOT NULL,
    failed_ms         bigint   NOT NULL DEFAULT 0,  -- when it went back, or stood still
    ended_ms          bigint   NOT NULL DEFAULT 0,
    CHECK (current_step BETWEEN 0 AND total_steps),
    CHECK ((ended_ms > 0) = (status IN ('completed', 'compensated'))),
    CHECK (runner IS NULL OR status IN ('started', 'compensating'))
)
-- A step changes no column of an index: its new version finds room on the same page.
WITH (fillfactor = 50);
CREATE INDEX sagas_due ON sagas (run_ms)
    WHERE runner IS NULL AND status IN ('started', 'compensating');
CREATE INDEX sagas_running ON sagas (runner) WHERE runner IS NOT NULL;
CREATE INDEX sagas_unended ON sagas (saga_type, version) WHERE ended_ms = 0;
CREATE INDEX sagas_failed ON sagas (failed_ms) WHERE status = 'failed';
CREATE INDEX sagas_ended ON sagas (ended_ms) WHERE ended_ms > 0;

-- The lives of engines. One whose beats stand still is declared dead: its row goes, and
-- the sagas it ran are for others.
CREATE TABLE saga_runners (
    id    uuid   PRIMARY KEY,
    node  text   NOT NULL,
    beats bigint NOT NULL DEFAULT 0
);

-- What operators did; nothing of it is ever changed.
CREATE TABLE saga_orders (
    number  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    saga_id uuid   NOT NULL,
    at_ms   bigint NOT NULL,
    who     text   NOT NULL,
    action  text   NOT NULL,
    reason  text   NOT NULL
);
CREATE INDEX saga_orders_saga ON saga_orders (saga_id, number);
