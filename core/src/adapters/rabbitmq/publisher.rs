//! Publishing: one task and one channel for all callers, with confirms.

use std::{
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{
    FutureExt, StreamExt,
    future::{Either, select},
    stream::FuturesUnordered,
    task::AtomicWaker,
};
use lapin::{
    BasicProperties, Channel, Confirmation,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use parking_lot::Mutex;
use tokio::{
    sync::oneshot,
    time::{Instant, Sleep, sleep, sleep_until},
};

use super::{
    Core,
    error::{NOT_FOUND, bus_error, is_too_large, of_reply, reply, unavailable},
    headers,
    link::Live,
    settle::Desk,
    topology::{COMMANDS, EVENTS, Topology, short},
};
use crate::{message::MessageKind, ports::BusError, ports::Outgoing};

/// Published and not confirmed yet, at most.
const WINDOW: usize = 2048;
/// A message that was published so often when the broker closed the connection is what it does not like.
const TRIES: u8 = 5;

/// What is published.
pub(super) enum Content {
    /// A message of a caller, to its topic, or to a queue by name with what is added to its headers.
    Message {
        message: Outgoing,
        reply_to: Option<Arc<str>>,
        requeue: Option<Requeue>,
    },
    /// A copy of what arrived, or an answer.
    Copy {
        exchange: &'static str,
        key: String,
        properties: BasicProperties,
        body: Bytes,
        /// Whether some queue must take it.
        mandatory: bool,
        /// The rung that must be there.
        rung: Option<u64>,
    },
}

/// To one queue alone.
pub(super) struct Requeue {
    pub(super) queue: String,
    pub(super) entry: Option<uuid::Uuid>,
}

/// Who wants to know.
pub(super) enum Done {
    Caller(oneshot::Sender<Result<(), BusError>>),
    /// The consumer that made the copy of its delivery `tag`.
    Desk(Arc<Desk>, u64),
    Nobody,
}

impl Done {
    fn tell(self, outcome: Result<(), BusError>) {
        match self {
            // Who asked may have gone.
            Self::Caller(caller) => drop(caller.send(outcome)),
            Self::Desk(desk, tag) => desk.copied(tag, outcome),
            Self::Nobody => {}
        }
    }

    /// Whether there is still a reason to publish.
    fn is_wanted(&self) -> bool {
        match self {
            Self::Desk(desk, tag) => desk.is_current(*tag),
            Self::Caller(_) | Self::Nobody => true,
        }
    }
}

/// One message on its way out.
pub(super) struct Item {
    pub(super) content: Content,
    pub(super) done: Done,
    /// When who asked is told that it took too long.
    pub(super) deadline: Option<Instant>,
    pub(super) tries: u8,
}

/// Where callers put what is to be published.
#[derive(Default)]
pub(super) struct Publisher {
    queue: Mutex<Queue>,
    waker: AtomicWaker,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    closed: bool,
    /// Published and not confirmed.
    in_flight: usize,
    /// Told when nothing is left.
    drained: Vec<oneshot::Sender<()>>,
}

impl Publisher {
    pub(super) fn push(&self, item: Item) {
        let refused = {
            let mut queue = self.queue.lock();
            if queue.closed {
                Some(item)
            } else {
                queue.items.push_back(item);
                None
            }
        };
        match refused {
            Some(item) => item.done.tell(Err(BusError::Closed {})),
            None => self.waker.wake(),
        }
    }

    /// Ends when everything has been published and confirmed.
    pub(super) async fn drained(&self) {
        let (tell, told) = oneshot::channel();
        {
            let mut queue = self.queue.lock();
            if queue.items.is_empty() && queue.in_flight == 0 {
                return;
            }
            queue.drained.push(tell);
        }
        // Dropped with the task, which is an end as well.
        let _ = told.await;
    }

    /// Takes nothing more; what waits is told so.
    pub(super) fn close(&self) {
        let items = {
            let mut queue = self.queue.lock();
            queue.closed = true;
            std::mem::take(&mut queue.items)
        };
        for item in items {
            item.done.tell(Err(BusError::Closed {}));
        }
        self.waker.wake();
    }

    fn is_closed(&self) -> bool {
        self.queue.lock().closed
    }

    /// Ends when there is something to publish, or nothing ever again.
    async fn work(&self) {
        poll_fn(|context| {
            self.waker.register(context.waker());
            let queue = self.queue.lock();
            if queue.items.is_empty() && !queue.closed {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
    }

    /// Tells what waits too long. Returns when the next one does.
    fn expire(&self, now: Instant) -> Option<Instant> {
        let mut late = Vec::new();
        let next = {
            let mut queue = self.queue.lock();
            while let Some(item) = queue.items.front()
                && item.deadline.is_some_and(|deadline| deadline <= now)
            {
                late.extend(queue.items.pop_front());
            }
            queue.items.iter().find_map(|item| item.deadline)
        };
        for item in late {
            item.done.tell(Err(too_late()));
        }
        next
    }

    /// Tells everything that waits why it cannot be published.
    fn fail_all(&self, error: &BusError) {
        let items = std::mem::take(&mut self.queue.lock().items);
        for item in items {
            item.done.tell(Err(error.clone()));
        }
    }

    fn note(&self, in_flight: usize) {
        let told = {
            let mut queue = self.queue.lock();
            queue.in_flight = in_flight;
            if in_flight > 0 || !queue.items.is_empty() {
                return;
            }
            std::mem::take(&mut queue.drained)
        };
        for tell in told {
            // Who waited may have gone.
            let _ = tell.send(());
        }
    }
}

fn too_late() -> BusError {
    unavailable("the message was not confirmed in time; it may have been accepted")
}

/// Publishes until the bus is closed.
pub(super) async fn run(core: Arc<Core>) {
    let mut again = VecDeque::new();
    let mut window = WINDOW;
    loop {
        if again.is_empty() {
            core.publisher.work().await;
        }
        if core.publisher.is_closed() {
            return;
        }
        let (live, channel) = match connect(&core).await {
            Ok(opened) => opened,
            Err(BusError::Closed {}) => return,
            Err(error) => {
                core.publisher.fail_all(&error);
                for item in again.drain(..) {
                    Item::done(item).tell(Err(error.clone()));
                }
                core.publisher.note(0);
                continue;
            }
        };
        let mut session = Session {
            core: &core,
            live: Arc::clone(&live),
            channel: Arc::new(channel),
            window,
            in_flight: VecDeque::new(),
            first: 0,
            confirming: FuturesUnordered::new(),
            again: std::mem::take(&mut again),
            returned: Vec::new(),
            declaring: None,
            timer: None,
        };
        let end = poll_fn(|context| session.poll(context)).await;
        let Some(error) = end else {
            return;
        };
        again = session.unconfirmed();
        window = blame(&core, &live, &mut again, &error, window);
        core.publisher.note(again.len());
    }
}

impl Item {
    fn done(self) -> Done {
        self.done
    }
}

/// A connection with everything there, and a channel with confirms. Before the first connection one failure is enough; after it, this waits.
async fn connect(core: &Arc<Core>) -> Result<(Arc<Live>, Channel), BusError> {
    let mut opening = std::pin::pin!(open(core));
    loop {
        let next = core.publisher.expire(Instant::now());
        let tick = sleep_until(
            next.unwrap_or_else(|| Instant::now() + core.config.publish_timeout)
                .min(Instant::now() + core.config.publish_timeout),
        );
        match select(opening.as_mut(), std::pin::pin!(tick)).await {
            Either::Left((opened, _)) => return opened,
            Either::Right(((), _)) => {}
        }
    }
}

async fn open(core: &Arc<Core>) -> Result<(Arc<Live>, Channel), BusError> {
    let topology = Topology {
        config: &core.config,
    };
    let mut first = true;
    loop {
        let live = if core.publish.ever_connected() {
            core.publish.get_again().await.ok_or(BusError::Closed {})?
        } else {
            core.publish.get_first().await?
        };
        let opened = async {
            topology.prepare(&live).await?;
            let channel = live.channel().await?;
            channel
                .confirm_select(ConfirmSelectOptions::default())
                .await
                .map_err(|error| bus_error(&error))?;
            Ok(channel)
        };
        match opened.await {
            Ok(channel) => return Ok((live, channel)),
            // The connection went in between.
            Err(BusError::Unavailable { reason }) => {
                tracing::debug!(reason, "no channel to publish on yet");
                if !first {
                    sleep(core.publish.delay()).await;
                }
                first = false;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Finds which messages made the broker close the channel, tells who sent them, and leaves the others to be published again. Returns how many
/// may be on their way at once: one, when it cannot be told whose fault it was.
fn blame(
    core: &Core,
    live: &Live,
    again: &mut VecDeque<Item>,
    error: &lapin::Error,
    window: usize,
) -> usize {
    again.retain(|item| item.done.is_wanted());
    let Some((code, text)) = reply(error) else {
        return WINDOW;
    };
    if error.is_amqp_hard_error() {
        // The connection was closed, most likely for a reason of the broker's own.
        refuse(again, |item| item.tries >= TRIES, || of_reply(code, text));
        return WINDOW;
    }
    tracing::warn!(
        code,
        text,
        "the broker closed the channel that messages are published on"
    );
    if is_too_large(code, text)
        && let Some(max) = text
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|word| word.parse::<usize>().ok())
            .next_back()
    {
        core.largest
            .store(max, std::sync::atomic::Ordering::Relaxed);
        refuse_each(again, |item| {
            (item.body_len() > max).then(|| item.too_large(text))
        });
        return WINDOW;
    }
    if code == NOT_FOUND && again.iter().all(|item| item.tries < TRIES) {
        // An exchange was deleted: they are declared again with the next channel.
        live.forget();
        return WINDOW;
    }
    if window == 1 || again.len() == 1 {
        // Exactly one was on its way.
        if let Some(item) = again.pop_front() {
            item.done.tell(Err(of_reply(code, text)));
        }
        return if again.is_empty() { WINDOW } else { 1 };
    }
    1
}

fn refuse(
    again: &mut VecDeque<Item>,
    guilty: impl Fn(&Item) -> bool,
    error: impl Fn() -> BusError,
) {
    refuse_each(again, |item| guilty(item).then(&error));
}

fn refuse_each(again: &mut VecDeque<Item>, fault: impl Fn(&Item) -> Option<BusError>) {
    for item in std::mem::take(again) {
        match fault(&item) {
            Some(error) => item.done.tell(Err(error)),
            None => again.push_back(item),
        }
    }
}

impl Item {
    fn body_len(&self) -> usize {
        match &self.content {
            Content::Message { message, .. } => message.body.len(),
            Content::Copy { body, .. } => body.len(),
        }
    }

    fn too_large(&self, reason: &str) -> BusError {
        let topic = match &self.content {
            Content::Message { message, .. } => message.topic.to_string(),
            Content::Copy { key, .. } => key.clone(),
        };
        BusError::MessageTooLarge {
            topic,
            bytes: self.body_len(),
            reason: reason.to_owned(),
        }
    }

    /// The error when no queue took it; `None` if none has to.
    fn unroutable(&self) -> Option<BusError> {
        match &self.content {
            Content::Message {
                requeue: Some(to), ..
            } => Some(BusError::TopologyMissing {
                resource: format!("queue {}", to.queue),
            }),
            Content::Message { message, .. } => match message.kind {
                MessageKind::Command => Some(BusError::NoHandler {
                    topic: message.topic.to_string(),
                }),
                MessageKind::Event => None,
            },
            Content::Copy { mandatory, key, .. } => mandatory.then(|| BusError::TopologyMissing {
                resource: format!("queue {key}"),
            }),
        }
    }

    fn message_id(&self) -> Option<String> {
        match &self.content {
            Content::Message { message, .. } => Some(message.id.to_string()),
            Content::Copy { properties, .. } => {
                properties.message_id().as_ref().map(ToString::to_string)
            }
        }
    }
}

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
struct Session<'a> {
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

impl Session<'_> {
    /// `Some` error when the channel is gone, `None` when the bus is closed.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<lapin::Error>> {
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
            if let Err(error) = self.publish(context) {
                return Poll::Ready(Some(error));
            }
            match self.confirm(context) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return Poll::Ready(Some(error)),
            }
        }
        self.core
            .publisher
            .note(self.in_flight.len() + self.again.len() + usize::from(self.declaring.is_some()));
        if self.core.publisher.is_closed() && self.in_flight.is_empty() {
            return Poll::Ready(None);
        }
        self.expire(context);
        Poll::Pending
    }

    /// Publishes what waits, as far as the window goes.
    fn publish(&mut self, context: &mut Context<'_>) -> lapin::Result<()> {
        while self.in_flight.len() < self.window && self.declaring.is_none() {
            let next = self.again.pop_front();
            let Some(item) = next.or_else(|| self.core.publisher.queue.lock().items.pop_front())
            else {
                if self.again.is_empty() && self.window == 1 && self.in_flight.is_empty() {
                    self.window = WINDOW;
                }
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
            let largest = self.core.largest.load(std::sync::atomic::Ordering::Relaxed);
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
        let Some(item) = one.item else {
            return;
        };
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
        let mut next = self.core.publisher.expire(now);
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

    /// What was on its way when the channel ended, in order.
    fn unconfirmed(self) -> VecDeque<Item> {
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
        items
    }
}

impl Item {
    fn missing_rung(&self, live: &Live) -> Option<u64> {
        match &self.content {
            Content::Copy {
                rung: Some(rung), ..
            } if !live.rungs.lock().contains(rung) => Some(*rung),
            _ => None,
        }
    }

    fn route(&self) -> (&str, &str) {
        match &self.content {
            Content::Message {
                requeue: Some(to), ..
            } => ("", &to.queue),
            Content::Message { message, .. } => match message.kind {
                MessageKind::Command => (COMMANDS, &message.topic),
                MessageKind::Event => (EVENTS, &message.topic),
            },
            Content::Copy { exchange, key, .. } => (exchange, key),
        }
    }

    fn parts(
        &self,
        core: &Core,
    ) -> (
        lapin::types::ShortString,
        lapin::types::ShortString,
        BasicProperties,
        Bytes,
        bool,
    ) {
        let (exchange, key) = self.route();
        let (exchange, key) = (exchange.into(), short(key));
        match &self.content {
            Content::Message {
                message,
                reply_to,
                requeue,
            } => {
                let properties = headers::outgoing(message, &core.app, reply_to.as_deref());
                let properties = match requeue {
                    Some(to) => headers::requeued(properties, &message.topic, to.entry),
                    None => properties,
                };
                let mandatory = requeue.is_some() || message.kind == MessageKind::Command;
                (exchange, key, properties, message.body.clone(), mandatory)
            }
            Content::Copy {
                properties,
                body,
                mandatory,
                ..
            } => (exchange, key, properties.clone(), body.clone(), *mandatory),
        }
    }
}
