//! One answer from a thread of the store to a future that any executor polls.

use std::{
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
    Answered(Result<T, StoreError>),
    Taken,
}

/// Where the answer is given. Dropped unused, it answers that the store is away.
pub(super) struct Answer<T>(Option<Arc<Mutex<Slot<T>>>>);

/// The future of the answer.
pub(super) struct Reply<T>(Arc<Mutex<Slot<T>>>);

/// A place for one answer.
pub(super) fn reply<T>() -> (Answer<T>, Reply<T>) {
    let slot = Arc::new(Mutex::new(Slot::Waiting(None)));
    (Answer(Some(Arc::clone(&slot))), Reply(slot))
}

impl<T> Answer<T> {
    pub(super) fn give(mut self, result: Result<T, StoreError>) {
        self.put(result);
    }

    fn put(&mut self, result: Result<T, StoreError>) {
        let Some(slot) = self.0.take() else { return };
        let before = mem::replace(&mut *slot.lock(), Slot::Answered(result));
        // A waker may run foreign code: never under our lock.
        if let Slot::Waiting(Some(waker)) = before {
            waker.wake();
        }
    }
}

impl<T> Drop for Answer<T> {
    fn drop(&mut self) {
        self.put(Err(StoreError::Unavailable {
            reason: "the store's thread ended".into(),
        }));
    }
}

impl<T> Future for Reply<T> {
    type Output = Result<T, StoreError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = self.0.lock();
        match mem::replace(&mut *slot, Slot::Taken) {
            Slot::Answered(result) => Poll::Ready(result),
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
