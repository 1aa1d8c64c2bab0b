//! The outbox in PostgreSQL.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio_postgres::{Row, types::Type};
use uuid::Uuid;

use super::{
    PostgresStore,
    connect::{Conn, Param},
    error::Failure,
    value::{Moment, signed, unsigned},
};
use crate::{
    clock::Timestamp,
    message::MessageKind,
    ports::{OutboxBacklog, OutboxRow, OutboxStore, Outgoing, StoreError, TraceContext},
};

/// The most bytes of bodies that a page has; a single message may have more.
const MAX_BYTES: i64 = 16 * 1024 * 1024;

const ENQUEUE: &str = "WITH added AS ( \
         INSERT INTO {schema}.outbox (message_id, kind, topic, correlation_id, body, issued_at, \
             max_retries, traceparent, tracestate, baggage, enqueued_at) \
         SELECT m.id, m.kind, m.topic, m.correlation_id, m.body, m.issued_at, m.max_retries, \
             m.traceparent, m.tracestate, m.baggage, coalesce($11, clock_timestamp()) \
         FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::timestamptz[], \
             $7::bigint[], $8::text[], $9::text[], $10::text[]) WITH ORDINALITY \
             AS m(id, kind, topic, correlation_id, body, issued_at, max_retries, traceparent, tracestate, baggage, n) \
         ORDER BY m.n ON CONFLICT ON CONSTRAINT outbox_by_message DO NOTHING RETURNING 1 \
     ) SELECT pg_notify('{schema}', $12) FROM (SELECT FROM added LIMIT 1) one";
const PENDING: &str = "SELECT serial, message_id, kind, topic, correlation_id, body, issued_at, max_retries, \
         traceparent, tracestate, baggage, enqueued_at \
     FROM ( \
         SELECT *, sum(length(body)) OVER (ORDER BY serial) - length(body) AS before \
         FROM (SELECT * FROM {schema}.outbox WHERE serial > $1 ORDER BY serial LIMIT $2) first \
     ) counted WHERE before < $3 ORDER BY serial";
const DELETE: &str = "DELETE FROM {schema}.outbox WHERE serial = ANY($1)";
const BACKLOG: &str = "SELECT count(*), min(enqueued_at) FROM {schema}.outbox";
const PURGE: &str = "DELETE FROM {schema}.outbox WHERE serial IN ( \
         SELECT serial FROM {schema}.outbox WHERE enqueued_at < $1 \
         ORDER BY enqueued_at, serial LIMIT $2 FOR UPDATE SKIP LOCKED)";

#[async_trait]
impl OutboxStore for PostgresStore {
    async fn enqueue(&self, messages: Vec<Outgoing>) -> Result<(), StoreError> {
        let (messages, now) = (Arc::new(messages), self.told_time());
        let note: Arc<str> = self.note("messages").into();
        self.execute(move |conn| {
            let (messages, note) = (Arc::clone(&messages), Arc::clone(&note));
            async move { enqueue(&conn, &messages, now, &note).await }
        })?
        .await?;
        self.ring_messages();
        Ok(())
    }

    async fn pending(
        &self,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<OutboxRow>, StoreError> {
        self.read(move |conn| async move {
            let (after, limit) = (after.map_or(0, signed), signed(limit as u64));
            let params: [Param<'_>; 3] = [
                (&after, Type::INT8),
                (&limit, Type::INT8),
                (&MAX_BYTES, Type::INT8),
            ];
            let rows = conn.query(PENDING, &params).await?;
            rows.iter().map(read).collect()
        })?
        .await
    }

    async fn delete(&self, serials: Vec<u64>) -> Result<u64, StoreError> {
        let serials: Arc<[i64]> = serials.into_iter().map(signed).collect();
        self.execute(move |conn| {
            let serials = Arc::clone(&serials);
            async move {
                conn.execute(DELETE, &[(&&*serials, Type::INT8_ARRAY)])
                    .await
            }
        })?
        .await
    }

    async fn backlog(&self) -> Result<OutboxBacklog, StoreError> {
        self.read(|conn| async move {
            let row = conn.query_one(BACKLOG, &[]).await?;
            Ok(OutboxBacklog {
                messages: unsigned(row.try_get(0)?),
                oldest: row.try_get::<_, Option<Moment>>(1)?.map(|m| m.0),
            })
        })?
        .await
    }

    async fn wait_for_messages(&self, after: Option<u64>) -> Result<(), StoreError> {
        loop {
            let enqueued = self.enqueued();
            if !self.pending(after, 1).await?.is_empty() {
                return Ok(());
            }
            enqueued.await;
        }
    }

    async fn purge(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.purge_rows(PURGE, before, limit)?.await
    }
}

async fn enqueue(
    conn: &Conn,
    messages: &[Outgoing],
    now: Option<Moment>,
    note: &str,
) -> Result<(), Failure> {
    if messages.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = messages.iter().map(|m| m.id).collect();
    let kinds: Vec<&str> = messages.iter().map(|m| m.kind.as_str()).collect();
    let topics: Vec<&str> = messages.iter().map(|m| &*m.topic).collect();
    let correlations: Vec<&str> = messages.iter().map(|m| &*m.correlation_id).collect();
    let bodies: Vec<&[u8]> = messages.iter().map(|m| &*m.body).collect();
    let times: Vec<Moment> = messages.iter().map(|m| Moment(m.issued_at)).collect();
    let retries: Vec<Option<i64>> = messages
        .iter()
        .map(|m| m.max_retries.map(i64::from))
        .collect();
    let traces = |part: fn(&TraceContext) -> &Option<Arc<str>>| -> Vec<Option<&str>> {
        messages.iter().map(|m| part(&m.trace).as_deref()).collect()
    };
    let parents = traces(|trace| &trace.traceparent);
    let states = traces(|trace| &trace.tracestate);
    let baggage = traces(|trace| &trace.baggage);
    let params: [Param<'_>; 12] = [
        (&ids, Type::UUID_ARRAY),
        (&kinds, Type::TEXT_ARRAY),
        (&topics, Type::TEXT_ARRAY),
        (&correlations, Type::TEXT_ARRAY),
        (&bodies, Type::BYTEA_ARRAY),
        (&times, Type::TIMESTAMPTZ_ARRAY),
        (&retries, Type::INT8_ARRAY),
        (&parents, Type::TEXT_ARRAY),
        (&states, Type::TEXT_ARRAY),
        (&baggage, Type::TEXT_ARRAY),
        (&now, Type::TIMESTAMPTZ),
        (&note, Type::TEXT),
    ];
    conn.query(ENQUEUE, &params).await?;
    Ok(())
}

fn read(row: &Row) -> Result<OutboxRow, Failure> {
    let text =
        |column: usize| -> Result<Arc<str>, Failure> { Ok(row.try_get::<_, &str>(column)?.into()) };
    let optional = |column: usize| -> Result<Option<Arc<str>>, Failure> {
        Ok(row.try_get::<_, Option<&str>>(column)?.map(Into::into))
    };
    let kind: &str = row.try_get(2)?;
    let Some(kind) = MessageKind::parse(kind) else {
        return Err(Failure::Refused(StoreError::Corrupt {
            what: "the outbox".into(),
            reason: format!("expected command or event, found {kind}"),
        }));
    };
    let max_retries: Option<i64> = row.try_get(7)?;
    Ok(OutboxRow {
        serial: unsigned(row.try_get(0)?),
        message: Outgoing {
            kind,
            id: row.try_get(1)?,
            topic: text(3)?,
            correlation_id: text(4)?,
            body: Bytes::copy_from_slice(row.try_get(5)?),
            issued_at: row.try_get::<_, Moment>(6)?.0,
            max_retries: max_retries.map(|n| u32::try_from(n).unwrap_or(u32::MAX)),
            trace: TraceContext {
                traceparent: optional(8)?,
                tracestate: optional(9)?,
                baggage: optional(10)?,
            },
        },
        enqueued_at: row.try_get::<_, Moment>(11)?.0,
    })
}
