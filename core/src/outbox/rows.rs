//! From the outbox to the broker.

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::{
    FutureExt,
    future::{Either, FusedFuture, join_all, maybe_done, select},
    poll,
};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{
    OutboxReader,
    parking::{Parked, Parking},
    relay::{FIRST_WAIT, LONGEST_WAIT},
};
use crate::{
    broker::Broker,
    message::wire::{self, Decoded},
    ports::{
        BusError, DeadLetter, DeadLetterReason, OUTBOX, OutboxRow, Outgoing, RELAY, StoreError,
    },
};

/// Publishes the messages of the outbox in their order, each until the broker has it.
pub(crate) struct OutboxRelay {
    pub(super) reader: OutboxReader,
    pub(super) broker: Broker,
    pub(super) parking: Parking,
    /// Why it does not go on now.
    pub(super) error: Arc<Mutex<Option<String>>>,
}

/// What came of an attempt to publish some.
#[derive(Default)]
struct Passed {
    /// The broker has these, or they are parked.
    done: Vec<u64>,
    /// What is in the way of the others.
    obstacle: Option<String>,
    /// The bus or the store is closed.
    over: bool,
}

impl OutboxRelay {
    /// Publishes until `stop` is sent or dropped; then what is in the outbox by then, if nothing is in the way.
    pub(crate) async fn run(mut self, stop: oneshot::Receiver<()>) {
        let mut stop = pin!(stop.fuse());
        let mut wait = FIRST_WAIT;
        loop {
            let rows = if stop.is_terminated() {
                self.reader.try_next().await
            } else {
                match select(pin!(self.reader.next()), &mut stop).await {
                    Either::Left((rows, _)) => rows.map(Some),
                    Either::Right(_) => continue,
                }
            };
            let obstacle = match rows {
                Ok(Some(rows)) => {
                    let passed = self.publish(&rows).await;
                    let out = self.take_out(&rows, passed.done).await;
                    if passed.over {
                        break;
                    }
                    passed.obstacle.or(out.err().map(|error| error.to_string()))
                }
                Ok(None) => break,
                Err(StoreError::Closed {}) => return,
                Err(error) => Some(error.to_string()),
            };
            let Some(obstacle) = obstacle else {
                wait = FIRST_WAIT;
                *self.error.lock() = None;
                continue;
            };
            if stop.is_terminated() {
                break;
            }
            self.pause(obstacle, wait, &mut stop).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
        if let Err(error) = self.reader.release().await {
            tracing::debug!(name = OUTBOX, %error, "a lease was not given back");
        }
    }

    async fn pause(&self, obstacle: String, wait: Duration, stop: &mut (impl FusedFuture + Unpin)) {
        tracing::warn!(
            name = RELAY,
            error = obstacle,
            "the outbox is not published now"
        );
        *self.error.lock() = Some(obstacle);
        select(self.broker.desk.clock.sleep(wait), stop).await;
    }

    /// Takes out what is done with; the others come again.
    async fn take_out(&mut self, rows: &[OutboxRow], done: Vec<u64>) -> Result<(), StoreError> {
        let out = self.reader.done(done).await;
        let serials: Vec<u64> = rows.iter().map(|row| row.serial).collect();
        self.reader.give_back(&serials);
        out
    }

    /// Starts publishing `rows` in their order, without waiting for each other, then waits for all.
    async fn publish(&self, rows: &[OutboxRow]) -> Passed {
        let mut sendings = Vec::with_capacity(rows.len());
        for row in rows {
            let mut sending = Box::pin(maybe_done(self.broker.send(row.message.clone())));
            // The first poll hands it over: before the next one's, so that they arrive in order.
            let _ = poll!(&mut sending);
            sendings.push(sending);
        }
        join_all(&mut sendings).await;
        let mut passed = Passed::default();
        for (mut sending, row) in sendings.into_iter().zip(rows) {
            let error = match sending.as_mut().take_output().unwrap_or(Ok(())) {
                Ok(()) => {
                    passed.done.push(row.serial);
                    continue;
                }
                // These are about the message; all else is about the broker, and passes.
                Err(error @ (BusError::MessageTooLarge { .. } | BusError::NoHandler { .. })) => {
                    let reason = DeadLetterReason::NotRetryable;
                    let letter = letter_of(&self.parking, &row.message, reason, &error);
                    match self.parking.park(letter).await {
                        Ok(()) => {
                            passed.done.push(row.serial);
                            continue;
                        }
                        Err(error) => error.to_string(),
                    }
                }
                Err(error) => {
                    passed.over |= matches!(error, BusError::Closed {});
                    error.to_string()
                }
            };
            passed.obstacle.get_or_insert(error);
        }
        passed
    }
}

/// The dead letter of a message that never leaves.
pub(super) fn letter_of(
    parking: &Parking,
    message: &Outgoing,
    reason: DeadLetterReason,
    error: &BusError,
) -> DeadLetter {
    let type_name = match wire::decode(&message.body, message.issued_at) {
        Ok(Decoded::Command(envelope)) => envelope.command.type_name.to_string(),
        Ok(Decoded::Event(event)) => event.type_name.to_string(),
        Err(_) => String::new(),
    };
    let parked = Parked {
        kind: message.kind,
        id: message.id,
        type_name: &type_name,
        topic: &message.topic,
        body: Some(message.body.clone()),
        correlation_id: message.correlation_id.to_string(),
        trace: &message.trace,
    };
    parking.letter(parked, reason, error)
}
