//! The one writer: a thread that turns what is queued into transactions. Concurrent requests share one (group commit).

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rusqlite::{Connection, Statement};

use super::{
    error::{concerns_all, store_error},
    fork::OpenFile,
    gate::{Gate, Mark, Turn},
    heads::Heads,
    queue::{Queue, Request, Taken},
    watch::Owner,
};
use crate::{adapters::shared::signal::Signal, clock::Clock, ports::StoreError};

/// How long SQLite's own locks are waited for when the turn at the gate did not come in time: its time is used up already.
const SHORT_WAIT: Duration = Duration::from_secs(1);

/// What the writer's thread works with.
pub(super) struct Writer {
    pub(super) path: Arc<Path>,
    pub(super) gate: Arc<Gate>,
    pub(super) queue: Arc<Queue>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) busy_timeout: Duration,
    pub(super) owner: Owner,
    pub(super) commits: AtomicU64,
    pub(super) events: Arc<Signal>,
    pub(super) checkpoints: Arc<Signal>,
    pub(super) messages: Arc<Signal>,
}

/// Of what there is something new: events, checkpoints, messages in the outbox.
type News = [bool; 3];

/// What a request works with: the connection, inside a transaction.
pub(super) struct Tx<'c> {
    pub(super) conn: &'c Connection,
    pub(super) heads: Heads,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) insert_event: Statement<'c>,
    pub(super) find_head: Statement<'c>,
    data_version: Statement<'c>,
    begin: Statement<'c>,
    commit: Statement<'c>,
    rollback: Statement<'c>,
    /// Whether the transaction stores events, whether it moves checkpoints, whether it puts messages into the outbox.
    pub(super) stored: bool,
    pub(super) moved: bool,
    pub(super) enqueued: bool,
}

impl<'c> Tx<'c> {
    fn new(conn: &'c Connection, clock: Arc<dyn Clock>) -> Result<Self, rusqlite::Error> {
        Ok(Self {
            conn,
            heads: Heads::default(),
            clock,
            insert_event: conn.prepare(
                "INSERT INTO orkestra_events \
                 (position, stream_id, revision, event_id, type_id, version, occurred_at, data, metadata) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?,
            find_head: conn.prepare(
                "SELECT s.id, (SELECT max(e.revision) FROM orkestra_events e WHERE e.stream_id = s.id) \
                 FROM orkestra_streams s WHERE s.name = ?1",
            )?,
            data_version: conn.prepare("PRAGMA data_version")?,
            begin: conn.prepare("BEGIN IMMEDIATE")?,
            commit: conn.prepare("COMMIT")?,
            rollback: conn.prepare("ROLLBACK")?,
            stored: false,
            moved: false,
            enqueued: false,
        })
    }

    /// Does `work` in one transaction.
    fn within(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<(), rusqlite::Error>,
    ) -> Result<(), rusqlite::Error> {
        self.stored = false;
        self.moved = false;
        self.enqueued = false;
        self.begin.execute([])?;
        let done = self
            .data_version
            .query_row([], |row| row.get(0))
            .and_then(|version| {
                self.heads.keep_for(version);
                work(self)
            })
            .and_then(|()| self.commit.execute([]).map(drop));
        if done.is_err() {
            self.undo();
        }
        done
    }

    /// What others may wait for of the last transaction.
    fn news(&self) -> News {
        [self.stored, self.moved, self.enqueued]
    }

    /// Leaves the transaction, if one is open, and forgets what was learned in it.
    fn undo(&mut self) {
        self.heads.clear();
        if !self.conn.is_autocommit()
            && let Err(error) = self.rollback.execute([])
        {
            tracing::warn!(%error, "a transaction was not rolled back");
        }
    }
}

impl Writer {
    /// Works until the queue is closed and empty, then closes the connection.
    pub(super) fn run(&self, conn: Connection, noted: Arc<OpenFile>) {
        // In the order in which they are to be dropped, last first.
        let _end = End(&self.queue);
        let _noted = noted;
        let conn = conn;
        match Tx::new(&conn, Arc::clone(&self.clock)) {
            Ok(mut tx) => {
                let mut work = Work::default();
                while let Some(group) = self.queue.next_group(&mut work.taken) {
                    // A foreign waker may panic; what was in hand is answered as it is dropped.
                    let serve = || self.serve(&mut tx, group, &mut work);
                    if catch_unwind(AssertUnwindSafe(serve)).is_err() {
                        tracing::error!("the writer panicked and goes on");
                        tx.undo();
                    }
                }
            }
            Err(error) => tracing::error!(%error, "the writer cannot start"),
        }
        // The last connection of all copies the log back as it closes; nobody waits for that.
        let _ = conn.busy_timeout(Duration::ZERO);
        if let Err((_, error)) = conn.close() {
            tracing::warn!(%error, "the database was not closed");
        }
    }

    fn serve(&self, tx: &mut Tx<'_>, mut group: Vec<Box<dyn Request>>, work: &mut Work) {
        let turn = self.gate.turn(self.busy_timeout);
        if !turn.held {
            let _ = tx.conn.busy_timeout(SHORT_WAIT.min(self.busy_timeout));
        }
        let done = tx.within(|tx| {
            let mut next = 0;
            while next < group.len() {
                group[next].run(tx)?;
                next += 1;
                if next == group.len() {
                    // Others come while we work: they share the commit, which is what takes long.
                    group.append(&mut self.queue.more(&mut work.taken, work.several));
                }
            }
            Ok(())
        });
        work.several = group.len() > 1;
        let mut results = Vec::new();
        let mut news = tx.news();
        match done {
            Err(error) if group.len() > 1 && !concerns_all(&error) => {
                // One request does what the database refuses: each for itself, so that it hurts no other.
                news = News::default();
                for request in &mut group {
                    let done = tx.within(|tx| request.run(tx));
                    if done.is_ok() {
                        for (all, new) in news.iter_mut().zip(tx.news()) {
                            *all |= new;
                        }
                    }
                    results.push(done.map_err(|e| self.error(e)));
                }
            }
            Err(error) => {
                news = News::default();
                results.resize(group.len(), Err(self.error(error)));
            }
            Ok(()) => results.resize(group.len(), Ok(())),
        }
        self.leave_marks(&turn, news);
        if !turn.held {
            let _ = tx.conn.busy_timeout(self.busy_timeout);
        }
        drop(turn);
        let waiting = Arc::default();
        for (request, result) in group.into_iter().zip(results) {
            request.finish(result, &waiting);
        }
        waiting.wake();
        let signals = [&self.events, &self.checkpoints, &self.messages];
        for (signal, _) in signals.into_iter().zip(news).filter(|(_, new)| *new) {
            signal.ring();
        }
    }

    fn leave_marks(&self, turn: &Turn<'_>, committed: News) {
        for (place, _) in (0..).zip(committed).filter(|(_, committed)| *committed) {
            let mut mark = Mark::default();
            let (owner, number) = mark.split_at_mut(self.owner.len());
            owner.copy_from_slice(&self.owner);
            let count = self.commits.fetch_add(1, Ordering::Relaxed);
            number.copy_from_slice(&count.to_be_bytes());
            turn.leave_mark(place, &mark);
        }
    }

    fn error(&self, error: rusqlite::Error) -> StoreError {
        store_error(&self.path.display().to_string(), error)
    }
}

/// What the writer knows about its work.
#[derive(Default)]
struct Work {
    /// What the current transaction has taken from the queue.
    taken: Taken,
    /// Whether the last transaction had several requests.
    several: bool,
}

/// However the thread ends, nobody waits for it in vain.
struct End<'a>(&'a Queue);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}
