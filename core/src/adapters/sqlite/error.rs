//! What SQLite and the file system say, as the port's errors.

use std::{io, path::Path};

use rusqlite::ErrorCode;

use crate::ports::StoreError;

/// `SQLITE_IOERR_SHMSIZE`: there was no room to let the `-shm` file grow.
const NO_ROOM_FOR_SHM: i32 = 4874;

/// Why a piece of work did not do what it was to do.
#[derive(Debug)]
pub(super) enum Failure {
    /// The request is refused; nothing was written for it.
    Refused(StoreError),
    /// The database failed.
    Database(rusqlite::Error),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl Failure {
    pub(super) fn into_store_error(self, path: &str) -> StoreError {
        match self {
            Self::Refused(error) => error,
            Self::Database(error) => store_error(path, error),
        }
    }
}

/// The port's error for what the driver says about the database at `path`.
pub(super) fn store_error(path: &str, error: rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    match (error.sqlite_error_code(), &error) {
        (
            Some(
                ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::FileLockingProtocolFailed,
            ),
            _,
        ) => StoreError::Locked { path },
        (Some(ErrorCode::DiskFull), _) => StoreError::DiskFull { path },
        (Some(ErrorCode::SystemIoFailure), _)
            if error.sqlite_extended_error_code() == Some(NO_ROOM_FOR_SHM) =>
        {
            StoreError::DiskFull { path }
        }
        (Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied), _) => {
            StoreError::ReadOnly { path }
        }
        (Some(ErrorCode::CannotOpen), _) => StoreError::CannotOpen {
            path,
            reason: error.to_string(),
        },
        (Some(ErrorCode::NotADatabase), _) => StoreError::NotADatabase {
            path,
            reason: "the file is no SQLite database".into(),
        },
        (Some(ErrorCode::DatabaseCorrupt), _)
        | (
            None,
            rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::Utf8Error(..),
        ) => StoreError::Corrupt {
            what: path,
            reason: error.to_string(),
        },
        (Some(ErrorCode::TooBig), _) => StoreError::InvalidArgument {
            argument: "data".into(),
            reason: "it is longer than SQLite stores".into(),
        },
        _ => StoreError::unavailable(error),
    }
}

/// Whether `error` befalls every request alike, so that there is no use in trying them one by one.
pub(super) fn concerns_all(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::ReadOnly
                | ErrorCode::DatabaseCorrupt
                | ErrorCode::NotADatabase
                | ErrorCode::CannotOpen
                | ErrorCode::OutOfMemory
        )
    )
}

/// The port's error for a file beside the database, or its folder.
pub(super) fn file_error(path: &Path, error: &io::Error) -> StoreError {
    let path = path.display().to_string();
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            StoreError::ReadOnly { path }
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::DiskFull { path },
        _ => StoreError::CannotOpen {
            path,
            reason: error.to_string(),
        },
    }
}
