//! What arrives for one handler, and how it is settled.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::Desk;
use crate::{
    background::Running,
    clock::Timestamp,
    delivery::Delivery,
    message::{MessageKind, Metadata, Reply, wire::Decoded},
    ports::{
        Arrived, BrokerLetter, ConsumerSpec, DeadLetter, DeadLetterReason, DeadLetterStatus, Doom,
        ErrorRecord, Inbox, InboxStore, RawMessage, Receipt, Settlement, TraceContext,
    },
    retry::RetryPolicy,
    telemetry::{Span, names},
};

/// What arrived.
#[derive(Debug)]
pub enum Arrival {
    /// A message for the handler.
    Message(Box<Incoming>),
    /// What cannot be handled: to be buried.
    Doomed(Box<Doomed>),
}

/// The arrivals of one handler. Cheap to clone; any number of workers may take from it.
#[derive(Debug, Clone)]
pub struct Consumer {
    desk: Desk,
    spec: Arc<ConsumerSpec>,
    inbox: Inbox,
    /// What fills the inbox, if that is done here.
    _filling: Option<Arc<Running>>,
}

impl Consumer {
    pub(super) fn new(
        desk: Desk,
        spec: ConsumerSpec,
        inbox: Inbox,
        filling: Option<Arc<Running>>,
    ) -> Self {
        Self {
            desk,
            spec: Arc::new(spec),
            inbox,
            _filling: filling,
        }
    }

    /// The next one, if there is one now.
    pub fn try_take(&self) -> Option<Arrival> {
        while let Some(arrived) = self.inbox.try_take() {
            let arrival = self.open(arrived);
            if arrival.is_some() {
                return arrival;
            }
        }
        None
    }

    /// Waits for the next one; `None` when nothing more comes.
    pub async fn take(&self) -> Option<Arrival> {
        loop {
            let arrival = self.open(self.inbox.take().await?);
            if arrival.is_some() {
                return arrival;
            }
        }
    }

    /// Waits until there may be something to take; false when nothing more comes.
    pub async fn ready(&self) -> bool {
        self.inbox.ready().await
    }

    /// As [`Consumer::ready`], by hand.
    pub fn poll_ready(&self, context: &mut Context<'_>) -> Poll<bool> {
        self.inbox.poll_ready(context)
    }

    /// An event that no pattern of the handler wants any more is done with: its binding is older than the handler. One that somebody
    /// requeued is wanted.
    fn is_wanted(&self, raw: &RawMessage) -> bool {
        self.spec.address.kind == MessageKind::Command
            || raw.dead_letter.is_some()
            || self.spec.patterns.iter().any(|p| p.matches(&raw.topic))
    }

    fn open(&self, arrived: Arrived) -> Option<Arrival> {
        let Arrived {
            raw,
            content,
            receipt,
        } = arrived;
        if !self.is_wanted(&raw) {
            receipt.settle(Settlement::Done { reply: None });
            return None;
        }
        let address = &self.spec.address;
        let matches = |decoded: &Decoded| {
            matches!(
                (decoded, address.kind),
                (Decoded::Command(_), MessageKind::Command)
                    | (Decoded::Event(_), MessageKind::Event)
            )
        };
        Some(match content {
            Ok(content) if matches(&content) => Arrival::Message(Box::new(Incoming {
                span: self.consuming(&raw),
                claimed: false,
                content,
                raw,
                receipt,
                desk: self.desk.clone(),
                spec: Arc::clone(&self.spec),
            })),
            Ok(_) => self.doomed(
                raw,
                receipt,
                Doom {
                    reason: DeadLetterReason::Undecodable,
                    error: ErrorRecord {
                        error_type: "ORK_BUS_WRONG_KIND".into(),
                        message: format!(
                            "expected {} in the queue of {}",
                            address.kind.as_str(),
                            address.handler
                        ),
                        trace: String::new(),
                    },
                },
            ),
            Err(doom) => self.doomed(raw, receipt, doom),
        })
    }

    fn consuming(&self, raw: &RawMessage) -> Span {
        self.desk.telemetry.span(names::RABBITMQ_CONSUME, || {
            let mut attributes = vec![
                (names::MESSAGING_SYSTEM, "rabbitmq".into()),
                (names::MESSAGING_OPERATION, "process".into()),
                (names::MESSAGING_ROUTING_KEY, raw.topic.clone()),
                (names::HANDLER, self.spec.address.handler.clone()),
            ];
            attributes.extend(
                raw.id
                    .map(|id| (names::MESSAGING_MESSAGE_ID, id.to_string())),
            );
            attributes
        })
    }

    fn doomed(&self, raw: RawMessage, receipt: Receipt, doom: Doom) -> Arrival {
        let now = self.desk.clock.now();
        let letter = letter_of_raw(&raw, self.spec.address.handler.clone(), doom.reason, now);
        let mut letter = DeadLetter {
            id: self.desk.ids.next_id(now),
            ..letter
        };
        letter.errors.insert(0, doom.error);
        Arrival::Doomed(Box::new(Doomed {
            letter,
            receipt,
            desk: self.desk.clone(),
            raw,
        }))
    }
}

/// A message that arrived for its handler. Dropped unsettled, it goes back to its queue.
#[derive(Debug)]
pub struct Incoming {
    content: Decoded,
    raw: RawMessage,
    receipt: Receipt,
    desk: Desk,
    spec: Arc<ConsumerSpec>,
    span: Span,
    /// The handler has recorded itself that it has handled the message.
    claimed: bool,
}

impl Incoming {
    /// The command or event.
    pub fn content(&self) -> &Decoded {
        &self.content
    }

    /// The message's id.
    pub fn id(&self) -> Uuid {
        match &self.content {
            Decoded::Command(envelope) => envelope.command.id,
            Decoded::Event(event) => event.id,
        }
    }

    /// Its metadata.
    pub fn metadata(&self) -> &Metadata {
        match &self.content {
            Decoded::Command(envelope) => &envelope.command.metadata,
            Decoded::Event(event) => &event.metadata,
        }
    }

    /// Retries that the sender wants: of the header, else of the body.
    pub fn max_retries(&self) -> Option<u32> {
        match &self.content {
            Decoded::Command(envelope) => self.raw.max_retries.or(envelope.max_retries),
            Decoded::Event(_) => self.raw.max_retries,
        }
    }

    /// As it came.
    pub fn raw(&self) -> &RawMessage {
        &self.raw
    }

    /// Its trace.
    pub fn trace(&self) -> &TraceContext {
        &self.raw.trace
    }

    /// Whether somebody waits for the result, or it is recorded for whoever asks again.
    pub fn wants_reply(&self) -> bool {
        self.raw.wants_reply || self.spec.inbox && self.spec.address.kind == MessageKind::Command
    }

    /// The handler has recorded in a transaction of its own that it has handled the message: nothing is recorded beside that.
    pub fn claimed(&mut self) {
        self.claimed = true;
    }

    /// Its delivery under the handler's `policy`: goes on where the last attempt ended.
    pub fn delivery(&self, policy: &RetryPolicy) -> Delivery {
        Delivery::new(policy, self.spec.address.kind, self.max_retries()).resumed(
            self.raw.attempts,
            self.raw.failures,
            self.raw.first_failed_at,
        )
    }

    /// Handled: `result` is JSON, needed only if it [is wanted](Incoming::wants_reply). For a handler with an inbox it is recorded before the message
    /// leaves its queue.
    pub fn done(self, result: Option<Bytes>) {
        let reply = self.reply(|| succeeded(result.clone()));
        self.finish(reply, Ended::Handled(result));
    }

    /// Handled, but its result cannot be sent: whoever waits for it is told why, as a failure.
    pub fn unanswerable(self, error: ErrorRecord) {
        let reply = self.reply(|| Reply::Failed {
            handler: self.spec.address.handler.clone(),
            error_type: error.error_type,
            message: error.message,
            trace: error.trace,
        });
        self.finish(reply, Ended::Handled(None));
    }

    /// Refused: the message is done with, and whoever asked is told.
    pub fn rejected(self, reason: &str, data: Value) {
        let reply = self.reply(|| Reply::Rejected {
            reason: reason.to_owned(),
            data,
        });
        self.finish(reply, Ended::Refused);
    }

    /// To come again after `after`, as `delivery` decided.
    pub fn retry(self, delivery: &Delivery, after: Duration) {
        let now = self.desk.clock.now();
        self.receipt.settle(Settlement::Retry {
            after,
            attempts: delivery.attempts(),
            failures: delivery.failures(),
            first_failed_at: delivery.first_failed_at().unwrap_or(now),
        });
    }

    /// Given up: recorded as a dead letter, in the state store if that is durable, else at the broker; then it leaves the queue. Returns the entry.
    pub async fn give_up(self, letter: DeadLetter) -> DeadLetter {
        let letter = DeadLetter {
            trace_id: letter.trace_id.or_else(|| self.raw.trace.trace_id()),
            // As it came: a requeued one is the same to the byte.
            body: self.raw.body.clone(),
            topic: self.raw.topic.clone(),
            requeueable: true,
            ..letter
        };
        let _span = self.span;
        let wanted = self.raw.wants_reply;
        let reply = wanted.then(|| failed(&letter).encode(letter.message_id));
        bury(&self.desk, letter, self.receipt, reply).await
    }

    /// Not started: it goes back to its queue.
    pub fn give_back(self) {
        self.receipt.settle(Settlement::GiveBack);
    }

    fn reply(&self, reply: impl FnOnce() -> Reply) -> Option<Bytes> {
        self.raw.wants_reply.then(|| reply().encode(self.id()))
    }

    /// Done with, as it `ended`.
    fn finish(self, reply: Option<Bytes>, ended: Ended) {
        let message = self.id();
        let Self {
            raw,
            receipt,
            desk,
            spec,
            span: _span,
            claimed,
            ..
        } = self;
        let store = desk.handled.clone().filter(|_| spec.inbox && !claimed);
        let record = match (ended, store) {
            (Ended::Handled(result), Some(store)) => {
                Some((store, spec.address.handler.clone(), message, result))
            }
            _ => None,
        };
        settle_done(&desk, &raw, receipt, reply, record);
    }
}

/// How a handler ended with a message that is done with.
enum Ended {
    /// With this result: that is recorded for a handler with an inbox.
    Handled(Option<Bytes>),
    /// It refused it.
    Refused,
}

/// What to record of a message: where, the handler, the message and the result.
type Record = (Arc<dyn InboxStore>, String, Uuid, Option<Bytes>);

/// Records what is to be recorded, forgets the dead letter that the message was, and settles it.
fn settle_done(
    desk: &Desk,
    raw: &RawMessage,
    receipt: Receipt,
    reply: Option<Bytes>,
    record: Option<Record>,
) {
    let entry = raw.dead_letter.zip(desk.dead_letters.clone());
    if entry.is_none() && record.is_none() {
        return receipt.settle(Settlement::Done { reply });
    }
    desk.background.detach(async move {
        if let Some((store, handler, message, result)) = record
            && let Err(error) = store.record(handler.clone(), message, result).await
        {
            // It was handled: to hand it over again would be worse than not to know of it.
            tracing::warn!(handler, %message, %error, "it could not be recorded that a message was handled");
        }
        // It was a dead letter, and is none any more. If the entry cannot be removed now it stays, marked as requeued.
        if let Some((entry, store)) = entry
            && let Err(error) = store.discard(entry).await
        {
            tracing::warn!(%entry, %error, "a dead letter that was handled could not be removed");
        }
        receipt.settle(Settlement::Done { reply });
    });
}

/// Settles a message that was handled before: whoever asks again gets the recorded result.
pub(super) fn answer_as_recorded(desk: &Desk, arrived: Arrived, result: Option<Bytes>) {
    let Arrived {
        raw,
        content,
        receipt,
    } = arrived;
    let id = match &content {
        Ok(Decoded::Command(envelope)) => envelope.command.id,
        Ok(Decoded::Event(event)) => event.id,
        Err(_) => Uuid::nil(),
    };
    let reply = raw.wants_reply.then(|| succeeded(result).encode(id));
    settle_done(desk, &raw, receipt, reply, None);
}

fn succeeded(result: Option<Bytes>) -> Reply {
    Reply::Succeeded {
        result: result.unwrap_or_else(|| Bytes::from_static(b"null")),
    }
}

/// A message that cannot be handled. Dropped, it goes back to its queue.
#[derive(Debug)]
pub struct Doomed {
    letter: DeadLetter,
    receipt: Receipt,
    desk: Desk,
    raw: RawMessage,
}

impl Doomed {
    /// What will be recorded.
    pub fn letter(&self) -> &DeadLetter {
        &self.letter
    }

    /// Records it, in the state store if that is durable, else at the broker; then it leaves the queue. Returns the entry.
    pub async fn bury(self) -> DeadLetter {
        let reply = self
            .raw
            .wants_reply
            .then(|| failed(&self.letter).encode(self.letter.message_id));
        bury(&self.desk, self.letter, self.receipt, reply).await
    }
}

async fn bury(
    desk: &Desk,
    letter: DeadLetter,
    receipt: Receipt,
    reply: Option<Bytes>,
) -> DeadLetter {
    if let Some(store) = &desk.dead_letters {
        match store.record(letter.clone()).await {
            Ok(entry) => {
                receipt.settle(Settlement::Done { reply });
                return entry;
            }
            Err(error) => {
                tracing::error!(handler = letter.handler, %error, "a dead letter goes to the broker, as the state store does not take it");
            }
        }
    }
    receipt.settle(Settlement::DeadLetter {
        letter: Box::new(letter.clone()),
        reply,
    });
    letter
}

fn failed(letter: &DeadLetter) -> Reply {
    let error = letter.errors.first();
    Reply::Failed {
        handler: letter.handler.clone(),
        error_type: error.map_or_else(String::new, |e| e.error_type.clone()),
        message: error.map_or_else(|| letter.reason.as_str().to_owned(), |e| e.message.clone()),
        trace: error.map_or_else(String::new, |e| e.trace.clone()),
    }
}

/// A letter that lies at the broker, as an entry.
pub(super) fn letter_of(letter: BrokerLetter, now: Timestamp) -> DeadLetter {
    let reason = DeadLetterReason::parse(&letter.reason).unwrap_or(DeadLetterReason::Broker);
    let handler = if letter.handler.is_empty() {
        letter.queue
    } else {
        letter.handler
    };
    let mut entry = letter_of_raw(&letter.message, handler, reason, now);
    entry.id = entry_id(&letter.message, &entry.handler);
    if !letter.topic.is_empty() {
        entry.topic = letter.topic;
    }
    if reason == DeadLetterReason::Broker {
        entry.errors.push(ErrorRecord {
            error_type: "broker".into(),
            message: format!("dead-lettered by the broker: {}", letter.reason),
            trace: String::new(),
        });
    }
    entry
}

/// The same id for the same letter each time it is looked at.
fn entry_id(raw: &RawMessage, handler: &str) -> Uuid {
    let mut hasher = Sha256::new();
    hasher.update(handler.as_bytes());
    match raw.id {
        Some(id) => hasher.update(id.as_bytes()),
        None => hasher.update(&raw.body),
    }
    hashed(&hasher.finalize())
}

fn hashed(digest: &[u8]) -> Uuid {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    // RFC 9562 section 5.8: version 8, for ids made in a way of one's own.
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

fn letter_of_raw(
    raw: &RawMessage,
    handler: String,
    reason: DeadLetterReason,
    now: Timestamp,
) -> DeadLetter {
    let decoded = crate::message::wire::decode(&raw.body, now).ok();
    let (kind, id, type_name, correlation_id) = match &decoded {
        Some(Decoded::Command(envelope)) => (
            MessageKind::Command,
            envelope.command.id,
            envelope.command.type_name.to_string(),
            envelope.command.metadata.correlation_id.to_string(),
        ),
        Some(Decoded::Event(event)) => (
            MessageKind::Event,
            event.id,
            event.type_name.to_string(),
            event.metadata.correlation_id.to_string(),
        ),
        None => (
            raw.kind.unwrap_or(MessageKind::Event),
            raw.id.unwrap_or_else(|| hashed(&Sha256::digest(&raw.body))),
            String::new(),
            String::new(),
        ),
    };
    DeadLetter {
        id,
        handler,
        kind,
        message_id: id,
        type_name,
        topic: raw.topic.clone(),
        body: raw.body.clone(),
        requeueable: decoded.is_some(),
        reason,
        errors: raw.errors.clone(),
        attempts: raw.attempts,
        first_failed_at: raw.first_failed_at.unwrap_or(now),
        last_failed_at: raw.last_failed_at.unwrap_or(now),
        correlation_id,
        trace_id: raw.trace.trace_id(),
        status: DeadLetterStatus::Dead,
        history: Vec::new(),
    }
}
