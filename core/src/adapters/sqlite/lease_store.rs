//! Leases in SQLite.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::OptionalExtension;

use super::{
    SqliteStore,
    error::Failure,
    number::{signed, time, unsigned},
    queue::Size,
    writer::Tx,
};
use crate::ports::{FencingToken, Lease, LeaseStore, StoreError};

#[async_trait]
impl LeaseStore for SqliteStore {
    async fn acquire(
        &self,
        name: String,
        owner: String,
        ttl: Duration,
    ) -> Result<Option<Lease>, StoreError> {
        self.write(Size::default(), move |tx| tx.acquire(&name, &owner, ttl))?
            .await
    }

    async fn release(&self, name: String, owner: String) -> Result<bool, StoreError> {
        self.write(Size::default(), move |tx| tx.release(&name, &owner))?
            .await
    }
}

impl Tx<'_> {
    fn acquire(&self, name: &str, owner: &str, ttl: Duration) -> Result<Option<Lease>, Failure> {
        let now = self.clock.now();
        let until = now.plus(ttl);
        let found: Option<(Option<String>, i64, i64)> = self
            .conn
            .prepare_cached("SELECT owner, token, expires_at FROM orkestra_leases WHERE name = ?1")?
            .query_row([name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        let token = match found {
            None => 1,
            Some((Some(holder), token, expires_at)) if time(expires_at) > now => {
                if holder != owner {
                    if time(expires_at) > until {
                        // A clock that was put back must not prolong it.
                        self.conn
                            .prepare_cached(
                                "UPDATE orkestra_leases SET expires_at = ?2 WHERE name = ?1",
                            )?
                            .execute((name, until.as_micros()))?;
                    }
                    return Ok(None);
                }
                unsigned(token)
            }
            Some((_, token, _)) => unsigned(token) + 1,
        };
        let expires_at = until;
        self.conn
            .prepare_cached(
                "INSERT INTO orkestra_leases (name, owner, token, expires_at) VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT (name) DO UPDATE SET \
                 owner = excluded.owner, token = excluded.token, expires_at = excluded.expires_at",
            )?
            .execute((name, owner, signed(token), expires_at.as_micros()))?;
        Ok(Some(Lease {
            name: name.to_owned(),
            owner: owner.to_owned(),
            token: FencingToken(token),
            expires_at,
        }))
    }

    fn release(&self, name: &str, owner: &str) -> Result<bool, Failure> {
        let changed = self
            .conn
            .prepare_cached(
                "UPDATE orkestra_leases SET owner = NULL \
                 WHERE name = ?1 AND owner = ?2 AND expires_at > ?3",
            )?
            .execute((name, owner, self.clock.now().as_micros()))?;
        Ok(changed > 0)
    }
}
