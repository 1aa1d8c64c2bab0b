//! The reading threads, each with a connection of its own: readers never block the writer.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
    thread,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;

use super::{
    error::{Failure, store_error},
    fork::OpenFile,
    names::Names,
    open::open_reader,
};
use crate::{
    adapters::shared::reply::{Answer, Reply, reply},
    ports::StoreError,
};

/// What a read works with.
pub(super) struct Reader<'c> {
    pub(super) conn: &'c Connection,
    pub(super) streams: Names,
    pub(super) types: Names,
    /// Bytes of payload that the last page had: what the next one probably has.
    pub(super) page_bytes: usize,
}

impl<'c> Reader<'c> {
    fn new(conn: &'c Connection) -> Self {
        Self {
            conn,
            streams: Names::new("SELECT name FROM orkestra_streams WHERE id = ?1"),
            types: Names::new("SELECT name FROM orkestra_types WHERE id = ?1"),
            page_bytes: 0,
        }
    }
}

type Job = Box<dyn FnOnce(Result<&mut Reader<'_>, StoreError>) + Send>;

/// The readers' queue.
pub(super) struct Readers {
    path: Arc<Path>,
    busy_timeout: Duration,
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    closing: bool,
    closers: Vec<Answer<()>>,
}

impl Readers {
    pub(super) fn new(path: Arc<Path>, busy_timeout: Duration) -> Self {
        Self {
            path,
            busy_timeout,
            state: Mutex::default(),
            filled: Condvar::new(),
        }
    }

    /// Starts `count` threads, which open their connections at their first read and keep `noted` as long as they have them.
    pub(super) fn start(
        self: &Arc<Self>,
        count: usize,
        noted: &Arc<OpenFile>,
    ) -> std::io::Result<Vec<thread::JoinHandle<()>>> {
        (0..count.max(1))
            .map(|_| {
                let (readers, noted) = (Arc::clone(self), Arc::clone(noted));
                self.state.lock().threads += 1;
                thread::Builder::new()
                    .name("orkestra-read".into())
                    .spawn(move || {
                        readers.run();
                        drop(noted);
                        readers.end();
                    })
                    .inspect_err(|_| self.state.lock().threads -= 1)
            })
            .collect()
    }

    /// Does `read` on one of the threads.
    pub(super) fn read<T, F>(&self, read: F) -> Reply<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Reader<'_>) -> Result<T, Failure> + Send + 'static,
    {
        let (answer, reply) = reply();
        let path = Arc::clone(&self.path);
        let job: Job = Box::new(move |reader| {
            answer.give(reader.and_then(|reader| {
                read(reader).map_err(|e| e.into_store_error(&path.display().to_string()))
            }));
        });
        let mut state = self.state.lock();
        if state.closing {
            drop(state);
            job(Err(StoreError::Closed {}));
        } else {
            state.jobs.push_back(job);
            drop(state);
            self.filled.notify_one();
        }
        reply
    }

    /// Refuses what comes from now on; the reply comes when all that was queued is done and the connections are closed.
    pub(super) fn close(&self) -> Reply<()> {
        let (answer, reply) = reply();
        let mut state = self.state.lock();
        state.closing = true;
        if state.threads == 0 {
            drop(state);
            answer.give(Ok(()));
        } else {
            state.closers.push(answer);
            drop(state);
            self.filled.notify_all();
        }
        reply
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            if state.closing {
                return None;
            }
            self.filled.wait(&mut state);
        }
    }

    fn run(&self) {
        while let Some(first) = self.next() {
            let conn = match open_reader(&self.path, self.busy_timeout) {
                Ok(conn) => conn,
                Err(error) => {
                    first(Err(error));
                    continue;
                }
            };
            let mut reader = Reader::new(&conn);
            let mut job = Some(first);
            while let Some(read) = job {
                // A foreign waker may panic; its future is answered as the job is dropped.
                if catch_unwind(AssertUnwindSafe(|| read(Ok(&mut reader)))).is_err() {
                    tracing::error!("a read panicked");
                    break;
                }
                job = self.next();
            }
            drop(reader);
            if let Err((_, error)) = conn.close() {
                tracing::warn!(error = %store_error("", error), "a reading connection was not closed");
            }
        }
    }

    fn end(&self) {
        let closers = {
            let mut state = self.state.lock();
            state.threads -= 1;
            if state.threads > 0 {
                return;
            }
            std::mem::take(&mut state.closers)
        };
        for closer in closers {
            closer.give(Ok(()));
        }
    }
}
