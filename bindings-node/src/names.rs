//! Pure functions of the core: names, topics, ids, retry delays, and the JSON on the wire.

use napi_derive::napi;
use orkestra::{
    catalogue,
    clock::{Timestamp, derive_event_id},
    message::{
        CommandEnvelope, CommandStatus, Event, EventStatus, HandlerState, MessageKind, Metadata,
        MetadataFields, PayloadLimits, parse_message_id,
        wire::{self, Decoded},
    },
    ports::TraceContext,
    retry::RetryPolicy,
    topic::{Pattern, topic_for},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::error::{parse, throw};

/// The topic of a type name in an app with this prefix.
#[napi]
pub fn topic_of(type_name: String, app_prefix: String) -> napi::Result<String> {
    topic_for(&type_name, &app_prefix).map_err(|error| throw(&error))
}

/// Whether the topic pattern matches the topic.
#[napi]
pub fn pattern_matches(pattern: String, topic: String) -> napi::Result<bool> {
    let pattern = Pattern::new(&pattern).map_err(|error| throw(&error))?;
    Ok(pattern.matches(&topic))
}

/// Checks a message id and returns it in its canonical spelling.
#[napi]
pub fn message_id(text: String) -> napi::Result<String> {
    let id = parse_message_id(&text).map_err(|error| throw(&error))?;
    Ok(id.to_string())
}

/// The id of the `index`-th event made while handling a command.
#[napi]
pub fn event_id_of(command_id: String, index: u32) -> napi::Result<String> {
    let command = parse_message_id(&command_id).map_err(|error| throw(&error))?;
    Ok(derive_event_id(command, index).to_string())
}

/// Checks what a sender says about itself: a JSON object with the keys of the core's `MetadataFields`.
#[napi]
pub fn check_metadata(json: String) -> napi::Result<()> {
    let fields: MetadataFields = parse(&json)?;
    fields
        .resolve(Uuid::from_u128(1), Timestamp::default(), None)
        .map(drop)
        .map_err(|error| throw(&error))
}

/// Checks a retry policy, JSON with seconds.
#[napi]
pub fn check_retry(policy: String) -> napi::Result<()> {
    let policy: RetryPolicy = parse(&policy)?;
    policy.check().map_err(|error| throw(&error))
}

/// The delay in milliseconds before retry `retry` (1-based) under a policy, JSON with seconds.
#[napi]
pub fn retry_delay(policy: String, retry: u32, draw: f64) -> napi::Result<f64> {
    let policy: RetryPolicy = parse(&policy)?;
    policy.check().map_err(|error| throw(&error))?;
    Ok(policy.delay(retry, draw).as_secs_f64() * 1000.0)
}

/// Checks an encoded payload against the limit in bytes, and for its depth.
#[napi]
pub fn check_payload(type_name: String, payload: String, max_bytes: u32) -> napi::Result<()> {
    PayloadLimits {
        max_bytes: max_bytes as usize,
    }
    .check(&type_name, payload.as_bytes())
    .map_err(|error| throw(&error))
}

/// The status of an event whose handlers are in these states.
#[napi]
pub fn event_status(states: Vec<String>) -> String {
    let state = |word: &String| {
        [
            HandlerState::Pending,
            HandlerState::Processing,
            HandlerState::Succeeded,
            HandlerState::Failed,
        ]
        .into_iter()
        .find(|state| state.as_str() == word)
        .unwrap_or(HandlerState::Skipped)
    };
    EventStatus::of(states.iter().map(state))
        .as_str()
        .to_owned()
}

/// The catalogue of errors as JSON: a list of `{code, layer, class, transient, details}`.
#[napi]
pub fn error_catalogue() -> String {
    let lines: Vec<_> = catalogue()
        .map(|line| {
            serde_json::json!({
                "code": line.code, "layer": line.layer, "class": line.class,
                "transient": line.transient, "details": line.details,
            })
        })
        .collect();
    serde_json::Value::from(lines).to_string()
}

/// A message as TypeScript hands it over.
#[derive(Deserialize)]
pub(crate) struct MessageIn<'a> {
    pub(crate) id: Uuid,
    #[serde(rename = "type")]
    pub(crate) type_name: String,
    #[serde(default)]
    pub(crate) version: u32,
    #[serde(borrow)]
    pub(crate) data: &'a RawValue,
    pub(crate) metadata: MetadataIn,
    /// Microseconds.
    #[serde(default)]
    pub(crate) occurred_at: i64,
    #[serde(default)]
    pub(crate) max_retries: Option<u32>,
    #[serde(default)]
    pub(crate) attempts: u32,
    #[serde(default)]
    pub(crate) status: Option<String>,
}

/// Resolved metadata.
#[derive(Deserialize)]
pub(crate) struct MetadataIn {
    /// What the message says about itself.
    fields: MetadataFields,
    /// Microseconds.
    issued_at: i64,
    #[serde(default)]
    trace: Option<TraceIn>,
}

/// The trace that a message belongs to.
#[derive(Clone, Deserialize)]
pub(crate) struct TraceIn {
    traceparent: Option<String>,
    tracestate: Option<String>,
    baggage: Option<String>,
}

impl TraceIn {
    pub(crate) fn read(self) -> TraceContext {
        TraceContext {
            traceparent: self.traceparent.map(Into::into),
            tracestate: self.tracestate.map(Into::into),
            baggage: self.baggage.map(Into::into),
        }
    }
}

impl MessageIn<'_> {
    /// The body on the wire, and its metadata.
    pub(crate) fn encode(&self, kind: MessageKind) -> napi::Result<(bytes::Bytes, Metadata)> {
        let (body, metadata) = match kind {
            MessageKind::Command => {
                let envelope = self.command()?;
                (wire::encode_command(&envelope), envelope.command.metadata)
            }
            MessageKind::Event => {
                let event = self.event()?;
                (wire::encode_event(&event), event.metadata)
            }
        };
        Ok((body.map_err(|error| throw(&error))?, metadata))
    }

    pub(crate) fn metadata(&self) -> napi::Result<Metadata> {
        let now = Timestamp::from_micros(self.metadata.issued_at);
        self.metadata
            .fields
            .resolve(self.id, now, None)
            .map_err(|error| throw(&error))
    }

    /// The trace that it belongs to, empty for none.
    pub(crate) fn trace(&self) -> TraceContext {
        let trace = self.metadata.trace.clone();
        trace.map(TraceIn::read).unwrap_or_default()
    }

    pub(crate) fn payload(&self) -> bytes::Bytes {
        bytes::Bytes::copy_from_slice(self.data.get().as_bytes())
    }

    pub(crate) fn event(&self) -> napi::Result<Event> {
        Ok(Event {
            id: self.id,
            type_name: self.type_name.as_str().into(),
            version: self.version.max(1),
            data: self.payload(),
            metadata: self.metadata()?,
            occurred_at: Timestamp::from_micros(self.occurred_at),
        })
    }

    fn command(&self) -> napi::Result<CommandEnvelope> {
        let mut envelope = CommandEnvelope::new(orkestra::message::Command {
            id: self.id,
            type_name: self.type_name.as_str().into(),
            params: self.payload(),
            metadata: self.metadata()?,
        });
        envelope.max_retries = self.max_retries;
        envelope.attempts = self.attempts;
        let status = self.status.as_deref().and_then(CommandStatus::parse);
        envelope.status = status.unwrap_or_default();
        Ok(envelope)
    }
}

/// The kind of that name.
pub(crate) fn kind_of(word: &str) -> MessageKind {
    if word == MessageKind::Command.as_str() {
        MessageKind::Command
    } else {
        MessageKind::Event
    }
}

/// The body of a message on the wire.
#[napi]
pub fn encode_message(kind: String, json: String) -> napi::Result<String> {
    let message: MessageIn<'_> = parse_borrowed(&json)?;
    let (body, _) = message.encode(kind_of(&kind))?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

pub(crate) fn parse_borrowed<'a, T: Deserialize<'a>>(json: &'a str) -> napi::Result<T> {
    serde_json::from_str(json).map_err(|error| napi::Error::from_reason(error.to_string()))
}

/// Reads a body: JSON with the keys of the message, its payload under `data`. `received_at` is in microseconds.
#[napi]
pub fn decode_message(body: String, received_at: i64) -> napi::Result<String> {
    let decoded = wire::decode(body.as_bytes(), Timestamp::from_micros(received_at))
        .map_err(|error| throw(&error))?;
    Ok(match decoded {
        Decoded::Command(envelope) => {
            let command = &envelope.command;
            message_json(
                &serde_json::json!({
                    "kind": "command", "id": command.id, "type": &*command.type_name,
                    "metadata": command.metadata, "status": envelope.status.as_str(),
                    "attempts": envelope.attempts, "max_retries": envelope.max_retries,
                }),
                &command.params,
            )
        }
        Decoded::Event(event) => message_json(
            &serde_json::json!({
                "kind": "event", "id": event.id, "type": &*event.type_name, "version": event.version,
                "metadata": event.metadata, "occurred_at": event.occurred_at.to_string(),
            }),
            &event.data,
        ),
    })
}

/// `object` with the payload under `data`, which is never parsed here.
fn message_json(object: &serde_json::Value, payload: &[u8]) -> String {
    let mut text = object.to_string();
    text.pop();
    text.push_str(",\"data\":");
    text.push_str(&String::from_utf8_lossy(payload));
    text.push('}');
    text
}
