//! Requests on their way to the writer.

use std::{
    collections::VecDeque,
    mem,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::{Condvar, Mutex};

use super::{
    error::Failure,
    reply::{Answer, Reply, Wakers, reply},
    writer::Tx,
};
use crate::ports::StoreError;

/// What one transaction takes at most.
const MAX_REQUESTS: usize = 1_000;
const MAX_EVENTS: usize = 10_000;
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// How long the queue must not grow before its requests are taken: looks at it, and processor pauses between two looks.
const QUIET_LOOKS: u32 = 8;
const PAUSES: u32 = 32;

/// How much a request writes.
#[derive(Clone, Copy, Default)]
pub(super) struct Size {
    pub(super) events: usize,
    pub(super) bytes: usize,
}

/// Something to do in a transaction, and somebody who waits for it.
pub(super) trait Request: Send {
    fn size(&self) -> Size;

    /// Does it; may be called again when the transaction was rolled back. A refusal is no error: it is kept for the answer.
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), rusqlite::Error>;

    /// Answers, after the commit or instead of it. The caller wakes whoever waits.
    fn finish(self: Box<Self>, committed: Result<(), StoreError>, waiting: &Arc<Wakers>);
}

/// A request made of a function.
struct Task<T, F> {
    size: Size,
    work: F,
    /// Until it was done: why it was not.
    result: Result<T, StoreError>,
    answer: Option<Answer<T>>,
}

impl<T, F> Request for Task<T, F>
where
    T: Send + 'static,
    F: FnMut(&mut Tx<'_>) -> Result<T, Failure> + Send + 'static,
{
    fn size(&self) -> Size {
        self.size
    }

    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), rusqlite::Error> {
        self.result = match (self.work)(tx) {
            Ok(value) => Ok(value),
            Err(Failure::Refused(error)) => Err(error),
            Err(Failure::Database(error)) => return Err(error),
        };
        Ok(())
    }

    fn finish(mut self: Box<Self>, committed: Result<(), StoreError>, waiting: &Arc<Wakers>) {
        let result = mem::replace(&mut self.result, Err(StoreError::Closed {}));
        if let Some(answer) = self.answer.take() {
            answer.give_with(committed.and(result), waiting, self);
        }
    }
}

/// The writer's queue: first come, first served.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    /// How many requests ever came.
    pushed: AtomicUsize,
}

#[derive(Default)]
struct State {
    requests: VecDeque<Box<dyn Request>>,
    /// Whether the last transaction had several requests.
    crowded: bool,
    closing: bool,
    closers: Vec<Answer<()>>,
    ended: bool,
}

impl Queue {
    /// Queues `work` now; the reply comes after its commit.
    pub(super) fn push<T, F>(&self, size: Size, work: F) -> Reply<T>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T, Failure> + Send + 'static,
    {
        let (answer, reply) = reply();
        let task = Box::new(Task {
            size,
            work,
            result: Err(StoreError::Closed {}),
            answer: Some(answer),
        });
        let mut state = self.state.lock();
        if state.closing {
            drop(state);
            task.finish(Err(StoreError::Closed {}), &Arc::default());
            return reply;
        }
        state.requests.push_back(task);
        drop(state);
        self.pushed.fetch_add(1, Ordering::Relaxed);
        self.filled.notify_one();
        reply
    }

    /// Refuses what comes from now on; the reply comes when all that was queued is done and the writer has ended.
    pub(super) fn close(&self) -> Reply<()> {
        let (answer, reply) = reply();
        let mut state = self.state.lock();
        state.closing = true;
        if state.ended {
            drop(state);
            answer.give(Ok(()));
        } else {
            state.closers.push(answer);
            drop(state);
            self.filled.notify_one();
        }
        reply
    }

    /// What the next transaction is to do, at least one request; `None` when nothing can come any more.
    pub(super) fn next_group(&self) -> Option<Vec<Box<dyn Request>>> {
        let mut state = self.state.lock();
        while state.requests.is_empty() {
            if state.closing {
                return None;
            }
            self.filled.wait(&mut state);
        }
        if state.crowded {
            parking_lot::MutexGuard::unlocked(&mut state, || self.linger());
        }
        let mut total = Size::default();
        let fitting = state
            .requests
            .iter()
            .take(MAX_REQUESTS)
            .take_while(|request| {
                let first = total.events == 0 && total.bytes == 0;
                let size = request.size();
                total.events += size.events;
                total.bytes += size.bytes;
                first || total.events <= MAX_EVENTS && total.bytes <= MAX_BYTES
            })
            .count();
        state.crowded = fitting > 1;
        Some(state.requests.drain(..fitting).collect())
    }

    /// Gives those who were just answered a few microseconds to come back, so that they share one commit and not two. Whoever takes
    /// longer is not waited for: then it is better to commit while they work.
    fn linger(&self) {
        let first = self.pushed.load(Ordering::Relaxed);
        let (mut seen, mut quiet) = (first, 0);
        while quiet < QUIET_LOOKS && seen.wrapping_sub(first) < MAX_REQUESTS {
            for _ in 0..PAUSES {
                std::hint::spin_loop();
            }
            let pushed = self.pushed.load(Ordering::Relaxed);
            quiet = if pushed == seen { quiet + 1 } else { 0 };
            seen = pushed;
        }
    }

    /// The writer has ended: answers those who wait for that, and everything that nobody will do any more.
    pub(super) fn end(&self) {
        let (requests, closers) = {
            let mut state = self.state.lock();
            state.closing = true;
            state.ended = true;
            (
                mem::take(&mut state.requests),
                mem::take(&mut state.closers),
            )
        };
        drop(requests);
        for closer in closers {
            closer.give(Ok(()));
        }
    }
}
