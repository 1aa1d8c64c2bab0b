//! Without a broker: the outbox's messages go to the handlers of this process, as a broker would bring them.

use std::{
    collections::HashMap, fmt, future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration,
};

use futures_util::{
    StreamExt,
    future::{BoxFuture, Either, select},
    stream::FuturesUnordered,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{OutboxReader, parking::Parking, rows::letter_of};
use crate::{
    background::Running,
    broker::{Consumer, Desk},
    message::{MessageKind, wire},
    ports::{
        Arrived, BusError, ConsumerSpec, DeadLetterReason, Doom, Inbox, InboxSender, OUTBOX,
        OutboxRow, Outgoing, RawMessage, Receipt, Settle, Settlement, StoreError,
    },
};

/// The wait after a store failed to answer, and before a message that was given back comes again.
const AFTER_FAILURE: Duration = Duration::from_millis(500);

/// The outbox as what handlers of this process consume.
///
/// The host asks for the [consumer](LocalOutbox::consume) of each handler, begins to take from them, and calls [`LocalOutbox::start`]. Each message goes to
/// every handler that wants it, a command to the one that handles it, whatever process put it in: to those of the process that holds the
/// lease. It leaves the outbox when all of them have settled it; retries wait here. What is in hand when the process ends comes again.
#[derive(Clone)]
pub struct LocalOutbox {
    shared: Arc<Shared>,
    desk: Desk,
    work: Arc<Mutex<Work>>,
}

enum Work {
    Ready(Box<OutboxReader>, Parking),
    Running(Running, tokio::sync::oneshot::Receiver<()>),
    Over,
}

impl fmt::Debug for LocalOutbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.state.lock();
        write!(f, "LocalOutbox({} in hand)", state.rows.len())
    }
}

struct Shared {
    desk: Desk,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    routes: Vec<Route>,
    /// Of each row in hand, how many handlers have not settled it.
    rows: HashMap<u64, usize>,
    deliveries: HashMap<u64, OnItsWay>,
    tags: u64,
    /// Rows to take out.
    finished: Vec<u64>,
    /// What is to come again, after a while.
    waiting: Vec<(Duration, OnItsWay)>,
    stopping: bool,
}

struct Route {
    spec: ConsumerSpec,
    sender: Arc<InboxSender>,
}

/// What comes again, each when its wait is over. They end with whoever waits for them.
type Waiting = FuturesUnordered<BoxFuture<'static, OnItsWay>>;

/// A message on its way to one handler.
struct OnItsWay {
    serial: u64,
    route: usize,
    raw: RawMessage,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LocalOutbox")
    }
}

impl LocalOutbox {
    pub(crate) fn new(desk: Desk, reader: OutboxReader, parking: Parking) -> Self {
        Self {
            shared: Arc::new(Shared {
                desk: desk.clone(),
                state: Mutex::default(),
                changed: Notify::new(),
            }),
            desk,
            work: Arc::new(Mutex::new(Work::Ready(Box::new(reader), parking))),
        }
    }

    /// What comes for the handler of `spec`. To be asked for before [`LocalOutbox::start`].
    pub fn consume(&self, spec: ConsumerSpec) -> Consumer {
        let (sender, inbox) = Inbox::new();
        let route = Route {
            spec: spec.clone(),
            sender: Arc::new(sender),
        };
        self.shared.state.lock().routes.push(route);
        self.desk.consumer(spec, inbox)
    }

    /// Begins to hand messages over. Called again, or without a handler, it does nothing: what nobody here handles is for a process that does.
    pub fn start(&self) {
        if self.shared.state.lock().routes.is_empty() {
            return;
        }
        let mut work = self.work.lock();
        let Work::Ready(reader, parking) = std::mem::replace(&mut *work, Work::Over) else {
            return;
        };
        let (end, ended) = tokio::sync::oneshot::channel();
        let shared = Arc::clone(&self.shared);
        let running = self.desk.background.run(async move {
            shared.run(*reader, parking).await;
            let _ = end.send(());
        });
        *work = Work::Running(running, ended);
    }

    /// Hands over no more, and takes out what is done with. What is not comes again at the next start.
    pub(crate) async fn stop(&self, deadline: Duration) {
        let routes = {
            let mut state = self.shared.state.lock();
            state.stopping = true;
            std::mem::take(&mut state.routes)
        };
        // Whoever takes from them finds their end.
        drop(routes);
        self.shared.changed.notify_one();
        let work = std::mem::replace(&mut *self.work.lock(), Work::Over);
        if let Work::Running(_running, ended) = work {
            select(ended, self.desk.clock.sleep(deadline)).await;
        }
    }
}

impl Shared {
    async fn run(self: &Arc<Self>, mut reader: OutboxReader, parking: Parking) {
        let mut waiting = Waiting::new();
        loop {
            let (finished, again, stopping) = {
                let mut state = self.state.lock();
                let finished = std::mem::take(&mut state.finished);
                (finished, std::mem::take(&mut state.waiting), state.stopping)
            };
            for (after, delivery) in again {
                let sleep = self.desk.clock.sleep(after);
                waiting.push(Box::pin(async move {
                    sleep.await;
                    delivery
                }));
            }
            let step = if stopping {
                self.take_out(&mut reader, finished).await
            } else {
                self.step(&mut reader, &parking, finished, &mut waiting)
                    .await
            };
            let worked = match step {
                Ok(worked) => worked,
                Err(StoreError::Closed {}) => return,
                Err(_) if stopping => false,
                Err(error) => {
                    tracing::warn!(name = OUTBOX, %error, "the outbox is not read now");
                    self.desk.clock.sleep(AFTER_FAILURE).await;
                    true
                }
            };
            if stopping && !worked {
                break;
            }
        }
        if let Err(error) = reader.release().await {
            tracing::debug!(name = OUTBOX, %error, "a lease was not given back");
        }
    }

    /// Takes out what is done with. Returns whether there was something.
    async fn take_out(
        &self,
        reader: &mut OutboxReader,
        finished: Vec<u64>,
    ) -> Result<bool, StoreError> {
        if finished.is_empty() {
            return Ok(false);
        }
        let out = reader.done(finished.clone()).await;
        if out.is_err() {
            self.state.lock().finished.extend(finished);
        }
        out.map(|()| true)
    }

    /// Takes out what is done with, else hands over what comes next. Returns whether there was something to do.
    async fn step(
        self: &Arc<Self>,
        reader: &mut OutboxReader,
        parking: &Parking,
        finished: Vec<u64>,
        waiting: &mut Waiting,
    ) -> Result<bool, StoreError> {
        if self.take_out(reader, finished).await? {
            return Ok(true);
        }
        let changed = pin!(self.changed.notified());
        let ripe = poll_fn(|context| match waiting.poll_next_unpin(context) {
            Poll::Ready(Some(delivery)) => Poll::Ready(delivery),
            // None is waiting now.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        });
        let rows = match select(pin!(reader.next()), select(changed, ripe)).await {
            Either::Left((rows, _)) => rows?,
            Either::Right((Either::Left(_), _)) => return Ok(true),
            Either::Right((Either::Right((delivery, _)), _)) => {
                self.deliver(delivery);
                return Ok(true);
            }
        };
        for (n, row) in rows.iter().enumerate() {
            if let Err(error) = self.hand_over(row, parking).await {
                let rest: Vec<u64> = rows[n..].iter().map(|row| row.serial).collect();
                reader.give_back(&rest);
                return Err(error);
            }
        }
        Ok(true)
    }

    async fn hand_over(
        self: &Arc<Self>,
        row: &OutboxRow,
        parking: &Parking,
    ) -> Result<(), StoreError> {
        let message = &row.message;
        let routes: Vec<usize> = {
            let state = self.state.lock();
            if state.stopping {
                // Its handlers have gone: it comes again at the next start.
                return Ok(());
            }
            let routes = state.routes.iter().enumerate();
            routes
                .filter(|(_, route)| wants(&route.spec, message))
                .map(|(n, _)| n)
                .collect()
        };
        if routes.is_empty() {
            if message.kind == MessageKind::Command {
                let error = BusError::NoHandler {
                    topic: message.topic.to_string(),
                };
                let reason = DeadLetterReason::NotRetryable;
                parking
                    .park(letter_of(parking, message, reason, &error))
                    .await?;
            }
            self.state.lock().finished.push(row.serial);
            self.changed.notify_one();
            return Ok(());
        }
        self.state.lock().rows.insert(row.serial, routes.len());
        for route in routes {
            self.deliver(OnItsWay {
                serial: row.serial,
                route,
                raw: raw(&row.message),
            });
        }
        Ok(())
    }

    /// Puts the message before its handler.
    fn deliver(self: &Arc<Self>, delivery: OnItsWay) {
        let raw = delivery.raw.clone();
        let content = wire::decode(&raw.body, self.desk.clock.now())
            .map_err(|error| Doom::undecodable(&error));
        let (tag, sender) = {
            let mut state = self.state.lock();
            if state.stopping {
                return;
            }
            state.tags += 1;
            let tag = state.tags;
            let sender = Arc::clone(&state.routes[delivery.route].sender);
            state.deliveries.insert(tag, delivery);
            (tag, sender)
        };
        let arrived = Arrived {
            raw,
            content,
            receipt: Receipt::new(Arc::<Self>::clone(self), tag),
        };
        sender.put([arrived]);
    }
}

impl Settle for Shared {
    fn settle(&self, tag: u64, settlement: Settlement) {
        let mut state = self.state.lock();
        let Some(mut delivery) = state.deliveries.remove(&tag) else {
            return;
        };
        let after = match settlement {
            Settlement::Done { .. } => {
                state.settled(delivery.serial);
                drop(state);
                self.changed.notify_one();
                return;
            }
            Settlement::Retry {
                after,
                attempts,
                failures,
                first_failed_at,
            } => {
                delivery.raw.attempts = attempts;
                delivery.raw.failures = failures;
                delivery.raw.first_failed_at = Some(first_failed_at);
                after
            }
            // The store did not take the letter: it is tried again.
            Settlement::DeadLetter { .. } | Settlement::GiveBack => AFTER_FAILURE,
        };
        if state.stopping {
            return;
        }
        state.waiting.push((after, delivery));
        drop(state);
        self.changed.notify_one();
    }
}

impl State {
    /// One handler more has settled the row.
    fn settled(&mut self, serial: u64) {
        let left = self.rows.get_mut(&serial).map(|left| {
            *left -= 1;
            *left
        });
        if left == Some(0) {
            self.rows.remove(&serial);
            self.finished.push(serial);
        }
    }
}

fn wants(spec: &ConsumerSpec, message: &Outgoing) -> bool {
    spec.address.kind == message.kind
        && match message.kind {
            MessageKind::Command => spec.address.topic == *message.topic,
            MessageKind::Event => spec.patterns.iter().any(|p| p.matches(&message.topic)),
        }
}

/// The message as a broker would bring it.
fn raw(message: &Outgoing) -> RawMessage {
    RawMessage {
        kind: Some(message.kind),
        id: Some(message.id),
        body: message.body.clone(),
        topic: message.topic.to_string(),
        attempts: 0,
        failures: 0,
        first_failed_at: None,
        last_failed_at: None,
        errors: Vec::new(),
        max_retries: message.max_retries,
        trace: message.trace.clone(),
        wants_reply: false,
        dead_letter: None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::{
        adapters::memory::MemoryStore,
        background::Background,
        clock::{ManualClock, ManualIds},
        ports::{DeadLetterFilter, DeadLetterStore, HandlerAddress, OutboxStore},
        telemetry::Telemetry,
        testing::{Started, block_on, samples::outgoing},
        topic::Pattern,
    };

    #[test]
    fn what_is_read_while_it_stops_stays_in_the_outbox() {
        let clock = Arc::new(ManualClock::default());
        let store = Arc::new(MemoryStore::new(clock.clone()));
        let (background, ids) = (Background::default(), Arc::new(ManualIds::default()));
        let desk = Desk {
            dead_letters: Some(store.clone()),
            handled: None,
            clock: clock.clone(),
            ids: ids.clone(),
            background: background.clone(),
            telemetry: Telemetry::off(),
        };
        let (tell, told) = mpsc::channel();
        let (go_on, gate) = mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        let parking = Parking {
            clock: clock.clone(),
            ids,
            dead_letters: store.clone(),
            listener: Some(Arc::new(move |_| {
                tell.send(()).unwrap();
                gate.lock().recv().unwrap();
            })),
        };
        let reader = OutboxReader::new(store.clone(), store.clone(), "ann", clock, background);
        let outbox = LocalOutbox::new(desk, reader, parking);
        let consumer = outbox.consume(ConsumerSpec {
            address: HandlerAddress {
                kind: MessageKind::Event,
                handler: "shop.mail".into(),
                topic: String::new(),
            },
            patterns: vec![Pattern::new("#").unwrap()],
            concurrency: 1,
            prefetch: None,
            inbox: false,
        });
        let nobodys = |n| Outgoing {
            kind: MessageKind::Command,
            ..outgoing(n)
        };
        block_on(store.enqueue(vec![nobodys(1), outgoing(2), nobodys(3)])).unwrap();
        outbox.start();
        // The first one is being parked, with the others to come after it.
        told.recv().unwrap();

        let stopping = Started::new(outbox.stop(Duration::from_secs(5)));
        go_on.send(()).unwrap();
        stopping.finish();

        assert!(consumer.try_take().is_none());
        let left = block_on(store.pending(None, 10)).unwrap();
        let left: Vec<_> = left.into_iter().map(|row| row.message).collect();
        assert_eq!(left, [outgoing(2), nobodys(3)]);
        let letters = block_on(store.list(DeadLetterFilter::default())).unwrap();
        assert_eq!(letters.total, 1);
    }
}
