//! Dead letters in PostgreSQL.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, pin_mut};
use tokio_postgres::{Row, types::Type};
use uuid::Uuid;

use super::{
    PostgresStore,
    connect::{Conn, Param},
    error::Failure,
    value::{Json, Moment, signed},
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

macro_rules! columns {
    () => {
        "id, handler, kind, message_id, type_name, topic, body, requeueable, reason, errors, \
         attempts, first_failed_at, last_failed_at, correlation_id, trace_id, status, history"
    };
}

// One at a time for each message: there may be no row yet that could be locked.
const LOCK: &str =
    "SELECT pg_advisory_xact_lock(hashtextextended('{schema} dead letter ' || $1, 0))";
const FIND_MESSAGE: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM {schema}.dead_letters WHERE handler = $1 AND message_id = $2"
);
const FIND: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM {schema}.dead_letters WHERE id = $1"
);
const LIST: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM {schema}.dead_letters \
     WHERE ($1 IS NULL OR handler = $1) AND ($2 IS NULL OR status = $2) \
     AND ($3 IS NULL OR last_failed_at >= $3) AND ($4 IS NULL OR last_failed_at < $4) \
     ORDER BY last_failed_at DESC, serial DESC"
);
const INSERT: &str = concat!(
    "INSERT INTO {schema}.dead_letters (",
    columns!(),
    ") \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)"
);
const MARK: &str = concat!(
    "UPDATE {schema}.dead_letters SET status = $2, body = coalesce($3, body) WHERE id = $1 RETURNING ",
    columns!()
);
const DISCARD: &str = "DELETE FROM {schema}.dead_letters WHERE id = $1";
const PURGE: &str = "DELETE FROM {schema}.dead_letters WHERE serial IN ( \
         SELECT serial FROM {schema}.dead_letters \
         WHERE last_failed_at < $1 AND ($2 IS NULL OR handler = $2) \
         ORDER BY last_failed_at, serial LIMIT $3 FOR UPDATE SKIP LOCKED)";

#[async_trait]
impl DeadLetterStore for PostgresStore {
    async fn record(&self, letter: DeadLetter) -> Result<DeadLetter, StoreError> {
        let letter = Arc::new(storable(letter));
        self.transact(move |conn| {
            let letter = Arc::clone(&letter);
            async move { record(&conn, &letter).await }
        })?
        .await
    }

    async fn list(&self, filter: DeadLetterFilter) -> Result<DeadLetterPage, StoreError> {
        let filter = Arc::new(filter);
        self.read(move |conn| {
            let filter = Arc::clone(&filter);
            async move { list(&conn, &filter).await }
        })?
        .await
    }

    async fn get(&self, id: Uuid) -> Result<DeadLetter, StoreError> {
        self.read(move |conn| async move {
            let row = conn.query_opt(FIND, &[(&id, Type::UUID)]).await?;
            read(&row.ok_or_else(|| unknown(id))?)
        })?
        .await
    }

    async fn requeue(&self, id: Uuid, body: Option<Bytes>) -> Result<DeadLetter, StoreError> {
        self.mark(id, DeadLetterStatus::Requeued, body).await
    }

    async fn take_back(&self, id: Uuid, body: Bytes) -> Result<DeadLetter, StoreError> {
        self.mark(id, DeadLetterStatus::Dead, Some(body)).await
    }

    async fn discard(&self, id: Uuid) -> Result<bool, StoreError> {
        self.execute(move |conn| async move {
            Ok(conn.execute(DISCARD, &[(&id, Type::UUID)]).await? > 0)
        })?
        .await
    }

    async fn purge(
        &self,
        before: Timestamp,
        handler: Option<String>,
        limit: usize,
    ) -> Result<u64, StoreError> {
        self.execute(move |conn| {
            let handler = handler.clone();
            async move {
                let (before, limit) = (Moment(before), signed(limit as u64));
                let params: [Param<'_>; 3] = [
                    (&before, Type::TIMESTAMPTZ),
                    (&handler, Type::TEXT),
                    (&limit, Type::INT8),
                ];
                conn.execute(PURGE, &params).await
            }
        })?
        .await
    }
}

impl PostgresStore {
    async fn mark(
        &self,
        id: Uuid,
        status: DeadLetterStatus,
        body: Option<Bytes>,
    ) -> Result<DeadLetter, StoreError> {
        self.execute(move |conn| {
            let body = body.clone();
            async move {
                let (status, body) = (status.as_str(), body.as_deref());
                let params: [Param<'_>; 3] = [
                    (&id, Type::UUID),
                    (&status, Type::TEXT),
                    (&body, Type::BYTEA),
                ];
                let row = conn.query_opt(MARK, &params).await?;
                read(&row.ok_or_else(|| unknown(id))?)
            }
        })?
        .await
    }
}

/// The letter without the one character that no column of text takes: a letter that could not be recorded would be tried for ever.
fn storable(mut letter: DeadLetter) -> DeadLetter {
    let texts = [
        &mut letter.handler,
        &mut letter.type_name,
        &mut letter.topic,
        &mut letter.correlation_id,
    ];
    for text in texts.into_iter().chain(&mut letter.trace_id) {
        if text.contains('\0') {
            *text = text.replace('\0', "\u{fffd}");
        }
    }
    letter
}

fn unknown(id: Uuid) -> Failure {
    Failure::Refused(StoreError::NoDeadLetter { id: id.to_string() })
}

async fn record(conn: &Conn, letter: &DeadLetter) -> Result<DeadLetter, Failure> {
    let key = format!("{} {}", letter.handler, letter.message_id);
    conn.query(LOCK, &[(&key, Type::TEXT)]).await?;
    let message: [Param<'_>; 2] = [
        (&letter.handler, Type::TEXT),
        (&letter.message_id, Type::UUID),
    ];
    let earlier = conn.query_opt(FIND_MESSAGE, &message).await?;
    let letter = match earlier {
        Some(row) => read(&row)?.again(letter.clone()),
        None => letter.clone(),
    };
    conn.execute(DISCARD, &[(&letter.id, Type::UUID)]).await?;
    let errors = json(&letter.errors)?;
    let history = json(&letter.history)?;
    let (errors, history) = (Json(&errors), Json(&history));
    let attempts = i64::from(letter.attempts);
    let (first, last) = (
        Moment(letter.first_failed_at),
        Moment(letter.last_failed_at),
    );
    let params: [Param<'_>; 17] = [
        (&letter.id, Type::UUID),
        (&letter.handler, Type::TEXT),
        (&letter.kind.as_str(), Type::TEXT),
        (&letter.message_id, Type::UUID),
        (&letter.type_name, Type::TEXT),
        (&letter.topic, Type::TEXT),
        (&&*letter.body, Type::BYTEA),
        (&letter.requeueable, Type::BOOL),
        (&letter.reason.as_str(), Type::TEXT),
        (&errors, Type::JSON),
        (&attempts, Type::INT8),
        (&first, Type::TIMESTAMPTZ),
        (&last, Type::TIMESTAMPTZ),
        (&letter.correlation_id, Type::TEXT),
        (&letter.trace_id, Type::TEXT),
        (&letter.status.as_str(), Type::TEXT),
        (&history, Type::JSON),
    ];
    conn.execute(INSERT, &params).await?;
    Ok(letter)
}

async fn list(conn: &Conn, filter: &DeadLetterFilter) -> Result<DeadLetterPage, Failure> {
    let limit = match filter.limit {
        0 => DEFAULT_PAGE,
        limit => limit,
    };
    let text = filter.text.as_ref().map(|text| text.to_lowercase());
    let status = filter.status.map(DeadLetterStatus::as_str);
    let (since, until) = (filter.since.map(Moment), filter.until.map(Moment));
    let params: [Param<'_>; 4] = [
        (&filter.handler, Type::TEXT),
        (&status, Type::TEXT),
        (&since, Type::TIMESTAMPTZ),
        (&until, Type::TIMESTAMPTZ),
    ];
    let rows = conn.stream(LIST, &params).await?;
    pin_mut!(rows);
    let mut page = DeadLetterPage::default();
    // Patterns and the case of all the world's letters are beyond SQL: rows are looked at one by one, and only the page is kept.
    while let Some(row) = conn
        .patiently(async { Ok(rows.next().await.transpose()?) })
        .await?
    {
        let topic_fits = match &filter.topic {
            Some(pattern) => pattern.matches(row.try_get(5)?),
            None => true,
        };
        let on_page = (filter.offset..filter.offset.saturating_add(limit)).contains(&page.total);
        if !topic_fits || text.is_none() && !on_page {
            page.total += usize::from(topic_fits);
            continue;
        }
        let letter = read(&row)?;
        if text.as_deref().is_none_or(|text| letter.mentions(text)) {
            page.total += 1;
            if on_page {
                page.items.push(letter);
            }
        }
    }
    Ok(page)
}

fn read(row: &Row) -> Result<DeadLetter, Failure> {
    let damaged = |what: &str| {
        Failure::Refused(StoreError::Corrupt {
            what: "a dead letter".into(),
            reason: format!("unknown word {what}"),
        })
    };
    let word = |column: usize| -> Result<&str, Failure> { Ok(row.try_get(column)?) };
    Ok(DeadLetter {
        id: row.try_get(0)?,
        handler: row.try_get(1)?,
        kind: MessageKind::parse(word(2)?).ok_or_else(|| damaged("of kind"))?,
        message_id: row.try_get(3)?,
        type_name: row.try_get(4)?,
        topic: row.try_get(5)?,
        body: Bytes::copy_from_slice(row.try_get(6)?),
        requeueable: row.try_get(7)?,
        reason: DeadLetterReason::parse(word(8)?).ok_or_else(|| damaged("of reason"))?,
        errors: parsed(row.try_get(9)?)?,
        attempts: u32::try_from(row.try_get::<_, i64>(10)?).unwrap_or(u32::MAX),
        first_failed_at: row.try_get::<_, Moment>(11)?.0,
        last_failed_at: row.try_get::<_, Moment>(12)?.0,
        correlation_id: row.try_get(13)?,
        trace_id: row.try_get(14)?,
        status: DeadLetterStatus::parse(word(15)?).ok_or_else(|| damaged("of status"))?,
        history: parsed(row.try_get(16)?)?,
    })
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(value).map_err(|error| corrupt(&error))
}

fn parsed<T: serde::de::DeserializeOwned>(json: Json<'_>) -> Result<T, Failure> {
    serde_json::from_slice(json.0).map_err(|error| corrupt(&error))
}

fn corrupt(error: &serde_json::Error) -> Failure {
    Failure::Refused(StoreError::Corrupt {
        what: "a dead letter".into(),
        reason: error.to_string(),
    })
}
