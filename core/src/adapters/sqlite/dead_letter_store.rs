//! Dead letters in SQLite.

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, types::Type};
use uuid::Uuid;

use super::{
    SqliteStore,
    error::Failure,
    number::{signed, small, time},
    page::uuid,
    queue::Size,
    reader::Reader,
    text::{bytes_of, text_or_bytes},
};
use crate::{
    clock::Timestamp,
    message::MessageKind,
    ports::{
        DeadLetter, DeadLetterFilter, DeadLetterPage, DeadLetterReason, DeadLetterStatus,
        DeadLetterStore, StoreError,
    },
};

/// Entries of a page unless the caller says otherwise.
const DEFAULT_PAGE: usize = 100;

const COLUMNS: &str = "id, handler, kind, message_id, type_name, topic, body, requeueable, reason, errors, \
     attempts, first_failed_at, last_failed_at, correlation_id, trace_id, status, history";

#[async_trait]
impl DeadLetterStore for SqliteStore {
    async fn record(&self, letter: DeadLetter) -> Result<DeadLetter, StoreError> {
        let size = Size {
            events: 1,
            bytes: letter.body.len(),
        };
        self.write(size, move |tx| record(tx.conn, letter.clone()))?
            .await
    }

    async fn list(&self, filter: DeadLetterFilter) -> Result<DeadLetterPage, StoreError> {
        self.read(move |reader| reader.dead_letters(&filter))?.await
    }

    async fn get(&self, id: Uuid) -> Result<DeadLetter, StoreError> {
        self.read(move |reader| find(reader.conn, id))?.await
    }

    async fn requeue(&self, id: Uuid, body: Option<Bytes>) -> Result<DeadLetter, StoreError> {
        self.write(Size::default(), move |tx| {
            mark(tx.conn, id, DeadLetterStatus::Requeued, body.clone())
        })?
        .await
    }

    async fn take_back(&self, id: Uuid, body: Bytes) -> Result<DeadLetter, StoreError> {
        self.write(Size::default(), move |tx| {
            mark(tx.conn, id, DeadLetterStatus::Dead, Some(body.clone()))
        })?
        .await
    }

    async fn discard(&self, id: Uuid) -> Result<bool, StoreError> {
        self.write(Size::default(), move |tx| {
            let removed = tx
                .conn
                .prepare_cached("DELETE FROM orkestra_dead_letters WHERE id = ?1")?
                .execute([id.as_bytes()])?;
            Ok(removed > 0)
        })?
        .await
    }

    async fn purge(
        &self,
        before: Timestamp,
        handler: Option<String>,
        limit: usize,
    ) -> Result<u64, StoreError> {
        self.write(Size::default(), move |tx| {
            tx.removed(
                "DELETE FROM orkestra_dead_letters WHERE serial IN \
                 (SELECT serial FROM orkestra_dead_letters \
                 WHERE last_failed_at < ?1 AND (?2 IS NULL OR handler = ?2) \
                 ORDER BY last_failed_at, serial LIMIT ?3)",
                (before.as_micros(), &handler, signed(limit as u64)),
            )
        })?
        .await
    }
}

fn record(conn: &Connection, letter: DeadLetter) -> Result<DeadLetter, Failure> {
    let earlier = conn
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM orkestra_dead_letters WHERE handler = ?1 AND message_id = ?2"
        ))?
        .query_row((&letter.handler, letter.message_id.as_bytes()), read)
        .optional()?;
    let letter = match earlier {
        Some(earlier) => earlier.again(letter),
        None => letter,
    };
    conn.prepare_cached("DELETE FROM orkestra_dead_letters WHERE id = ?1")?
        .execute([letter.id.as_bytes()])?;
    conn.prepare_cached(&format!(
        "INSERT INTO orkestra_dead_letters ({COLUMNS}) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)"
    ))?
    .execute(rusqlite::params![
        letter.id.as_bytes(),
        letter.handler,
        letter.kind.as_str(),
        letter.message_id.as_bytes(),
        letter.type_name,
        letter.topic,
        text_or_bytes(&letter.body),
        letter.requeueable,
        letter.reason.as_str(),
        json(&letter.errors)?,
        letter.attempts,
        letter.first_failed_at.as_micros(),
        letter.last_failed_at.as_micros(),
        letter.correlation_id,
        letter.trace_id,
        letter.status.as_str(),
        json(&letter.history)?,
    ])?;
    Ok(letter)
}

/// Gives the entry another status, and another body if there is one.
fn mark(
    conn: &Connection,
    id: Uuid,
    status: DeadLetterStatus,
    body: Option<Bytes>,
) -> Result<DeadLetter, Failure> {
    let mut letter = find(conn, id)?;
    letter.status = status;
    if let Some(body) = body {
        letter.body = body;
    }
    conn.prepare_cached("UPDATE orkestra_dead_letters SET status = ?2, body = ?3 WHERE id = ?1")?
        .execute((id.as_bytes(), status.as_str(), text_or_bytes(&letter.body)))?;
    Ok(letter)
}

fn find(conn: &Connection, id: Uuid) -> Result<DeadLetter, Failure> {
    conn.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM orkestra_dead_letters WHERE id = ?1"
    ))?
    .query_row([id.as_bytes()], read)
    .optional()?
    .ok_or_else(|| StoreError::NoDeadLetter { id: id.to_string() }.into())
}

impl Reader<'_> {
    fn dead_letters(&self, filter: &DeadLetterFilter) -> Result<DeadLetterPage, Failure> {
        let limit = match filter.limit {
            0 => DEFAULT_PAGE,
            limit => limit,
        };
        let text = filter.text.as_ref().map(|text| text.to_lowercase());
        let mut statement = self.conn.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM orkestra_dead_letters \
             WHERE (?1 IS NULL OR handler = ?1) AND (?2 IS NULL OR status = ?2) \
             AND last_failed_at >= ?3 AND (?4 IS NULL OR last_failed_at < ?4) \
             ORDER BY last_failed_at DESC, serial DESC"
        ))?;
        let mut rows = statement.query((
            &filter.handler,
            filter.status.map(DeadLetterStatus::as_str),
            filter.since.map_or(i64::MIN, Timestamp::as_micros),
            filter.until.map(Timestamp::as_micros),
        ))?;
        let mut page = DeadLetterPage::default();
        // Patterns and the case of all the world's letters are beyond SQL: rows are looked at one by one, and only the page is kept.
        while let Some(row) = rows.next()? {
            let topic_fits = match &filter.topic {
                Some(pattern) => pattern.matches(row.get_ref(5)?.as_str().map_err(conversion(5))?),
                None => true,
            };
            let on_page =
                (filter.offset..filter.offset.saturating_add(limit)).contains(&page.total);
            if !topic_fits || text.is_none() && !on_page {
                page.total += usize::from(topic_fits);
                continue;
            }
            let letter = read(row)?;
            if text.as_deref().is_none_or(|text| letter.mentions(text)) {
                page.total += 1;
                if on_page {
                    page.items.push(letter);
                }
            }
        }
        Ok(page)
    }
}

fn read(row: &Row<'_>) -> Result<DeadLetter, rusqlite::Error> {
    let word = |column: usize| -> Result<&str, rusqlite::Error> {
        row.get_ref(column)?.as_str().map_err(conversion(column))
    };
    Ok(DeadLetter {
        id: uuid(row, 0)?,
        handler: row.get(1)?,
        kind: {
            let kind = word(2)?;
            MessageKind::parse(kind).ok_or_else(|| unknown(2, kind))?
        },
        message_id: uuid(row, 3)?,
        type_name: row.get(4)?,
        topic: row.get(5)?,
        body: Bytes::copy_from_slice(bytes_of(row, 6)?),
        requeueable: row.get(7)?,
        reason: {
            let reason = word(8)?;
            DeadLetterReason::parse(reason).ok_or_else(|| unknown(8, reason))?
        },
        errors: serde_json::from_str(word(9)?).map_err(conversion(9))?,
        attempts: small(row.get(10)?),
        first_failed_at: time(row.get(11)?),
        last_failed_at: time(row.get(12)?),
        correlation_id: row.get(13)?,
        trace_id: row.get(14)?,
        status: {
            let status = word(15)?;
            DeadLetterStatus::parse(status).ok_or_else(|| unknown(15, status))?
        },
        history: serde_json::from_str(word(16)?).map_err(conversion(16))?,
    })
}

fn json(value: &impl serde::Serialize) -> Result<String, rusqlite::Error> {
    serde_json::to_string(value).map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))
}

fn conversion<E>(column: usize) -> impl Fn(E) -> rusqlite::Error
where
    E: std::error::Error + Send + Sync + 'static,
{
    move |e| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(e))
}

fn unknown(column: usize, found: &str) -> rusqlite::Error {
    rusqlite::Error::InvalidColumnType(column, format!("unknown word {found}"), Type::Text)
}
