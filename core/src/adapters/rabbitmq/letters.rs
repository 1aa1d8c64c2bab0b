//! Dead letters that lie at the broker, in the queue that catches all of them.

use std::{borrow::Borrow, sync::Arc};

use bytes::Bytes;
use lapin::{
    Channel,
    message::Delivery,
    options::{BasicAckOptions, BasicGetOptions},
};

use super::{
    Core,
    error::bus_error,
    headers::{self, HANDLER, Headers, QUEUE, REASON},
    topology::{CATCH_ALL, Topology},
};
use crate::ports::{BrokerLetter, BusError, TakeLetter};

/// Looks through the letters that are there now, oldest first, on a channel of its own: when that is closed, what was only looked at goes back
/// in order.
struct Reading {
    channel: Channel,
    core: Arc<Core>,
    left: Option<u32>,
}

impl Reading {
    async fn begin(core: &Arc<Core>) -> Result<Self, BusError> {
        let live = core.consume.get_first().await?;
        let topology = Topology {
            config: &core.config,
        };
        topology.prepare(&live).await?;
        Ok(Self {
            channel: live.channel().await?,
            core: Arc::clone(core),
            left: None,
        })
    }

    /// The next of ours, with its delivery tag.
    async fn next(&mut self) -> Result<Option<(u64, BrokerLetter)>, BusError> {
        while self.left != Some(0) {
            let got = self
                .channel
                .basic_get(CATCH_ALL.into(), BasicGetOptions::default())
                .await
                .map_err(|error| bus_error(&error))?;
            let Some(got) = got else { break };
            self.left = Some(
                self.left
                    .map_or(got.message_count, |left| left.saturating_sub(1)),
            );
            let tag = got.delivery.delivery_tag;
            if let Some(letter) = letter(&self.core, got.delivery) {
                return Ok(Some((tag, letter)));
            }
        }
        Ok(None)
    }

    async fn end(self) {
        // Should it fail, the connection is gone, and with it what was looked at goes back.
        let _ = self.channel.close(200, "OK".into()).await;
    }
}

/// So many are looked at, at most.
const LOOKED_AT: usize = 10_000;

/// Dead letters of ours, at most `limit`. All that are there are looked at: a queue puts what comes back behind what nobody has looked at, so
/// that only looking at all of them leaves their order as it is.
pub(super) async fn look(core: Arc<Core>, limit: usize) -> Result<Vec<BrokerLetter>, BusError> {
    let mut reading = Reading::begin(&core).await?;
    let mut letters = Vec::new();
    for _ in 0..LOOKED_AT {
        let Some((_, letter)) = reading.next().await? else {
            break;
        };
        if letters.len() < limit {
            letters.push(letter);
        }
    }
    reading.end().await;
    Ok(letters)
}

/// Hands dead letters of ours to `take`, at most `limit`; returns how many left the broker.
pub(super) async fn drain(
    core: Arc<Core>,
    limit: usize,
    mut take: TakeLetter,
) -> Result<usize, BusError> {
    let mut reading = Reading::begin(&core).await?;
    let mut taken = 0;
    while taken < limit {
        let Some((tag, letter)) = reading.next().await? else {
            break;
        };
        if !take(letter).await {
            break;
        }
        reading
            .channel
            .basic_ack(tag, BasicAckOptions::default())
            .await
            .map_err(|error| bus_error(&error))?;
        taken += 1;
    }
    reading.end().await;
    Ok(taken)
}

/// The letter, if it belongs to this app: its handler does, or it died in the queue of one of the app's event handlers, or of a command that this
/// bus consumes.
fn letter(core: &Core, delivery: Delivery) -> Option<BrokerLetter> {
    let Delivery {
        routing_key,
        properties,
        data,
        ..
    } = delivery;
    let headers = Headers::of(&properties);
    let app: &str = core.app.borrow();
    let of_app = |name: &str| {
        name.strip_prefix(app)
            .is_some_and(|rest| rest.starts_with('.'))
    };
    let (handler, queue, reason, topic) = match (headers.text(HANDLER), headers.death()) {
        (Some(handler), _) => (
            of_app(handler).then(|| handler.to_owned())?,
            headers.text(QUEUE).unwrap_or_default().to_owned(),
            headers.text(REASON).unwrap_or_default().to_owned(),
            None,
        ),
        (None, Some(death)) => {
            let home = home(death.queue, routing_key.borrow());
            let handler = match home.strip_prefix("orkestra.evt.") {
                Some(handler) => of_app(handler).then(|| handler.to_owned())?,
                None => core.handler_of(home)?,
            };
            (
                handler,
                home.to_owned(),
                death.reason.to_owned(),
                Some(death.topic),
            )
        }
        (None, None) => return None,
    };
    let mut raw = headers::raw(
        &properties,
        Bytes::from(data),
        topic.unwrap_or_else(|| routing_key.borrow()),
        // Who only looked at it was counted by this queue; its handler's attempts are in the header.
        0,
    );
    if headers.text(REASON).is_some() {
        // There it counts the attempts that were made, not the next one.
        raw.attempts = raw.attempts.saturating_add(1);
    }
    Some(BrokerLetter {
        handler,
        queue,
        topic: raw.topic.clone(),
        reason,
        message: raw,
    })
}

/// The handler's queue: where it died, or, if that was a rung, where it could not come back to.
fn home<'a>(died: &'a str, key: &'a str) -> &'a str {
    if died.starts_with("orkestra.retry.") {
        key
    } else {
        died
    }
}
