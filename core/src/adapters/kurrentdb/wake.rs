//! Waiting for events, by this process or another: a subscription to the whole store while somebody waits, and a look now and then.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use kurrentdb::{StreamPosition, SubscribeToAllOptions, Subscription, SubscriptionEvent};
use tokio::time::{Instant, sleep};

use super::{
    Core,
    error::Failure,
    event::{self, is_hidden},
    read_all::no_system_streams,
};
use crate::{
    adapters::shared::signal::Signal,
    ports::{Position, StoreError},
};

/// How long the subscription is kept when nobody waits any more.
const LINGER: Duration = Duration::from_secs(10);

const FIRST_DELAY: Duration = Duration::from_millis(50);
const LONGEST_DELAY: Duration = Duration::from_secs(2);

/// How far the store is known to go, and who is to be told.
#[derive(Default)]
pub(super) struct Watch {
    /// Rings when the store goes further, and when it is closed.
    pub(super) signal: Arc<Signal>,
    /// The last position seen, 0 for none: no event has that.
    seen: AtomicU64,
    waiting: AtomicUsize,
    running: AtomicBool,
}

impl Watch {
    /// The store goes as far as `position`.
    pub(super) fn reached(&self, position: Position) {
        if self.seen.fetch_max(position.0, Ordering::AcqRel) < position.0 {
            self.signal.ring();
        }
    }

    fn is_past(&self, position: Option<Position>) -> bool {
        self.seen.load(Ordering::Acquire) > position.map_or(0, |p| p.0)
    }
}

/// Counts one who waits.
struct Waiting<'a>(&'a Watch);

impl<'a> Waiting<'a> {
    fn new(watch: &'a Watch) -> Self {
        watch.waiting.fetch_add(1, Ordering::AcqRel);
        Self(watch)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Lets another task watch when this one ends, however it ends, and has those who wait look after themselves.
struct Running<'a>(&'a Watch);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.store(false, Ordering::Release);
        self.0.signal.ring();
    }
}

impl Core {
    /// Waits until there is an event after `position`. May end early.
    pub(super) async fn wait(
        self: &Arc<Self>,
        position: Option<Position>,
    ) -> Result<(), StoreError> {
        let count = self.watch.signal.count();
        let handle = self.handle()?;
        if self.watch.is_past(position) {
            return Ok(());
        }
        let _waiting = Waiting::new(&self.watch);
        if !self.watch.running.swap(true, Ordering::AcqRel) {
            handle.spawn(Arc::clone(self).watch_all());
        }
        self.watch.signal.after(count).await;
        self.handle().map(drop)
    }

    /// Looks now and then while somebody waits, beside a subscription that tells at once.
    ///
    /// Two tasks: the client's subscription may stop answering, and never lets go of its thread if a server ends one without an error.
    async fn watch_all(self: Arc<Self>) {
        let _running = Running(&self.watch);
        let every = self.link.config().poll_interval;
        let mut feed = tokio::spawn(Arc::clone(&self).feed());
        let mut needed = Instant::now();
        let mut seen = self.watch.seen.load(Ordering::Acquire);
        while !self.is_closed() && !self.is_idle(&mut needed) {
            sleep(every).await;
            let now = self.watch.seen.load(Ordering::Acquire);
            // Where events come in, there is nothing to look for.
            if now == seen
                && let Err(error) = self.look().await
            {
                tracing::debug!(%error, "no look at the store");
                // Whoever waits finds out by reading.
                self.watch.signal.ring();
            }
            seen = now;
            if feed.is_finished() {
                feed = tokio::spawn(Arc::clone(&self).feed());
            }
        }
        feed.abort();
    }

    /// Subscribes, again and again.
    async fn feed(self: Arc<Self>) {
        let mut delay = FIRST_DELAY;
        loop {
            let error = match self.subscribe().await {
                Ok(subscription) => self.follow(subscription, &mut delay).await,
                Err(error) => error,
            };
            tracing::debug!(%error, "no subscription");
            // Whoever waits finds out by reading, which also tells them what is wrong.
            self.watch.signal.ring();
            sleep(delay).await;
            delay = (delay * 2).min(LONGEST_DELAY);
        }
    }

    /// Whether nobody has waited for long.
    fn is_idle(&self, needed: &mut Instant) -> bool {
        if self.watch.waiting.load(Ordering::Acquire) > 0 {
            *needed = Instant::now();
        }
        needed.elapsed() > LINGER
    }

    /// Subscribes to what comes from now on.
    async fn subscribe(&self) -> Result<Subscription, StoreError> {
        let mut options = SubscribeToAllOptions::default()
            .position(StreamPosition::End)
            .filter(no_system_streams());
        if let Some(login) = self.login() {
            options = options.authenticated(login);
        }
        let subscribed = self
            .link
            .call("subscribe to the whole store", |client| {
                let options = options.clone();
                async move {
                    let mut subscription = client.subscribe_to_all(&options).await;
                    loop {
                        let first = subscription.next_subscription_event().await?;
                        if let SubscriptionEvent::Confirmed(_) = first {
                            return Ok(subscription);
                        }
                    }
                }
            })
            .await;
        subscribed.map_err(|failure| failure.into_store("$all"))
    }

    /// Reads the subscription until it breaks.
    async fn follow(&self, mut subscription: Subscription, delay: &mut Duration) -> StoreError {
        // What came before the subscription began is found by looking.
        if let Err(error) = self.look().await {
            return error;
        }
        *delay = FIRST_DELAY;
        loop {
            match subscription.next_subscription_event().await {
                Ok(SubscriptionEvent::EventAppeared(event)) => {
                    let Some(event) = event.event else { continue };
                    if is_hidden(event.stream_id(), &event.event_type) {
                        continue;
                    }
                    match event::position(event.position.commit, event.position.prepare) {
                        Ok(position) => self.watch.reached(position),
                        Err(error) => return error,
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    let failure = Failure::of(error, "subscribe to the whole store");
                    return failure.into_store("$all");
                }
            }
        }
    }

    async fn look(&self) -> Result<(), StoreError> {
        if let Some(head) = self.head().await? {
            self.watch.reached(head);
        }
        Ok(())
    }
}
