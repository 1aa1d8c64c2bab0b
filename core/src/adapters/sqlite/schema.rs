//! The tables: which version a database has, and bringing it up to date.

use rusqlite::Connection;

use super::error::{Failure, store_error};
use crate::{clock::Timestamp, ports::StoreError};

/// The bytes `ORKS` in the header of our databases.
const APPLICATION_ID: i32 = 0x4f52_4b53;

/// What brings the schema from one version to the next, the first from nothing. Never changed once released.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_initial.sql"),
    include_str!("migrations/0002_outbox.sql"),
];

/// The newest schema that this release knows.
fn supported() -> u32 {
    u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX)
}

/// The schema version of the database at `path`, 0 for an empty one.
///
/// # Errors
/// [`StoreError::NotADatabase`] for a file of something else, [`StoreError::NewerSchema`], and what the driver says.
pub(super) fn version(conn: &Connection, path: &str) -> Result<u32, StoreError> {
    let look = || -> Result<(i32, u32, bool), rusqlite::Error> {
        let application = conn.query_row("PRAGMA application_id", [], |r| r.get(0))?;
        let (tables, ours) = conn.query_row(
            "SELECT count(*), count(*) FILTER (WHERE name = 'orkestra_schema') FROM sqlite_schema",
            [],
            |r| Ok((r.get(0)?, r.get::<_, i64>(1)? > 0)),
        )?;
        Ok((application, tables, ours))
    };
    let (application, tables, ours) = look().map_err(|e| store_error(path, e))?;
    if !(application == APPLICATION_ID || application == 0 && (ours || tables == 0)) {
        return Err(StoreError::NotADatabase {
            path: path.to_owned(),
            reason: "it is a database of another application".into(),
        });
    }
    if !ours {
        return Ok(0);
    }
    let found = conn
        .query_row(
            "SELECT coalesce(max(version), 0) FROM orkestra_schema",
            [],
            |r| r.get(0),
        )
        .map_err(|e| store_error(path, e))?;
    if found > supported() {
        return Err(StoreError::NewerSchema {
            store: path.to_owned(),
            found,
            supported: supported(),
        });
    }
    Ok(found)
}

/// Brings the database up to date, in one transaction, however many processes try at once.
///
/// # Errors
/// As [`version`].
pub(super) fn migrate(conn: &Connection, path: &str, now: Timestamp) -> Result<(), StoreError> {
    if version(conn, path)? == supported() {
        return Ok(());
    }
    let apply = || -> Result<(), Failure> {
        let tx =
            rusqlite::Transaction::new_unchecked(conn, rusqlite::TransactionBehavior::Immediate)?;
        // Another process may have done it in between.
        let from = version(&tx, path)?;
        for (number, sql) in (1_u32..).zip(MIGRATIONS) {
            if number > from {
                tx.execute_batch(sql)?;
                tx.execute(
                    "INSERT INTO orkestra_schema (version, applied_at) VALUES (?1, ?2)",
                    (number, now.as_micros()),
                )?;
            }
        }
        tx.commit()?;
        Ok(())
    };
    apply().map_err(|failure| failure.into_store_error(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(sql: &str) -> Connection {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(sql).unwrap();
        conn
    }

    #[test]
    fn migrating_twice_changes_nothing() {
        let conn = database("");
        migrate(&conn, "x.db", Timestamp::from_micros(1)).unwrap();
        migrate(&conn, "x.db", Timestamp::from_micros(2)).unwrap();

        assert_eq!(version(&conn, "x.db").unwrap(), supported());
    }

    #[test]
    fn a_database_from_the_future_is_refused() {
        let conn = database("");
        migrate(&conn, "x.db", Timestamp::from_micros(1)).unwrap();
        conn.execute_batch("INSERT INTO orkestra_schema VALUES (999, 0)")
            .unwrap();

        let error = version(&conn, "x.db").unwrap_err();

        assert_eq!(
            error.to_string(),
            format!(
                "x.db has schema 999, this release knows up to {}",
                supported()
            )
        );
    }

    #[test]
    fn a_database_of_another_application_is_refused() {
        for sql in [
            "CREATE TABLE users (id)",
            "PRAGMA application_id = 7",
            "CREATE TABLE users (id); PRAGMA application_id = 7",
        ] {
            let error = version(&database(sql), "x.db").unwrap_err();
            assert!(matches!(error, StoreError::NotADatabase { .. }), "{sql}");
        }
    }
}
