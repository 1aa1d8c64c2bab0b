//! One message on its way out.

use std::sync::Arc;

use bytes::Bytes;
use lapin::{BasicProperties, types::ShortString};
use tokio::{sync::oneshot, time::Instant};

use super::super::{
    Core, headers,
    link::Live,
    settle::Desk,
    topology::{COMMANDS, EVENTS, short},
};
use crate::{
    message::MessageKind,
    ports::{BusError, Outgoing},
};

/// What is published.
pub(in crate::adapters::rabbitmq) enum Content {
    /// A message of a caller, to its topic, or to a queue by name with what is added to its headers.
    Message {
        message: Outgoing,
        reply_to: Option<Arc<str>>,
        requeue: Option<Requeue>,
    },
    /// A copy of what arrived, or an answer.
    Copy {
        exchange: &'static str,
        key: String,
        properties: BasicProperties,
        body: Bytes,
        /// Whether some queue must take it.
        mandatory: bool,
        /// The rung that must be there.
        rung: Option<u64>,
    },
}

/// To one queue alone.
pub(in crate::adapters::rabbitmq) struct Requeue {
    pub(in crate::adapters::rabbitmq) queue: String,
    pub(in crate::adapters::rabbitmq) entry: Option<uuid::Uuid>,
}

/// Who wants to know.
pub(in crate::adapters::rabbitmq) enum Done {
    Caller(oneshot::Sender<Result<(), BusError>>),
    /// The consumer that made the copy of its delivery `tag`.
    Desk(Arc<Desk>, u64),
    Nobody,
}

impl Done {
    pub(super) fn tell(self, outcome: Result<(), BusError>) {
        match self {
            // Who asked may have gone.
            Self::Caller(caller) => drop(caller.send(outcome)),
            Self::Desk(desk, tag) => desk.copied(tag, outcome),
            Self::Nobody => {}
        }
    }

    /// Whether there is still a reason to publish.
    pub(super) fn is_wanted(&self) -> bool {
        match self {
            Self::Desk(desk, tag) => desk.is_current(*tag),
            Self::Caller(_) | Self::Nobody => true,
        }
    }
}

/// One message on its way out.
pub(in crate::adapters::rabbitmq) struct Item {
    pub(in crate::adapters::rabbitmq) content: Content,
    pub(in crate::adapters::rabbitmq) done: Done,
    /// When who asked is told that it took too long.
    pub(in crate::adapters::rabbitmq) deadline: Option<Instant>,
    pub(in crate::adapters::rabbitmq) tries: u8,
}

impl Item {
    pub(super) fn body_len(&self) -> usize {
        match &self.content {
            Content::Message { message, .. } => message.body.len(),
            Content::Copy { body, .. } => body.len(),
        }
    }

    pub(super) fn too_large(&self, reason: &str) -> BusError {
        let topic = match &self.content {
            Content::Message { message, .. } => message.topic.to_string(),
            Content::Copy { key, .. } => key.clone(),
        };
        BusError::MessageTooLarge {
            topic,
            bytes: self.body_len(),
            reason: reason.to_owned(),
        }
    }

    /// The error when no queue took it; `None` if none has to.
    pub(super) fn unroutable(&self) -> Option<BusError> {
        match &self.content {
            Content::Message {
                requeue: Some(to), ..
            } => Some(BusError::TopologyMissing {
                resource: format!("queue {}", to.queue),
            }),
            Content::Message { message, .. } => match message.kind {
                MessageKind::Command => Some(BusError::NoHandler {
                    topic: message.topic.to_string(),
                }),
                MessageKind::Event => None,
            },
            Content::Copy { mandatory, key, .. } => mandatory.then(|| BusError::TopologyMissing {
                resource: format!("queue {key}"),
            }),
        }
    }

    pub(super) fn message_id(&self) -> Option<String> {
        match &self.content {
            Content::Message { message, .. } => Some(message.id.to_string()),
            Content::Copy { properties, .. } => {
                properties.message_id().as_ref().map(ToString::to_string)
            }
        }
    }

    /// The rung that it goes to.
    pub(super) fn rung(&self) -> Option<u64> {
        match &self.content {
            Content::Copy { rung, .. } => *rung,
            Content::Message { .. } => None,
        }
    }

    pub(super) fn missing_rung(&self, live: &Live) -> Option<u64> {
        self.rung().filter(|rung| !live.rungs.lock().contains(rung))
    }

    pub(super) fn route(&self) -> (&str, &str) {
        match &self.content {
            Content::Message {
                requeue: Some(to), ..
            } => ("", &to.queue),
            Content::Message { message, .. } => match message.kind {
                MessageKind::Command => (COMMANDS, &message.topic),
                MessageKind::Event => (EVENTS, &message.topic),
            },
            Content::Copy { exchange, key, .. } => (exchange, key),
        }
    }

    pub(super) fn parts(
        &self,
        core: &Core,
    ) -> (ShortString, ShortString, BasicProperties, Bytes, bool) {
        let (exchange, key) = self.route();
        let (exchange, key) = (exchange.into(), short(key));
        match &self.content {
            Content::Message {
                message,
                reply_to,
                requeue,
            } => {
                let properties = headers::outgoing(message, &core.app, reply_to.as_deref());
                let properties = match requeue {
                    Some(to) => headers::requeued(properties, &message.topic, to.entry),
                    None => properties,
                };
                let mandatory = requeue.is_some() || message.kind == MessageKind::Command;
                (exchange, key, properties, message.body.clone(), mandatory)
            }
            Content::Copy {
                properties,
                body,
                mandatory,
                ..
            } => (exchange, key, properties.clone(), body.clone(), *mandatory),
        }
    }
}
