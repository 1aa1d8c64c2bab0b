//! Waking everybody who waits for a change, without losing one.

use std::{
    collections::BTreeMap,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;

/// Something that happens again and again. Take the [`count`](Signal::count), look at the state, then wait for [`after`](Signal::after):
/// what happens in between ends the wait at once.
#[derive(Default)]
pub(crate) struct Signal(Mutex<Bell>);

#[derive(Default)]
struct Bell {
    count: u64,
    next: u64,
    waiting: BTreeMap<u64, Waker>,
}

impl Signal {
    /// How often it happened.
    pub(crate) fn count(&self) -> u64 {
        self.0.lock().count
    }

    /// It happened: wakes all who wait.
    pub(crate) fn ring(&self) {
        let waiting = {
            let mut bell = self.0.lock();
            bell.count += 1;
            mem::take(&mut bell.waiting)
        };
        for waker in waiting.into_values() {
            waker.wake();
        }
    }

    /// Ends when it has happened more than `count` times.
    pub(crate) fn after(self: &Arc<Self>, count: u64) -> Rung {
        Rung {
            signal: Arc::clone(self),
            count,
            place: None,
        }
    }
}

/// See [`Signal::after`].
pub(crate) struct Rung {
    signal: Arc<Signal>,
    count: u64,
    place: Option<u64>,
}

impl Future for Rung {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut bell = self.signal.0.lock();
        if bell.count > self.count {
            return Poll::Ready(());
        }
        let place = self.place.unwrap_or_else(|| {
            bell.next += 1;
            bell.next
        });
        // The one before is dropped without the lock: it may be the last of something that waits here, too.
        let before = bell.waiting.insert(place, cx.waker().clone());
        drop(bell);
        drop(before);
        self.place = Some(place);
        Poll::Pending
    }
}

impl Drop for Rung {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            let waker = self.signal.0.lock().waiting.remove(&place);
            drop(waker);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll(rung: &mut Rung) -> Poll<()> {
        Pin::new(rung).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn what_happens_between_the_look_and_the_wait_is_not_lost() {
        let signal = Arc::new(Signal::default());
        let count = signal.count();

        signal.ring();

        assert!(poll(&mut signal.after(count)).is_ready());
    }

    #[test]
    fn a_wait_ends_with_the_next_ring_and_a_dropped_one_is_forgotten() {
        let signal = Arc::new(Signal::default());
        let mut wait = signal.after(0);
        let mut given_up = signal.after(0);
        assert!(poll(&mut wait).is_pending());
        assert!(poll(&mut given_up).is_pending());

        drop(given_up);
        assert_eq!(signal.0.lock().waiting.len(), 1);
        signal.ring();

        assert!(poll(&mut wait).is_ready());
    }
}
