//! Of all processes that read under one name, one at a time.

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::future::{Either, select};

use super::pause::Ear;
use crate::{
    background::{Background, Running},
    clock::Clock,
    ports::{FencingToken, LeaseStore, StoreError},
};

/// How long a lease lasts without being renewed: a crashed owner is followed within this time.
pub const LEASE: Duration = Duration::from_secs(10);

/// The right to read under a name, as far as it is known here.
#[derive(Debug, Clone)]
pub(crate) struct Ownership {
    leases: Arc<dyn LeaseStore>,
    name: String,
    owner: String,
    clock: Arc<dyn Clock>,
    background: Option<Background>,
    keeper: Option<Arc<Running>>,
    ear: Option<Ear>,
    held: Option<Held>,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    token: FencingToken,
    /// On the monotonic clock, from before the store was asked.
    renewed_at: Duration,
    doubted: bool,
}

/// What asking for the lease came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Term {
    /// It was and is ours.
    Same,
    /// It is ours, and may have been another's in between.
    New,
    /// Another process has it.
    Elsewhere,
}

impl Ownership {
    pub(crate) fn new(
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
            ear: None,
            held: None,
        }
    }

    /// Has the lease renewed by `background` while it is held.
    pub(crate) fn keep_in(&mut self, background: Background) {
        self.background = Some(background);
    }

    /// Steps back when `ear` hears of it.
    pub(super) fn step_back_on(&mut self, ear: Ear) {
        self.ear = Some(ear);
    }

    /// Asks the store at the next renewal, however fresh the lease is.
    pub(crate) fn doubt(&mut self) {
        if let Some(held) = &mut self.held {
            held.doubted = true;
        }
    }

    pub(crate) fn token(&self) -> Option<FencingToken> {
        self.held.map(|held| held.token)
    }

    /// Forgets the lease: it is another's.
    pub(crate) fn lose(&mut self) {
        self.held = None;
        self.keeper = None;
    }

    /// Asks for the lease if it is not ours or a third of its time is over.
    pub(crate) async fn renew(&mut self) -> Result<Term, StoreError> {
        let now = self.clock.monotonic();
        let pricked = self.ear.as_ref().is_some_and(Ear::pricked);
        if let Some(held) = self.held
            && now.saturating_sub(held.renewed_at) < LEASE / 3
            && !held.doubted
            && !pricked
        {
            return Ok(Term::Same);
        }
        if let Some(ear) = &mut self.ear
            && ear.asked(&*self.leases, &self.name, &self.owner).await?
        {
            self.release().await?;
            return Ok(Term::Elsewhere);
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
            doubted: false,
        });
        if let (None, Some(background)) = (&self.keeper, &self.background) {
            let mut other = self.clone();
            let keeper = background.run(async move { other.keep().await });
            self.keeper = Some(Arc::new(keeper));
        }
        Ok(if same { Term::Same } else { Term::New })
    }

    /// Waits before asking again for a lease that another process has.
    pub(crate) async fn pause(&mut self) {
        self.sleep(LEASE / 10).await;
    }

    /// Waits until it is time to renew, or to step back.
    pub(crate) async fn until_renewal(&mut self) {
        self.sleep(LEASE / 3).await;
    }

    async fn sleep(&mut self, time: Duration) {
        let sleep = self.clock.sleep(time);
        match &mut self.ear {
            None => sleep.await,
            Some(ear) => match select(sleep, pin!(ear.changed())).await {
                Either::Left(_) | Either::Right(_) => {}
            },
        }
    }

    /// Renews for as long as it is polled and the lease is ours.
    pub(crate) async fn keep(&mut self) {
        loop {
            self.clock.sleep(LEASE / 3).await;
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

    pub(crate) async fn release(&mut self) -> Result<(), StoreError> {
        let held = self.held.is_some();
        self.lose();
        if held {
            let (name, owner) = (self.name.clone(), self.owner.clone());
            self.leases.release(name, owner).await?;
        }
        Ok(())
    }

    /// Gives the lease back behind, where there is a place for that.
    pub(crate) fn abandon(&mut self) {
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
