//! Messages over a broker: what is sent, what arrives, and what was given up.

mod consumer;
mod letters;
mod sender;
mod trouble;

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use pyo3::prelude::*;

pub(crate) use consumer::{Consumer, Parts};
pub(crate) use letters::{health, requeue_address};
pub(crate) use sender::{Outbound, Sender, Wish};
pub(crate) use trouble::Trouble;

/// Adds the classes to the module.
pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Consumer>()?;
    module.add_class::<Trouble>()
}

/// Ends what waits for messages.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    stopped: AtomicBool,
    waiting: Mutex<Vec<std::task::Waker>>,
}

impl Stop {
    fn is_set(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    fn set(&self) {
        self.stopped.store(true, Ordering::Release);
        let waiting = std::mem::take(&mut *self.waiting.lock());
        for waker in waiting {
            waker.wake();
        }
    }

    fn await_with(&self, waker: &std::task::Waker) {
        let mut waiting = self.waiting.lock();
        if !waiting.iter().any(|w| w.will_wake(waker)) {
            waiting.push(waker.clone());
        }
    }

    fn forget(&self, waker: &std::task::Waker) {
        self.waiting.lock().retain(|w| !w.will_wake(waker));
    }
}
