//! Consuming the queue of one handler: one task, one channel after another.

use std::{future::poll_fn, sync::Arc, time::Duration};

use lapin::{
    Channel,
    options::{BasicConsumeOptions, BasicQosOptions},
    types::{FieldTable, ShortString},
};
use parking_lot::Mutex;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

use super::{
    Core,
    error::bus_error,
    returns::Returns,
    session::{End, Session},
    settle::Desk,
    topology::{Topology, home_queue, short},
};
use crate::ports::{BusError, ConsumerHealth, ConsumerSpec, Inbox};

/// A channel that lived so long was no failure.
const STABLE: Duration = Duration::from_secs(5);

/// What is known of a consumer from outside its task.
pub(super) struct Consumer {
    pub(super) spec: ConsumerSpec,
    pub(super) queue: String,
    pub(super) desk: Arc<Desk>,
    health: Mutex<(bool, Option<String>)>,
}

impl Consumer {
    pub(super) fn new(spec: ConsumerSpec) -> Self {
        Self {
            queue: home_queue(&spec.address),
            spec,
            desk: Arc::default(),
            health: Mutex::default(),
        }
    }

    pub(super) fn health(&self) -> ConsumerHealth {
        let (consuming, error) = self.health.lock().clone();
        ConsumerHealth {
            handler: self.spec.address.handler.clone(),
            queue: self.queue.clone(),
            consuming,
            error,
        }
    }

    pub(super) fn set_health(&self, consuming: bool, error: Option<String>) {
        *self.health.lock() = (consuming, error);
    }
}

/// Consumes until the bus is paused and everything is settled. The outcome of the first try is told to `first`.
pub(super) async fn run(
    core: Arc<Core>,
    consumer: Arc<Consumer>,
    first: oneshot::Sender<Result<Inbox, BusError>>,
) {
    consuming(&core, &consumer, first).await;
    // However it ended: whoever closes waits for this.
    consumer.set_health(false, None);
    consumer.desk.set_paused();
    consumer.desk.set_drained();
}

async fn consuming(
    core: &Arc<Core>,
    consumer: &Arc<Consumer>,
    first: oneshot::Sender<Result<Inbox, BusError>>,
) {
    let (sender, inbox) = Inbox::new();
    let opening = consumer.desk.unless_pausing(async {
        core.consume.get_first().await?;
        open(core, consumer).await
    });
    let mut opened = match opening.await.unwrap_or(Err(BusError::Closed {})) {
        Ok(opened) => {
            consumer.set_health(true, None);
            if first.send(Ok(inbox)).is_err() {
                return core.forget(consumer);
            }
            Some(opened)
        }
        Err(error) => {
            core.forget(consumer);
            // Who asked may have gone.
            let _ = first.send(Err(error));
            return;
        }
    };
    let mut sender = Some(sender);
    let mut returns = Returns::new(core.config.crash_limit);
    let mut failures = 0_u32;
    loop {
        let next = match opened.take() {
            Some(opened) => Ok(opened),
            None => match consumer.desk.unless_pausing(open(core, consumer)).await {
                Some(next) => next,
                None => break,
            },
        };
        let error = match next {
            Ok((channel, deliveries)) => {
                consumer.set_health(true, None);
                let began = Instant::now();
                let mut session = Session::new(
                    core,
                    consumer,
                    &mut sender,
                    &mut returns,
                    channel,
                    deliveries,
                );
                let end = poll_fn(|context| session.poll(context)).await;
                if let End::Drained = end {
                    session.close().await;
                    break;
                }
                session.forgive();
                if began.elapsed() > STABLE {
                    failures = 0;
                }
                match end {
                    End::Drained => break,
                    End::Lost(error) => error,
                }
            }
            Err(BusError::Closed {}) => break,
            Err(error) => error,
        };
        // What was in hand comes again by itself.
        consumer.desk.begin();
        if let Some(sender) = &sender {
            drop(sender.recall());
        }
        if consumer.desk.is_pausing() {
            break;
        }
        tracing::warn!(queue = consumer.queue, %error, "consuming was interrupted");
        consumer.set_health(false, Some(error.to_string()));
        let delay = match core.consume.health() {
            (true, ..) => Duration::from_millis(20)
                .saturating_mul(1 << failures.min(7))
                .min(Duration::from_secs(2)),
            _ => core.consume.delay(),
        };
        failures = failures.saturating_add(1);
        // Woken earlier, this ends above.
        let _ = consumer.desk.unless_pausing(sleep(delay)).await;
    }
}

async fn open(
    core: &Arc<Core>,
    consumer: &Consumer,
) -> Result<(Channel, lapin::Consumer), BusError> {
    let live = core.consume.get().await?;
    let topology = Topology {
        config: &core.config,
    };
    topology.prepare(&live).await?;
    topology.rungs(&live).await?;
    let channel = live.channel().await?;
    topology.home(&channel, &consumer.spec).await?;
    let deliveries = consume(
        &channel,
        &consumer.queue,
        short(&consumer.spec.address.handler),
        prefetch(core, &consumer.spec),
    )
    .await?;
    consumer.desk.begin();
    Ok((channel, deliveries))
}

/// Lets the broker deliver, `prefetch` messages at a time. `tag` is a new one on its channel: a quorum queue takes a tag that comes again for the
/// consumer that had it, and delivers one more message for each that is still being acknowledged, however small the new prefetch is.
pub(super) async fn consume(
    channel: &Channel,
    queue: &str,
    tag: ShortString,
    prefetch: u16,
) -> Result<lapin::Consumer, BusError> {
    channel
        .basic_qos(prefetch, BasicQosOptions::default())
        .await
        .map_err(|error| bus_error(&error))?;
    channel
        .basic_consume(
            short(queue),
            tag,
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
        .map_err(|error| bus_error(&error))
}

pub(super) fn prefetch(core: &Core, spec: &ConsumerSpec) -> u16 {
    let wanted = spec
        .prefetch
        .unwrap_or_else(|| u32::from(core.config.prefetch))
        .max(spec.concurrency)
        .max(1);
    u16::try_from(wanted).unwrap_or(u16::MAX)
}
