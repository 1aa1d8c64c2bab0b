//! What the server and the driver say, as the port's errors.

use std::{error::Error as _, io};

use tokio_postgres::error::{DbError, SqlState};

use crate::ports::StoreError;

/// Why a piece of work did not do what it was to do.
#[derive(Debug)]
pub(super) enum Failure {
    /// The request is refused; nothing was written for it.
    Refused(StoreError),
    /// The database failed.
    Database(tokio_postgres::Error),
    /// No answer came in time; the connection is of no more use.
    Silent,
    /// The tables are not those in which names and numbers were learned: nothing was done.
    Replaced,
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error)
    }
}

impl Failure {
    /// The server's own code, if it said anything.
    pub(super) fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Database(error) => error.code(),
            _ => None,
        }
    }

    /// Whether the transaction lost against another one and may win when it is tried again.
    pub(super) fn lost_a_race(&self) -> bool {
        if matches!(self, Self::Replaced) {
            return true;
        }
        self.code().is_some_and(|code| {
            *code == SqlState::T_R_SERIALIZATION_FAILURE || *code == SqlState::T_R_DEADLOCK_DETECTED
        })
    }

    /// Whether the connection ended, so that nobody knows what became of the work.
    pub(super) fn lost_the_connection(&self) -> bool {
        match self {
            Self::Refused(_) | Self::Replaced => false,
            Self::Silent => true,
            Self::Database(error) => match error.code() {
                Some(code) => ends_the_session(code),
                // The driver's own trouble: with the network, or with what it was given.
                None => !is_about_values(error),
            },
        }
    }

    /// Whether it is the data that the database refuses, and not the moment.
    pub(super) fn is_about_data(&self) -> bool {
        self.code().is_some_and(|code| {
            let code = code.code();
            code.starts_with("22") || code.starts_with("23") || code.starts_with("54")
        })
    }

    /// The port's error, at the store that messages call `place`.
    pub(super) fn into_store_error(self, place: &str) -> StoreError {
        match self {
            Self::Refused(error) => error,
            Self::Database(error) => store_error(place, &error),
            Self::Silent => StoreError::Unavailable {
                reason: format!("{place} does not answer"),
            },
            Self::Replaced => StoreError::Unavailable {
                reason: format!("{place}: the tables are being replaced"),
            },
        }
    }
}

fn ends_the_session(code: &SqlState) -> bool {
    let code = code.code();
    // A read-only server may be one that was the first until now: a new connection finds out who is.
    code.starts_with("08")
        || matches!(
            code,
            "57P01" | "57P02" | "57P03" | "57P04" | "57P05" | "25006" | "25P03"
        )
}

/// Parameters and columns that do not fit their types: a mistake here, or a table that somebody changed.
fn is_about_values(error: &tokio_postgres::Error) -> bool {
    let text = error.to_string();
    ["serializing", "column", "parameters", "number of rows"]
        .iter()
        .any(|word| text.contains(word))
}

/// The port's error for what the driver says about the store that messages call `place`.
pub(super) fn store_error(place: &str, error: &tokio_postgres::Error) -> StoreError {
    let store = place.to_owned();
    let Some(said) = error.as_db_error() else {
        return if is_about_values(error) {
            StoreError::Corrupt {
                what: store,
                reason: chain(error),
            }
        } else if let Some(reason) = untrusted(error) {
            StoreError::UntrustedServer {
                server: store,
                reason,
            }
        } else if is_about_login(error) {
            StoreError::AccessDenied {
                store,
                reason: chain(error),
            }
        } else {
            StoreError::Unavailable {
                reason: format!("{place}: {}", chain(error)),
            }
        };
    };
    let reason = said.message().to_owned();
    match said.code().code() {
        "28000" | "28P01" => StoreError::AccessDenied { store, reason },
        "42501" => StoreError::PermissionDenied {
            store,
            reason: with_object(said),
        },
        "3D000" => StoreError::NoDatabase {
            database: quoted(said.message()).to_owned(),
            store,
        },
        "53100" => StoreError::DiskFull { path: store },
        "55P03" => StoreError::Locked { path: store },
        "25006" => StoreError::ReadOnly { path: store },
        "ORK05" => StoreError::PermissionDenied { store, reason },
        "ORK06" => StoreError::CannotOpen {
            path: store,
            reason,
        },
        // Our tables are not there, or are not ours.
        "42P01" | "3F000" | "42883" | "42703" => StoreError::CannotOpen {
            path: store,
            reason: format!("{reason}; a migration has not run"),
        },
        code if code.starts_with("XX001") || code.starts_with("XX002") => StoreError::Corrupt {
            what: store,
            reason,
        },
        // It does not matter how often it is tried: values that it cannot hold, and tables that are not as we made them.
        code if ["22", "23", "54"]
            .iter()
            .any(|class| code.starts_with(class)) =>
        {
            StoreError::InvalidArgument {
                argument: "a value".into(),
                reason: format!("{} ({code})", with_object(said)),
            }
        }
        code if code.starts_with("42") => StoreError::Corrupt {
            what: store,
            reason: format!("{reason} ({code})"),
        },
        // What remains is the server's trouble of the moment.
        code => StoreError::Unavailable {
            reason: format!("{place}: {reason} ({code})"),
        },
    }
}

/// What the server wants to know of the user is not there, or not as it wants it.
fn is_about_login(error: &tokio_postgres::Error) -> bool {
    let text = chain(error);
    ["authentication", "password missing"]
        .iter()
        .any(|word| text.contains(word))
}

/// What is wrong with the server's certificate, if it is that.
fn untrusted(error: &tokio_postgres::Error) -> Option<String> {
    let mut cause = error.source();
    while let Some(error) = cause {
        let inner = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::InvalidCertificate(reason)) =
            inner.or_else(|| error.downcast_ref())
        {
            return Some(reason.to_string());
        }
        cause = error.source();
    }
    None
}

/// The error and what it came from.
fn chain(error: &tokio_postgres::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn with_object(said: &DbError) -> String {
    match (said.schema(), said.table()) {
        (Some(schema), Some(table)) => format!("{} ({schema}.{table})", said.message()),
        _ => said.message().to_owned(),
    }
}

/// What stands between the quotes of `database "shop" does not exist`, in whatever language the rest is.
fn quoted(message: &str) -> &str {
    let mut parts = message.split(['"', '«', '»', '„', '“']);
    parts.nth(1).unwrap_or(message).trim()
}
