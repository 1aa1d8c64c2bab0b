//! The outbox in SQLite.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Row, types::Type};

use super::{
    SqliteStore,
    error::Failure,
    number::{signed, small, time, unsigned},
    page::{MAX_BYTES, uuid},
    queue::Size,
    reader::Reader,
    text::{bytes_of, text_or_bytes},
    writer::Tx,
};
use crate::{
    clock::Timestamp,
    message::MessageKind,
    ports::{OutboxBacklog, OutboxRow, OutboxStore, Outgoing, StoreError, TraceContext},
};

#[async_trait]
impl OutboxStore for SqliteStore {
    async fn enqueue(&self, messages: Vec<Outgoing>) -> Result<(), StoreError> {
        let size = Size {
            events: messages.len(),
            bytes: messages.iter().map(|message| message.body.len()).sum(),
        };
        self.write(size, move |tx| tx.enqueue(&messages))?.await
    }

    async fn pending(
        &self,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        self.read(move |reader| reader.pending(after, limit))?.await
    }

    async fn delete(&self, serials: Vec<u64>) -> Result<u64, StoreError> {
        self.write(Size::default(), move |tx| tx.delete_messages(&serials))?
            .await
    }

    async fn backlog(&self) -> Result<OutboxBacklog, StoreError> {
        self.read(|reader| reader.backlog())?.await
    }

    async fn wait_for_messages(&self, after: Option<u64>) -> Result<(), StoreError> {
        loop {
            let enqueued = self.enqueued();
            if !self.pending(after, 1).await?.is_empty() {
                return Ok(());
            }
            if self.watching() {
                enqueued.await;
            }
        }
    }

    async fn purge(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.write(Size::default(), move |tx| {
            tx.removed(
                "DELETE FROM orkestra_outbox WHERE serial IN (SELECT serial FROM orkestra_outbox \
                 WHERE enqueued_at < ?1 ORDER BY enqueued_at, serial LIMIT ?2)",
                (before.as_micros(), signed(limit as u64)),
            )
        })?
        .await
    }
}

impl Tx<'_> {
    fn enqueue(&mut self, messages: &[Outgoing]) -> Result<(), Failure> {
        let now = self.clock.now().as_micros();
        let mut insert = self.conn.prepare_cached(
            "INSERT INTO orkestra_outbox (message_id, kind, topic, correlation_id, body, issued_at, \
             max_retries, traceparent, tracestate, baggage, enqueued_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT (message_id) DO NOTHING",
        )?;
        for message in messages {
            let added = insert.execute(rusqlite::params![
                message.id.as_bytes(),
                message.kind.as_str(),
                &*message.topic,
                &*message.correlation_id,
                text_or_bytes(&message.body),
                message.issued_at.as_micros(),
                message.max_retries,
                message.trace.traceparent.as_deref(),
                message.trace.tracestate.as_deref(),
                message.trace.baggage.as_deref(),
                now,
            ])?;
            self.enqueued |= added > 0;
        }
        Ok(())
    }

    fn delete_messages(&self, serials: &[u64]) -> Result<u64, Failure> {
        let mut removed = 0;
        for serial in serials {
            removed += self.removed(
                "DELETE FROM orkestra_outbox WHERE serial = ?1",
                [signed(*serial)],
            )?;
        }
        Ok(removed)
    }

    /// Runs a statement that removes rows; returns how many.
    pub(super) fn removed(&self, sql: &str, params: impl rusqlite::Params) -> Result<u64, Failure> {
        Ok(self.conn.prepare_cached(sql)?.execute(params)? as u64)
    }
}

impl Reader<'_> {
    fn pending(&self, after: Option<u64>, limit: usize) -> Result<Vec<OutboxRow>, Failure> {
        let mut statement = self.conn.prepare_cached(
            "SELECT serial, message_id, kind, topic, correlation_id, body, issued_at, max_retries, \
             traceparent, tracestate, baggage, enqueued_at \
             FROM orkestra_outbox WHERE serial > ?1 ORDER BY serial LIMIT ?2",
        )?;
        let mut rows = statement.query((after.map_or(0, signed), signed(limit as u64)))?;
        let (mut messages, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            let row = read(row)?;
            bytes += row.message.body.len();
            if bytes > MAX_BYTES && !messages.is_empty() {
                break;
            }
            messages.push(row);
        }
        Ok(messages)
    }

    fn backlog(&self) -> Result<OutboxBacklog, Failure> {
        let backlog = self
            .conn
            .prepare_cached("SELECT count(*), min(enqueued_at) FROM orkestra_outbox")?
            .query_row([], |row| {
                Ok(OutboxBacklog {
                    messages: unsigned(row.get(0)?),
                    oldest: row.get::<_, Option<i64>>(1)?.map(time),
                })
            })?;
        Ok(backlog)
    }
}

fn read(row: &Row<'_>) -> Result<OutboxRow, rusqlite::Error> {
    let text = |column: usize| -> Result<Arc<str>, rusqlite::Error> { row.get(column) };
    let optional = |column: usize| -> Result<Option<Arc<str>>, rusqlite::Error> { row.get(column) };
    let kind = text(2)?;
    Ok(OutboxRow {
        serial: unsigned(row.get(0)?),
        message: Outgoing {
            kind: MessageKind::parse(&kind).ok_or_else(|| {
                rusqlite::Error::InvalidColumnType(2, format!("unknown word {kind}"), Type::Text)
            })?,
            id: uuid(row, 1)?,
            topic: text(3)?,
            correlation_id: text(4)?,
            body: Bytes::copy_from_slice(bytes_of(row, 5)?),
            issued_at: time(row.get(6)?),
            max_retries: row.get::<_, Option<i64>>(7)?.map(small),
            trace: TraceContext {
                traceparent: optional(8)?,
                tracestate: optional(9)?,
                baggage: optional(10)?,
            },
        },
        enqueued_at: time(row.get(11)?),
    })
}
