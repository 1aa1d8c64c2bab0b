//! [`CheckpointStore`] in memory.

use async_trait::async_trait;

use super::{
    MemoryStore, State,
    waiters::{Condition, Wait},
    wake,
};
use crate::ports::{
    Checkpoint, CheckpointStore, Expected, FencingToken, Position, SaveCheckpoint, StoreError,
};

#[async_trait]
impl CheckpointStore for MemoryStore {
    async fn load(&self, name: String) -> Result<Option<Checkpoint>, StoreError> {
        Ok(self.open()?.checkpoints.get(&name).cloned())
    }

    async fn save(
        &self,
        name: String,
        position: Option<Position>,
        options: SaveCheckpoint,
    ) -> Result<(), StoreError> {
        let saved_at = self.clock.now();
        let woken = {
            let mut state = self.open()?;
            check(&state, &name, position, options)?;
            state.checkpoints.insert(
                name.clone(),
                Checkpoint {
                    name,
                    position,
                    saved_at,
                },
            );
            state.take_woken()
        };
        wake(woken);
        Ok(())
    }

    async fn wait_until(&self, name: String, position: Position) -> Result<(), StoreError> {
        Wait::new(self, Condition::CheckpointAt(name, position)).await
    }
}

fn check(
    state: &State,
    name: &str,
    position: Option<Position>,
    options: SaveCheckpoint,
) -> Result<(), StoreError> {
    if let (Some(FencingToken(token)), Some(grant)) = (options.token, state.leases.get(name))
        && token < grant.token
    {
        return Err(StoreError::StaleLease {
            name: name.to_owned(),
            token,
            current: grant.token,
        });
    }
    let actual = state.checkpoints.get(name).and_then(|c| c.position);
    match options.expected {
        Expected::Reset => return Ok(()),
        Expected::At(expected) if expected != actual => {
            return Err(StoreError::CheckpointMismatch {
                name: name.to_owned(),
                expected: expected.map(|p| p.0),
                actual: actual.map(|p| p.0),
            });
        }
        Expected::At(_) | Expected::Any => {}
    }
    match actual {
        Some(Position(actual)) if position.is_none_or(|p| p.0 < actual) => {
            Err(StoreError::CheckpointBehind {
                name: name.to_owned(),
                position: position.map_or(0, |p| p.0),
                actual,
            })
        }
        _ => Ok(()),
    }
}
