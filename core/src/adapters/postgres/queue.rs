//! Requests on their way to the writer: first come, first served.

use std::{
    collections::{HashSet, VecDeque},
    mem,
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::payload;
use crate::{
    adapters::shared::reply::{Answer, Reply, reply},
    ports::{
        Append, Appended, DeleteMode, ExpectedRevision, MAX_BATCH, NewEvent, StoreError, StreamName,
    },
};

/// What one transaction takes at most.
const MAX_REQUESTS: usize = 1_000;
const MAX_EVENTS: usize = 10_000;
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// What one call takes at most: a message to the server has less than 1 GiB.
const MAX_CALL: usize = 256 * 1024 * 1024;

/// What an event takes besides its payloads, about.
const OVERHEAD: usize = 100;

/// An append, and somebody who waits for it.
pub(super) struct OneAppend {
    pub(super) append: Append,
    pub(super) answer: Answer<Appended>,
}

/// What the writer is to do next.
pub(super) enum Work {
    /// Appends that are independent of one another.
    Appends(Vec<OneAppend>),
    /// Appends of which all are done, or none.
    Many(Vec<Append>, Answer<Vec<Appended>>),
    /// A deletion.
    Delete(Deletion, Answer<bool>),
}

/// A stream that is to be deleted.
pub(super) struct Deletion {
    pub(super) stream: StreamName,
    pub(super) expected: ExpectedRevision,
    pub(super) mode: DeleteMode,
}

#[derive(Default)]
struct State {
    works: VecDeque<Work>,
    closing: bool,
    closers: Vec<Answer<()>>,
    ended: bool,
}

/// The writer's queue.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Notify,
}

impl Queue {
    /// Queues an append now; the reply comes after its commit.
    pub(super) fn append(&self, append: Append) -> Result<Reply<Appended>, StoreError> {
        check([&*append.events])?;
        let (answer, reply) = reply();
        let one = OneAppend { append, answer };
        let mut state = self.open()?;
        if let Some(Work::Appends(appends)) = state.works.back_mut() {
            appends.push(one);
        } else {
            state.works.push_back(Work::Appends(vec![one]));
        }
        drop(state);
        self.filled.notify_one();
        Ok(reply)
    }

    /// Queues something else now.
    pub(super) fn push<T>(
        &self,
        work: impl FnOnce(Answer<T>) -> Work,
    ) -> Result<Reply<T>, StoreError> {
        let (answer, reply) = reply();
        let work = work(answer);
        self.open()?.works.push_back(work);
        self.filled.notify_one();
        Ok(reply)
    }

    fn open(&self) -> Result<parking_lot::MutexGuard<'_, State>, StoreError> {
        let state = self.state.lock();
        if state.closing {
            return Err(StoreError::Closed {});
        }
        Ok(state)
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

    /// Whether nothing can come any more.
    pub(super) fn is_over(&self) -> bool {
        let state = self.state.lock();
        state.closing && state.works.is_empty()
    }

    /// The writer has ended: answers those who wait for that.
    pub(super) fn end(&self) {
        let (works, closers) = {
            let mut state = self.state.lock();
            state.closing = true;
            state.ended = true;
            (mem::take(&mut state.works), mem::take(&mut state.closers))
        };
        drop(works);
        for closer in closers {
            closer.give(Ok(()));
        }
    }

    /// Until something may have come.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// What is to be done next, as much as fits into one transaction. The first of all fits always.
    pub(super) fn take(&self) -> Option<Work> {
        let mut state = self.state.lock();
        let Some(Work::Appends(appends)) = state.works.front_mut() else {
            return state.works.pop_front();
        };
        let (mut events, mut bytes) = (0, 0);
        let fitting = appends
            .iter()
            .take(MAX_REQUESTS)
            .take_while(|one| {
                let first = events == 0 && bytes == 0;
                events += one.append.events.len();
                bytes += size(&one.append.events);
                first || events <= MAX_EVENTS && bytes <= MAX_BYTES
            })
            .count();
        if fitting == appends.len() {
            return state.works.pop_front();
        }
        let rest = appends.split_off(fitting);
        let taken = mem::replace(appends, rest);
        Some(Work::Appends(taken))
    }
}

fn size(events: &[NewEvent]) -> usize {
    events.iter().map(|e| e.data.len() + e.metadata.len()).sum()
}

/// Refuses appends that are too long, hold an id twice, or what the database cannot hold.
pub(super) fn check<'a>(
    appends: impl IntoIterator<Item = &'a [NewEvent]>,
) -> Result<(), StoreError> {
    let mut bytes = 0;
    for events in appends {
        bytes += size(events) + OVERHEAD * events.len();
        check_one(events)?;
    }
    if bytes > MAX_CALL {
        return Err(refused(format!(
            "expected at most {MAX_CALL} bytes together, found {bytes}"
        )));
    }
    Ok(())
}

fn refused(reason: String) -> StoreError {
    StoreError::InvalidArgument {
        argument: "events".into(),
        reason,
    }
}

fn check_one(events: &[NewEvent]) -> Result<(), StoreError> {
    if events.len() > MAX_BATCH {
        return Err(refused(format!(
            "expected at most {MAX_BATCH}, found {}",
            events.len()
        )));
    }
    let mut seen = HashSet::with_capacity(if events.len() > 1 { events.len() } else { 0 });
    if events.len() > 1
        && let Some(twice) = events.iter().find(|event| !seen.insert(event.id))
    {
        return Err(refused(format!("{} is there twice", twice.id)));
    }
    if let Some(event) = events.iter().find(|e| i32::try_from(e.version).is_err()) {
        return Err(refused(format!(
            "{}: expected a version up to {}, found {}",
            event.id,
            i32::MAX,
            event.version
        )));
    }
    events.iter().try_for_each(payload::check)
}
