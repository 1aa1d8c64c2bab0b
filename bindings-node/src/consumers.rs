//! What arrives over a broker, handed over in batches, and how it is settled.

use std::{cell::RefCell, collections::HashMap, fmt::Write, rc::Rc, time::Duration};

use bytes::Bytes;
use napi_derive::napi;
use orkestra::{
    broker::{Arrival, Broker, Consumer, Doomed, Incoming},
    clock::{Clock, IdSource, Timestamp},
    delivery::{Addressed, Delivery, Next},
    message::{
        MessageKind,
        wire::{self, Decoded},
    },
    outbox::LocalOutbox,
    ports::{BusError, DeadLetterReason, ErrorRecord},
    registry::HandlerIndex,
    retry::RetryPolicy,
};
use serde_json::{Value, json};

use crate::{
    bridge::{Spawner, Started},
    dead_letters::letter_json,
    error::parse,
    registry::NodeRegistry,
    services::NodeStores,
};

/// The queues of an app's handlers, a lane each; without a broker, what comes for them out of the outbox.
#[napi(js_name = "Consumers")]
pub struct NodeConsumers {
    spawner: Spawner,
    source: Source,
    ids: std::sync::Arc<dyn IdSource>,
    clock: std::sync::Arc<dyn Clock>,
    lanes: Rc<RefCell<Vec<Rc<Lane>>>>,
    /// What JavaScript has in hand, by its ticket.
    held: HashMap<u32, Held>,
    last: u32,
}

/// Where messages come from.
enum Source {
    Broker(Broker),
    Outbox(LocalOutbox),
}

struct Lane {
    consumer: Consumer,
    handler: String,
    kind: MessageKind,
    policy: RetryPolicy,
}

enum Held {
    Message(Rc<Lane>, Box<Incoming>),
    Doomed(Box<Doomed>),
}

#[napi]
impl NodeConsumers {
    /// No lane yet.
    #[napi(constructor)]
    pub fn new(stores: &NodeStores) -> napi::Result<Self> {
        let services = stores.services()?;
        let parked = std::sync::Arc::clone(&stores.parked);
        let source = match services.local_outbox(move |letter| parked.put(letter)) {
            Some(outbox) => Source::Outbox(outbox),
            None => Source::Broker(stores.broker()?),
        };
        Ok(Self {
            spawner: stores.spawner.clone(),
            source,
            ids: services.ids,
            clock: services.clock,
            lanes: Rc::default(),
            held: HashMap::new(),
            last: 0,
        })
    }

    /// Declares and consumes a handler's queue; ends when the broker delivers. Its lane has the number of the lanes before it.
    #[napi]
    pub fn consume(&self, registry: &NodeRegistry, handler: u32) -> napi::Result<Started> {
        let handler = HandlerIndex(handler as usize);
        let info = registry.inner.handler(handler);
        let (policy, kind) = (info.options.policy.clone(), info.kind);
        let spec = registry.inner.consumer_spec(handler);
        let handler = spec.address.handler.clone();
        let lanes = Rc::clone(&self.lanes);
        let add = move |consumer| {
            lanes.borrow_mut().push(Rc::new(Lane {
                consumer,
                handler,
                kind,
                policy,
            }));
        };
        match &self.source {
            Source::Outbox(outbox) => {
                add(outbox.consume(spec));
                Ok(Started::B(None))
            }
            Source::Broker(broker) => {
                let broker = broker.clone();
                self.spawner.start(async move {
                    add(broker.consume(spec).await?);
                    Ok::<_, BusError>(None)
                })
            }
        }
    }

    /// Without a broker: begins to hand over, when there is a lane for each handler.
    #[napi]
    pub fn start(&self) {
        if let Source::Outbox(outbox) = &self.source {
            outbox.start();
        }
    }

    /// The handler has recorded by itself that it handled this.
    #[napi]
    pub fn claimed(&mut self, ticket: u32) {
        if let Some(Held::Message(_, incoming)) = self.held.get_mut(&ticket) {
            incoming.claimed();
        }
    }

    /// Waits until a lane may have something: ends with text then, with nothing when nothing more comes.
    #[napi]
    pub fn ready(&self, lane: u32) -> napi::Result<Started> {
        let lane = self.lanes.borrow().get(lane as usize).cloned();
        self.spawner.start(async move {
            let more = match lane {
                Some(lane) => lane.consumer.ready().await,
                None => false,
            };
            Ok::<_, BusError>(more.then(String::new))
        })
    }

    /// What has arrived, as a JSON array; of each lane at most as many as it wants. Nothing when there is nothing.
    #[napi]
    pub fn take(&mut self, wants: Vec<u32>) -> Option<String> {
        let lanes = self.lanes.borrow().clone();
        let mut text = String::new();
        for (number, (lane, wanted)) in lanes.iter().zip(wants).enumerate() {
            for _ in 0..wanted {
                let Some(arrival) = lane.consumer.try_take() else {
                    break;
                };
                text.push(if text.is_empty() { '[' } else { ',' });
                let ticket = self.last.wrapping_add(1);
                self.last = ticket;
                // Writing into a string cannot fail.
                let _ = write!(text, "{{\"lane\":{number},\"ticket\":{ticket}");
                let held = match arrival {
                    Arrival::Message(incoming) => {
                        write_message(&mut text, &incoming);
                        Held::Message(Rc::clone(lane), incoming)
                    }
                    Arrival::Doomed(doomed) => Held::Doomed(doomed),
                };
                text.push('}');
                self.held.insert(ticket, held);
            }
        }
        if text.is_empty() {
            return None;
        }
        text.push(']');
        Some(text)
    }

    /// Handled, without anybody who waits for the results.
    #[napi]
    pub fn done(&mut self, tickets: Vec<u32>) {
        for ticket in tickets {
            if let Some((_, incoming)) = self.message(ticket) {
                incoming.done(None);
            }
        }
    }

    /// Handled: `results` are JSON, one for each ticket.
    #[napi]
    pub fn answered(&mut self, tickets: Vec<u32>, results: Vec<String>) {
        for (ticket, result) in tickets.into_iter().zip(results) {
            if let Some((_, incoming)) = self.message(ticket) {
                incoming.done(Some(Bytes::from(result)));
            }
        }
    }

    /// Handled, but the result is no JSON: whoever waits for it is told so. `error` is JSON.
    #[napi]
    pub fn unanswerable(&mut self, ticket: u32, error: String) -> napi::Result<()> {
        let error: ErrorRecord = parse(&error)?;
        if let Some((_, incoming)) = self.message(ticket) {
            incoming.unanswerable(error);
        }
        Ok(())
    }

    /// Not started: back to their queues.
    #[napi]
    pub fn give_back(&mut self, tickets: Vec<u32>) {
        for ticket in tickets {
            // Dropping it does it.
            self.held.remove(&ticket);
        }
    }

    /// All that is still in hand goes back.
    #[napi]
    pub fn give_back_all(&mut self) {
        self.held.clear();
    }

    /// Refused; `data` is JSON.
    #[napi]
    pub fn rejected(&mut self, ticket: u32, reason: String, data: String) -> napi::Result<()> {
        let data: Value = parse(&data)?;
        if let Some((_, incoming)) = self.message(ticket) {
            incoming.rejected(&reason, data);
        }
        Ok(())
    }

    /// The attempt failed: comes again later, or is given up, which ends with the dead letter. `errors` is JSON, `now` microseconds.
    #[napi]
    pub fn failed(
        &mut self,
        ticket: u32,
        types: Vec<String>,
        errors: String,
        now: i64,
        draw: f64,
    ) -> napi::Result<Started> {
        self.after_failure(ticket, &errors, now, |delivery, errors, now| {
            delivery.failed(&types, errors, now, draw)
        })
    }

    /// The handler asked to be called again after this many milliseconds.
    #[napi]
    pub fn retry_after(
        &mut self,
        ticket: u32,
        delay_ms: f64,
        errors: String,
        now: i64,
    ) -> napi::Result<Started> {
        let delay = Duration::try_from_secs_f64(delay_ms / 1000.0).unwrap_or_default();
        self.after_failure(ticket, &errors, now, |delivery, errors, now| {
            delivery.retry_after(delay, errors, now)
        })
    }

    /// The payload does not fit its type: given up at once. Ends with the dead letter.
    #[napi]
    pub fn undecodable(&mut self, ticket: u32, errors: String, now: i64) -> napi::Result<Started> {
        self.after_failure(ticket, &errors, now, |delivery, errors, now| {
            delivery.failed(&[], errors, now, 0.0);
            Next::DeadLetter {
                reason: DeadLetterReason::Undecodable,
            }
        })
    }

    /// Records what cannot be handled. Ends with the dead letter.
    #[napi]
    pub fn bury(&mut self, ticket: u32) -> napi::Result<Started> {
        let Some(Held::Doomed(doomed)) = self.held.remove(&ticket) else {
            return Err(unknown(ticket));
        };
        self.spawner.start(async move {
            let letter = doomed.bury().await;
            Ok::<_, BusError>(Some(letter_json(&letter).to_string()))
        })
    }
}

impl NodeConsumers {
    fn message(&mut self, ticket: u32) -> Option<(Rc<Lane>, Box<Incoming>)> {
        match self.held.remove(&ticket)? {
            Held::Message(lane, incoming) => Some((lane, incoming)),
            Held::Doomed(_) => None,
        }
    }

    fn after_failure(
        &mut self,
        ticket: u32,
        errors: &str,
        now: i64,
        judge: impl FnOnce(&mut Delivery, Vec<ErrorRecord>, Timestamp) -> Next,
    ) -> napi::Result<Started> {
        let errors = parse(errors)?;
        let now = Timestamp::from_micros(now);
        let (lane, incoming) = self.message(ticket).ok_or_else(|| unknown(ticket))?;
        let mut delivery = incoming.delivery(&lane.policy);
        delivery.begin();
        let reason = match judge(&mut delivery, errors, now) {
            Next::Retry { after } => {
                incoming.retry(&delivery, after);
                return Ok(Started::B(None));
            }
            Next::DeadLetter { reason } => reason,
        };
        let id = self.ids.next_id(self.clock.now());
        let letter = delivery.dead_letter(reason, addressed(id, &lane, &incoming), now);
        self.spawner.start(async move {
            let letter = incoming.give_up(letter).await;
            Ok::<_, BusError>(Some(letter_json(&letter).to_string()))
        })
    }
}

fn unknown(ticket: u32) -> napi::Error {
    napi::Error::from_reason(format!("no message has the ticket {ticket}"))
}

fn addressed(id: uuid::Uuid, lane: &Lane, incoming: &Incoming) -> Addressed {
    let type_name = match incoming.content() {
        Decoded::Command(envelope) => &envelope.command.type_name,
        Decoded::Event(event) => &event.type_name,
    };
    Addressed {
        id,
        handler: lane.handler.clone(),
        kind: lane.kind,
        message_id: incoming.id(),
        type_name: type_name.to_string(),
        topic: incoming.raw().topic.clone(),
        body: Some(incoming.raw().body.clone()),
        correlation_id: incoming.metadata().correlation_id.to_string(),
        trace_id: incoming.trace().trace_id(),
    }
}

/// The keys of a message, after those of its delivery.
fn write_message(text: &mut String, incoming: &Incoming) {
    let (type_name, version, data) = match incoming.content() {
        Decoded::Command(envelope) => {
            let command = &envelope.command;
            (&command.type_name, 1, &command.params)
        }
        Decoded::Event(event) => (&event.type_name, event.version, &event.data),
    };
    let raw = incoming.raw();
    let metadata = wire::encode_metadata(incoming.metadata());
    // A type name has neither quotes nor backslashes; a topic may have.
    let _ = write!(
        text,
        ",\"id\":\"{}\",\"type\":\"{type_name}\",\"topic\":{},\"version\":{version},\"attempt\":{},\"asked\":{},\"metadata\":{},\"data\":{}",
        incoming.id(),
        Value::from(raw.topic.as_str()),
        raw.attempts.saturating_add(1),
        incoming.wants_reply(),
        String::from_utf8_lossy(&metadata),
        String::from_utf8_lossy(data),
    );
    if let Some(max_retries) = incoming.max_retries() {
        let _ = write!(text, ",\"max_retries\":{max_retries}");
    }
    let trace = incoming.trace();
    if !trace.is_empty() {
        let trace = json!({
            "traceparent": trace.traceparent.as_deref(),
            "tracestate": trace.tracestate.as_deref(),
            "baggage": trace.baggage.as_deref(),
        });
        let _ = write!(text, ",\"trace\":{trace}");
    }
}
