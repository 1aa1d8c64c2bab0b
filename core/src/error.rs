//! `Error`, the sum of the layers' enums, and the whole catalogue.

use std::sync::Arc;

use serde_json::Value;

use crate::{
    aggregate::AggregateError,
    code::{Coded, ErrorCode, coded_errors},
    message::MessageError,
    ports::{BusError, StoreError},
    projection::{ProjectionError, ReadError},
    retry::RetryError,
    subscription::SubscriptionError,
};

coded_errors! {
    /// What can go wrong with an app as a whole.
    pub enum AppError: "APP" {
        /// A setting's URL cannot be used.
        #[error("{setting}: {url}: {reason}")]
        InvalidUrl {
            /// `bus`, `store` or `state`.
            setting: String,
            /// The URL without its password.
            url: String,
            /// What is wrong with it.
            reason: String,
        } = "ORK_APP_INVALID_URL", "InvalidUrlError", transient: false;

        /// A setting is out of its range.
        #[error("{setting}: {reason}")]
        InvalidSetting {
            /// The setting.
            setting: String,
            /// What was expected and found.
            reason: String,
        } = "ORK_APP_INVALID_SETTING", "InvalidSettingError", transient: false;

        /// The app is closed.
        #[error("the app {app} is closed")]
        Closed {
            /// The app.
            app: String,
        } = "ORK_APP_CLOSED", "ClosedError", transient: false;

        /// The app has not been started.
        #[error("the app {app} has not been started")]
        NotStarted {
            /// The app.
            app: String,
        } = "ORK_APP_NOT_STARTED", "NotStartedError", transient: false;

        /// Registration after the start.
        #[error("the app {app} has been started: register {what} before")]
        AlreadyStarted {
            /// The app.
            app: String,
            /// What was to be registered.
            what: String,
        } = "ORK_APP_ALREADY_STARTED", "AlreadyStartedError", transient: false;

        /// The app was started before this process was forked off.
        #[error("the app {app} was started in process {parent} and cannot be used in its child")]
        Forked {
            /// The app.
            app: String,
            /// The process that started it.
            parent: u32,
        } = "ORK_APP_FORKED", "ForkedError", transient: false;

        /// A blocking wait inside a running event loop would stop that loop.
        #[error("wait() inside a running event loop: await the call instead")]
        WaitInLoop {} = "ORK_APP_WAIT_IN_LOOP", "WaitInLoopError", transient: false;

        /// A blocking wait took longer than its limit.
        #[error("no result within {seconds} s")]
        WaitTimeout {
            /// The limit in seconds.
            seconds: f64,
        } = "ORK_APP_WAIT_TIMEOUT", "WaitTimeoutError", transient: true;

        /// What was given as the user's own connection is none that is known.
        #[error("expected {expected}, found {found}")]
        InvalidConnection {
            /// What can be given here.
            expected: String,
            /// The type that was given.
            found: String,
        } = "ORK_APP_INVALID_CONNECTION", "InvalidConnectionError", transient: false;

        /// The user's own connection commits each statement by itself, so that nothing would be atomic with it.
        #[error("{connection}: expected an open transaction, found a connection that commits each statement by itself")]
        NoTransaction {
            /// The type of the connection.
            connection: String,
        } = "ORK_APP_NO_TRANSACTION", "NoTransactionError", transient: false;

        /// The user's own connection is open on the file of the app's store.
        #[error("{path}: expected another file than the store's own")]
        StoreFile {
            /// The file.
            path: String,
        } = "ORK_APP_STORE_FILE", "StoreFileError", transient: false;
    }
}

/// Any error of Orkestra.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A message or a name.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// A retry policy.
    #[error(transparent)]
    Retry(#[from] RetryError),
    /// Between a sender and a handler.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// A store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An aggregate.
    #[error(transparent)]
    Aggregate(#[from] AggregateError),
    /// A subscription.
    #[error(transparent)]
    Subscription(#[from] SubscriptionError),
    /// A projection.
    #[error(transparent)]
    Projection(#[from] ProjectionError),
    /// The app as a whole.
    #[error(transparent)]
    App(#[from] AppError),
    /// What a handler of this process failed with: its own error.
    #[error("{0}")]
    Handler(Arc<dyn std::error::Error + Send + Sync>),
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Store(error) => error.into(),
            ReadError::Projection(error) => error.into(),
        }
    }
}

static HANDLER: ErrorCode = BusError::CODES[6];

impl Coded for Error {
    fn entry(&self) -> &'static ErrorCode {
        match self {
            Self::Message(e) => e.entry(),
            Self::Retry(e) => e.entry(),
            Self::Bus(e) => e.entry(),
            Self::Store(e) => e.entry(),
            Self::Aggregate(e) => e.entry(),
            Self::Subscription(e) => e.entry(),
            Self::Projection(e) => e.entry(),
            Self::App(e) => e.entry(),
            Self::Handler(_) => &HANDLER,
        }
    }

    fn details(&self) -> Value {
        match self {
            Self::Message(e) => e.details(),
            Self::Retry(e) => e.details(),
            Self::Bus(e) => e.details(),
            Self::Store(e) => e.details(),
            Self::Aggregate(e) => e.details(),
            Self::Subscription(e) => e.details(),
            Self::Projection(e) => e.details(),
            Self::App(e) => e.details(),
            Self::Handler(e) => serde_json::json!({ "message": e.to_string() }),
        }
    }
}

/// Every code there is, layer by layer. `tests/vectors/errors.json` is this list.
pub fn catalogue() -> impl Iterator<Item = &'static ErrorCode> {
    [
        MessageError::CODES,
        RetryError::CODES,
        BusError::CODES,
        StoreError::CODES,
        AggregateError::CODES,
        SubscriptionError::CODES,
        ProjectionError::CODES,
        AppError::CODES,
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_and_classes_are_unique_and_say_their_layer() {
        let mut seen = HashSet::new();
        for entry in catalogue() {
            assert!(
                entry.code.starts_with(&format!("ORK_{}_", entry.layer)),
                "{}",
                entry.code
            );
            assert!(entry.class.ends_with("Error"), "{}", entry.class);
            assert!(seen.insert(entry.code), "{}", entry.code);
            assert!(seen.insert(entry.class), "{}", entry.class);
        }
        assert_eq!(HANDLER.code, "ORK_BUS_HANDLER_FAILED");
    }

    #[test]
    fn an_error_shows_its_fields() {
        let error = Error::from(BusError::NoHandler {
            topic: "orders.place_order".into(),
        });

        assert_eq!(error.code(), "ORK_BUS_NO_HANDLER");
        assert_eq!(
            error.details(),
            serde_json::json!({"topic": "orders.place_order"})
        );
        assert!(!error.is_transient());
    }
}
