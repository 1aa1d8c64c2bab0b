//! What a handler is and how it ends.

use std::{any::Any, fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use super::{Context, EventSet};
use crate::{
    AppError,
    aggregate::AggregateError,
    message::{Event as EventData, MessageError},
    ports::{BusError, ErrorRecord, StoreError},
    projection::ProjectionError,
    subscription::SubscriptionError,
};

pub(super) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What a handler answers, its type forgotten.
pub type Answer = Result<Box<dyn Any + Send>, HandlerError>;

/// A business refusal: no retry, no dead letter, the caller gets [`BusError::Rejected`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// Why, for people.
    pub reason: String,
    /// More facts.
    pub data: Value,
}

impl Reject {
    /// Refuses for `reason`.
    pub fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            data: Value::Null,
        }
    }
}

/// The handler wants to be called again after a while. This uses up no retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryAfter(pub Duration);

/// How a handler ends when not with success. Any error becomes [`HandlerError::Failed`] by `?`.
#[derive(Debug, Clone)]
pub enum HandlerError {
    /// Refused.
    Rejected(Reject),
    /// To be called again later.
    RetryAfter(Duration),
    /// Failed; retried by policy.
    Failed {
        /// The error.
        error: Arc<dyn std::error::Error + Send + Sync>,
        /// The name of its type, with its path: what `retry_on` and `give_up_on` compare.
        error_type: &'static str,
    },
}

impl HandlerError {
    /// A failure that is only known as text.
    pub fn text(message: impl Into<String>) -> Self {
        Self::Failed {
            error: Arc::new(crate::code::Cause::text(message)),
            error_type: "HandlerError",
        }
    }

    pub(super) fn records(&self) -> Vec<ErrorRecord> {
        let record = |error_type: &str, message: String| ErrorRecord {
            error_type: error_type.into(),
            message,
            trace: String::new(),
        };
        match self {
            Self::Rejected(reject) => vec![record("Reject", reject.reason.clone())],
            Self::RetryAfter(delay) => vec![record(
                "RetryAfter",
                format!("asked for a retry in {delay:?}"),
            )],
            Self::Failed { error, error_type } => {
                let mut records = vec![record(error_type, error.to_string())];
                let mut source = error.source();
                while let Some(error) = source {
                    // Of a cause only the text is known.
                    records.push(record("Error", error.to_string()));
                    source = error.source();
                }
                records
            }
        }
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(reject) => write!(f, "rejected: {}", reject.reason),
            Self::RetryAfter(delay) => write!(f, "retry after {delay:?}"),
            Self::Failed { error, .. } => error.fmt(f),
        }
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self::Failed {
            error: Arc::new(error),
            error_type: std::any::type_name::<E>(),
        }
    }
}

impl From<Reject> for HandlerError {
    fn from(reject: Reject) -> Self {
        Self::Rejected(reject)
    }
}

impl From<RetryAfter> for HandlerError {
    fn from(RetryAfter(delay): RetryAfter) -> Self {
        Self::RetryAfter(delay)
    }
}

impl From<HandlerError> for crate::Error {
    fn from(error: HandlerError) -> Self {
        match error {
            HandlerError::Rejected(reject) => Self::Bus(BusError::Rejected {
                reason: reject.reason,
                data: reject.data,
            }),
            HandlerError::RetryAfter(delay) => Self::Handler(Arc::new(crate::code::Cause::text(
                format!("retry after {delay:?}"),
            ))),
            HandlerError::Failed { error, .. } => own(&*error).unwrap_or(Self::Handler(error)),
        }
    }
}

/// An error of ours that a handler passed on, as what it is.
pub(super) fn own(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Option<crate::Error> {
    macro_rules! first_of {
        ($($layer:ty),+) => {
            $(
                if let Some(error) = error.downcast_ref::<$layer>() {
                    return Some(error.clone().into());
                }
            )+
        };
    }
    first_of!(
        crate::Error,
        MessageError,
        BusError,
        StoreError,
        AggregateError,
        SubscriptionError,
        ProjectionError,
        AppError
    );
    None
}

/// A message on its way into a handler: the sender's own value, or its data.
#[derive(Clone)]
pub(super) enum Inbound {
    Typed(Arc<dyn Any + Send + Sync>),
    Data(Arc<EventData>),
}

/// A handler, its types forgotten: reads the payload, and returns the call.
pub(super) type Erased =
    Arc<dyn Fn(Inbound, Context) -> Result<BoxFuture<Answer>, MessageError> + Send + Sync>;

/// The JSON of a handler's answer.
pub(super) type EncodeAnswer =
    Arc<dyn Fn(&(dyn Any + Send)) -> Result<Bytes, String> + Send + Sync>;

/// The JSON of an answer of type `T`.
pub(super) fn encode_answer<T: Serialize + 'static>() -> EncodeAnswer {
    Arc::new(|answer| {
        let name = std::any::type_name::<T>();
        let Some(answer) = answer.downcast_ref::<T>() else {
            return Err(format!("the answer is not the command's output, {name}"));
        };
        serde_json::to_vec(answer)
            .map(Bytes::from)
            .map_err(|error| format!("the answer {name} cannot be sent: {error}"))
    })
}

/// Whether a payload fits a handler's types.
pub(super) type Check = Arc<dyn Fn(&EventData) -> Result<(), MessageError> + Send + Sync>;

pub(super) fn erase_event<S, F, Fut>(f: F) -> Erased
where
    S: EventSet,
    F: Fn(S, Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), HandlerError>> + Send + 'static,
{
    let f = Arc::new(f);
    Arc::new(move |inbound, context| {
        let event = match &inbound {
            Inbound::Typed(value) => S::from_typed(value.as_ref()),
            Inbound::Data(data) => S::from_json(&data.type_name, data.version, &data.data)?,
        };
        let f = Arc::clone(&f);
        Ok(Box::pin(async move {
            if let Some(event) = event {
                f(event, context).await?;
            }
            Ok(Box::new(()) as Box<dyn Any + Send>)
        }))
    })
}
