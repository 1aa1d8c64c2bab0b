PRAGMA application_id = 1330793299; -- the bytes `ORKS`

CREATE TABLE orkestra_schema (
    version    INTEGER PRIMARY KEY,
    applied_at INTEGER NOT NULL -- all times are microseconds since 1970 in UTC
) STRICT;

CREATE TABLE orkestra_streams (
    id              INTEGER PRIMARY KEY,
    name            TEXT NOT NULL UNIQUE,
    deleted_through INTEGER -- soft deleted up to this revision
) STRICT;

CREATE TABLE orkestra_types (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE orkestra_events (
    position    INTEGER PRIMARY KEY,
    stream_id   INTEGER NOT NULL,
    revision    INTEGER NOT NULL,
    event_id    BLOB NOT NULL,
    type_id     INTEGER NOT NULL,
    version     INTEGER NOT NULL,
    occurred_at INTEGER NOT NULL,
    data        TEXT NOT NULL,
    metadata    TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX orkestra_events_by_stream ON orkestra_events (stream_id, revision);
CREATE UNIQUE INDEX orkestra_events_by_id ON orkestra_events (event_id);

-- Every deletion of a stream. `head` is the last position given out until then, so that none is ever given out again.
CREATE TABLE orkestra_deletions (
    id            INTEGER PRIMARY KEY,
    stream        TEXT NOT NULL,
    mode          TEXT NOT NULL,
    last_revision INTEGER NOT NULL,
    head          INTEGER NOT NULL,
    deleted_at    INTEGER NOT NULL
) STRICT;

-- The stream that the current transaction deletes for good; empty at any other time.
CREATE TABLE orkestra_deleting (
    stream_id INTEGER PRIMARY KEY
) STRICT;

CREATE TRIGGER orkestra_events_no_update BEFORE UPDATE ON orkestra_events
BEGIN
    SELECT raise(ABORT, 'recorded events do not change');
END;

CREATE TRIGGER orkestra_events_no_delete BEFORE DELETE ON orkestra_events
WHEN NOT EXISTS (SELECT 1 FROM orkestra_deleting WHERE stream_id = OLD.stream_id)
BEGIN
    SELECT raise(ABORT, 'recorded events are not deleted by hand');
END;

CREATE TABLE orkestra_snapshots (
    stream         TEXT PRIMARY KEY,
    revision       INTEGER NOT NULL,
    schema_version INTEGER NOT NULL,
    state          TEXT NOT NULL,
    taken_at       INTEGER NOT NULL
) STRICT;

CREATE TABLE orkestra_checkpoints (
    name     TEXT PRIMARY KEY,
    position INTEGER,
    saved_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- A released lease keeps its row for its token.
CREATE TABLE orkestra_leases (
    name       TEXT PRIMARY KEY,
    owner      TEXT,
    token      INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE orkestra_dead_letters (
    serial          INTEGER PRIMARY KEY, -- grows with each recording
    id              BLOB NOT NULL UNIQUE,
    handler         TEXT NOT NULL,
    kind            TEXT NOT NULL,
    message_id      BLOB NOT NULL,
    type_name       TEXT NOT NULL,
    topic           TEXT NOT NULL,
    body            ANY NOT NULL, -- text, or the bytes as they came if they are no text
    requeueable     INTEGER NOT NULL,
    reason          TEXT NOT NULL,
    errors          TEXT NOT NULL,
    attempts        INTEGER NOT NULL,
    first_failed_at INTEGER NOT NULL,
    last_failed_at  INTEGER NOT NULL,
    correlation_id  TEXT NOT NULL,
    trace_id        TEXT,
    status          TEXT NOT NULL,
    history         TEXT NOT NULL,
    UNIQUE (handler, message_id)
) STRICT;

CREATE INDEX orkestra_dead_letters_by_time ON orkestra_dead_letters (last_failed_at);

-- The log as people read it.
CREATE VIEW orkestra_log AS
SELECT
    e.position,
    s.name AS stream,
    e.revision,
    t.name AS type,
    e.version,
    e.data,
    e.metadata,
    strftime('%Y-%m-%dT%H:%M:%S', e.occurred_at / 1000000, 'unixepoch')
        || printf('.%06dZ', e.occurred_at % 1000000) AS occurred_at,
    lower(printf('%s-%s-%s-%s-%s',
        substr(hex(e.event_id), 1, 8), substr(hex(e.event_id), 9, 4), substr(hex(e.event_id), 13, 4),
        substr(hex(e.event_id), 17, 4), substr(hex(e.event_id), 21))) AS event_id
FROM orkestra_events AS e
JOIN orkestra_streams AS s ON s.id = e.stream_id
JOIN orkestra_types AS t ON t.id = e.type_id;
