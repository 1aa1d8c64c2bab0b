//! [`LeaseStore`] in memory.

use std::time::Duration;

use async_trait::async_trait;

use super::MemoryStore;
use crate::{
    clock::Timestamp,
    ports::{FencingToken, Lease, LeaseStore, StoreError},
};

/// The newest grant of a lease. It stays after release, so that tokens go on increasing.
pub(super) struct Grant {
    pub(super) token: u64,
    owner: Option<String>,
    expires_at: Timestamp,
}

#[async_trait]
impl LeaseStore for MemoryStore {
    async fn acquire(
        &self,
        name: String,
        owner: String,
        ttl: Duration,
    ) -> Result<Option<Lease>, StoreError> {
        let now = self.clock.now();
        let expires_at = now.plus(ttl);
        let mut state = self.open()?;
        let grant = state.leases.entry(name.clone()).or_insert(Grant {
            token: 0,
            owner: None,
            expires_at: now,
        });
        let holder = grant.owner.as_ref().filter(|_| grant.expires_at > now);
        match holder {
            Some(holder) if *holder != owner => {
                // A clock that was put back must not prolong it.
                grant.expires_at = grant.expires_at.min(expires_at);
                return Ok(None);
            }
            Some(_) => {}
            None => {
                grant.token += 1;
                grant.owner = Some(owner.clone());
            }
        }
        grant.expires_at = expires_at;
        Ok(Some(Lease {
            name,
            owner,
            token: FencingToken(grant.token),
            expires_at,
        }))
    }

    async fn release(&self, name: String, owner: String) -> Result<bool, StoreError> {
        let now = self.clock.now();
        let mut state = self.open()?;
        let Some(grant) = state.leases.get_mut(&name) else {
            return Ok(false);
        };
        let held = grant.owner.as_ref() == Some(&owner) && grant.expires_at > now;
        if held {
            grant.owner = None;
        }
        Ok(held)
    }
}
