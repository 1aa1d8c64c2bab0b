//! Snapshots in PostgreSQL.

use async_trait::async_trait;
use bytes::Bytes;
use tokio_postgres::types::Type;

use super::{
    PostgresStore,
    connect::{Conn, Param},
    error::Failure,
    value::{Json, Moment, signed},
};
use crate::ports::{Snapshot, SnapshotStore, StoreError, StreamName};

// One statement for one stream; two at once are told apart by the constraint, and the later one comes again.
const SAVE: &str = "WITH kept AS ( \
         SELECT schema_version <> $3 OR revision <= $2 AS older FROM {schema}.snapshots WHERE stream = $1 \
     ), changed AS ( \
         UPDATE {schema}.snapshots SET revision = $2, schema_version = $3, state = $4, taken_at = $5 \
         WHERE stream = $1 AND (schema_version <> $3 OR revision <= $2) RETURNING 1 \
     ) \
     INSERT INTO {schema}.snapshots (stream, revision, schema_version, state, taken_at) \
     SELECT $1, $2, $3, $4, $5 WHERE NOT EXISTS (SELECT FROM kept) AND NOT EXISTS (SELECT FROM changed) \
     ON CONFLICT DO NOTHING";
const LOAD: &str =
    "SELECT revision, schema_version, state, taken_at FROM {schema}.snapshots WHERE stream = $1";

#[async_trait]
impl SnapshotStore for PostgresStore {
    async fn save(&self, snapshot: Snapshot) -> Result<(), StoreError> {
        self.execute(move |conn| {
            let snapshot = snapshot.clone();
            async move { save(&conn, &snapshot).await }
        })?
        .await
    }

    async fn load(&self, stream: StreamName) -> Result<Option<Snapshot>, StoreError> {
        self.read(move |conn| {
            let stream = stream.clone();
            async move { load(&conn, stream).await }
        })?
        .await
    }
}

async fn save(conn: &Conn, snapshot: &Snapshot) -> Result<(), Failure> {
    let revision = signed(snapshot.revision);
    let version = i64::from(snapshot.schema_version);
    let (state, taken_at) = (Json(&snapshot.state), Moment(snapshot.taken_at));
    let params: [Param<'_>; 5] = [
        (&&*snapshot.stream, Type::TEXT),
        (&revision, Type::INT8),
        (&version, Type::INT8),
        (&state, Type::JSON),
        (&taken_at, Type::TIMESTAMPTZ),
    ];
    conn.execute(SAVE, &params).await?;
    Ok(())
}

async fn load(conn: &Conn, stream: StreamName) -> Result<Option<Snapshot>, Failure> {
    let Some(row) = conn.query_opt(LOAD, &[(&&*stream, Type::TEXT)]).await? else {
        return Ok(None);
    };
    let state: Json<'_> = row.try_get(2)?;
    let taken_at: Moment = row.try_get(3)?;
    let state = Bytes::copy_from_slice(state.0);
    let corrupt = |reason: String| {
        Failure::Refused(StoreError::Corrupt {
            what: format!("the snapshot of {stream}"),
            reason,
        })
    };
    if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&state) {
        return Err(corrupt(error.to_string()));
    }
    let revision: i64 = row.try_get(0)?;
    let Ok(revision) = u64::try_from(revision) else {
        return Err(corrupt(format!("expected a revision, found {revision}")));
    };
    Ok(Some(Snapshot {
        revision,
        schema_version: u32::try_from(row.try_get::<_, i64>(1)?).unwrap_or(u32::MAX),
        state,
        taken_at: taken_at.0,
        stream,
    }))
}
