//! What plain rusqlite does with the same rows: no queue, no checks, no answers.

use std::hint::black_box;

use rusqlite::{Connection, params};

use crate::{
    Figure, Outcome,
    shop::{Order, TYPE_NAME, orders},
    timing::{APPENDERS, APPENDS, LOG, median_per_second, per_second, work_file},
};

// The store's own tables, copied from its first migration.
const SCHEMA: &str = "
    CREATE TABLE streams (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
    CREATE TABLE types (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
    CREATE TABLE events (
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
    CREATE UNIQUE INDEX events_by_stream ON events (stream_id, revision);
    CREATE UNIQUE INDEX events_by_id ON events (event_id);";

const INSERT: &str = "
    INSERT INTO events (stream_id, revision, event_id, type_id, version, occurred_at, data, metadata)
    VALUES (?1, ?2, ?3, 1, 1, ?4, ?5, ?6)";

const SCAN: &str = "
    SELECT position, stream_id, revision, event_id, type_id, version, occurred_at, data, metadata
    FROM events ORDER BY position";

/// Rows per second in transactions of 100 rows, every commit flushed.
pub(crate) fn append() -> Outcome {
    let mut connection = open()?;
    let orders = orders(APPENDS);
    let streams = u32::try_from(APPENDERS)?;
    let (rate, result) = per_second(APPENDS, || {
        insert(&mut connection, &orders, streams, APPENDERS)
    });
    result?;
    Ok(Figure::per_second(rate))
}

/// Rows per second of a scan that reads every column.
pub(crate) fn read_log() -> Outcome {
    let (events, streams) = LOG;
    let mut connection = open()?;
    insert(&mut connection, &orders(events), streams, 10_000)?;
    let rate = median_per_second(5, events, || {
        let mut statement = connection.prepare(SCAN)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            black_box((
                row.get_ref(0)?.as_i64()?,
                row.get_ref(1)?.as_i64()?,
                row.get_ref(2)?.as_i64()?,
                row.get_ref(3)?.as_blob()?,
                row.get_ref(4)?.as_i64()?,
                row.get_ref(5)?.as_i64()?,
                row.get_ref(6)?.as_i64()?,
                row.get_ref(7)?.as_str()?,
                row.get_ref(8)?.as_str()?,
            ));
        }
        Ok::<_, rusqlite::Error>(())
    })?;
    Ok(Figure::per_second(rate))
}

fn open() -> rusqlite::Result<Connection> {
    let connection = Connection::open(work_file("bare.db"))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // As the store has them.
    connection.pragma_update(None, "cache_size", -16_000)?;
    connection.pragma_update(None, "wal_autocheckpoint", 4_000)?;
    connection.execute_batch(SCHEMA)?;
    connection.execute("INSERT INTO types (name) VALUES (?1)", [TYPE_NAME])?;
    Ok(connection)
}

/// Inserts `orders` over `streams` streams in transactions of `batch` rows.
fn insert(
    connection: &mut Connection,
    orders: &[Order],
    streams: u32,
    batch: usize,
) -> rusqlite::Result<()> {
    let mut number = 0_u32;
    for chunk in orders.chunks(batch) {
        let transaction = connection.transaction()?;
        {
            let mut statement = transaction.prepare_cached(INSERT)?;
            for order in chunk {
                statement.execute(params![
                    number % streams,
                    number / streams,
                    order.id.as_bytes().as_slice(),
                    order.occurred_at.as_micros(),
                    order.data,
                    order.metadata,
                ])?;
                number += 1;
            }
        }
        transaction.commit()?;
    }
    Ok(())
}
