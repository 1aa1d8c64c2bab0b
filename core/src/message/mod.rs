//! Messages as data: commands, events, their metadata and envelopes, and their JSON on the wire. No I/O.

mod envelope;
mod error;
mod metadata;
mod payload;
mod reply;
pub mod wire;

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

pub use envelope::{CommandEnvelope, CommandStatus, EventEnvelope, EventStatus, HandlerState};
pub use error::MessageError;
pub(crate) use metadata::shorten;
pub use metadata::{ActorType, LinkId, MAX_ID_CHARS, Metadata, MetadataFields, parse_message_id};
pub use payload::{DEFAULT_MAX_PAYLOAD_BYTES, MAX_DEPTH, PayloadLimits};
pub use reply::Reply;

use crate::clock::Timestamp;

/// Whether a type is an order or a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageKind {
    /// An order, imperative, for exactly one handler.
    Command,
    /// A fact, past tense, for any number of handlers.
    Event,
}

impl MessageKind {
    /// `command` or `event`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Event => "event",
        }
    }

    /// The kind of that word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Command, Self::Event]
            .into_iter()
            .find(|kind| kind.as_str() == word)
    }
}

/// A command as data, its payload encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The id, usually a version 7 UUID.
    pub id: Uuid,
    /// The type name, for example `MyApp.Orders.Commands.PlaceOrder`.
    pub type_name: Arc<str>,
    /// The payload: a JSON object as UTF-8 bytes.
    pub params: Bytes,
    /// Who and why.
    pub metadata: Metadata,
}

/// An event as data, its payload encoded. Immutable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The id, usually a version 7 UUID.
    pub id: Uuid,
    /// The type name, for example `MyApp.Orders.Events.OrderPlaced`.
    pub type_name: Arc<str>,
    /// The schema version of the payload, from 1.
    pub version: u32,
    /// The payload: a JSON object as UTF-8 bytes.
    pub data: Bytes,
    /// Who and why.
    pub metadata: Metadata,
    /// When it happened, UTC.
    pub occurred_at: Timestamp,
}
