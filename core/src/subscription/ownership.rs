//! Of all processes that read under one name, one at a time.

use std::{sync::Arc, time::Duration};

use crate::{
    background::{Background, Running},
    clock::Clock,
    ports::{FencingToken, LeaseStore, StoreError},
};

/// How long a lease lasts without being renewed: a crashed owner is followed within this time.
pub const LEASE: Duration = Duration::from_secs(10);

/// The right to read under a name, as far as it is known here.
#[derive(Debug, Clone)]
pub(super) struct Ownership {
    leases: Arc<dyn LeaseStore>,
    name: String,
    owner: String,
    clock: Arc<dyn Clock>,
    background: Option<Background>,
    keeper: Option<Arc<Running>>,
    held: Option<Held>,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    token: FencingToken,
    /// On the monotonic clock, from before the store was asked.
    renewed_at: Duration,
}

/// What asking for the lease came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Term {
    /// It was and is ours.
    Same,
    /// It is ours, and may have been another's in between.
    New,
    /// Another process has it.
    Elsewhere,
}

impl Ownership {
    pub(super) fn new(
        leases: Arc<dyn LeaseStore>,
        name: String,
        owner: String,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            leases,
            name,
            owner,
            clock,
            background: None,
            keeper: None,
            held: None,
        }
    }

    /// Has the lease renewed by `background` while it is held.
    pub(super) fn keep_in(&mut self, background: Background) {
        self.background = Some(background);
    }

    pub(super) fn token(&self) -> Option<FencingToken> {
        self.held.map(|held| held.token)
    }

    /// Forgets the lease: it is another's.
    pub(super) fn lose(&mut self) {
        self.held = None;
        self.keeper = None;
    }

    /// Asks for the lease if it is not ours or a third of its time is over.
    pub(super) async fn renew(&mut self) -> Result<Term, StoreError> {
        let now = self.clock.monotonic();
        if let Some(held) = self.held
            && now.saturating_sub(held.renewed_at) < LEASE / 3
        {
            return Ok(Term::Same);
        }
        let granted = self
            .leases
            .acquire(self.name.clone(), self.owner.clone(), LEASE)
            .await?;
        let Some(lease) = granted else {
            if self.held.is_some() {
                tracing::warn!(name = self.name, "the lease of a subscription was lost");
            }
            self.lose();
            return Ok(Term::Elsewhere);
        };
        let same = self.token() == Some(lease.token);
        self.held = Some(Held {
            token: lease.token,
            renewed_at: now,
        });
        if let (None, Some(background)) = (&self.keeper, &self.background) {
            let mut other = self.clone();
            let keeper = background.run(async move { other.keep().await });
            self.keeper = Some(Arc::new(keeper));
        }
        Ok(if same { Term::Same } else { Term::New })
    }

    /// Waits before asking again for a lease that another process has.
    pub(super) async fn pause(&self) {
        self.clock.sleep(LEASE / 10).await;
    }

    /// Waits until it is time to renew.
    pub(super) fn until_renewal(&self) -> crate::clock::Sleep {
        self.clock.sleep(LEASE / 3)
    }

    /// Renews for as long as it is polled and the lease is ours.
    pub(super) async fn keep(&mut self) {
        loop {
            self.until_renewal().await;
            if self.held.is_none() {
                return std::future::pending().await;
            }
            let asked = self
                .leases
                .acquire(self.name.clone(), self.owner.clone(), LEASE);
            match asked.await {
                // Whether it is still the same term is for the next acknowledgement to find out.
                Ok(Some(_)) => {}
                Ok(None) => self.held = None,
                Err(error) => {
                    tracing::warn!(name = self.name, %error, "a lease could not be renewed");
                }
            }
        }
    }

    pub(super) async fn release(&mut self) -> Result<(), StoreError> {
        let held = self.held.is_some();
        self.lose();
        if held {
            let (name, owner) = (self.name.clone(), self.owner.clone());
            self.leases.release(name, owner).await?;
        }
        Ok(())
    }

    /// Gives the lease back behind, where there is a place for that.
    pub(super) fn abandon(&mut self) {
        if self.held.is_some()
            && let Some(background) = self.background.clone()
        {
            let mut other = self.clone();
            background.detach(async move {
                if let Err(error) = other.release().await {
                    tracing::debug!(%error, "a lease was not given back");
                }
            });
        }
        self.lose();
    }
}
