//! What arrived for one handler, on its way from the broker's thread to the host's.

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    pin::Pin,
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
    /// Who looks by hand: each is woken.
    looking: Vec<Waker>,
    /// Who waits: woken one for each that arrived, the last to come first.
    waiting: Vec<(u64, Waker)>,
    numbers: u64,
    ended: bool,
}

impl State {
    /// Those to wake for `count` arrivals.
    fn wake(&mut self, count: usize) -> Vec<Waker> {
        let mut woken = std::mem::take(&mut self.looking);
        let rest = self.waiting.len().saturating_sub(count);
        woken.extend(self.waiting.drain(rest..).map(|(_, waker)| waker));
        woken
    }
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
        Ready {
            inbox: self,
            number: None,
        }
        .await
    }

    /// As [`Inbox::ready`], by hand: woken at every arrival.
    pub fn poll_ready(&self, context: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.0.0.lock();
        if !state.arrived.is_empty() {
            return Poll::Ready(true);
        }
        if state.ended {
            return Poll::Ready(false);
        }
        if !state.looking.iter().any(|w| w.will_wake(context.waker())) {
            state.looking.push(context.waker().clone());
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
        let woken = {
            let mut state = self.0.0.lock();
            state.arrived.extend(batch);
            if state.arrived.is_empty() {
                return;
            }
            let count = state.arrived.len();
            state.wake(count)
        };
        for waker in woken {
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
        let woken = {
            let mut state = self.0.0.lock();
            state.ended = true;
            state.wake(usize::MAX)
        };
        for waker in woken {
            waker.wake();
        }
    }
}

/// Waits for something to take. Woken and dropped, it hands the waking on.
struct Ready<'a> {
    inbox: &'a Inbox,
    /// Its place among those who wait, once it has one.
    number: Option<u64>,
}

impl Future for Ready<'_> {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.inbox.0.0.lock();
        let place = self
            .number
            .and_then(|number| state.waiting.iter().position(|(n, _)| *n == number));
        let outcome = (!state.arrived.is_empty()).then_some(true);
        if let Some(outcome) = outcome.or(state.ended.then_some(false)) {
            if let Some(place) = place {
                state.waiting.remove(place);
            }
            drop(state);
            self.number = None;
            return Poll::Ready(outcome);
        }
        if let Some(place) = place {
            state.waiting[place].1.clone_from(context.waker());
            return Poll::Pending;
        }
        state.numbers += 1;
        let number = state.numbers;
        state.waiting.push((number, context.waker().clone()));
        drop(state);
        self.number = Some(number);
        Poll::Pending
    }
}

impl Drop for Ready<'_> {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        let woken = {
            let mut state = self.inbox.0.0.lock();
            if let Some(place) = state.waiting.iter().position(|(n, _)| *n == number) {
                state.waiting.remove(place);
                return;
            }
            if state.arrived.is_empty() {
                return;
            }
            state.wake(1)
        };
        for waker in woken {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::atomic::{AtomicU32, Ordering},
        task::Wake,
    };

    use super::*;

    #[derive(Debug)]
    struct Nowhere;
    impl Settle for Nowhere {
        fn settle(&self, _: u64, _: Settlement) {}
    }

    #[derive(Default)]
    struct Count(AtomicU32);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn arrived(tag: u64) -> Arrived {
        Arrived {
            raw: RawMessage {
                kind: None,
                id: None,
                body: Bytes::new(),
                topic: String::new(),
                attempts: 0,
                failures: 0,
                first_failed_at: None,
                last_failed_at: None,
                errors: Vec::new(),
                max_retries: None,
                trace: TraceContext::default(),
                wants_reply: false,
                dead_letter: None,
            },
            content: Err(Doom::undecodable(&MessageError::Malformed {
                reason: "empty".into(),
            })),
            receipt: Receipt::new(Arc::new(Nowhere), tag),
        }
    }

    /// A waker, and how often it was woken.
    fn counted() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (Arc::clone(&count), Waker::from(count))
    }

    #[test]
    fn each_arrival_wakes_one_that_waits_and_who_looks_by_hand() {
        let (sender, inbox) = Inbox::new();
        let ((first, w1), (second, w2), (hand, w3)) = (counted(), counted(), counted());
        let (mut one, mut two) = (pin!(inbox.take()), pin!(inbox.take()));
        assert!(
            one.as_mut()
                .poll(&mut Context::from_waker(&w1))
                .is_pending()
        );
        assert!(
            two.as_mut()
                .poll(&mut Context::from_waker(&w2))
                .is_pending()
        );
        assert!(inbox.poll_ready(&mut Context::from_waker(&w3)).is_pending());
        let woken = || [&first, &second, &hand].map(|count| count.0.load(Ordering::SeqCst));

        sender.put([arrived(1)]);
        assert_eq!(woken(), [0, 1, 1]);
        sender.put([arrived(2)]);

        assert_eq!(woken(), [1, 1, 1]);
        let taken = |poll: Poll<Option<Arrived>>| matches!(poll, Poll::Ready(Some(_)));
        assert!(taken(two.as_mut().poll(&mut Context::from_waker(&w2))));
        assert!(taken(one.as_mut().poll(&mut Context::from_waker(&w1))));
    }

    #[test]
    fn who_is_woken_and_gone_hands_the_waking_on() {
        let (sender, inbox) = Inbox::new();
        let ((first, w1), (_, w2)) = (counted(), counted());
        let mut one = pin!(inbox.take());
        let mut two = Box::pin(inbox.take());
        assert!(
            one.as_mut()
                .poll(&mut Context::from_waker(&w1))
                .is_pending()
        );
        assert!(
            two.as_mut()
                .poll(&mut Context::from_waker(&w2))
                .is_pending()
        );

        sender.put([arrived(1)]);
        drop(two);

        assert_eq!(first.0.load(Ordering::SeqCst), 1);
        drop(sender);
        assert!(matches!(
            one.as_mut().poll(&mut Context::from_waker(&w1)),
            Poll::Ready(Some(_))
        ));
        assert!(inbox.is_over());
    }
}
