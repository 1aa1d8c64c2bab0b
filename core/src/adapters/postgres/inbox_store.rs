//! The inbox in PostgreSQL.

use async_trait::async_trait;
use bytes::Bytes;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{
    PostgresStore,
    connect::Param,
    value::{Json, Moment, signed},
};
use crate::{
    adapters::shared::reply::Reply,
    clock::Timestamp,
    ports::{InboxEntry, InboxStore, StoreError},
};

const FIND: &str =
    "SELECT handled_at, result FROM {schema}.inbox WHERE handler = $1 AND message_id = $2";
const RECORD: &str = "INSERT INTO {schema}.inbox (handler, message_id, handled_at, result) \
     VALUES ($1, $2, coalesce($3, clock_timestamp()), $4) ON CONFLICT DO NOTHING";
const PURGE: &str = "DELETE FROM {schema}.inbox WHERE (handler, message_id) IN ( \
         SELECT handler, message_id FROM {schema}.inbox WHERE handled_at < $1 \
         ORDER BY handled_at LIMIT $2 FOR UPDATE SKIP LOCKED)";

#[async_trait]
impl InboxStore for PostgresStore {
    async fn find(&self, handler: String, message: Uuid) -> Result<Option<InboxEntry>, StoreError> {
        self.read(move |conn| {
            let handler = handler.clone();
            async move {
                let params: [Param<'_>; 2] = [(&handler, Type::TEXT), (&message, Type::UUID)];
                let Some(row) = conn.query_opt(FIND, &params).await? else {
                    return Ok(None);
                };
                let result: Option<Json<'_>> = row.try_get(1)?;
                Ok(Some(InboxEntry {
                    handled_at: row.try_get::<_, Moment>(0)?.0,
                    result: result.map(|json| Bytes::copy_from_slice(json.0)),
                }))
            }
        })?
        .await
    }

    async fn record(
        &self,
        handler: String,
        message: Uuid,
        result: Option<Bytes>,
    ) -> Result<bool, StoreError> {
        let now = self.told_time();
        self.execute(move |conn| {
            let (handler, result) = (handler.clone(), result.clone());
            async move {
                let result = result.as_deref().map(Json);
                let params: [Param<'_>; 4] = [
                    (&handler, Type::TEXT),
                    (&message, Type::UUID),
                    (&now, Type::TIMESTAMPTZ),
                    (&result, Type::JSON),
                ];
                Ok(conn.execute(RECORD, &params).await? > 0)
            }
        })?
        .await
    }

    async fn purge(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.purge_rows(PURGE, before, limit)?.await
    }
}

impl PostgresStore {
    /// Runs a statement that removes at most `limit` rows from before `before`.
    pub(super) fn purge_rows(
        &self,
        sql: &'static str,
        before: Timestamp,
        limit: usize,
    ) -> Result<Reply<u64>, StoreError> {
        self.execute(move |conn| async move {
            let (before, limit) = (Moment(before), signed(limit as u64));
            let params: [Param<'_>; 2] = [(&before, Type::TIMESTAMPTZ), (&limit, Type::INT8)];
            conn.execute(sql, &params).await
        })
    }
}
