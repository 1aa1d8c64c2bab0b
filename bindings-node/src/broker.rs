//! Messages on their way to a broker, and how it is.

use std::time::Duration;

use bytes::Bytes;
use napi_derive::napi;
use orkestra::{
    Error,
    broker::DEFAULT_ASK_TIMEOUT,
    clock::Timestamp,
    message::{
        CommandStatus,
        wire::{self, Decoded},
    },
    ports::{BusError, BusHealth, HandlerAddress, Outgoing, TraceContext},
    registry::Registry,
};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    bridge::Started,
    dead_letters::{id_of, letter_json},
    error::{parse, throw},
    names::{MessageIn, kind_of, parse_borrowed},
    registry::NodeRegistry,
    services::NodeStores,
};

/// A message to send.
#[derive(Deserialize)]
pub(crate) struct SendIn<'a> {
    kind: &'a str,
    /// Whether the answer is waited for.
    #[serde(default)]
    ask: bool,
    /// Milliseconds to wait for it, unless as long as usual.
    #[serde(default)]
    timeout_ms: Option<f64>,
    #[serde(default)]
    max_retries: Option<u32>,
    #[serde(borrow)]
    message: MessageIn<'a>,
}

impl SendIn<'_> {
    pub(crate) fn outgoing(&mut self, registry: &NodeRegistry) -> napi::Result<Outgoing> {
        let kind = kind_of(self.kind);
        self.message.max_retries = self.max_retries;
        self.message.attempts = 1;
        self.message.status = Some(CommandStatus::Dispatched.as_str().to_owned());
        let topic = registry.inner.topic_for(&self.message.type_name);
        let (body, metadata) = self.message.encode(kind)?;
        Ok(Outgoing {
            kind,
            id: self.message.id,
            topic: topic.map_err(|error| throw(&error))?.into(),
            correlation_id: metadata.correlation_id.to_string().into(),
            body,
            issued_at: metadata.issued_at,
            max_retries: self.max_retries,
            trace: self.message.trace(),
        })
    }

    fn timeout(&self) -> Duration {
        let seconds = self.timeout_ms.map(|ms| ms.max(0.0) / 1000.0);
        seconds.map_or(DEFAULT_ASK_TIMEOUT, |s| {
            Duration::try_from_secs_f64(s).unwrap_or(Duration::MAX)
        })
    }
}

#[napi]
impl NodeStores {
    /// Sends messages, a JSON array, in their order; a task's number for each. It ends when the broker has the message, or with the answer.
    #[napi]
    pub fn send(&self, registry: &NodeRegistry, json: String) -> napi::Result<Vec<u32>> {
        let broker = self.broker()?;
        let messages: Vec<SendIn<'_>> = parse_borrowed(&json)?;
        // All of them first: either the batch is sent or it is not.
        let messages = messages.into_iter().map(|mut message| {
            let ask = message.ask.then(|| message.timeout());
            Ok((message.outgoing(registry)?, ask))
        });
        let messages = messages.collect::<napi::Result<Vec<_>>>()?;
        let tasks = messages.into_iter().map(|(outgoing, ask)| {
            let broker = broker.clone();
            self.spawner.post(async move {
                let Some(timeout) = ask else {
                    broker.send(outgoing).await?;
                    return Ok(None);
                };
                let result = broker.ask(outgoing, timeout).await?;
                Ok::<_, BusError>(Some(String::from_utf8_lossy(&result).into_owned()))
            })
        });
        Ok(tasks.collect())
    }

    /// How the broker and the relay are, JSON: `{bus, relay}`, nothing for what there is not.
    #[napi]
    pub fn bus_health(&self) -> String {
        let services = self.services().ok();
        let broker = services
            .as_ref()
            .and_then(|services| services.broker.as_ref());
        let bus = match broker {
            Some(broker) => Some(broker.health()),
            // Not opened yet.
            None => self.has_broker().then(BusHealth::default),
        };
        let relay = services.and_then(|services| services.relay_health());
        let relay = relay.map(|relay| json!({ "position": relay.position, "error": relay.error }));
        json!({ "bus": bus.as_ref().map(health_json), "relay": relay }).to_string()
    }

    /// Stops delivering; what is in hand can still be settled.
    #[napi]
    pub fn pause_bus(&self) -> napi::Result<Started> {
        let broker = self.broker()?;
        self.spawner.start(async move {
            broker.pause().await;
            Ok::<_, BusError>(None)
        })
    }

    /// Puts the message of a dead letter, which is marked as requeued, into the queue of its handler alone. `now` is in microseconds.
    #[napi]
    pub fn requeue_over_bus(
        &self,
        registry: &NodeRegistry,
        letter: String,
        now: i64,
    ) -> napi::Result<Started> {
        let broker = self.broker()?;
        let requeued = Requeued::read(&letter, &registry.inner, Timestamp::from_micros(now))?;
        self.spawner.start(async move {
            let Requeued { id, to, message } = requeued;
            broker.requeue(to, message, Some(id)).await?;
            Ok::<_, BusError>(None)
        })
    }

    /// Dead letters that lie at the broker and belong to the app, a JSON array.
    #[napi]
    pub fn bus_letters(&self, limit: u32) -> napi::Result<Started> {
        let broker = self.broker()?;
        self.spawner.start(async move {
            let letters = broker.letters(limit as usize).await?;
            let items: Vec<_> = letters.iter().map(letter_json).collect();
            Ok::<_, BusError>(Some(Value::from(items).to_string()))
        })
    }

    /// Moves dead letters from the broker into the state store, at most `limit`. Ends with how many.
    #[napi]
    pub fn drain_bus_letters(&self, limit: Option<u32>) -> napi::Result<Started> {
        let broker = self.broker()?;
        let store = self.services()?.dead_letters;
        let limit = limit.map_or(usize::MAX, |limit| limit as usize);
        self.spawner.start(async move {
            let drained = broker.drain_letters(store, limit).await?;
            match drained.refused {
                Some(error) => Err(error.into()),
                None => Ok::<_, Error>(Some(drained.moved.to_string())),
            }
        })
    }
}

/// What of a dead letter is needed to requeue it.
#[derive(Deserialize)]
struct LetterIn {
    id: String,
    handler: String,
    kind: String,
    topic: String,
    body: String,
}

/// A dead letter on its way back.
struct Requeued {
    id: Uuid,
    to: HandlerAddress,
    message: Outgoing,
}

impl Requeued {
    fn read(json: &str, registry: &Registry, now: Timestamp) -> napi::Result<Self> {
        let letter: LetterIn = parse(json)?;
        let body = Bytes::from(letter.body);
        let decoded = wire::decode(&body, now).map_err(|error| throw(&error))?;
        let (id, metadata, max_retries) = match &decoded {
            Decoded::Command(envelope) => (
                envelope.command.id,
                &envelope.command.metadata,
                envelope.max_retries,
            ),
            Decoded::Event(event) => (event.id, &event.metadata, None),
        };
        let kind = kind_of(&letter.kind);
        let message = Outgoing {
            kind,
            id,
            topic: letter.topic.as_str().into(),
            correlation_id: metadata.correlation_id.to_string().into(),
            issued_at: metadata.issued_at,
            body,
            max_retries,
            trace: TraceContext::default(),
        };
        let to = match registry.handler_named(&letter.handler) {
            Some(handler) => registry.consumer_spec(handler).address,
            None => HandlerAddress {
                kind,
                topic: letter.topic,
                handler: letter.handler,
            },
        };
        Ok(Self {
            id: id_of(&letter.id)?,
            to,
            message,
        })
    }
}

fn health_json(health: &BusHealth) -> Value {
    let consumers = health.consumers.iter().map(|consumer| {
        json!({
            "handler": consumer.handler, "queue": consumer.queue,
            "consuming": consumer.consuming, "error": consumer.error,
        })
    });
    json!({
        "connected": health.connected, "blocked": health.blocked, "error": health.error,
        "consumers": consumers.collect::<Vec<_>>(),
    })
}
