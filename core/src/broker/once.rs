//! Between the bus and a handler with an inbox: what the handler has handled is answered with what was recorded, and goes no further.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures_util::future::{Either, join_all, select};
use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

use super::{Desk, consumer};
use crate::{
    background::Running,
    message::wire::Decoded,
    ports::{
        Arrived, ConsumerSpec, Inbox, InboxEntry, InboxSender, InboxStore, Receipt, Settle,
        Settlement,
    },
};

/// Messages that are looked up at once.
const LOOK_UPS: usize = 64;

/// The wait after the store did not answer.
const AFTER_FAILURE: Duration = Duration::from_millis(500);

/// What arrives in `from` and was not handled, and what keeps it coming.
pub(super) fn filtered(
    desk: &Desk,
    spec: &ConsumerSpec,
    store: Arc<dyn InboxStore>,
    from: Inbox,
) -> (Inbox, Running) {
    let (sender, inbox) = Inbox::new();
    let filter = Filter {
        desk: desk.clone(),
        handler: spec.address.handler.clone(),
        store,
        from,
        to: sender,
        hand: Arc::default(),
    };
    (inbox, desk.background.run(filter.run()))
}

struct Filter {
    desk: Desk,
    handler: String,
    store: Arc<dyn InboxStore>,
    from: Inbox,
    to: InboxSender,
    hand: Arc<Hand>,
}

/// What the handler has before it. A message that comes twice at once waits until the first is done with.
#[derive(Debug, Default)]
struct Hand {
    held: Mutex<Held>,
    settled: Notify,
}

#[derive(Debug, Default)]
struct Held {
    tags: u64,
    receipts: HashMap<u64, (Receipt, Option<Uuid>)>,
    messages: HashSet<Uuid>,
    waiting: Vec<Arrived>,
}

impl Settle for Hand {
    fn settle(&self, tag: u64, settlement: Settlement) {
        let settled = {
            let mut held = self.held.lock();
            let settled = held.receipts.remove(&tag);
            if let Some((_, Some(message))) = &settled {
                held.messages.remove(message);
            }
            settled
        };
        if let Some((receipt, _)) = settled {
            receipt.settle(settlement);
        }
        self.settled.notify_one();
    }
}

impl Hand {
    /// The arrival with a receipt that passes through here; `None` if its message is in hand, for which it waits.
    fn take(self: &Arc<Self>, arrived: Arrived) -> Option<Arrived> {
        let message = id_of(&arrived);
        let mut held = self.held.lock();
        if let Some(message) = message
            && !held.messages.insert(message)
        {
            held.waiting.push(arrived);
            return None;
        }
        held.tags += 1;
        let tag = held.tags;
        held.receipts.insert(tag, (arrived.receipt, message));
        Some(Arrived {
            receipt: Receipt::new(Arc::<Self>::clone(self), tag),
            ..arrived
        })
    }

    /// Those that waited for a message that is in hand no more.
    fn freed(&self) -> Vec<Arrived> {
        let mut held = self.held.lock();
        let Held {
            waiting, messages, ..
        } = &mut *held;
        let free = |arrived: &mut Arrived| {
            id_of(arrived).is_none_or(|message| !messages.contains(&message))
        };
        waiting.extract_if(.., free).collect()
    }
}

fn id_of(arrived: &Arrived) -> Option<Uuid> {
    match arrived.content.as_ref().ok()? {
        Decoded::Command(envelope) => Some(envelope.command.id),
        Decoded::Event(event) => Some(event.id),
    }
}

impl Filter {
    async fn run(self) {
        let mut batch = Vec::new();
        loop {
            batch.append(&mut self.hand.freed());
            self.from.take_into(&mut batch, LOOK_UPS);
            if batch.is_empty() {
                let settled = std::pin::pin!(self.hand.settled.notified());
                let ready = std::pin::pin!(self.from.ready());
                if let Either::Left((false, _)) = select(ready, settled).await {
                    // Nothing more comes; what waits has nobody to come back to.
                    return;
                }
                continue;
            }
            // Who is in hand is looked up when it is not any more: then it is known how it ended.
            let mine: Vec<Arrived> = batch.drain(..).filter_map(|a| self.hand.take(a)).collect();
            let found = join_all(mine.iter().map(|arrived| self.find(arrived))).await;
            for (arrived, entry) in mine.into_iter().zip(found) {
                match entry {
                    None => self.to.put([arrived]),
                    Some(entry) => {
                        tracing::debug!(handler = self.handler, message_id = ?id_of(&arrived), "a message was handled before");
                        consumer::answer_as_recorded(&self.desk, arrived, entry.result);
                    }
                }
            }
        }
    }

    /// The record of the message; waits for as long as the store is away.
    async fn find(&self, arrived: &Arrived) -> Option<InboxEntry> {
        let message = id_of(arrived)?;
        loop {
            match self.store.find(self.handler.clone(), message).await {
                Ok(entry) => return entry,
                Err(error) => {
                    tracing::warn!(handler = self.handler, %error, "the inbox could not be looked at");
                    self.desk.clock.sleep(AFTER_FAILURE).await;
                }
            }
        }
    }
}
