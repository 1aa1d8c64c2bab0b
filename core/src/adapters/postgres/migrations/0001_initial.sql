-- `{schema}` stands for the schema's name and `{lock}` for the number of its lock.

CREATE TABLE {schema}.streams (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name            text NOT NULL,
    deleted_through bigint, -- soft deleted up to this revision
    -- A hash index: names may be longer than what a B-tree takes.
    CONSTRAINT streams_by_name EXCLUDE USING hash (name WITH =)
);

-- The order of names, by their bytes.
CREATE INDEX streams_in_order ON {schema}.streams (left(name, 250) COLLATE "C");

CREATE TABLE {schema}.types (
    id   integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE
);

-- The log. Rows are written under the schema's lock only, so that positions are committed in their order.
CREATE TABLE {schema}.events (
    position    bigint PRIMARY KEY,
    stream_id   bigint NOT NULL,
    revision    bigint NOT NULL,
    event_id    uuid NOT NULL,
    occurred_at timestamptz NOT NULL,
    type_id     integer NOT NULL,
    version     integer NOT NULL,
    data        jsonb NOT NULL,
    metadata    json NOT NULL
);

CREATE UNIQUE INDEX events_by_stream ON {schema}.events (stream_id, revision);
CREATE UNIQUE INDEX events_by_id ON {schema}.events (event_id);

CREATE SEQUENCE {schema}.positions;

-- Every deletion of a stream.
CREATE TABLE {schema}.deletions (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream        text NOT NULL,
    mode          text NOT NULL,
    last_revision bigint NOT NULL,
    deleted_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    deleted_by    text NOT NULL DEFAULT session_user
);

-- The stream that the current transaction deletes for good; empty at any other time.
CREATE TABLE {schema}.deleting (
    stream_id bigint PRIMARY KEY
);

-- What users' own transactions append: it has no revisions and positions until it is committed.
CREATE TABLE {schema}.staging (
    batch       bigint, -- the same for the rows of one call, greater than that of any earlier call of the transaction
    place       integer, -- in the call, from 1
    transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
    stream      text NOT NULL,
    expected    bigint NOT NULL, -- a revision, -1 no stream, -2 a stream, -4 anything
    event_id    uuid NOT NULL,
    type        text NOT NULL,
    version     integer NOT NULL,
    occurred_at timestamptz NOT NULL,
    data        jsonb NOT NULL,
    metadata    json NOT NULL,
    staged_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    refused     text, -- why it was not recorded; such a row stays for people to look at
    PRIMARY KEY (batch, place)
);

CREATE SEQUENCE {schema}.batches;
-- What fits a question with `refused IS NULL` and no other: so that no plan reads it from end to end for want of statistics.
CREATE INDEX staging_by_transaction ON {schema}.staging (transaction) WHERE refused IS NULL;

-- What a look at the staging table need not look at: of transactions before `horizon` that are not `unfinished`, all was recorded when `batch` was
-- the last call. Rows that are recorded and deleted cannot be cleaned up while any transaction is open; no look passes over them again.
-- Good for one generation of the tables.
CREATE TABLE {schema}.staging_seen (
    id         integer PRIMARY KEY,
    generation bigint NOT NULL,
    batch      bigint NOT NULL,
    horizon    xid8 NOT NULL,
    unfinished xid8[] NOT NULL
) WITH (fillfactor = 50);

INSERT INTO {schema}.staging_seen VALUES (1, 0, 0, '0', '{}');

CREATE TABLE {schema}.snapshots (
    stream         text NOT NULL,
    revision       bigint NOT NULL,
    schema_version bigint NOT NULL,
    state          json NOT NULL,
    taken_at       timestamptz NOT NULL,
    CONSTRAINT snapshots_by_stream EXCLUDE USING hash (stream WITH =)
);

CREATE TABLE {schema}.checkpoints (
    name     text COLLATE "C" PRIMARY KEY,
    position bigint,
    saved_at timestamptz NOT NULL
);

-- A released lease keeps its row for its token.
CREATE TABLE {schema}.leases (
    name       text COLLATE "C" PRIMARY KEY,
    owner      text,
    token      bigint NOT NULL,
    expires_at timestamptz NOT NULL
);

CREATE TABLE {schema}.dead_letters (
    serial          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- grows with each recording
    id              uuid NOT NULL UNIQUE,
    handler         text NOT NULL,
    kind            text NOT NULL,
    message_id      uuid NOT NULL,
    type_name       text NOT NULL,
    topic           text NOT NULL,
    body            bytea NOT NULL,
    requeueable     boolean NOT NULL,
    reason          text NOT NULL,
    errors          json NOT NULL,
    attempts        bigint NOT NULL,
    first_failed_at timestamptz NOT NULL,
    last_failed_at  timestamptz NOT NULL,
    correlation_id  text NOT NULL,
    trace_id        text,
    status          text NOT NULL,
    history         json NOT NULL,
    UNIQUE (handler, message_id)
);

CREATE INDEX dead_letters_by_time ON {schema}.dead_letters (last_failed_at);

-- Messages that leave through the relay; gone once the broker has confirmed them.
CREATE TABLE {schema}.outbox (
    serial         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message_id     uuid NOT NULL CONSTRAINT outbox_by_message UNIQUE,
    kind           text NOT NULL CHECK (kind IN ('command', 'event')),
    topic          text NOT NULL,
    correlation_id text NOT NULL,
    body           bytea NOT NULL, -- the envelope as on the wire
    issued_at      timestamptz NOT NULL,
    max_retries    bigint,
    traceparent    text,
    tracestate     text,
    baggage        text,
    enqueued_at    timestamptz NOT NULL
);

CREATE INDEX outbox_by_time ON {schema}.outbox (enqueued_at);

-- What a handler has handled.
CREATE TABLE {schema}.inbox (
    handler    text COLLATE "C" NOT NULL,
    message_id uuid NOT NULL,
    handled_at timestamptz NOT NULL,
    result     json,
    PRIMARY KEY (handler, message_id)
);

CREATE INDEX inbox_by_time ON {schema}.inbox (handled_at);

-- Where the views in this database stand.
CREATE TABLE {schema}.view_checkpoints (
    name     text COLLATE "C" PRIMARY KEY,
    position bigint,
    token    bigint NOT NULL,
    saved_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- What was refused is tried again when its reason is taken away: it is found as if it had been staged now.
CREATE FUNCTION {schema}.stage_again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    new.transaction := pg_current_xact_id();
    RETURN new;
END $$;

CREATE TRIGGER stage_again BEFORE UPDATE OF refused ON {schema}.staging
    FOR EACH ROW WHEN (old.refused IS NOT NULL AND new.refused IS NULL) EXECUTE FUNCTION {schema}.stage_again();

-- Recorded events do not change.

CREATE FUNCTION {schema}.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'recorded events do not change' USING ERRCODE = 'ORK05';
END $$;

CREATE FUNCTION {schema}.refuse_delete() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM {schema}.deleting WHERE stream_id = old.stream_id) THEN
        RAISE EXCEPTION 'recorded events are not deleted by hand' USING ERRCODE = 'ORK05';
    END IF;
    RETURN old;
END $$;

CREATE TRIGGER no_update BEFORE UPDATE ON {schema}.events
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON {schema}.events
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.refuse_change();
CREATE TRIGGER no_delete BEFORE DELETE ON {schema}.events
    FOR EACH ROW EXECUTE FUNCTION {schema}.refuse_delete();

-- Nor do the names that stand behind their numbers.
CREATE TRIGGER no_update BEFORE UPDATE OF id, name ON {schema}.streams
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.refuse_change();
CREATE TRIGGER no_delete BEFORE DELETE OR TRUNCATE ON {schema}.streams
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.refuse_change();
CREATE TRIGGER no_update BEFORE UPDATE ON {schema}.types
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.refuse_change();
CREATE TRIGGER no_delete BEFORE DELETE OR TRUNCATE ON {schema}.types
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.refuse_change();

-- What the numbers of streams and types are good for. It is another one when the tables were made anew or restored, on this server or
-- another: then whatever was remembered of them is forgotten.
CREATE FUNCTION {schema}.generation() RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT hash_record_extended(ROW(pg_postmaster_start_time(),
        pg_relation_filenode('{schema}.streams'), pg_relation_filenode('{schema}.types')), 0)
$$;

-- The log as people read it.
CREATE VIEW {schema}.log AS
SELECT
    e.position,
    s.name AS stream,
    e.revision,
    t.name AS type,
    e.version,
    e.data,
    e.metadata::jsonb AS metadata,
    e.occurred_at,
    e.event_id
FROM {schema}.events AS e
JOIN {schema}.streams AS s ON s.id = e.stream_id
JOIN {schema}.types AS t ON t.id = e.type_id;
