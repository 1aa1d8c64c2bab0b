//! The delivery machine: what follows on an attempt that did not succeed.

use std::time::Duration;

use bytes::Bytes;
use napi_derive::napi;
use orkestra::{
    clock::Timestamp,
    delivery::{Addressed, Delivery, Next},
    message::MessageKind,
    ports::{DeadLetter, DeadLetterReason, ErrorRecord, TraceContext},
    registry::HandlerIndex,
};
use serde::Deserialize;
use uuid::Uuid;

use crate::{error::parse, registry::NodeRegistry};

/// A message on its way to one handler.
#[napi(js_name = "Delivery")]
pub struct NodeDelivery {
    inner: Delivery,
    handler: String,
    kind: MessageKind,
}

/// What a dead letter is about.
#[derive(Deserialize)]
pub(crate) struct AddressedIn {
    id: Uuid,
    message_id: Uuid,
    type_name: String,
    topic: String,
    body: Option<String>,
    correlation_id: String,
    #[serde(default)]
    traceparent: Option<String>,
    reason: String,
}

impl AddressedIn {
    /// The reason, and what it is about.
    pub(crate) fn read(self, handler: String, kind: MessageKind) -> (DeadLetterReason, Addressed) {
        let reason = DeadLetterReason::parse(&self.reason);
        let trace = TraceContext {
            traceparent: self.traceparent.map(Into::into),
            ..TraceContext::default()
        };
        let addressed = Addressed {
            id: self.id,
            handler,
            kind,
            message_id: self.message_id,
            type_name: self.type_name,
            topic: self.topic,
            body: self.body.map(Bytes::from),
            correlation_id: self.correlation_id,
            trace_id: trace.trace_id(),
        };
        (reason.unwrap_or(DeadLetterReason::Undecodable), addressed)
    }
}

#[napi]
impl NodeDelivery {
    /// A delivery to a handler; `max_retries` is the sender's wish.
    #[napi(constructor)]
    pub fn new(registry: &NodeRegistry, handler: u32, max_retries: Option<u32>) -> Self {
        let info = registry.inner.handler(HandlerIndex(handler as usize));
        Self {
            inner: Delivery::new(&info.options.policy, info.kind, max_retries),
            handler: info.full_name.clone(),
            kind: info.kind,
        }
    }

    /// Begins an attempt and returns its 1-based number.
    #[napi]
    pub fn begin(&mut self) -> u32 {
        self.inner.begin()
    }

    /// Attempts so far.
    #[napi(getter)]
    pub fn attempts(&self) -> u32 {
        self.inner.attempts()
    }

    /// The attempt failed: milliseconds until the next, or the reason to give up. `errors` is JSON, `now` microseconds.
    #[napi]
    pub fn failed(
        &mut self,
        types: Vec<String>,
        errors: String,
        now: i64,
        draw: f64,
    ) -> napi::Result<napi::Either<f64, String>> {
        let errors: Vec<ErrorRecord> = parse(&errors)?;
        let now = Timestamp::from_micros(now);
        Ok(answer(self.inner.failed(&types, errors, now, draw)))
    }

    /// The handler asked to be called again after this many milliseconds.
    #[napi]
    pub fn retry_after(
        &mut self,
        delay_ms: f64,
        errors: String,
        now: i64,
    ) -> napi::Result<napi::Either<f64, String>> {
        let errors: Vec<ErrorRecord> = parse(&errors)?;
        let delay = Duration::try_from_secs_f64(delay_ms / 1000.0).unwrap_or_default();
        let now = Timestamp::from_micros(now);
        Ok(answer(self.inner.retry_after(delay, errors, now)))
    }
}

fn answer(next: Next) -> napi::Either<f64, String> {
    match next {
        Next::Retry { after } => napi::Either::A(after.as_secs_f64() * 1000.0),
        Next::DeadLetter { reason } => napi::Either::B(reason.as_str().to_owned()),
    }
}

impl NodeDelivery {
    /// The dead letter of this delivery; `json` says what it is about.
    pub(crate) fn dead_letter(&self, json: &str, now: i64) -> napi::Result<DeadLetter> {
        let (reason, addressed) = parse::<AddressedIn>(json)?.read(self.handler.clone(), self.kind);
        let now = Timestamp::from_micros(now);
        Ok(self.inner.dead_letter(reason, addressed, now))
    }
}
