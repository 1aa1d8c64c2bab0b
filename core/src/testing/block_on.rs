//! The smallest executor there is: the calling thread, parked between polls.

use std::{
    fmt,
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

/// A test that waits longer has lost a wake-up.
const LIMIT: Duration = Duration::from_secs(60);

struct Unpark {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

/// Runs `future` to its end on this thread.
///
/// # Panics
/// If a minute passes without a wake-up.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let unpark = Arc::new(Unpark {
        thread: thread::current(),
        woken: AtomicBool::new(false),
    });
    let waker = Waker::from(Arc::clone(&unpark));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        // Parking may end for no reason, so only the flag counts.
        let mut spurious = 0;
        while !unpark.woken.swap(false, Ordering::SeqCst) {
            assert!(spurious < 100, "no wake-up within {LIMIT:?}");
            thread::park_timeout(LIMIT / 100);
            spurious += 1;
        }
    }
}

/// A future that has been polled once: what it asked for is under way.
pub struct Started<'a, T> {
    future: Pin<Box<dyn Future<Output = T> + 'a>>,
    output: Option<T>,
}

impl<'a, T> Started<'a, T> {
    /// Polls `future` once.
    pub fn new(future: impl Future<Output = T> + 'a) -> Self {
        let mut started = Self {
            future: Box::pin(future),
            output: None,
        };
        started.is_done();
        started
    }

    /// Polls again unless it has ended, and says whether it has.
    pub fn is_done(&mut self) -> bool {
        if self.output.is_none() {
            let mut context = Context::from_waker(Waker::noop());
            if let Poll::Ready(output) = self.future.as_mut().poll(&mut context) {
                self.output = Some(output);
            }
        }
        self.output.is_some()
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// As [`block_on`].
    pub fn finish(self) -> T {
        match self.output {
            Some(output) => output,
            None => block_on(self.future),
        }
    }
}

impl<T> fmt::Debug for Started<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Started")
            .field("done", &self.output.is_some())
            .finish_non_exhaustive()
    }
}
