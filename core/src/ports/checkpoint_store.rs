//! Where named readers stand.

use std::fmt;

use async_trait::async_trait;

use crate::{
    clock::Timestamp,
    ports::{FencingToken, Position, StoreError},
};

/// Where a reader stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The reader's name.
    pub name: String,
    /// The last position that it finished; `None` after a reset to the origin.
    pub position: Option<Position>,
    /// When it was saved.
    pub saved_at: Timestamp,
}

/// What a save asks of the checkpoint as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expected {
    /// Nothing, but it must not move backwards.
    #[default]
    Any,
    /// That it stands exactly there (`None`: that there is none, or it was reset), and it must not move backwards.
    At(Option<Position>),
    /// Nothing at all: a reset, which may move it backwards.
    Reset,
}

/// How to save a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SaveCheckpoint {
    /// What the checkpoint has to be like.
    pub expected: Expected,
    /// The saver's right to the lease of the same name; a token older than the newest granted one is refused.
    pub token: Option<FencingToken>,
}

impl SaveCheckpoint {
    /// Saves if the checkpoint is as `expected`.
    pub fn expected(expected: Expected) -> Self {
        Self {
            expected,
            token: None,
        }
    }

    /// The same under a lease.
    #[must_use]
    pub fn token(self, token: FencingToken) -> Self {
        Self {
            token: Some(token),
            ..self
        }
    }
}

/// A store of checkpoints.
#[async_trait]
pub trait CheckpointStore: Send + Sync + fmt::Debug {
    /// The checkpoint `name`, `None` if there is none.
    ///
    /// # Errors
    /// Transient ones if the store is away.
    async fn load(&self, name: String) -> Result<Option<Checkpoint>, StoreError>;

    /// Saves `position` for `name`: one compare-and-set.
    ///
    /// # Errors
    /// [`StoreError::CheckpointMismatch`], [`StoreError::CheckpointBehind`], [`StoreError::StaleLease`]; transient ones if the store is away.
    async fn save(
        &self,
        name: String,
        position: Option<Position>,
        options: SaveCheckpoint,
    ) -> Result<(), StoreError>;

    /// Waits until the checkpoint `name` stands at `position` or after it. Callers add their own time limit.
    ///
    /// # Errors
    /// [`StoreError::Closed`] once the store is closed; transient ones if it is away.
    async fn wait_until(&self, name: String, position: Position) -> Result<(), StoreError>;
}
