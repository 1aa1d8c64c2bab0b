//! One channel's life: deliveries go to the host, what it says of them to the broker.

use std::{
    future::Future,
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
    options::{BasicAckOptions, BasicNackOptions},
    types::ShortString,
};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::{
    Core,
    consumer::{Consumer, prefetch},
    copies,
    error::{bus_error, unavailable},
    headers::{self, Headers},
    returns::{Returns, Verdict},
    settle::{Desk, Note},
    tracker::Tracker,
    ward::Mode,
};
use crate::{
    message::wire,
    ports::{
        Arrived, BusError, DeadLetterReason, Doom, ErrorRecord, InboxSender, Receipt, Settle,
        Settlement,
    },
};

/// So many acknowledgements are sent at once, at most; and no more than a quarter of the prefetch, or the broker would pause at each.
const ACK_BATCH: usize = 100;
const ACKS_PER_PREFETCH: usize = 4;
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

/// What is kept of a delivery until it is settled.
pub(super) struct Held {
    pub(super) properties: BasicProperties,
    pub(super) body: Bytes,
    pub(super) topic: String,
    /// How often it came back without an answer.
    pub(super) returns: u32,
}

impl Held {
    pub(super) fn id(&self) -> Option<&str> {
        self.properties
            .message_id()
            .as_ref()
            .map(std::borrow::Borrow::borrow)
    }
}

/// Why a session ended.
pub(super) enum End {
    /// Paused, and nothing is in hand.
    Drained,
    Lost(BusError),
}

/// Stops, starts or changes the deliveries; with what delivers after that.
pub(super) type Switching =
    Pin<Box<dyn Future<Output = Result<Option<lapin::Consumer>, BusError>> + Send>>;

/// One channel with one consumer.
pub(super) struct Session<'a> {
    pub(super) core: &'a Arc<Core>,
    pub(super) consumer: &'a Arc<Consumer>,
    pub(super) inbox: &'a mut Option<InboxSender>,
    pub(super) returns: &'a mut Returns,
    pub(super) channel: Channel,
    pub(super) deliveries: Option<lapin::Consumer>,
    pub(super) tracker: Tracker<Box<Held>>,
    notes: Vec<Note>,
    flush: Option<Pin<Box<Sleep>>>,
    /// Since when something waits behind a delivery that is still in hand.
    stragglers: Option<Instant>,
    /// To be given back later.
    later: Vec<(Instant, u64)>,
    pub(super) switching: Option<Switching>,
    pub(super) mode: Mode,
    /// Messages to be handled alone, which are not in the inbox yet.
    pub(super) suspects: Vec<Arrived>,
    /// As the handler wants it.
    pub(super) prefetch: u16,
    /// As the broker delivers now.
    pub(super) taking: u16,
    /// How often the deliveries were started again.
    pub(super) restarts: u64,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        core: &'a Arc<Core>,
        consumer: &'a Arc<Consumer>,
        inbox: &'a mut Option<InboxSender>,
        returns: &'a mut Returns,
        channel: Channel,
        deliveries: lapin::Consumer,
    ) -> Self {
        let prefetch = prefetch(core, &consumer.spec);
        Self {
            core,
            consumer,
            inbox,
            returns,
            channel,
            deliveries: Some(deliveries),
            tracker: Tracker::default(),
            notes: Vec::new(),
            flush: None,
            stragglers: None,
            later: Vec::new(),
            switching: None,
            mode: Mode::Normal,
            suspects: Vec::new(),
            prefetch,
            taking: prefetch,
            restarts: 0,
        }
    }

    /// The channel is gone, but this process lives: what was in hand has done nothing wrong.
    pub(super) fn forgive(self) {
        for held in self.tracker.kept() {
            if let Some(id) = held.id() {
                self.returns.forgive(id);
            }
        }
    }

    /// Closes the channel in order: after its last acknowledgement, and with what is left in its hand given back.
    pub(super) async fn close(self) {
        let closing = self.channel.close(200, "OK".into());
        // Should it fail, the connection is gone, which gives back as well.
        let _ = timeout(CLOSING_DELAY, closing).await;
    }

    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<End> {
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
        if let Err(end) = self.turn(context) {
            return Poll::Ready(end);
        }
        let in_hand = self.tracker.open().saturating_sub(self.later.len());
        if self.mode == Mode::Paused && in_hand == 0 && self.tracker.done_count() == 0 {
            return Poll::Ready(End::Drained);
        }
        if delivered == DRAIN {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Whether nothing is in hand and nothing waits to be acknowledged.
    pub(super) fn is_settled(&self) -> bool {
        self.tracker.open() == 0 && self.tracker.done_count() == 0
    }

    /// Puts what has come into the inbox, all at once; returns how many.
    pub(super) fn deliver(&mut self, context: &mut Context<'_>) -> Result<usize, End> {
        let mut batch = Vec::new();
        let mut count = 0;
        let mut end = None;
        while count < DRAIN
            && let Some(deliveries) = &mut self.deliveries
        {
            match Pin::new(deliveries).poll_next(context) {
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
                    if self.switching.is_none() {
                        end = Some(End::Lost(self.why_it_ended()));
                    }
                    self.deliveries = None;
                }
            }
        }
        self.hand_over(batch);
        end.map_or(Ok(count), Err)
    }

    pub(super) fn hand_over(&mut self, batch: Vec<Arrived>) {
        if !batch.is_empty()
            && let Some(inbox) = self.inbox.as_ref()
        {
            self.consumer.desk.opened(batch.len());
            inbox.put(batch);
        }
    }

    fn why_it_ended(&self) -> BusError {
        unavailable(if self.channel.status().connected() {
            "the broker cancelled the consumer, most likely because its queue was deleted"
        } else {
            "the connection was closed"
        })
    }

    /// A delivery as the host gets it; `None` if it is done with here, or has to wait.
    fn arrived(&mut self, delivery: Delivery) -> Option<Arrived> {
        let Delivery {
            delivery_tag,
            exchange,
            routing_key,
            redelivered,
            properties,
            data,
            ..
        } = delivery;
        let body = Bytes::from(data);
        let headers = Headers::of(&properties);
        let id = properties.message_id().as_ref();
        let id = id.map(std::borrow::Borrow::borrow);
        let returns = self.returns.count(id, headers.returns());
        // A classic queue says that it came back, and not how often: the copy counts.
        let uncounted = redelivered && !headers.is_counted();
        let rest = headers.number(headers::REST).filter(|rest| *rest > 0);
        let raw = headers::raw(
            &properties,
            body.clone(),
            key(&exchange, &routing_key, headers),
            returns,
        );
        let held = Held {
            body,
            topic: raw.topic.clone(),
            returns,
            properties,
        };
        self.tracker.delivered(delivery_tag, Box::new(held));
        let tag = self.consumer.desk.tag(delivery_tag);
        if let Some(rest) = rest {
            if let Some(held) = self.tracker.take(delivery_tag) {
                let rest = Duration::from_millis(rest);
                copies::retry(self.core, self.consumer, tag, *held, rest, None);
            }
            return None;
        }
        if uncounted {
            self.send_round(tag, 1);
            return None;
        }
        let verdict = self.returns.verdict(returns);
        let content = if verdict == Verdict::Guilty {
            Err(crash_limit(returns))
        } else {
            wire::decode(&raw.body, self.core.clock.now())
                .map_err(|error| Doom::undecodable(&error))
        };
        let arrived = Arrived {
            raw,
            content,
            receipt: Receipt::new(Arc::clone(&self.consumer.desk) as Arc<dyn Settle>, tag),
        };
        self.admit(arrived, returns, verdict)
    }

    /// Sends a copy to the end of the queue that says how often the message came back, `more` times more than it is known to have.
    pub(super) fn send_round(&mut self, tag: u64, more: u32) {
        if let Some(held) = self.tracker.take(Desk::delivery(tag)) {
            copies::round(self.core, self.consumer, tag, *held, more);
        }
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
        if let Settlement::GiveBack = settlement {
            return self.give_back(tag);
        }
        let Some(held) = self.tracker.take(delivery) else {
            return;
        };
        self.returns.forget(held.id());
        match settlement {
            Settlement::Done { reply } => {
                if let Some(body) = reply {
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
                let failed = copies::Failed {
                    attempts,
                    failures,
                    first_failed_at,
                };
                copies::retry(self.core, self.consumer, tag, *held, after, Some(failed));
            }
            Settlement::DeadLetter { letter, reply } => {
                if let Some(body) = reply {
                    copies::reply(self.core, &held, body);
                }
                copies::bury(self.core, self.consumer, tag, *held, &letter);
            }
            Settlement::GiveBack => {}
        }
    }

    /// Back to the queue. The broker counts that as a return, which must not make a message that is suspected already guilty.
    pub(super) fn give_back(&mut self, tag: u64) {
        let delivery = Desk::delivery(tag);
        let returns = self.tracker.get(delivery).map_or(0, |held| held.returns);
        if self.returns.verdict(returns) == Verdict::Suspect {
            return self.send_round(tag, 0);
        }
        if self.mode == Mode::Paused {
            // The closing of the channel gives it back, in its place. One by one, many would make the broker's quorum queue put off, and
            // then forget, the acknowledgements that follow them.
            self.later.push((Instant::now() + CLOSING_DELAY, delivery));
        } else {
            self.requeue(delivery);
        }
    }

    fn requeue(&mut self, delivery: u64) {
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
                self.requeue(delivery);
            }
        }
        let rung = match &mut self.flush {
            Some(timer) => timer.as_mut().poll(context).is_ready(),
            None => false,
        };
        // What is acknowledged makes room for a delivery; one that comes while the broker stops them counts as a return.
        let done = if self.is_turning() {
            0
        } else {
            self.tracker.done_count()
        };
        let batch = (usize::from(self.taking) / ACKS_PER_PREFETCH).clamp(1, ACK_BATCH);
        if done > 0 && (rung || done >= batch || open == 0) {
            let late = (self.mode == Mode::Paused && open == 0)
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
        if self.consumer.desk.arm(self.tracker.done_count() > 0, batch) {
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

/// The routing key that the message was published with: a queue's name, where it was put into the queue directly, tells no topic.
fn key<'a>(exchange: &ShortString, routing_key: &'a ShortString, headers: Headers<'a>) -> &'a str {
    let directly = std::borrow::Borrow::<str>::borrow(exchange).is_empty();
    headers.death().filter(|_| directly).map_or_else(
        || std::borrow::Borrow::borrow(routing_key),
        |death| death.topic,
    )
}
