//! Checkpoints in SQLite.

use async_trait::async_trait;
use rusqlite::OptionalExtension;

use super::{
    SqliteStore,
    error::Failure,
    number::{signed, time, unsigned},
    queue::Size,
    reader::Reader,
    writer::Tx,
};
use crate::ports::{
    Checkpoint, CheckpointStore, Expected, FencingToken, Position, SaveCheckpoint, StoreError,
};

#[async_trait]
impl CheckpointStore for SqliteStore {
    async fn load(&self, name: String) -> Result<Option<Checkpoint>, StoreError> {
        self.read(move |reader| reader.checkpoint(name))?.await
    }

    async fn save(
        &self,
        name: String,
        position: Option<Position>,
        options: SaveCheckpoint,
    ) -> Result<(), StoreError> {
        self.write(Size::default(), move |tx| {
            tx.save_checkpoint(&name, position, options)
        })?
        .await
    }

    async fn wait_until(&self, name: String, position: Position) -> Result<(), StoreError> {
        loop {
            let moved = self.moved();
            let found = CheckpointStore::load(self, name.clone()).await?;
            if found.and_then(|c| c.position) >= Some(position) {
                return Ok(());
            }
            if self.watching() {
                moved.await;
            }
        }
    }
}

impl Reader<'_> {
    fn checkpoint(&self, name: String) -> Result<Option<Checkpoint>, Failure> {
        let found = self
            .conn
            .prepare_cached("SELECT position, saved_at FROM orkestra_checkpoints WHERE name = ?1")?
            .query_row([&name], |row| {
                Ok((row.get::<_, Option<i64>>(0)?, row.get(1)?))
            })
            .optional()?;
        Ok(found.map(|(position, saved_at)| Checkpoint {
            name,
            position: position.map(|p| Position(unsigned(p))),
            saved_at: time(saved_at),
        }))
    }
}

impl Tx<'_> {
    fn save_checkpoint(
        &mut self,
        name: &str,
        position: Option<Position>,
        options: SaveCheckpoint,
    ) -> Result<(), Failure> {
        if let Some(token) = options.token {
            self.check_token(name, token)?;
        }
        let actual = self
            .conn
            .prepare_cached("SELECT position FROM orkestra_checkpoints WHERE name = ?1")?
            .query_row([name], |row| row.get::<_, Option<i64>>(0))
            .optional()?
            .flatten()
            .map(unsigned);
        let wanted = position.map(|p| p.0);
        if let Expected::At(expected) = options.expected
            && expected.map(|p| p.0) != actual
        {
            return Err(StoreError::CheckpointMismatch {
                name: name.to_owned(),
                expected: expected.map(|p| p.0),
                actual,
            }
            .into());
        }
        if options.expected != Expected::Reset
            && let Some(actual) = actual
            && wanted.is_none_or(|wanted| wanted < actual)
        {
            return Err(StoreError::CheckpointBehind {
                name: name.to_owned(),
                position: wanted.unwrap_or(0),
                actual,
            }
            .into());
        }
        self.conn
            .prepare_cached(
                "INSERT INTO orkestra_checkpoints (name, position, saved_at) VALUES (?1, ?2, ?3) \
                 ON CONFLICT (name) DO UPDATE SET position = excluded.position, saved_at = excluded.saved_at",
            )?
            .execute((name, wanted.map(signed), self.clock.now().as_micros()))?;
        self.moved = true;
        Ok(())
    }

    fn check_token(&self, name: &str, token: FencingToken) -> Result<(), Failure> {
        let current: Option<i64> = self
            .conn
            .prepare_cached("SELECT token FROM orkestra_leases WHERE name = ?1")?
            .query_row([name], |row| row.get(0))
            .optional()?;
        match current.map(unsigned) {
            Some(current) if token.0 < current => Err(StoreError::StaleLease {
                name: name.to_owned(),
                token: token.0,
                current,
            }
            .into()),
            _ => Ok(()),
        }
    }
}
