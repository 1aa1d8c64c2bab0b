//! What arrived for one handler, on its way from the broker's thread to the host's.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    message::{MessageError, MessageKind, wire::Decoded},
    ports::{DeadLetter, DeadLetterReason, ErrorRecord, TraceContext},
};

/// What the host says of a message.
#[derive(Debug)]
pub enum Settlement {
    /// Done with: it leaves the queue. With an answer for whoever asked.
    Done {
        /// The body of the answer.
        reply: Option<Bytes>,
    },
    /// To come again, no earlier than after this wait; it leaves the queue meanwhile.
    Retry {
        /// The wait.
        after: Duration,
        /// Attempts so far, this one counted.
        attempts: u32,
        /// Attempts that used up a retry.
        failures: u32,
        /// When the first attempt failed.
        first_failed_at: Timestamp,
    },
    /// Given up: it goes to the broker's dead letters as it came, with what is known of it.
    DeadLetter {
        /// What is known.
        letter: Box<DeadLetter>,
        /// The body of the answer.
        reply: Option<Bytes>,
    },
    /// Not started: back to where it was.
    GiveBack,
}

/// Where settlements go. Called on the host's threads: it only takes note.
pub trait Settle: Send + Sync + fmt::Debug {
    /// Settles the delivery `tag`. One of a connection that is gone is settled already: by coming again.
    fn settle(&self, tag: u64, settlement: Settlement);
}

/// The right to settle one delivery, once. Dropped without it, the message is given back.
#[derive(Debug)]
pub struct Receipt {
    to: Option<Arc<dyn Settle>>,
    tag: u64,
}

impl Receipt {
    /// The receipt of `tag`.
    pub fn new(to: Arc<dyn Settle>, tag: u64) -> Self {
        Self { to: Some(to), tag }
    }

    /// Settles the delivery.
    pub fn settle(mut self, settlement: Settlement) {
        if let Some(to) = self.to.take() {
            to.settle(self.tag, settlement);
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(to) = self.to.take() {
            to.settle(self.tag, Settlement::GiveBack);
        }
    }
}

/// A message as it came: body and the headers that are ours.
#[derive(Debug, Clone)]
pub struct RawMessage {
    /// What the properties say it is.
    pub kind: Option<MessageKind>,
    /// The message id of the properties, if it is a UUID.
    pub id: Option<Uuid>,
    /// The body, untouched.
    pub body: Bytes,
    /// The topic.
    pub topic: String,
    /// Attempts that have begun before: our header and the broker's count.
    pub attempts: u32,
    /// Of these, how many used up a retry.
    pub failures: u32,
    /// When the first attempt failed.
    pub first_failed_at: Option<Timestamp>,
    /// When the last attempt failed, on a dead letter.
    pub last_failed_at: Option<Timestamp>,
    /// Its errors, on a dead letter of ours.
    pub errors: Vec<ErrorRecord>,
    /// Retries that the sender wants.
    pub max_retries: Option<u32>,
    /// Its trace.
    pub trace: TraceContext,
    /// Whether somebody waits for an answer.
    pub wants_reply: bool,
    /// The dead letter that it was before it was requeued.
    pub dead_letter: Option<Uuid>,
}

/// Why a message that arrived cannot be handled.
#[derive(Debug, Clone)]
pub struct Doom {
    /// Undecodable, or over the crash limit.
    pub reason: DeadLetterReason,
    /// What is wrong.
    pub error: ErrorRecord,
}

/// A delivery to one handler.
#[derive(Debug)]
pub struct Arrived {
    /// As it came.
    pub raw: RawMessage,
    /// What it says, or why it cannot be handled.
    pub content: Result<Decoded, Doom>,
    /// To settle it.
    pub receipt: Receipt,
}

impl Doom {
    /// A body that does not decode.
    pub fn undecodable(error: &MessageError) -> Self {
        use crate::code::Coded;
        Self {
            reason: DeadLetterReason::Undecodable,
            error: ErrorRecord {
                error_type: error.code().to_owned(),
                message: error.to_string(),
                trace: String::new(),
            },
        }
    }
}

/// What arrived for one handler, oldest first. Any number of tasks may take from it.
#[derive(Debug, Clone)]
pub struct Inbox(Arc<Shared>);

/// Where an inbox is filled. Dropped, it ends the inbox after what is in it.
#[derive(Debug)]
pub struct InboxSender(Arc<Shared>);

#[derive(Default)]
struct Shared(Mutex<State>);

#[derive(Default)]
struct State {
    arrived: VecDeque<Arrived>,
    waiting: Vec<Waker>,
    ended: bool,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} arrived", self.0.lock().arrived.len())
    }
}

impl Inbox {
    /// An empty inbox and where it is filled.
    pub fn new() -> (InboxSender, Self) {
        let shared = Arc::new(Shared::default());
        (InboxSender(Arc::clone(&shared)), Self(shared))
    }

    /// The next one, if there is one now.
    pub fn try_take(&self) -> Option<Arrived> {
        self.0.0.lock().arrived.pop_front()
    }

    /// Up to `limit` at once, appended to `into`; returns how many.
    pub fn take_into(&self, into: &mut Vec<Arrived>, limit: usize) -> usize {
        let mut state = self.0.0.lock();
        let count = state.arrived.len().min(limit);
        into.extend(state.arrived.drain(..count));
        count
    }

    /// Waits until there may be something to take; false when the inbox has ended and is empty.
    pub async fn ready(&self) -> bool {
        poll_fn(|context| self.poll_ready(context)).await
    }

    /// As [`Inbox::ready`], by hand.
    pub fn poll_ready(&self, context: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.0.0.lock();
        if !state.arrived.is_empty() {
            return Poll::Ready(true);
        }
        if state.ended {
            return Poll::Ready(false);
        }
        if !state.waiting.iter().any(|w| w.will_wake(context.waker())) {
            state.waiting.push(context.waker().clone());
        }
        Poll::Pending
    }

    /// Waits for the next one; `None` when the inbox has ended.
    pub async fn take(&self) -> Option<Arrived> {
        loop {
            if let Some(arrived) = self.try_take() {
                return Some(arrived);
            }
            if !self.ready().await {
                return None;
            }
        }
    }

    /// Whether nothing more will come and nothing is in it.
    pub fn is_over(&self) -> bool {
        let state = self.0.0.lock();
        state.ended && state.arrived.is_empty()
    }
}

impl InboxSender {
    /// Puts a batch in and wakes who waits, once.
    pub fn put(&self, batch: impl IntoIterator<Item = Arrived>) {
        let waiting = {
            let mut state = self.0.0.lock();
            state.arrived.extend(batch);
            if state.arrived.is_empty() {
                return;
            }
            std::mem::take(&mut state.waiting)
        };
        for waker in waiting {
            waker.wake();
        }
    }

    /// Takes back what nobody has opened: after a connection is lost the broker delivers it again, and on closing it goes back. Dropping the
    /// answer gives each of them back.
    pub fn recall(&self) -> VecDeque<Arrived> {
        std::mem::take(&mut self.0.0.lock().arrived)
    }
}

impl Drop for InboxSender {
    fn drop(&mut self) {
        let waiting = {
            let mut state = self.0.0.lock();
            state.ended = true;
            std::mem::take(&mut state.waiting)
        };
        for waker in waiting {
            waker.wake();
        }
    }
}
