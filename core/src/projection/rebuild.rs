//! Putting a rebuilt view in the place of the live one.
//!
//! The rebuild asks the live one to step back, in whichever process it runs, and takes its lease. It reads what is left. The user's switch renames
//! the tables and moves the checkpoint's row in one transaction of the view's database, and only then the mirror follows. Whatever ends in between,
//! the live name has one view with the checkpoint of that very view: before the commit the old one, after it the new one.

use super::{Projection, ReadError, view::ViewSwitch};
use crate::{
    ports::{FencingToken, StoreError},
    subscription::{
        Subscription, SubscriptionOptions,
        pause::{Asked, ask_all, beside, withdraw},
    },
};
use std::time::Duration;

/// The wait before asking again whether the live one has stepped back.
const PROMPT: Duration = Duration::from_millis(50);

/// The right to the live view.
#[derive(Debug)]
pub(crate) struct Takeover {
    live: Subscription,
    _asked: Asked,
}

impl Projection {
    /// Has the live view wait, in whichever process it is kept, and waits until it does: within seconds, when its batch is handled. To be called for a
    /// rebuild that has caught up; what came in meanwhile is read after it, then the view is [switched](Projection::switch).
    ///
    /// # Errors
    /// What the stores say.
    pub async fn pause_live(&mut self) -> Result<(), ReadError> {
        if self.takeover.is_some() {
            return Ok(());
        }
        let asked = self.ports.pauses.ask(&self.live);
        let mut live = self
            .ports
            .subscribe(&self.live, SubscriptionOptions::default());
        let checkpoints = &*self.ports.checkpoints;
        ask_all(checkpoints, &self.live).await?;
        loop {
            match live.claim().await {
                Ok(true) => break,
                Ok(false) => self.ports.clock.sleep(PROMPT).await,
                Err(error) => {
                    withdraw(checkpoints, &self.live).await?;
                    return Err(error.into());
                }
            }
            // The rebuild's own lease says that the request counts.
            if !self.subscription.claim().await? {
                return Err(self.running_elsewhere());
            }
        }
        self.takeover = Some(Takeover {
            live,
            _asked: asked,
        });
        Ok(())
    }

    /// What the user's switch moves, once the live one waits and everything is read. From here on the rebuild can only be begun again, until
    /// [`Projection::switched`] or [`Projection::not_switched`] is said.
    ///
    /// # Errors
    /// What the stores say.
    pub async fn switch(&mut self) -> Result<ViewSwitch, StoreError> {
        let mut token = FencingToken(0);
        if let Some(takeover) = &mut self.takeover {
            takeover.live.claim().await?;
            token = takeover.live.token().unwrap_or(token);
        }
        // If this process ends after the commit, nobody must go on with tables that have another name by then.
        self.subscription.reset(None).await?;
        Ok(ViewSwitch {
            name: self.live.clone(),
            rebuild: beside(&self.live),
            expected: self.expected,
            token: token.max(self.lowest_known_token()),
        })
    }

    /// The switch is committed: the mirror follows, and the live one goes on with the new view.
    ///
    /// # Errors
    /// What the stores say. The view is the new one all the same.
    pub async fn switched(&mut self) -> Result<(), StoreError> {
        let moved = match &mut self.takeover {
            Some(takeover) => takeover.live.reset(self.done).await,
            None => Ok(()),
        };
        self.give_back_the_live_one().await;
        self.done = None;
        self.subscription.release().await?;
        moved
    }

    /// The switch was rolled back: the live one goes on with the old view, and the rebuild can be resumed.
    ///
    /// # Errors
    /// What the stores say. Then the rebuild has to be begun again.
    pub async fn not_switched(&mut self) -> Result<(), StoreError> {
        let kept = self.subscription.reset(self.done).await;
        self.give_back_the_live_one().await;
        kept
    }

    pub(super) async fn give_back_the_live_one(&mut self) {
        let Some(mut takeover) = self.takeover.take() else {
            return;
        };
        // In this order: who sees that nobody asks any more finds the lease free.
        let released = takeover.live.release().await;
        let withdrawn = withdraw(&*self.ports.checkpoints, &self.live).await;
        if let Err(error) = released.and(withdrawn) {
            tracing::warn!(name = self.live, %error, "a live view was not told to go on; it does so within seconds");
        }
    }
}
