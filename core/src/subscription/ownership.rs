//! Of all processes that read under one name, one at a time.

use std::{fmt, mem, pin::pin, sync::Arc, time::Duration};

use futures_util::future::{BoxFuture, Either, select};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::pause::Ear;
use crate::{
    background::Background,
    clock::Clock,
    ports::{FencingToken, Lease, LeaseStore, StoreError},
};

/// How long a lease lasts without being renewed: a crashed owner is followed within this time.
pub const LEASE: Duration = Duration::from_secs(10);

/// The right to read under a name, as far as it is known here.
///
/// The store may know more: it grants a lease also to somebody who does not wait for the answer any more. So a question is asked to its end, by
/// whoever comes next, and what may have been granted is given back.
#[derive(Debug)]
pub(crate) struct Ownership {
    right: Right,
    clock: Arc<dyn Clock>,
    background: Option<Background>,
    keeper: Option<Keeper>,
    ear: Option<Ear>,
    held: Option<Held>,
    /// The token of the last grant, which may be over; `None` once it was given back.
    last: Option<FencingToken>,
    asking: Option<Asking>,
    /// Whether the store may have granted it, and it was not given back.
    owed: bool,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    token: FencingToken,
    /// On the monotonic clock, from before the store was asked.
    renewed_at: Duration,
    doubted: bool,
}

/// A question to the store that has no answer yet.
struct Asking {
    since: Duration,
    // Never locked: it makes the future `Sync`.
    answer: Mutex<BoxFuture<'static, Result<Option<Lease>, StoreError>>>,
}

impl fmt::Debug for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Asking({:?})", self.since)
    }
}

/// Whose lease of what, in which store.
#[derive(Debug, Clone)]
struct Right {
    leases: Arc<dyn LeaseStore>,
    name: String,
    owner: String,
    /// Held while it is renewed behind, so that what is given back is not granted again after that.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Right {
    async fn acquire(&self) -> Result<Option<Lease>, StoreError> {
        let (name, owner) = (self.name.clone(), self.owner.clone());
        self.leases.acquire(name, owner, LEASE).await
    }

    async fn release(&self) -> Result<(), StoreError> {
        let _turn = self.turn.lock().await;
        let (name, owner) = (self.name.clone(), self.owner.clone());
        self.leases.release(name, owner).await?;
        Ok(())
    }
}

/// What renews a lease behind. Dropped, it ends, after the question that it is asking.
#[derive(Debug)]
struct Keeper {
    _stop: oneshot::Sender<()>,
}

impl Keeper {
    fn start(right: Right, clock: Arc<dyn Clock>, background: &Background) -> Self {
        let (stop, stopped) = oneshot::channel();
        background.spawn(keep(right, clock, stopped));
        Self { _stop: stop }
    }
}

/// Renews until it is told to stop or another process has the lease.
async fn keep(right: Right, clock: Arc<dyn Clock>, mut stopped: oneshot::Receiver<()>) {
    loop {
        if let Either::Right(_) = select(clock.sleep(LEASE / 3), &mut stopped).await {
            return;
        }
        let _turn = right.turn.lock().await;
        if stopped.try_recv() != Err(oneshot::error::TryRecvError::Empty) {
            return;
        }
        match right.acquire().await {
            // Whether it is still the same term is for the next acknowledgement to find out.
            Ok(Some(_)) => {}
            // A store that is closed is for good: the reader of an app whose handler did not end in time is left behind.
            Ok(None) | Err(StoreError::Closed {}) => return,
            Err(error) => {
                tracing::warn!(name = right.name, %error, "a lease could not be renewed");
            }
        }
    }
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
            right: Right {
                leases,
                name,
                owner,
                turn: Arc::default(),
            },
            clock,
            background: None,
            keeper: None,
            ear: None,
            held: None,
            last: None,
            asking: None,
            owed: false,
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

    /// What a checkpoint is saved under: also when the lease was lost, so that the store refuses it if another has been granted it since.
    pub(crate) fn fence(&self) -> Option<FencingToken> {
        self.last
    }

    /// Forgets the lease: it is another's.
    pub(crate) fn lose(&mut self) {
        self.held = None;
        self.keeper = None;
    }

    /// Asks for the lease if it is not ours or a third of its time is over. Dropping the future loses nothing.
    pub(crate) async fn renew(&mut self) -> Result<Term, StoreError> {
        let mut term = Term::Same;
        if self.asking.is_some() {
            // Of a call that was dropped. Its answer may be old.
            term = self.ask().await?;
        }
        let pricked = self.ear.as_ref().is_some_and(Ear::pricked);
        if let Some(held) = self.held
            && self.clock.monotonic().saturating_sub(held.renewed_at) < LEASE / 3
            && !held.doubted
            && !pricked
        {
            return Ok(term);
        }
        let Right {
            leases,
            name,
            owner,
            ..
        } = &self.right;
        if let Some(ear) = &mut self.ear
            && ear.asked(&**leases, name, owner).await?
        {
            self.release().await?;
            return Ok(Term::Elsewhere);
        }
        Ok(match self.ask().await? {
            Term::Same if term == Term::New => Term::New,
            asked => asked,
        })
    }

    /// Asks the store, or waits for the answer to what was asked before.
    async fn ask(&mut self) -> Result<Term, StoreError> {
        self.owed = true;
        let (right, clock) = (&self.right, &self.clock);
        let asking = self.asking.get_or_insert_with(|| {
            let right = right.clone();
            Asking {
                since: clock.monotonic(),
                answer: Mutex::new(Box::pin(async move { right.acquire().await })),
            }
        });
        let granted = asking.answer.get_mut().await;
        let renewed_at = asking.since;
        self.asking = None;
        let Some(lease) = granted? else {
            if self.held.is_some() {
                tracing::warn!(
                    name = self.right.name,
                    "the lease of a subscription was lost"
                );
            }
            // One that is asking at this moment may be granted it.
            self.owed = self.keeper.is_some();
            self.lose();
            return Ok(Term::Elsewhere);
        };
        let same = self.token() == Some(lease.token);
        self.last = Some(lease.token);
        self.held = Some(Held {
            token: lease.token,
            renewed_at,
            doubted: false,
        });
        if let (None, Some(background)) = (&self.keeper, &self.background) {
            let (right, clock) = (self.right.clone(), Arc::clone(&self.clock));
            self.keeper = Some(Keeper::start(right, clock, background));
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

    /// Gives the lease back, also one that was asked for in vain as far as it is known here. When the future is dropped,
    /// [`Ownership::abandon`] does it.
    pub(crate) async fn release(&mut self) -> Result<(), StoreError> {
        self.lose();
        self.last = None;
        if !self.owed {
            return Ok(());
        }
        if let Some(asking) = &mut self.asking {
            // Whatever it is, nothing is granted after this.
            let _ = asking.answer.get_mut().await;
            self.asking = None;
        }
        let released = self.right.release().await;
        self.owed = false;
        released
    }

    /// Gives the lease back behind, where there is a place for that.
    pub(crate) fn abandon(&mut self) {
        self.lose();
        if let (true, Some(background)) = (mem::take(&mut self.owed), &self.background) {
            let (right, asking) = (self.right.clone(), self.asking.take());
            background.detach(async move {
                if let Some(asking) = asking {
                    let _ = asking.answer.into_inner().await;
                }
                if let Err(error) = right.release().await {
                    tracing::debug!(%error, "a lease was not given back");
                }
            });
        }
    }
}
