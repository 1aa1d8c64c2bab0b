//! The checkpoint that a projection's handler saves in its own transaction.

use std::{fmt, path::PathBuf, sync::Arc};

use parking_lot::Mutex;

use crate::{
    Error,
    ports::Position,
    projection::{Refusal, ViewCheckpoint, ViewRow, ViewSwitch},
};

/// What a [`ReadModel`](super::ReadModel)'s functions get: where its view stands after the events at hand. A handler saves it in the transaction
/// that changes the view, so that both commit together; [`Checkpoint::switch_sqlite`] and its like are for the switch of a rebuild.
#[derive(Clone)]
pub struct Checkpoint {
    inner: Arc<Inner>,
}

struct Inner {
    does: Does,
    suffix: &'static str,
    replaying: bool,
    /// The files of the app's own stores.
    own_files: Vec<PathBuf>,
    outcome: Mutex<Option<Saved>>,
}

enum Does {
    Nothing,
    Save(ViewCheckpoint),
    Switch(ViewSwitch),
}

/// What came of it.
#[derive(Debug, Clone)]
pub(super) enum Saved {
    /// Saved, if the user's transaction commits.
    Yes,
    /// The view stands elsewhere.
    Refused(Option<ViewRow>, Error),
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Checkpoint({:?}, {:?})",
            self.position(),
            self.inner.suffix
        )
    }
}

impl Checkpoint {
    fn new(does: Does, suffix: &'static str, replaying: bool, own_files: Vec<PathBuf>) -> Self {
        Self {
            inner: Arc::new(Inner {
                does,
                suffix,
                replaying,
                own_files,
                outcome: Mutex::default(),
            }),
        }
    }

    pub(super) fn to_prepare(suffix: &'static str, own_files: Vec<PathBuf>) -> Self {
        Self::new(Does::Nothing, suffix, !suffix.is_empty(), own_files)
    }

    pub(super) fn to_save(
        checkpoint: ViewCheckpoint,
        suffix: &'static str,
        replaying: bool,
        own_files: Vec<PathBuf>,
    ) -> Self {
        Self::new(Does::Save(checkpoint), suffix, replaying, own_files)
    }

    pub(super) fn to_switch(switch: ViewSwitch, suffix: &'static str, files: Vec<PathBuf>) -> Self {
        Self::new(Does::Switch(switch), suffix, true, files)
    }

    pub(super) fn outcome(&self) -> Option<Saved> {
        self.inner.outcome.lock().clone()
    }

    /// Where the view stands after the events at hand. It grows from call to call and may be repeated: a search engine takes it as the external version
    /// of what it indexes.
    pub fn position(&self) -> Option<Position> {
        match &self.inner.does {
            Does::Nothing => None,
            Does::Save(checkpoint) => checkpoint.position,
            Does::Switch(switch) => switch.expected,
        }
    }

    /// What the tables have at their end: nothing for the live view, `_rebuild` for one that is built beside it.
    pub fn suffix(&self) -> &'static str {
        self.inner.suffix
    }

    /// Whether the events are history: a rebuild, or what was in the log before the projection's very first start.
    pub fn replaying(&self) -> bool {
        self.inner.replaying
    }

    fn came_to(&self, result: Result<(), Refusal>) -> Result<(), Error> {
        match result {
            Ok(()) => {
                *self.inner.outcome.lock() = Some(Saved::Yes);
                Ok(())
            }
            Err(refusal) => {
                let error = Error::from(refusal.error);
                *self.inner.outcome.lock() = Some(Saved::Refused(refusal.found, error.clone()));
                Err(error)
            }
        }
    }

    fn save(&self) -> Result<&ViewCheckpoint, Error> {
        match &self.inner.does {
            Does::Save(checkpoint) => Ok(checkpoint),
            Does::Nothing | Does::Switch(_) => Err(misused("save", "a projection's handler")),
        }
    }

    fn switch(&self) -> Result<&ViewSwitch, Error> {
        match &self.inner.does {
            Does::Switch(switch) => Ok(switch),
            Does::Nothing | Does::Save(_) => Err(misused("switch", "a projection's switch")),
        }
    }
}

fn misused(what: &str, place: &str) -> Error {
    crate::ports::StoreError::InvalidArgument {
        argument: "checkpoint".into(),
        reason: format!("{what} is for {place}"),
    }
    .into()
}

#[cfg(feature = "sqlite")]
pub(super) mod sqlite {
    use std::path::{Path, PathBuf};

    use super::{Checkpoint, Error};
    use crate::{AppError, projection::sqlite};

    impl Checkpoint {
        /// Saves it in the open transaction of `connection`, which is on another file than the app's store.
        ///
        /// # Errors
        /// [`StoreError::CheckpointMismatch`](crate::ports::StoreError::CheckpointMismatch) and
        /// [`StoreError::StaleLease`](crate::ports::StoreError::StaleLease) if the view stands elsewhere: roll back, reading goes on from there.
        /// [`AppError::NoTransaction`], [`AppError::StoreFile`]; what SQLite says.
        pub fn save_sqlite(&self, connection: &rusqlite::Connection) -> Result<(), Error> {
            let checkpoint = self.save()?;
            check(connection, &self.inner.own_files)?;
            self.came_to(sqlite::save(connection, checkpoint).map_err(own)?)
        }

        /// Puts the rebuilt view's checkpoint in the place of the live one's, in the open transaction of `connection` that renames the tables.
        ///
        /// # Errors
        /// As [`Checkpoint::save_sqlite`].
        pub fn switch_sqlite(&self, connection: &rusqlite::Connection) -> Result<(), Error> {
            let switch = self.switch()?;
            check(connection, &self.inner.own_files)?;
            self.came_to(sqlite::switch(connection, switch).map_err(own)?)
        }
    }

    /// Refuses a connection that is open on one of `own_files`, or in no transaction.
    pub(in crate::app) fn check(
        connection: &rusqlite::Connection,
        own_files: &[PathBuf],
    ) -> Result<(), AppError> {
        if let Some(path) = connection.path().filter(|path| !path.is_empty()) {
            let same = |own: &&PathBuf| is_same(own, Path::new(path));
            if let Some(own) = own_files.iter().find(same) {
                let path = own.display().to_string();
                return Err(AppError::StoreFile { path });
            }
        }
        if connection.is_autocommit() {
            let connection = "rusqlite::Connection".to_owned();
            return Err(AppError::NoTransaction { connection });
        }
        Ok(())
    }

    fn is_same(one: &Path, other: &Path) -> bool {
        match (one.canonicalize(), other.canonicalize()) {
            (Ok(one), Ok(other)) => one == other,
            _ => one == other,
        }
    }

    fn own(error: rusqlite::Error) -> Error {
        Error::Handler(std::sync::Arc::new(error))
    }
}

#[cfg(feature = "postgres")]
mod postgres {
    use tokio_postgres::GenericClient;

    use super::{Checkpoint, Error};
    use crate::projection::postgres;

    impl Checkpoint {
        /// Saves it in the open transaction of `client`.
        ///
        /// # Errors
        /// As [`Checkpoint::switch_postgres`].
        pub async fn save_postgres<C: GenericClient + Sync>(
            &self,
            client: &C,
        ) -> Result<(), Error> {
            let checkpoint = self.save()?;
            self.came_to(postgres::save(client, checkpoint).await.map_err(own)?)
        }

        /// Puts the rebuilt view's checkpoint in the place of the live one's, in the open transaction of `client` that renames the tables.
        ///
        /// # Errors
        /// [`StoreError::CheckpointMismatch`](crate::ports::StoreError::CheckpointMismatch) and
        /// [`StoreError::StaleLease`](crate::ports::StoreError::StaleLease) if the view stands elsewhere: roll back, reading goes on from there.
        /// What PostgreSQL says.
        pub async fn switch_postgres<C: GenericClient + Sync>(
            &self,
            client: &C,
        ) -> Result<(), Error> {
            let switch = self.switch()?;
            self.came_to(postgres::switch(client, switch).await.map_err(own)?)
        }
    }

    fn own(error: tokio_postgres::Error) -> Error {
        Error::Handler(std::sync::Arc::new(error))
    }
}
