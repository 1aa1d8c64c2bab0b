//! One answer from a thread of the store to a future that any executor polls.

use std::{
    collections::VecDeque,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;

use crate::ports::StoreError;

enum Slot<T> {
    Waiting(Option<Waker>),
    Answered(Result<T, StoreError>, Option<Shared>),
    Taken,
}

/// What comes with one of many answers.
struct Shared {
    waiting: Arc<Wakers>,
    /// Freed by whoever gets the answer: the thread that made it does that cheaply, and the writer has more to do.
    spent: Box<dyn Send>,
}

/// Those who wait for the answers of one transaction.
///
/// They are woken by the writer and, at the same time, by the first of them that is polled: the scheduler likes to run a woken thread
/// in place of its waker, and it would fall asleep again before each next answer, to be woken again.
#[derive(Default)]
pub(crate) struct Wakers(Mutex<VecDeque<Waker>>);

impl Wakers {
    pub(crate) fn add(&self, waker: Waker) {
        self.0.lock().push_back(waker);
    }

    /// Wakes all who have not been woken yet.
    pub(crate) fn wake(&self) {
        loop {
            let next = self.0.lock().pop_front();
            match next {
                // A waker may run foreign code: never under our lock.
                Some(waker) => waker.wake(),
                None => return,
            }
        }
    }
}

/// Where the answer is given. Dropped unused, it answers that the store is away.
pub(crate) struct Answer<T>(Option<Arc<Mutex<Slot<T>>>>);

/// The future of the answer.
pub(crate) struct Reply<T>(Arc<Mutex<Slot<T>>>);

/// A place for one answer.
pub(crate) fn reply<T>() -> (Answer<T>, Reply<T>) {
    let slot = Arc::new(Mutex::new(Slot::Waiting(None)));
    (Answer(Some(Arc::clone(&slot))), Reply(slot))
}

impl<T> Answer<T> {
    /// Answers and wakes.
    pub(crate) fn give(mut self, result: Result<T, StoreError>) {
        if let Some(waker) = self.put(result, None) {
            waker.wake();
        }
    }

    /// Answers as one of many, and gives what the request was made of back; the caller wakes all when everybody has an answer.
    pub(crate) fn give_with(
        mut self,
        result: Result<T, StoreError>,
        waiting: &Arc<Wakers>,
        spent: Box<dyn Send>,
    ) {
        let shared = Shared {
            waiting: Arc::clone(waiting),
            spent,
        };
        if let Some(waker) = self.put(result, Some(shared)) {
            waiting.add(waker);
        }
    }

    fn put(&mut self, result: Result<T, StoreError>, shared: Option<Shared>) -> Option<Waker> {
        let slot = self.0.take()?;
        match mem::replace(&mut *slot.lock(), Slot::Answered(result, shared)) {
            Slot::Waiting(waker) => waker,
            _ => None,
        }
    }
}

impl<T> Drop for Answer<T> {
    fn drop(&mut self) {
        let ended = StoreError::Unavailable {
            reason: "the store's thread ended".into(),
        };
        let waker = self.put(Err(ended), None);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Future for Reply<T> {
    type Output = Result<T, StoreError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = self.0.lock();
        match mem::replace(&mut *slot, Slot::Taken) {
            Slot::Answered(result, shared) => {
                drop(slot);
                if let Some(Shared { waiting, spent }) = shared {
                    waiting.wake();
                    drop(spent);
                }
                Poll::Ready(result)
            }
            Slot::Waiting(waker) => {
                let waker = match waker {
                    Some(waker) if waker.will_wake(cx.waker()) => waker,
                    _ => cx.waker().clone(),
                };
                *slot = Slot::Waiting(Some(waker));
                Poll::Pending
            }
            Slot::Taken => Poll::Ready(Err(StoreError::Closed {})),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_dropped_says_that_the_store_is_away() {
        let (answer, mut reply) = reply::<()>();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut reply).poll(&mut cx).is_pending());

        drop(answer);

        assert!(matches!(
            Pin::new(&mut reply).poll(&mut cx),
            Poll::Ready(Err(StoreError::Unavailable { .. }))
        ));
    }

    #[test]
    fn an_answer_reaches_the_future() {
        let (answer, mut reply) = reply();
        answer.give(Ok(7));

        let polled = Pin::new(&mut reply).poll(&mut Context::from_waker(Waker::noop()));

        assert!(matches!(polled, Poll::Ready(Ok(7))));
    }
}
