//! Publishing: one task and one channel for all callers, with confirms.

mod blame;
mod item;
mod session;

use std::{collections::VecDeque, future::poll_fn, sync::Arc, task::Poll};

use futures_util::{
    future::{Either, select},
    task::AtomicWaker,
};
use lapin::{Channel, options::ConfirmSelectOptions};
use parking_lot::Mutex;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, sleep_until},
};

pub(super) use self::item::{Content, Done, Item, Requeue};
use self::{blame::blame, session::Session};
use super::{
    Core,
    error::{bus_error, unavailable},
    link::Live,
    topology::Topology,
};
use crate::ports::BusError;

/// Published and not confirmed yet, at most.
const WINDOW: usize = 2048;

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

    /// Ends when nothing is to be published any more.
    async fn closing(&self) {
        poll_fn(|context| {
            self.waker.register(context.waker());
            if self.is_closed() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Tells what waits too long. Returns when the next one does.
    fn expire(&self, now: Instant) -> Option<Instant> {
        let (next, late) = expire(&mut self.queue.lock().items, now);
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

/// Takes out what waits too long; with when the next one does. Deadlines come in order; what has none may stand between.
fn expire(items: &mut VecDeque<Item>, now: Instant) -> (Option<Instant>, VecDeque<Item>) {
    let next = items.iter().find_map(|item| item.deadline);
    if next.is_none_or(|next| next > now) {
        return (next, VecDeque::new());
    }
    let is_late = |item: &Item| item.deadline.is_some_and(|deadline| deadline <= now);
    let (late, rest) = std::mem::take(items).into_iter().partition(is_late);
    *items = rest;
    (items.iter().find_map(|item| item.deadline), late)
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
        let (live, channel) = match connect(&core, &mut again).await {
            Ok(opened) => opened,
            Err(BusError::Closed {}) => return,
            Err(error) => {
                core.publisher.fail_all(&error);
                for item in again.drain(..) {
                    item.done.tell(Err(error.clone()));
                }
                core.publisher.note(0);
                continue;
            }
        };
        let again_now = std::mem::take(&mut again);
        let mut session = Session::new(&core, live, channel, window, again_now);
        let end = poll_fn(|context| session.poll(context)).await;
        let Some(error) = end else {
            return;
        };
        let error = session.cause(error);
        let on_its_way = session.on_its_way();
        again = session.unconfirmed();
        window = blame(&core, &mut again, &error, on_its_way);
        core.publisher.note(again.len());
    }
}

/// A connection with everything there, and a channel with confirms. Before the first connection one failure is enough; after it, this waits.
async fn connect(
    core: &Arc<Core>,
    again: &mut VecDeque<Item>,
) -> Result<(Arc<Live>, Channel), BusError> {
    let opening = std::pin::pin!(open(core));
    let closing = std::pin::pin!(core.publisher.closing());
    let mut opening = select(opening, closing);
    loop {
        let now = Instant::now();
        let (earlier, late) = expire(again, now);
        for item in late {
            item.done.tell(Err(too_late()));
        }
        let next = core.publisher.expire(now);
        let next = [earlier, next].into_iter().flatten().min();
        let tick = sleep_until(
            next.unwrap_or_else(|| Instant::now() + core.config.publish_timeout)
                .min(Instant::now() + core.config.publish_timeout),
        );
        match select(&mut opening, std::pin::pin!(tick)).await {
            Either::Left((Either::Left((opened, _)), _)) => return opened,
            Either::Left((Either::Right(_), _)) => return Err(BusError::Closed {}),
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;

    fn item(deadline: Option<Instant>) -> Item {
        Item {
            content: Content::Copy {
                exchange: "",
                key: "q".into(),
                properties: lapin::BasicProperties::default(),
                body: Bytes::new(),
                mandatory: false,
                rung: None,
            },
            done: Done::Nobody,
            deadline,
            tries: 0,
        }
    }

    #[test]
    fn what_waits_too_long_is_found_behind_what_may_wait_for_ever() {
        #[expect(clippy::disallowed_methods, reason = "a fixed moment")]
        let now = std::time::Instant::now().into();
        let later = now + Duration::from_secs(1);
        let mut items: VecDeque<_> = [None, Some(now), None, Some(now), Some(later)]
            .map(item)
            .into();

        let (next, late) = expire(&mut items, now);

        assert_eq!((next, late.len(), items.len()), (Some(later), 2, 3));
        let (next, late) = expire(&mut items, now);
        assert_eq!((next, late.len()), (Some(later), 0));
    }
}
