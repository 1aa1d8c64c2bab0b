//! One thread that polls what has to go on whatever the host's own loop is doing: the renewal of leases.
//!
//! Futures of this crate wait for wakers only, so a plain thread can poll them. It starts with the first future and ends with the last.

use std::{
    fmt,
    future::{Future, poll_fn},
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread,
};

use futures_util::future::{AbortHandle, abortable};
use parking_lot::{Condvar, Mutex};

use crate::clock::fork_count;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A place for futures to run in. Cheap to clone.
#[derive(Clone, Default)]
pub struct Background {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    forks: u64,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            forks: fork_count(),
        }
    }
}

/// The thread.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Worker {
    #[default]
    Absent,
    Busy,
    /// It waits for something to do.
    Resting,
}

#[derive(Default)]
struct State {
    arrived: Vec<Task>,
    woken: bool,
    thread: Worker,
    /// Whether nothing goes on any more, as when the process is dead or asleep.
    #[cfg(test)]
    stopped: bool,
    /// How many detached futures have not ended.
    detached: usize,
    /// Who waits for the last of them.
    waiting: Vec<Waker>,
}

impl State {
    fn may_work(&self) -> bool {
        #[cfg(test)]
        if self.stopped {
            return false;
        }
        self.woken
    }

    /// One detached future less; who is to be told, once the lock is free.
    fn ended(&mut self) -> Vec<Waker> {
        self.detached -= 1;
        if self.detached == 0 {
            mem::take(&mut self.waiting)
        } else {
            Vec::new()
        }
    }
}

impl fmt::Debug for Background {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Background")
    }
}

/// A future that runs in the background until it ends or this is dropped.
#[derive(Debug)]
pub struct Running(AbortHandle);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Background {
    /// Runs `future` until it ends or the answer is dropped.
    #[must_use = "the future ends when this is dropped"]
    pub fn run(&self, future: impl Future<Output = ()> + Send + 'static) -> Running {
        let (future, handle) = abortable(future);
        self.add(Box::pin(async move {
            // Aborted or ended: both are the end.
            let _ = future.await;
        }));
        Running(handle)
    }

    /// Runs `future` to its end, which nobody waits for.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.add(Box::pin(future));
    }

    /// Runs `future` to its end.
    pub fn detach(&self, future: impl Future<Output = ()> + Send + 'static) {
        if self.shared.is_of_the_parent() {
            mem::forget(future);
            return;
        }
        self.shared.state.lock().detached += 1;
        let shared = Arc::clone(&self.shared);
        self.add(Box::pin(async move {
            future.await;
            let waiting = shared.state.lock().ended();
            waiting.into_iter().for_each(Waker::wake);
        }));
    }

    /// Waits until everything that was detached has ended.
    pub(crate) fn settled(&self) -> impl Future<Output = ()> + Send + 'static {
        let shared = Arc::clone(&self.shared);
        poll_fn(move |context| {
            let mut state = shared.state.lock();
            if state.detached == 0 {
                return Poll::Ready(());
            }
            state.waiting.push(context.waker().clone());
            Poll::Pending
        })
    }

    /// Returns when all that could go on has done so.
    #[cfg(test)]
    pub(crate) fn rest(&self) {
        loop {
            let state = self.shared.state.lock();
            // Without a thread nothing is left that a late wake-up could be for.
            let rests = state.thread == Worker::Resting && !state.may_work();
            if rests || state.thread == Worker::Absent {
                return;
            }
            drop(state);
            thread::yield_now();
        }
    }

    /// Lets nothing go on from here.
    #[cfg(test)]
    pub(crate) fn stop(&self) {
        self.rest();
        self.shared.state.lock().stopped = true;
    }

    fn add(&self, task: Task) {
        if self.shared.is_of_the_parent() {
            mem::forget(task);
            return;
        }
        let mut state = self.shared.state.lock();
        state.arrived.push(task);
        state.woken = true;
        if state.thread == Worker::Absent {
            let shared = Arc::clone(&self.shared);
            let started = thread::Builder::new()
                .name("orkestra-background".into())
                .spawn(move || shared.work());
            match started {
                Ok(_) => state.thread = Worker::Busy,
                Err(error) => tracing::error!(%error, "no thread for background work"),
            }
        }
        drop(state);
        self.shared.changed.notify_one();
    }
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        if self.is_of_the_parent() {
            return;
        }
        self.state.lock().woken = true;
        self.changed.notify_one();
    }
}

impl Shared {
    /// Whether this is the child of a fork, where a thread of the parent may hold the lock for ever. Only what is dropped gets here then.
    fn is_of_the_parent(&self) -> bool {
        self.forks != fork_count()
    }

    fn work(self: Arc<Self>) {
        let waker = Waker::from(Arc::clone(&self));
        let mut context = Context::from_waker(&waker);
        let mut tasks: Vec<Task> = Vec::new();
        loop {
            {
                let mut state = self.state.lock();
                if tasks.is_empty() && state.arrived.is_empty() {
                    state.thread = Worker::Absent;
                    return;
                }
                state.thread = Worker::Resting;
                while !state.may_work() {
                    self.changed.wait(&mut state);
                }
                state.thread = Worker::Busy;
                state.woken = false;
                tasks.append(&mut state.arrived);
            }
            // There are few of them and they wake seldom: each is polled when any is woken.
            tasks.retain_mut(|task| task.as_mut().poll(&mut context).is_pending());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;
    use crate::clock::{Clock, ManualClock};

    #[test]
    fn futures_run_side_by_side_until_they_end_or_are_dropped() {
        let (clock, background) = (ManualClock::default(), Background::default());
        let (send, received) = mpsc::channel();
        let note = |after, name: &'static str| {
            let (sleep, send) = (clock.sleep(Duration::from_secs(after)), send.clone());
            async move {
                sleep.await;
                send.send(name).unwrap();
            }
        };
        background.detach(note(2, "second"));
        let dropped = background.run(note(1, "dropped"));
        background.detach(note(1, "first"));
        drop(dropped);
        let sleeping = |n| {
            while clock.sleepers() != n {
                thread::yield_now();
            }
        };

        sleeping(2);
        clock.advance(Duration::from_secs(1));
        assert_eq!(received.recv().unwrap(), "first");
        clock.advance(Duration::from_secs(1));
        assert_eq!(received.recv().unwrap(), "second");

        background.detach(note(0, "again"));
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(background.settled());
        assert_eq!(received.try_recv().unwrap(), "again");
    }
}
