//! How what arrives from a broker reaches its handlers.

use std::sync::{Arc, Weak, atomic::Ordering};

use super::{
    HandlerError, Inner, Orkestra,
    context::Handling,
    deliver::{Attempt, Parcel},
    handler::Inbound,
};
use crate::{
    Error,
    broker::{Arrival, Consumer, Incoming},
    message::{Event as EventData, wire::Decoded},
    outbox::RelayOptions,
    ports::{DeadLetter, ErrorRecord},
    registry::HandlerIndex,
};

/// Consumes the queue of every handler, and publishes the log.
pub(super) async fn start(app: &Orkestra) -> Result<(), Error> {
    let Some(broker) = &app.inner.services.broker else {
        return Ok(());
    };
    let registry = &app.inner.registry;
    let mut consumers = Vec::new();
    for index in (0..registry.handlers().len()).map(HandlerIndex) {
        consumers.push((index, broker.consume(registry.consumer_spec(index)).await?));
    }
    // Between the queues and the work: what the first message makes happen is in the log after the relay's first place, and finds its queues.
    app.inner.services.start_relay(relay_options(app)).await?;
    let mut workers = app.inner.readers.lock();
    for (index, consumer) in consumers {
        for _ in 0..registry.handler(index).concurrency {
            let work = work(app.clone(), index, consumer.clone());
            workers.push(tokio::spawn(work));
        }
    }
    Ok(())
}

/// Without a broker: hands the messages of the outbox to their handlers.
pub(super) fn start_local(app: &Orkestra) {
    let inner: Weak<Inner> = Arc::downgrade(&app.inner);
    let announce = move |letter: &DeadLetter| {
        if let Some(inner) = inner.upgrade() {
            Orkestra { inner }.announce(letter);
        }
    };
    let registry = &app.inner.registry;
    let Some(outbox) = app.inner.services.local_outbox(announce) else {
        return;
    };
    let mut workers = app.inner.readers.lock();
    for index in (0..registry.handlers().len()).map(HandlerIndex) {
        let consumer = outbox.consume(registry.consumer_spec(index));
        for _ in 0..registry.handler(index).concurrency {
            workers.push(tokio::spawn(work(app.clone(), index, consumer.clone())));
        }
    }
    outbox.start();
}

fn relay_options(app: &Orkestra) -> RelayOptions {
    let registry = Arc::clone(&app.inner.registry);
    let topics = Arc::new(move |type_name: &str| registry.topic_for(type_name).ok());
    let inner: Weak<Inner> = Arc::downgrade(&app.inner);
    RelayOptions::new(topics).on_dead_letter(move |letter| {
        if let Some(inner) = inner.upgrade() {
            Orkestra { inner }.announce(letter);
        }
    })
}

async fn work(app: Orkestra, handler: HandlerIndex, consumer: Consumer) {
    loop {
        // A full queue and a handler that never waits must leave the thread to others now and then.
        tokio::task::coop::consume_budget().await;
        let arrival = match consumer.try_take() {
            Some(arrival) if app.is_open() => arrival,
            // It goes back.
            Some(_) => return,
            None => match app.unless_closed(consumer.take()).await {
                Some(Some(arrival)) => arrival,
                _ => return,
            },
        };
        match arrival {
            Arrival::Message(incoming) => handle(&app, handler, *incoming).await,
            Arrival::Doomed(doomed) => app.announce(&doomed.bury().await),
        }
    }
}

/// One attempt. A retry is the broker's to wait for.
async fn handle(app: &Orkestra, handler: HandlerIndex, mut incoming: Incoming) {
    let mut parcel = parcel_of(app, handler, &incoming);
    // In process others call the handler too: there a slot is needed beside the worker.
    let slot = match &app.inner.services.broker {
        None => parcel.slot(app).await,
        Some(_) => None,
    };
    let attempt = parcel.attempt(app).await;
    drop(slot);
    if parcel.handling.claimed.load(Ordering::Acquire) {
        incoming.claimed();
    }
    match attempt {
        Attempt::Done(Ok(answer)) if incoming.wants_reply() => {
            match (app.inner.handlers[&handler].encode_answer)(&*answer) {
                Ok(json) => incoming.done(Some(json)),
                Err(message) => incoming.unanswerable(ErrorRecord {
                    error_type: "ORK_BUS_INVALID_HANDLER".into(),
                    message,
                    trace: String::new(),
                }),
            }
        }
        Attempt::Done(Ok(_)) => incoming.done(None),
        Attempt::Done(Err(HandlerError::Rejected(reject))) => {
            incoming.rejected(&reject.reason, reject.data);
        }
        // There is no other error that ends a delivery so.
        Attempt::Done(Err(error)) => incoming.rejected(&error.to_string(), serde_json::Value::Null),
        Attempt::Retry(after, error) => {
            let name = &app.inner.registry.handler(handler).full_name;
            tracing::debug!(handler = name, message_id = %incoming.id(), %error, "an attempt failed");
            incoming.retry(&parcel.delivery, after);
        }
        Attempt::GiveUp(reason, _) => {
            let letter = parcel.dead_letter(app, reason);
            app.announce(&incoming.give_up(letter).await);
        }
    }
}

fn parcel_of(app: &Orkestra, handler: HandlerIndex, incoming: &Incoming) -> Parcel {
    let registry = &app.inner.registry;
    let data = match incoming.content() {
        Decoded::Event(event) => EventData::clone(event),
        Decoded::Command(envelope) => EventData {
            id: envelope.command.id,
            type_name: Arc::clone(&envelope.command.type_name),
            version: 1,
            data: envelope.command.params.clone(),
            metadata: envelope.command.metadata.clone(),
            occurred_at: envelope.command.metadata.issued_at,
        },
    };
    let takes_data = app.inner.data_handlers.contains(&handler);
    let known = registry.type_of(&data.type_name, &incoming.raw().topic);
    let data = match known {
        Some(index) if !takes_data && registry.type_named(&data.type_name).is_none() => EventData {
            type_name: Arc::clone(&registry.type_info(index).type_name),
            ..data
        },
        _ => data,
    };
    let kind = registry.handler(handler).kind;
    let (metadata, trace) = (data.metadata.clone(), incoming.trace().clone());
    Parcel {
        handler,
        type_name: Arc::clone(&data.type_name),
        delivery: incoming.delivery(&registry.handler(handler).options.policy),
        handling: Handling::traced(data.id, kind, metadata, trace),
        inbound: Inbound::Data(Arc::new(data)),
    }
}
