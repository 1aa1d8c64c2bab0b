-- Messages that are to leave. A number is never used again, so that who remembers one never takes another message for it.
CREATE TABLE orkestra_outbox (
    serial         INTEGER PRIMARY KEY AUTOINCREMENT,
    message_id     BLOB NOT NULL UNIQUE,
    kind           TEXT NOT NULL,
    topic          TEXT NOT NULL,
    correlation_id TEXT NOT NULL,
    body           ANY NOT NULL, -- text, or the bytes if they are no text
    issued_at      INTEGER NOT NULL,
    max_retries    INTEGER,
    traceparent    TEXT,
    tracestate     TEXT,
    baggage        TEXT,
    enqueued_at    INTEGER NOT NULL
) STRICT;

CREATE INDEX orkestra_outbox_by_time ON orkestra_outbox (enqueued_at);

-- What each handler has handled.
CREATE TABLE orkestra_inbox (
    handler    TEXT NOT NULL,
    message_id BLOB NOT NULL,
    handled_at INTEGER NOT NULL,
    result     ANY,
    PRIMARY KEY (handler, message_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX orkestra_inbox_by_time ON orkestra_inbox (handled_at);
