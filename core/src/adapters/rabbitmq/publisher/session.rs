//! One publishing channel's life.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use lapin::{Channel, Confirmation, options::BasicPublishOptions};
use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    super::{
        Core,
        error::{reply, unavailable},
        headers,
        link::Live,
        topology::Topology,
    },
    WINDOW,
    blame::TRIES,
    item::{Done, Item},
    too_late,
};
use crate::ports::BusError;

/// How long a copy waits that the broker did not accept, as a queue is full for example, before it is published again.
const REFUSED_DELAY: Duration = Duration::from_secs(1);

/// The number of a message on its channel and what the broker said of it.
type Confirming = Pin<Box<dyn Future<Output = (u64, lapin::Result<Confirmation>)> + Send>>;

struct InFlight {
    /// `None` when who asked has been told that it took too long.
    item: Option<Item>,
    mandatory: bool,
    /// Once the broker has said so: whether it took it.
    taken: Option<bool>,
}

/// One channel's life.
pub(super) struct Session<'a> {
    core: &'a Arc<Core>,
    live: Arc<Live>,
    channel: Arc<Channel>,
    window: usize,
    /// In the order in which they were published.
    in_flight: VecDeque<InFlight>,
    /// The number of the first in flight.
    first: u64,
    /// Those that the broker has said nothing of. Only the ones that were woken are polled: with many in flight, polling each costs more than all else.
    confirming: FuturesUnordered<Confirming>,
    /// Of the last channel, to be published first.
    again: VecDeque<Item>,
    /// Copies that the broker did not accept, and when each is published again. Its delivery stays in hand meanwhile: nothing is done twice.
    refused: VecDeque<(Instant, Item)>,
    /// Ids and keys of messages that came back. lapin hands them out with any confirm, not with their own.
    returned: Vec<(Option<String>, String)>,
    declaring: Option<Declaring>,
    timer: Option<Pin<Box<Sleep>>>,
}

type Declared = Pin<Box<dyn Future<Output = Result<(), BusError>> + Send>>;

/// A message that waits until its rung is declared.
struct Declaring {
    done: Declared,
    item: Item,
}

impl<'a> Session<'a> {
    /// `again` is what is left of the last channel; `window` is how many may be in flight.
    pub(super) fn new(
        core: &'a Arc<Core>,
        live: Arc<Live>,
        channel: Channel,
        window: usize,
        again: VecDeque<Item>,
    ) -> Self {
        Self {
            core,
            live,
            channel: Arc::new(channel),
            window,
            in_flight: VecDeque::new(),
            first: 0,
            confirming: FuturesUnordered::new(),
            again,
            refused: VecDeque::new(),
            returned: Vec::new(),
            declaring: None,
            timer: None,
        }
    }

    /// Why the channel ended: what waits for a confirm is told what the broker said, a publish after that only that the channel is closed.
    pub(super) fn cause(&mut self, error: lapin::Error) -> lapin::Error {
        let mut error = error;
        while reply(&error).is_none()
            && let Some(Some((_, outcome))) = self.confirming.next().now_or_never()
        {
            if let Err(cause) = outcome {
                error = cause;
            }
        }
        error
    }

    /// `Some` error when the channel is gone, `None` when the bus is closed.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<lapin::Error>> {
        self.core.publisher.waker.register(context.waker());
        loop {
            if let Some(declaring) = &mut self.declaring {
                match declaring.done.as_mut().poll(context) {
                    Poll::Pending => {}
                    Poll::Ready(outcome) => {
                        if let Some(Declaring { item, .. }) = self.declaring.take() {
                            match outcome {
                                Ok(()) => self.again.push_front(item),
                                Err(error) => item.done.tell(Err(error)),
                            }
                        }
                    }
                }
            }
            let now = Instant::now();
            while self.refused.front().is_some_and(|(at, _)| *at <= now) {
                self.again
                    .extend(self.refused.pop_front().map(|(_, item)| item));
            }
            if let Err(error) = self.publish(context) {
                return Poll::Ready(Some(error));
            }
            match self.confirm(context) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return Poll::Ready(Some(error)),
            }
        }
        let waiting = self.again.len() + self.refused.len() + usize::from(self.declaring.is_some());
        self.core.publisher.note(self.in_flight.len() + waiting);
        if self.core.publisher.is_closed() {
            // What is still on its way had its time: who asked is told that the bus is closed.
            return Poll::Ready(None);
        }
        self.expire(context);
        Poll::Pending
    }

    /// Publishes what waits, as far as the window goes.
    fn publish(&mut self, context: &mut Context<'_>) -> lapin::Result<()> {
        while self.in_flight.len() < self.window && self.declaring.is_none() {
            if self.again.is_empty() && self.in_flight.is_empty() {
                // None is left of those that could be at fault.
                self.window = WINDOW;
            }
            let next = self.again.pop_front();
            let Some(item) = next.or_else(|| self.core.publisher.queue.lock().items.pop_front())
            else {
                return Ok(());
            };
            if !item.done.is_wanted() {
                continue;
            }
            if let Some(rung) = item.missing_rung(&self.live) {
                let (core, live) = (Arc::clone(self.core), Arc::clone(&self.live));
                self.declaring = Some(Declaring {
                    done: Box::pin(async move {
                        let topology = Topology {
                            config: &core.config,
                        };
                        topology.rung(&live, rung).await
                    }),
                    item,
                });
                context.waker().wake_by_ref();
                return Ok(());
            }
            let largest = self.core.largest.load(Ordering::Relaxed);
            if item.body_len() > largest {
                let error = item.too_large(&format!("at most {largest} bytes"));
                item.done.tell(Err(error));
                continue;
            }
            self.start(item, context)?;
        }
        Ok(())
    }

    fn start(&mut self, mut item: Item, context: &mut Context<'_>) -> lapin::Result<()> {
        item.tries = item.tries.saturating_add(1);
        let (exchange, key, properties, body, mandatory) = item.parts(self.core);
        let headers = headers::size(&properties);
        if headers > headers::LONGEST {
            // The broker would close the connection, for everybody.
            let longest = headers::LONGEST;
            let reason = format!("its headers have {headers} bytes, at most {longest} are sent");
            let error = item.too_large(&reason);
            item.done.tell(Err(error));
            return Ok(());
        }
        let channel = Arc::clone(&self.channel);
        let number = self.first + self.in_flight.len() as u64;
        let publishing = async move {
            let options = BasicPublishOptions {
                mandatory,
                immediate: false,
            };
            channel
                .basic_publish(exchange, key, options, &body, properties)
                .await?
                .await
        };
        // The first poll publishes, so it is done here: those in the set are polled in any order.
        let mut confirming: Confirming = Box::pin(publishing.map(move |outcome| (number, outcome)));
        self.in_flight.push_back(InFlight {
            item: Some(item),
            mandatory,
            taken: None,
        });
        match confirming.as_mut().poll(context) {
            Poll::Pending => self.confirming.push(confirming),
            Poll::Ready((number, confirmation)) => self.settled(number, confirmation?),
        }
        Ok(())
    }

    fn settled(&mut self, number: u64, confirmation: Confirmation) {
        let taken = confirmation.is_ack();
        if let Some(message) = confirmation.take_message() {
            let id = message.properties.message_id();
            self.returned.push((
                id.as_ref().map(ToString::to_string),
                message.routing_key.to_string(),
            ));
        }
        let at = usize::try_from(number - self.first);
        if let Some(one) = at.ok().and_then(|at| self.in_flight.get_mut(at)) {
            one.taken = Some(taken);
        }
    }

    /// Takes note of what the broker has said; true if something was confirmed.
    ///
    /// A message that came back is handed to the first that is confirmed with it, so it is here before the last of them is.
    fn confirm(&mut self, context: &mut Context<'_>) -> lapin::Result<bool> {
        while let Poll::Ready(Some((number, confirmation))) =
            self.confirming.poll_next_unpin(context)
        {
            self.settled(number, confirmation?);
        }
        let mut some = false;
        while let Some(InFlight { taken: Some(_), .. }) = self.in_flight.front()
            && let Some(one) = self.in_flight.pop_front()
        {
            self.first += 1;
            self.finish(one);
            some = true;
        }
        if self.in_flight.is_empty() {
            self.returned.clear();
        }
        Ok(some)
    }

    fn finish(&mut self, one: InFlight) {
        let taken = one.taken == Some(true);
        let back = if one.mandatory && !self.returned.is_empty() {
            self.take_returned(&one)
        } else {
            false
        };
        let Some(mut item) = one.item else {
            return;
        };
        if !taken && matches!(item.done, Done::Desk(..)) {
            let (_, key) = item.route();
            tracing::warn!(
                key,
                "the broker did not accept a copy; it is published again"
            );
            item.tries = 0;
            self.refused
                .push_back((Instant::now() + REFUSED_DELAY, item));
            return;
        }
        if taken
            && back
            && item.tries < TRIES
            && let Some(rung) = item.rung()
        {
            // Somebody deleted the rung: it is declared again.
            self.live.rungs.lock().remove(&rung);
            self.again.push_back(item);
            return;
        }
        let outcome = if !taken {
            Err(unavailable("the broker did not accept the message"))
        } else if back {
            item.unroutable().map_or(Ok(()), Err)
        } else {
            Ok(())
        };
        item.done.tell(outcome);
    }

    fn take_returned(&mut self, one: &InFlight) -> bool {
        let Some(item) = &one.item else {
            return false;
        };
        let (_, key) = item.route();
        let id = item.message_id();
        let found = self
            .returned
            .iter()
            .position(|(of, k)| *of == id && k.as_str() == key);
        found.map(|at| self.returned.swap_remove(at)).is_some()
    }

    /// Tells who has waited too long; the message stays on its way. Sets the timer for the next one.
    fn expire(&mut self, context: &mut Context<'_>) {
        let now = Instant::now();
        let (again, late) = super::expire(&mut self.again, now);
        for item in late {
            item.done.tell(Err(too_late()));
        }
        let queued = self.core.publisher.expire(now);
        let refused = self.refused.front().map(|(at, _)| *at);
        let mut next = [again, queued, refused].into_iter().flatten().min();
        for one in &mut self.in_flight {
            let Some(item) = &mut one.item else { continue };
            match item.deadline {
                Some(deadline) if deadline <= now => {
                    item.deadline = None;
                    std::mem::replace(&mut item.done, Done::Nobody).tell(Err(too_late()));
                }
                Some(deadline) => {
                    next = Some(next.map_or(deadline, |next| next.min(deadline)));
                    break;
                }
                None => {}
            }
        }
        let Some(next) = next else {
            self.timer = None;
            return;
        };
        // An earlier timer is good enough: it looks again.
        let timer = match &mut self.timer {
            Some(timer) if timer.deadline() <= next && !timer.is_elapsed() => timer,
            _ => self.timer.insert(Box::pin(sleep_until(next))),
        };
        if timer.as_mut().poll(context).is_ready() {
            context.waker().wake_by_ref();
        }
    }

    /// Messages that the broker has not answered, or whose senders have not been told.
    pub(super) fn on_its_way(&self) -> usize {
        self.in_flight.len()
    }

    /// What was on its way when the channel ended, in order.
    pub(super) fn unconfirmed(self) -> VecDeque<Item> {
        let mut items = VecDeque::new();
        for one in self.in_flight {
            let Some(item) = one.item else { continue };
            match one.taken {
                // Known to have been taken; whether it came back is not.
                Some(true) if !one.mandatory => item.done.tell(Ok(())),
                _ => items.push_back(item),
            }
        }
        items.extend(self.declaring.map(|declaring| declaring.item));
        items.extend(self.again);
        items.extend(self.refused.into_iter().map(|(_, item)| item));
        items
    }
}
