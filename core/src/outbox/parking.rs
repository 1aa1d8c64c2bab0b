//! Dead letters of the relay: what can never leave.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use uuid::Uuid;

use crate::{
    clock::{Clock, IdSource},
    code::Coded,
    delivery::{Addressed, Delivery},
    message::MessageKind,
    ports::{
        DeadLetter, DeadLetterReason, DeadLetterStore, ErrorRecord, RELAY, StoreError, TraceContext,
    },
    retry::RetryPolicy,
};

pub(crate) type Listener = Arc<dyn Fn(&DeadLetter) + Send + Sync>;

/// What a letter says of its message.
pub(super) struct Parked<'a> {
    pub(super) kind: MessageKind,
    pub(super) id: Uuid,
    pub(super) type_name: &'a str,
    pub(super) topic: &'a str,
    pub(super) body: Option<Bytes>,
    pub(super) correlation_id: String,
    pub(super) trace: &'a TraceContext,
}

/// Where letters go.
#[derive(Clone)]
pub(crate) struct Parking {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) dead_letters: Arc<dyn DeadLetterStore>,
    pub(crate) listener: Option<Listener>,
}

impl Parking {
    /// The letter of `message`, given up for `reason` because of `error`.
    pub(super) fn letter<E: Coded + fmt::Display>(
        &self,
        message: Parked<'_>,
        reason: DeadLetterReason,
        error: &E,
    ) -> DeadLetter {
        let now = self.clock.now();
        let mut delivery = Delivery::new(&RetryPolicy::default(), message.kind, None);
        delivery.begin();
        let error = ErrorRecord {
            error_type: error.code().to_owned(),
            message: error.to_string(),
            trace: String::new(),
        };
        let _ = delivery.failed(&[], vec![error], now, 0.0);
        let to = Addressed {
            id: self.ids.next_id(now),
            handler: RELAY.into(),
            kind: message.kind,
            message_id: message.id,
            type_name: message.type_name.to_owned(),
            topic: message.topic.to_owned(),
            body: message.body,
            correlation_id: message.correlation_id,
            trace_id: message.trace.trace_id(),
        };
        delivery.dead_letter(reason, to, now)
    }

    /// Records `letter` and tells of it.
    pub(super) async fn park(&self, letter: DeadLetter) -> Result<(), StoreError> {
        let letter = self.dead_letters.record(letter).await?;
        tracing::warn!(name = RELAY, message_id = %letter.message_id, reason = letter.reason.as_str(), "a message was not published");
        if let Some(listener) = &self.listener {
            listener(&letter);
        }
        Ok(())
    }
}
