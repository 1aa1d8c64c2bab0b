//! Asking the owner of a name to step back for a moment, in whichever process it runs.
//!
//! Who asks holds the lease of a name of its own, so that a request of somebody who died can be told from one that counts.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::ports::{CheckpointStore, Expected, LeaseStore, Position, SaveCheckpoint, StoreError};

/// The lease and checkpoint name of what is built beside `name`, and asks it to step back.
pub(crate) fn beside(name: &str) -> String {
    format!("{name}_rebuild")
}

/// The name of the checkpoint that stands somewhere while the owner of `name` is asked to step back.
fn request(name: &str) -> String {
    format!("{name}_switch")
}

/// The requests of this process, which its readers see at once.
#[derive(Debug, Clone)]
pub struct Pauses(Arc<watch::Sender<BTreeSet<String>>>);

impl Default for Pauses {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::default()))
    }
}

impl Pauses {
    /// Asks the reader of `name` in this process to step back until the answer is dropped.
    pub(crate) fn ask(&self, name: &str) -> Asked {
        self.0.send_modify(|names| {
            names.insert(name.to_owned());
        });
        Asked {
            pauses: self.clone(),
            name: name.to_owned(),
        }
    }

    pub(super) fn watch(&self) -> watch::Receiver<BTreeSet<String>> {
        self.0.subscribe()
    }
}

/// A request; withdrawn when it is dropped.
#[derive(Debug)]
pub(crate) struct Asked {
    pauses: Pauses,
    name: String,
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.pauses.0.send_modify(|names| {
            names.remove(&self.name);
        });
    }
}

/// Asks the owner of `name` in every other process to step back. The asker holds the lease [`beside`] the name.
///
/// # Errors
/// What the store says.
pub(crate) async fn ask_all(
    checkpoints: &dyn CheckpointStore,
    name: &str,
) -> Result<(), StoreError> {
    let save = SaveCheckpoint::expected(Expected::Reset);
    checkpoints
        .save(request(name), Some(Position(1)), save)
        .await
}

/// Takes that back.
///
/// # Errors
/// What the store says.
pub(crate) async fn withdraw(
    checkpoints: &dyn CheckpointStore,
    name: &str,
) -> Result<(), StoreError> {
    let save = SaveCheckpoint::expected(Expected::Reset);
    checkpoints.save(request(name), None, save).await
}

/// A reader's ear for such requests.
#[derive(Debug, Clone)]
pub(super) struct Ear {
    checkpoints: Arc<dyn CheckpointStore>,
    here: watch::Receiver<BTreeSet<String>>,
}

impl Ear {
    pub(super) fn new(checkpoints: Arc<dyn CheckpointStore>, pauses: &Pauses) -> Self {
        Self {
            checkpoints,
            here: pauses.watch(),
        }
    }

    /// Whether something changed in this process since it was last looked.
    pub(super) fn pricked(&self) -> bool {
        self.here.has_changed().unwrap_or(false)
    }

    /// Ends when something changes in this process.
    pub(super) async fn changed(&mut self) {
        // On a copy, as `pricked` has to see it still.
        if self.here.clone().changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether the owner of `name` is to step back.
    pub(super) async fn asked(
        &mut self,
        leases: &dyn LeaseStore,
        name: &str,
        owner: &str,
    ) -> Result<bool, StoreError> {
        if self.here.borrow_and_update().contains(name) {
            return Ok(true);
        }
        let request = self.checkpoints.load(request(name)).await?;
        if request.and_then(|r| r.position).is_none() {
            return Ok(false);
        }
        // Whoever asked holds this one; who can have it finds that nobody does any more.
        let granted = leases.acquire(beside(name), owner.to_owned(), Duration::from_secs(1));
        if granted.await?.is_none() {
            return Ok(true);
        }
        withdraw(&*self.checkpoints, name).await?;
        leases.release(beside(name), owner.to_owned()).await?;
        Ok(false)
    }
}
