//! Bringing the tables up to date, safely when several processes start at once.

use tokio_postgres::error::SqlState;

use super::{
    connect::{Conn, Connector},
    error::Failure,
};
use crate::ports::StoreError;

/// The migrations, first to last; their numbers count from 1. They are never changed once released.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_initial.sql"),
    include_str!("migrations/0002_append.sql"),
    include_str!("migrations/0003_state.sql"),
];

const ENCODING: &str = "SHOW server_encoding";
const VERSION: &str = "SELECT coalesce(max(version), 0) FROM {schema}.migrations";

/// Brings the schema up to date, or says why not.
///
/// # Errors
/// [`StoreError::NewerSchema`]; [`StoreError::CannotOpen`] for a database of another encoding, or without tables where they may not be made.
pub(super) async fn migrate(conn: &Conn, connector: &Connector) -> Result<(), StoreError> {
    let place = &*connector.place;
    let failed = |failure: Failure| failure.into_store_error(place);
    let known = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    let found = version(conn).await.map_err(failed)?;
    if found == known {
        return Ok(());
    }
    if found > known {
        return Err(newer(place, found, known));
    }
    let encoding = conn.query_one(ENCODING, &[]).await.map_err(failed)?;
    let encoding: String = encoding.try_get(0).map_err(|e| failed(e.into()))?;
    if encoding != "UTF8" {
        return Err(StoreError::CannotOpen {
            path: place.to_owned(),
            reason: format!("expected a database of encoding UTF8, found {encoding}"),
        });
    }
    if !connector.config.migrate {
        return Err(StoreError::CannotOpen {
            path: place.to_owned(),
            reason: format!("expected schema version {known}, found {found}, and migrate=never"),
        });
    }
    conn.begin().await.map_err(failed)?;
    let done = within(conn, connector, known).await;
    match done {
        Ok(()) => conn.commit().await.map_err(failed),
        Err(failure) => {
            // The connection is not used again if this fails.
            let _ = conn.rollback().await;
            Err(failed(failure))
        }
    }
}

/// The version of the schema, 0 if there is none.
async fn version(conn: &Conn) -> Result<u32, Failure> {
    match conn.query_one(VERSION, &[]).await {
        Ok(row) => Ok(u32::try_from(row.try_get::<_, i32>(0)?).unwrap_or(0)),
        Err(failure)
            if failure.code() == Some(&SqlState::UNDEFINED_TABLE)
                || failure.code() == Some(&SqlState::INVALID_SCHEMA_NAME) =>
        {
            Ok(0)
        }
        Err(failure) => Err(failure),
    }
}

async fn within(conn: &Conn, connector: &Connector, known: u32) -> Result<(), Failure> {
    let sql = &connector.sql;
    // Others may migrate at this moment, and take longer than our locks are usually waited for.
    conn.batch_at_leisure(&sql.render(
        "SET LOCAL lock_timeout = '120s'; SET LOCAL statement_timeout = 0; \
         SET LOCAL client_min_messages = warning; SELECT pg_advisory_xact_lock({lock})",
    ))
    .await?;
    // `CREATE SCHEMA IF NOT EXISTS` wants the right to create one even if it is there.
    conn.batch_at_leisure(&sql.render(
        "DO $$ BEGIN
            IF to_regnamespace('{schema}') IS NULL THEN CREATE SCHEMA {schema}; END IF;
         END $$;
         CREATE TABLE IF NOT EXISTS {schema}.migrations (
            version integer PRIMARY KEY,
            applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
         )",
    ))
    .await?;
    let found = version(conn).await?;
    if found > known {
        return Err(newer(&connector.place, found, known).into());
    }
    for (number, migration) in (1..).zip(MIGRATIONS).skip(found as usize) {
        let note = format!("INSERT INTO {{schema}}.migrations (version) VALUES ({number})");
        conn.batch_at_leisure(&sql.render(migration)).await?;
        conn.batch_at_leisure(&sql.render(&note)).await?;
    }
    Ok(())
}

fn newer(place: &str, found: u32, supported: u32) -> StoreError {
    StoreError::NewerSchema {
        store: place.to_owned(),
        found,
        supported,
    }
}
