//! How far a projection is, from outside.

use super::SUFFIX;
use crate::ports::{CheckpointStore, EventStore, Position, StoreError};

/// How far a projection is, in whichever process it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProjectionState {
    /// Its full name.
    pub name: String,
    /// How far its live view is; `None` before the first event.
    pub position: Option<Position>,
    /// The position of the log's last event.
    pub head: Option<Position>,
    /// Positions between the two. No more events than this are missing in the view.
    pub lag: u64,
    /// How far a rebuild is that has not come to its end, here or in another process, running or not.
    pub rebuild: Option<Position>,
    /// Whether this process has it and reads, or waits for its turn. The host says so; so do the ones below.
    pub running: bool,
    /// Whether it is still reading what was in the log before its very first start.
    pub replaying: bool,
    /// Whether this process is rebuilding it.
    pub rebuilding: bool,
    /// Why it stopped, if it did.
    pub stopped: Option<String>,
    /// What its handler failed with the last time; `None` once a batch succeeds. It tries again by itself.
    pub error: Option<String>,
}

/// How far the projection `name` is.
///
/// # Errors
/// What the stores say.
pub async fn state_of(
    events: &dyn EventStore,
    checkpoints: &dyn CheckpointStore,
    name: &str,
) -> Result<ProjectionState, StoreError> {
    let live = checkpoints.load(name.to_owned()).await?;
    let rebuild = checkpoints.load(format!("{name}{SUFFIX}")).await?;
    let head = events.head().await?;
    let position = live.and_then(|checkpoint| checkpoint.position);
    let number = |place: Option<Position>| place.map_or(0, |place| place.0);
    Ok(ProjectionState {
        name: name.to_owned(),
        position,
        head,
        lag: number(head).saturating_sub(number(position)),
        rebuild: rebuild.and_then(|checkpoint| checkpoint.position),
        running: false,
        replaying: false,
        rebuilding: false,
        stopped: None,
        error: None,
    })
}
