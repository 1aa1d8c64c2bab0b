//! Consuming the queue of one handler: one task, one channel, again and again.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, Stream};
use lapin::{
    BasicProperties, Channel,
    message::Delivery,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
    },
    types::FieldTable,
};
use parking_lot::Mutex;
use tokio::{
    sync::oneshot,
    time::{Instant, Sleep, sleep, sleep_until},
};

use super::{
    Core, copies,
    error::bus_error,
    headers::{self, Headers},
    settle::{Desk, Note},
    topology::{Topology, home_queue, short},
    tracker::Tracker,
};
use crate::{
    message::wire,
    ports::{
        Arrived, BusError, ConsumerHealth, ConsumerSpec, DeadLetterReason, Doom, ErrorRecord,
        Inbox, InboxSender, Receipt, Settle, Settlement,
    },
};

/// So many acknowledgements are sent at once, at most.
const ACK_BATCH: usize = 100;
/// How long an acknowledgement waits for others.
const ACK_DELAY: Duration = Duration::from_millis(1);
/// How long one waits behind a delivery that is still in hand.
const STRAGGLER_DELAY: Duration = Duration::from_millis(10);
/// How long a message is held whose copy the broker did not take, before it is given back.
const COPY_FAILED_DELAY: Duration = Duration::from_secs(1);
/// How long what nobody began waits for the channel to be closed, before it is given back without that.
const CLOSING_DELAY: Duration = Duration::from_secs(1);
/// Deliveries taken from lapin before something else is looked at.
const DRAIN: usize = 256;

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

    fn set_health(&self, consuming: bool, error: Option<String>) {
        *self.health.lock() = (consuming, error);
    }
}

/// What is kept of a delivery until it is settled.
pub(super) struct Held {
    pub(super) properties: BasicProperties,
    pub(super) body: Bytes,
    pub(super) topic: String,
}

/// Consumes until the bus is paused and everything is settled. The outcome of the first try is told to `first`.
pub(super) async fn run(
    core: Arc<Core>,
    consumer: Arc<Consumer>,
    first: oneshot::Sender<Result<Inbox, BusError>>,
) {
    let (sender, inbox) = Inbox::new();
    let opened = match core.consume.get_first().await {
        Ok(_) => open(&core, &consumer).await,
        Err(error) => Err(error),
    };
    let mut opened = match opened {
        Ok(opened) => {
            consumer.set_health(true, None);
            if first.send(Ok(inbox)).is_err() {
                return;
            }
            Some(opened)
        }
        Err(error) => {
            core.forget(&consumer);
            // Who asked may have gone.
            let _ = first.send(Err(error));
            return;
        }
    };
    let mut sender = Some(sender);
    let mut failures = 0_u32;
    loop {
        let next = match opened.take() {
            Some(opened) => Ok(opened),
            None => open(&core, &consumer).await,
        };
        let error = match next {
            Ok((channel, deliveries)) => {
                consumer.set_health(true, None);
                let began = Instant::now();
                let mut session = Session::new(&core, &consumer, &mut sender, channel, deliveries);
                let end = poll_fn(|context| session.poll(context)).await;
                drop(session);
                if began.elapsed() > Duration::from_secs(5) {
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
        sleep(delay).await;
    }
    drop(sender);
    consumer.set_health(false, None);
    consumer.desk.set_paused();
    consumer.desk.set_drained();
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
    let channel = live.channel().await?;
    topology.home(&channel, &consumer.spec).await?;
    channel
        .basic_qos(prefetch(core, &consumer.spec), BasicQosOptions::default())
        .await
        .map_err(|error| bus_error(&error))?;
    let deliveries = channel
        .basic_consume(
            short(&consumer.queue),
            short(&consumer.spec.address.handler),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
        .map_err(|error| bus_error(&error))?;
    consumer.desk.begin();
    Ok((channel, deliveries))
}

fn prefetch(core: &Core, spec: &ConsumerSpec) -> u16 {
    let wanted = spec
        .prefetch
        .unwrap_or_else(|| u32::from(core.config.prefetch))
        .max(spec.concurrency)
        .max(1);
    u16::try_from(wanted).unwrap_or(u16::MAX)
}

/// Why a session ended.
enum End {
    /// Paused, and nothing is in hand.
    Drained,
    Lost(BusError),
}

type Cancelling = Pin<Box<dyn Future<Output = lapin::Result<()>> + Send>>;

/// One channel's life.
struct Session<'a> {
    core: &'a Arc<Core>,
    consumer: &'a Consumer,
    inbox: &'a mut Option<InboxSender>,
    channel: Channel,
    deliveries: lapin::Consumer,
    tracker: Tracker<Box<Held>>,
    notes: Vec<Note>,
    flush: Option<Pin<Box<Sleep>>>,
    /// Since when something waits behind a delivery that is still in hand.
    stragglers: Option<Instant>,
    /// To be given back later.
    later: Vec<(Instant, u64)>,
    cancelling: Option<Cancelling>,
    cancelled: bool,
}

impl<'a> Session<'a> {
    fn new(
        core: &'a Arc<Core>,
        consumer: &'a Consumer,
        inbox: &'a mut Option<InboxSender>,
        channel: Channel,
        deliveries: lapin::Consumer,
    ) -> Self {
        Self {
            core,
            consumer,
            inbox,
            channel,
            deliveries,
            tracker: Tracker::default(),
            notes: Vec::new(),
            flush: None,
            stragglers: None,
            later: Vec::new(),
            cancelling: None,
            cancelled: false,
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<End> {
        if let Err(end) = self.pause(context) {
            return Poll::Ready(end);
        }
        let delivered = match self.deliver(context) {
            Ok(delivered) => delivered,
            Err(end) => return Poll::Ready(end),
        };
        let mut notes = std::mem::take(&mut self.notes);
        let open = self.consumer.desk.take(context, &mut notes);
        for note in notes.drain(..) {
            self.note(note);
        }
        self.notes = notes;
        if let Err(error) = self.acknowledge(open, context) {
            return Poll::Ready(End::Lost(bus_error(&error)));
        }
        let in_hand = self.tracker.open().saturating_sub(self.later.len());
        if self.cancelled && in_hand == 0 && self.tracker.done_count() == 0 {
            return Poll::Ready(End::Drained);
        }
        if delivered == DRAIN {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Stops the deliveries when that is asked for.
    fn pause(&mut self, context: &mut Context<'_>) -> Result<(), End> {
        if self.cancelled || !self.consumer.desk.is_pausing() {
            return Ok(());
        }
        let (channel, tag) = (self.channel.clone(), self.deliveries.tag());
        let cancelling = self.cancelling.get_or_insert_with(|| {
            Box::pin(async move {
                channel
                    .basic_cancel(tag, BasicCancelOptions::default())
                    .await
            })
        });
        if let Poll::Ready(outcome) = cancelling.as_mut().poll(context) {
            outcome.map_err(|error| End::Lost(bus_error(&error)))?;
            // What came before the answer is in the stream already.
            self.deliver(context)?;
            self.cancelled = true;
            if let Some(inbox) = self.inbox.take() {
                drop(inbox.recall());
            }
            self.consumer.set_health(false, None);
            self.consumer.desk.set_paused();
        }
        Ok(())
    }

    /// Puts what has come into the inbox, all at once; returns how many.
    fn deliver(&mut self, context: &mut Context<'_>) -> Result<usize, End> {
        if self.cancelled {
            return Ok(0);
        }
        let mut batch = Vec::new();
        let mut count = 0;
        let mut end = None;
        while count < DRAIN {
            match Pin::new(&mut self.deliveries).poll_next(context) {
                Poll::Pending => break,
                Poll::Ready(Some(Ok(delivery))) => {
                    count += 1;
                    batch.extend(self.arrived(delivery));
                }
                Poll::Ready(Some(Err(error))) => {
                    end = Some(End::Lost(bus_error(&error)));
                    break;
                }
                Poll::Ready(None) => {
                    // Our own cancelling ends the stream as well.
                    if self.cancelling.is_none() {
                        end = Some(End::Lost(super::error::unavailable(
                            "the broker cancelled the consumer, most likely because the queue was deleted",
                        )));
                    }
                    break;
                }
            }
        }
        if !batch.is_empty()
            && let Some(inbox) = self.inbox.as_ref()
        {
            self.consumer.desk.opened(batch.len());
            inbox.put(batch);
        }
        end.map_or(Ok(count), Err)
    }

    /// A delivery as the host gets it; `None` if it is done with here.
    fn arrived(&mut self, delivery: Delivery) -> Option<Arrived> {
        let Delivery {
            delivery_tag,
            routing_key,
            properties,
            data,
            ..
        } = delivery;
        let body = Bytes::from(data);
        let headers = Headers::of(&properties);
        let delivered = headers.delivery_count();
        let rest = headers.number(headers::REST).filter(|rest| *rest > 0);
        let raw = headers::raw(
            &properties,
            body.clone(),
            std::borrow::Borrow::borrow(&routing_key),
            delivered,
        );
        self.tracker.delivered(
            delivery_tag,
            Box::new(Held {
                properties,
                body,
                topic: raw.topic.clone(),
            }),
        );
        let tag = self.consumer.desk.tag(delivery_tag);
        if let Some(rest) = rest {
            self.wait_on(tag, Duration::from_millis(rest));
            return None;
        }
        let content = if delivered >= self.core.config.crash_limit {
            Err(crash_limit(delivered))
        } else {
            wire::decode(&raw.body, self.core.clock.now())
                .map_err(|error| Doom::undecodable(&error))
        };
        Some(Arrived {
            raw,
            content,
            receipt: Receipt::new(Arc::clone(&self.consumer.desk) as Arc<dyn Settle>, tag),
        })
    }

    fn note(&mut self, note: Note) {
        match note {
            Note::Settled(tag, settlement) => self.settle(tag, settlement),
            Note::Copied(tag, Ok(())) => self.tracker.done(Desk::delivery(tag)),
            Note::Copied(tag, Err(error)) => {
                tracing::error!(queue = self.consumer.queue, %error, "a message is given back later, as the broker does not take its copy");
                self.later
                    .push((Instant::now() + COPY_FAILED_DELAY, Desk::delivery(tag)));
            }
        }
    }

    fn settle(&mut self, tag: u64, settlement: Settlement) {
        let delivery = Desk::delivery(tag);
        match settlement {
            Settlement::Done { reply } => {
                if let (Some(body), Some(held)) = (reply, self.tracker.take(delivery)) {
                    copies::reply(self.core, &held, body);
                }
                self.tracker.done(delivery);
            }
            Settlement::Retry {
                after,
                attempts,
                failures,
                first_failed_at,
            } => {
                if let Some(held) = self.tracker.take(delivery) {
                    let failed = copies::Failed {
                        attempts,
                        failures,
                        first_failed_at,
                    };
                    copies::retry(self.core, self.consumer, tag, *held, after, Some(failed));
                }
            }
            Settlement::DeadLetter { letter, reply } => {
                if let Some(held) = self.tracker.take(delivery) {
                    if let Some(body) = reply {
                        copies::reply(self.core, &held, body);
                    }
                    copies::bury(self.core, self.consumer, tag, *held, &letter);
                }
            }
            // The closing of the channel gives it back, in its place. One by one, many would make the broker's quorum queue put off, and then
            // forget, the acknowledgements that follow them.
            Settlement::GiveBack if self.cancelled => {
                self.later.push((Instant::now() + CLOSING_DELAY, delivery));
            }
            Settlement::GiveBack => self.give_back(delivery),
        }
    }

    /// Sends a message round again whose wait is longer than the last rung.
    fn wait_on(&mut self, tag: u64, rest: Duration) {
        if let Some(held) = self.tracker.take(Desk::delivery(tag)) {
            copies::retry(self.core, self.consumer, tag, *held, rest, None);
        }
    }

    fn give_back(&mut self, delivery: u64) {
        if self.tracker.gone(delivery) {
            let options = BasicNackOptions {
                multiple: false,
                requeue: true,
            };
            // The frame is on its way after the first poll. Should the channel be gone, the message comes again all the same.
            let _ = self.channel.basic_nack(delivery, options).now_or_never();
        }
    }

    /// Sends the acknowledgements that are due, or sets the timer for them.
    fn acknowledge(&mut self, open: usize, context: &mut Context<'_>) -> lapin::Result<()> {
        let now = Instant::now();
        if !self.later.is_empty() {
            let due: Vec<u64> = self
                .later
                .extract_if(.., |(at, _)| *at <= now)
                .map(|(_, delivery)| delivery)
                .collect();
            for delivery in due {
                self.give_back(delivery);
            }
        }
        let rung = match &mut self.flush {
            Some(timer) => timer.as_mut().poll(context).is_ready(),
            None => false,
        };
        let done = self.tracker.done_count();
        if done > 0 && (rung || done >= ACK_BATCH || open == 0) {
            let late = (self.cancelled && open == 0)
                || self
                    .stragglers
                    .is_some_and(|since| now.duration_since(since) >= STRAGGLER_DELAY);
            for ack in self.tracker.acks(late) {
                let options = BasicAckOptions {
                    multiple: ack.multiple,
                };
                if let Some(Err(error)) = self.channel.basic_ack(ack.tag, options).now_or_never() {
                    return Err(error);
                }
            }
            self.stragglers = match self.tracker.done_count() {
                0 => None,
                _ if late => None,
                _ => Some(self.stragglers.unwrap_or(now)),
            };
        }
        let next = if self.tracker.done_count() > 0 {
            Some(now + ACK_DELAY)
        } else {
            self.later.iter().map(|(at, _)| *at).min()
        };
        if self.consumer.desk.arm(self.tracker.done_count() > 0) {
            context.waker().wake_by_ref();
        }
        match next {
            None => self.flush = None,
            Some(next) => {
                let timer = match &mut self.flush {
                    Some(timer) if !rung && timer.deadline() <= next => timer,
                    _ => self.flush.insert(Box::pin(sleep_until(next))),
                };
                if timer.as_mut().poll(context).is_ready() {
                    context.waker().wake_by_ref();
                }
            }
        }
        Ok(())
    }
}

fn crash_limit(delivered: u32) -> Doom {
    Doom {
        reason: DeadLetterReason::CrashLimit,
        error: ErrorRecord {
            error_type: "ORK_BUS_CRASH_LIMIT".into(),
            message: format!("delivered {delivered} times without an answer"),
            trace: String::new(),
        },
    }
}
