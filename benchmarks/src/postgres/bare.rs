//! What a batch loop written by hand does: one statement inserts what 100 appenders have, under a lock that keeps readers from
//! missing events. No names, no types, no ids seen before, no conflicts, no answers.

use std::{error::Error, time::SystemTime};

use tokio_postgres::{Client, Statement};
use uuid::Uuid;

use super::connect;
use crate::{
    Figure, Outcome,
    shop::{Order, orders},
    timing::{APPENDERS, POSTGRES_APPENDS, Stopwatch},
};

// The store's own table and indexes, copied from its first migration.
const SCHEMA: &str = "
    CREATE TABLE events (
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
    CREATE UNIQUE INDEX events_by_stream ON events (stream_id, revision);
    CREATE UNIQUE INDEX events_by_id ON events (event_id);
    CREATE SEQUENCE positions;";

const INSERT: &str = "
    WITH locked AS MATERIALIZED (SELECT pg_advisory_xact_lock(1)),
    batch AS MATERIALIZED (
        SELECT b.* FROM locked, unnest($1::bigint[], $2::uuid[], $3::timestamptz[], $4::text[], $5::text[])
            AS b (stream_id, event_id, occurred_at, data, metadata)
    )
    INSERT INTO events
    SELECT nextval('positions'), b.stream_id, coalesce(head.revision + 1, 0), b.event_id, b.occurred_at, 1, 1,
        b.data::jsonb, b.metadata::json
    FROM batch b LEFT JOIN LATERAL (
        SELECT revision FROM events e WHERE e.stream_id = b.stream_id ORDER BY revision DESC LIMIT 1
    ) head ON true
    RETURNING position, revision";

/// Rows per second in statements of 100 rows, one row of each of 100 streams, every commit flushed.
pub(super) async fn append() -> Outcome {
    let client = connect().await?;
    client.batch_execute(SCHEMA).await?;
    let insert = client.prepare(INSERT).await?;
    let orders = orders(POSTGRES_APPENDS);
    let (first, rest) = orders.split_at(POSTGRES_APPENDS / 10);
    insert_all(&client, &insert, first).await?;
    let watch = Stopwatch::start();
    insert_all(&client, &insert, rest).await?;
    Ok(Figure::per_second(watch.per_second(rest.len() as u64)))
}

async fn insert_all(
    client: &Client,
    insert: &Statement,
    orders: &[Order],
) -> Result<(), Box<dyn Error>> {
    let streams: Vec<i64> = (0..i64::try_from(APPENDERS)?).collect();
    for batch in orders.chunks(APPENDERS) {
        let ids: Vec<Uuid> = batch.iter().map(|order| order.id).collect();
        let times: Vec<SystemTime> = batch.iter().map(time).collect();
        let data: Vec<&str> = batch.iter().map(|order| &*order.data).collect();
        let metadata: Vec<&str> = batch.iter().map(|order| &*order.metadata).collect();
        let rows = client
            .query(insert, &[&streams, &ids, &times, &data, &metadata])
            .await?;
        if rows.len() != batch.len() {
            return Err("a row is missing".into());
        }
    }
    Ok(())
}

fn time(order: &Order) -> SystemTime {
    let micros = u64::try_from(order.occurred_at.as_micros()).unwrap_or_default();
    SystemTime::UNIX_EPOCH + std::time::Duration::from_micros(micros)
}
