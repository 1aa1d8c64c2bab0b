//! A handler's record of a message in the user's own transaction: what it writes and the record commit together.

use std::sync::{Arc, atomic::Ordering};

use super::Context;
use crate::Error;

/// The statements of a record in a SQLite file of the user's own, for hosts that have a connection of their own to it.
///
/// ```
/// let sql = orkestra::claim_sql();
/// assert!(sql.create.contains("orkestra_inbox") && sql.claim.contains("RETURNING"));
/// ```
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct ClaimSql {
    /// No parameters; makes the table if it is missing.
    pub create: &'static str,
    /// Parameters: the handler's full name, the message's id as text. Gives a row if the message is new to the handler.
    pub claim: &'static str,
}

/// How a handler's record of a message is written into a SQLite file of the user's own.
pub fn claim_sql() -> ClaimSql {
    ClaimSql {
        create: "CREATE TABLE IF NOT EXISTS orkestra_inbox (handler TEXT NOT NULL, message_id TEXT NOT NULL, \
                 handled_at INTEGER NOT NULL, PRIMARY KEY (handler, message_id)) WITHOUT ROWID",
        claim: "INSERT INTO orkestra_inbox (handler, message_id, handled_at) \
                VALUES (?1, ?2, CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)) \
                ON CONFLICT (handler, message_id) DO NOTHING RETURNING 1",
    }
}

impl Context {
    /// Notes that a record of the message commits with what the handler writes, so that none is made in the state store.
    fn claimed(&self) {
        self.handling.claimed.store(true, Ordering::Release);
    }

    /// The full name of the handler, `<app>.<handler>`.
    fn handler_name(&self) -> &str {
        &self.app.inner.registry.handler(self.handler).full_name
    }
}

fn own(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Handler(Arc::new(error))
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use rusqlite::{Connection, OptionalExtension};

    use super::{Context, Error, claim_sql, own};
    use crate::app::checkpoint::sqlite::check;

    impl Context {
        /// Records in the open transaction of `connection`, on a file of the user's own, that this handler handles the message. False if it
        /// did before: then there is nothing to do. The table `orkestra_inbox` is made on demand.
        ///
        /// # Errors
        /// [`AppError::NoTransaction`](crate::AppError::NoTransaction), [`AppError::StoreFile`](crate::AppError::StoreFile); what SQLite says.
        pub fn claim_sqlite(&self, connection: &Connection) -> Result<bool, Error> {
            check(connection, &self.app.inner.plan.sqlite_files())?;
            let sql = claim_sql();
            connection.execute(sql.create, []).map_err(own)?;
            let claim = (self.handler_name(), self.message_id().to_string());
            let new = connection
                .query_row(sql.claim, claim, |_| Ok(()))
                .optional()
                .map_err(own)?;
            self.claimed();
            Ok(new.is_some())
        }
    }
}

#[cfg(feature = "postgres")]
mod postgres {
    use std::time::{Duration, SystemTime};

    use tokio_postgres::GenericClient;
    use uuid::Uuid;

    use super::{Context, Error, own};
    use crate::{AppError, Enqueue, Orkestra};

    /// The schema of the state store in PostgreSQL.
    fn schema(app: &Orkestra) -> Result<&str, AppError> {
        let schema = app.inner.plan.state_schema();
        schema.ok_or_else(|| AppError::InvalidConnection {
            expected: "a state store in PostgreSQL, of which this is a connection".into(),
            found: "a state store that is none".into(),
        })
    }

    impl Context {
        /// Records in the open transaction of `client`, a connection to the PostgreSQL database that keeps the state, that this handler handles
        /// the message. False if it did before: then there is nothing to do. Who claims at the same time waits for how this transaction ends.
        ///
        /// # Errors
        /// [`AppError::InvalidConnection`] if the state is elsewhere; what PostgreSQL says.
        pub async fn claim_postgres<C: GenericClient + Sync>(
            &self,
            client: &C,
        ) -> Result<bool, Error> {
            let sql = format!("SELECT {}.inbox_claim($1, $2)", schema(&self.app)?);
            let id = self.message_id();
            let handler = self.handler_name();
            let row = client.query_one(&sql, &[&handler, &id]).await;
            let new = row.and_then(|row| row.try_get(0)).map_err(own)?;
            self.claimed();
            Ok(new)
        }
    }

    impl Enqueue {
        /// Puts the message in within the open transaction of `client`, a connection to the PostgreSQL database that keeps the state: it leaves when
        /// that commits, and not if it rolls back. Returns its id.
        ///
        /// # Errors
        /// As [`Enqueue::message`]; [`AppError::InvalidConnection`] if the state is elsewhere; what PostgreSQL says.
        pub async fn within<C: GenericClient + Sync>(self, client: &C) -> Result<Uuid, Error> {
            let app = self.app().clone();
            let message = self.message()?;
            let sql = format!(
                "SELECT {}.enqueue($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
                schema(&app)?
            );
            let micros = u64::try_from(message.issued_at.as_micros()).unwrap_or(0);
            let issued_at = SystemTime::UNIX_EPOCH + Duration::from_micros(micros);
            let retries = message
                .max_retries
                .map(|n| i32::try_from(n).unwrap_or(i32::MAX));
            let trace = &message.trace;
            client
                .query_one(
                    &sql,
                    &[
                        &message.kind.as_str(),
                        &message.id,
                        &&*message.topic,
                        &&*message.correlation_id,
                        &&*message.body,
                        &issued_at,
                        &retries,
                        &trace.traceparent.as_deref(),
                        &trace.tracestate.as_deref(),
                        &trace.baggage.as_deref(),
                    ],
                )
                .await
                .map_err(own)?;
            Ok(message.id)
        }
    }
}
