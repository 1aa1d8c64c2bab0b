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

use super::{error::Failure, writer::Tx};
use crate::{
    adapters::shared::reply::{Answer, Reply, Wakers, reply},
    ports::StoreError,
};

/// What one transaction takes at most.
const MAX_REQUESTS: usize = 1_000;
const MAX_EVENTS: usize = 10_000;
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// How long others are waited for: looks at the queue, and processor pauses between two looks.
const LOOKS: u32 = 8;
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

impl State {
    /// Takes the first requests, as many as fit. The first of all fits always.
    fn take(&mut self, taken: &mut Taken) -> Vec<Box<dyn Request>> {
        let fitting = self
            .requests
            .iter()
            .take_while(|request| {
                let size = request.size();
                let after = Taken {
                    requests: taken.requests + 1,
                    size: Size {
                        events: taken.size.events + size.events,
                        bytes: taken.size.bytes + size.bytes,
                    },
                };
                let fits = taken.requests == 0
                    || after.requests <= MAX_REQUESTS
                        && after.size.events <= MAX_EVENTS
                        && after.size.bytes <= MAX_BYTES;
                if fits {
                    *taken = after;
                }
                fits
            })
            .count();
        self.requests.drain(..fitting).collect()
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

/// What a transaction has taken so far.
#[derive(Default)]
pub(super) struct Taken {
    requests: usize,
    size: Size,
}

#[derive(Default)]
struct State {
    requests: VecDeque<Box<dyn Request>>,
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
    pub(super) fn next_group(&self, taken: &mut Taken) -> Option<Vec<Box<dyn Request>>> {
        let mut state = self.state.lock();
        while state.requests.is_empty() {
            if state.closing {
                return None;
            }
            self.filled.wait(&mut state);
        }
        *taken = Taken::default();
        Some(state.take(taken))
    }

    /// What came meanwhile and fits into the same transaction. If there are `several` who write, those who were answered by the last
    /// transaction get a moment to come back.
    pub(super) fn more(&self, taken: &mut Taken, several: bool) -> Vec<Box<dyn Request>> {
        let more = self.state.lock().take(taken);
        if !more.is_empty() || !several {
            return more;
        }
        self.linger();
        self.state.lock().take(taken)
    }

    /// Waits a few microseconds for others, so that they share one commit and not two. Whoever takes longer is not waited for: then it is
    /// better to commit while they work.
    fn linger(&self) {
        let before = self.pushed.load(Ordering::Relaxed);
        for _ in 0..LOOKS {
            if self.pushed.load(Ordering::Relaxed) != before {
                return;
            }
            for _ in 0..PAUSES {
                std::hint::spin_loop();
            }
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
