//! The client's errors as the port's.

use std::time::Duration;

use kurrentdb::{CurrentRevision, Error};

use super::probe::Reason;
use crate::ports::StoreError;

/// How a call ended that brought no result.
#[derive(Debug)]
pub(super) enum Failure {
    /// The stream is not there.
    NotFound,
    /// The stream was deleted for good.
    Deleted,
    /// The stream is at another revision.
    WrongRevision(Option<u64>),
    /// The same without saying at which.
    Refused(String),
    /// There was no answer within that time.
    Late(Duration),
    /// All the rest.
    Store(StoreError),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Failure {
    /// What the client said while it was doing `what`.
    pub(super) fn of(error: Error, what: &str) -> Self {
        use kurrentdb_code::{
            ABORTED, CANCELLED, FAILED_PRECONDITION, INVALID_ARGUMENT, RESOURCE_EXHAUSTED,
        };
        Self::Store(match error {
            Error::ResourceNotFound => return Self::NotFound,
            Error::ResourceDeleted => return Self::Deleted,
            Error::WrongExpectedVersion { current, .. } => {
                return Self::WrongRevision(match current {
                    CurrentRevision::Current(revision) => Some(revision),
                    CurrentRevision::NoStream => None,
                });
            }
            Error::UnsupportedFeature => StoreError::Unsupported {
                store: "this KurrentDB server".into(),
                what: what.to_owned(),
                reason: "it has no such call".into(),
            },
            Error::Grpc { code, message } => match code as i32 {
                FAILED_PRECONDITION => return Self::Refused(message),
                INVALID_ARGUMENT | RESOURCE_EXHAUSTED => StoreError::InvalidArgument {
                    argument: what.to_owned(),
                    reason: message,
                },
                ABORTED | CANCELLED => unavailable(&message),
                _ => StoreError::Unavailable {
                    reason: format!("{what}: {message}"),
                },
            },
            Error::InternalParsingError(reason) | Error::IllegalStateError(reason) => {
                StoreError::Corrupt {
                    what: "an answer of the server".into(),
                    reason,
                }
            }
            other => unavailable(&other.to_string()),
        })
    }

    /// As the port has it, where nothing else is to be made of it.
    pub(super) fn into_store(self, stream: &str) -> StoreError {
        match self {
            Self::NotFound => StoreError::Corrupt {
                what: format!("stream {stream}"),
                reason: "it went away while it was read".into(),
            },
            Self::Deleted => StoreError::StreamDeleted {
                stream: stream.to_owned(),
            },
            Self::WrongRevision(_) => unavailable("the stream changes too fast"),
            Self::Refused(message) => unavailable(&message),
            Self::Late(deadline) => late(deadline),
            Self::Store(error) => error,
        }
    }
}

/// Numbers of gRPC's status codes. Source: the gRPC status code page of the specification.
mod kurrentdb_code {
    pub(super) const CANCELLED: i32 = 1;
    pub(super) const INVALID_ARGUMENT: i32 = 3;
    pub(super) const RESOURCE_EXHAUSTED: i32 = 8;
    pub(super) const FAILED_PRECONDITION: i32 = 9;
    pub(super) const ABORTED: i32 = 10;
}

/// The server refuses the user: as the client has it, for the login and for everything else. Who was let in before may not do that; who
/// was not has the wrong password, as a rule.
pub(super) fn denied(place: &str, what: &str, let_in: bool) -> StoreError {
    let store = format!("KurrentDB at {place}");
    if let_in {
        let reason = format!("the user may not {what}");
        return StoreError::PermissionDenied { store, reason };
    }
    StoreError::AccessDenied {
        store,
        reason: format!("the user or the password is wrong, or the user may not {what}"),
    }
}

pub(super) fn unavailable(reason: &str) -> StoreError {
    StoreError::Unavailable {
        reason: format!("KurrentDB: {reason}"),
    }
}

/// What the server did not expect itself, while it was doing `what`.
pub(super) fn server_error(what: &str, message: &str) -> StoreError {
    // Servers have no code of their own for it when they read.
    if message.contains("InvalidPosition") {
        return StoreError::InvalidArgument {
            argument: what.to_owned(),
            reason: "no record of this database begins at that position".into(),
        };
    }
    unavailable(&format!("{what}: {message}"))
}

fn late(deadline: Duration) -> StoreError {
    unavailable(&format!("no answer within {} s", deadline.as_secs_f64()))
}

/// Why there is no connection to `place`, after somebody looked.
pub(super) fn no_connection(place: &str, reason: Reason) -> StoreError {
    match reason {
        Reason::Untrusted(reason) => StoreError::UntrustedServer {
            server: place.to_owned(),
            reason,
        },
        Reason::Away(reason) => unavailable(&format!("{place}: {reason}")),
    }
}
