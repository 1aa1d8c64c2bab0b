//! What the core warns of, for the app's logger.
//!
//! The core logs from threads of its own: lines wait for a JavaScript thread to ask for the next one.

use std::{
    collections::VecDeque,
    future::poll_fn,
    task::{Poll, Waker},
};

use napi_derive::napi;
use orkestra::{ports::StoreError, telemetry::Warnings};
use parking_lot::Mutex;

use crate::bridge::{Bridge, Started};

/// Lines that wait to be taken; what comes when they are as many is dropped.
const WAITING: usize = 1024;

struct Lines {
    waiting: VecDeque<String>,
    /// Of the threads that wait for one.
    wakers: Vec<Waker>,
}

static LINES: Mutex<Lines> = Mutex::new(Lines {
    waiting: VecDeque::new(),
    wakers: Vec::new(),
});

fn push(line: String) {
    let wakers = {
        let mut lines = LINES.lock();
        if lines.waiting.len() < WAITING {
            lines.waiting.push_back(line);
        }
        std::mem::take(&mut lines.wakers)
    };
    for waker in wakers {
        waker.wake();
    }
}

#[napi]
impl Bridge {
    /// Waits for what the core warns of next, in whichever app of the process.
    #[napi]
    pub fn next_warning(&self) -> napi::Result<Started> {
        // Where the process has a subscriber already, that one hears it.
        let _ = Warnings::to(|_, line| push(line)).install();
        self.spawner().start(poll_fn(|context| {
            let mut lines = LINES.lock();
            if let Some(line) = lines.waiting.pop_front() {
                return Poll::Ready(Ok::<_, StoreError>(Some(line)));
            }
            lines.wakers.push(context.waker().clone());
            Poll::Pending
        }))
    }
}
