//! Time-limited rights to a name.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use serde::Serialize;

use crate::{clock::Timestamp, ports::StoreError};

/// Grows with each grant of a lease, so that what an earlier owner still sends can be told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct FencingToken(pub u64);

/// A right to a name until it expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The name.
    pub name: String,
    /// Who has it.
    pub owner: String,
    /// This grant's token. A renewal by the same owner before expiry keeps it.
    pub token: FencingToken,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// A store of leases. Its adapter's clock decides what is expired.
#[async_trait]
pub trait LeaseStore: Send + Sync + fmt::Debug {
    /// Grants `name` to `owner` for `ttl` from now, `None` while another owner holds it. The holder itself is granted it again, with the
    /// same token, for `ttl` from now. A grant after expiry or release has a larger token than any before.
    ///
    /// No lease lasts longer than `ttl` after it was asked for in vain, whatever the clock did meanwhile.
    ///
    /// # Errors
    /// Transient ones if the store is away.
    async fn acquire(
        &self,
        name: String,
        owner: String,
        ttl: Duration,
    ) -> Result<Option<Lease>, StoreError>;

    /// Gives `name` back; harmless if `owner` does not hold it. Returns whether it did.
    ///
    /// # Errors
    /// Transient ones if the store is away.
    async fn release(&self, name: String, owner: String) -> Result<bool, StoreError>;
}
