//! Appending: one after the other per stream, in the order of the calls.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use kurrentdb::{AppendToStreamOptions, EventData, StreamPosition, StreamState, WriteResult};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{
    Core,
    error::Failure,
    event,
    recent::{Known, Verdict, duplicate},
};
use crate::ports::{
    Appended, Direction, ExpectedRevision, MAX_BATCH, NewEvent, Position, StoreError, StreamName,
};

/// How often an append without an expectation is tried at the revision that was last seen, while other processes write to the stream too.
const TRIES: u32 = 16;

/// A batch on its way.
pub(super) struct Job {
    pub(super) events: Vec<NewEvent>,
    pub(super) expected: ExpectedRevision,
    pub(super) answer: oneshot::Sender<Result<Appended, StoreError>>,
}

/// The batches of each stream that has any.
#[derive(Default)]
pub(super) struct Queues(Mutex<State>);

#[derive(Default)]
struct State {
    /// A stream is in here while a task works on it.
    streams: HashMap<Arc<str>, VecDeque<Job>>,
    /// Nothing more is taken.
    closed: bool,
}

impl Queues {
    /// Puts `job` in; true if nobody works on that stream yet.
    ///
    /// # Errors
    /// [`StoreError::Closed`].
    pub(super) fn put(&self, stream: &StreamName, job: Job) -> Result<bool, StoreError> {
        let mut state = self.0.lock();
        if state.closed {
            return Err(StoreError::Closed {});
        }
        if let Some(queue) = state.streams.get_mut(&**stream) {
            queue.push_back(job);
            return Ok(false);
        }
        let queue = VecDeque::from([job]);
        state.streams.insert(stream.shared(), queue);
        Ok(true)
    }

    /// The next one of `stream`; `None` takes the stream out.
    fn next(&self, stream: &StreamName) -> Option<Job> {
        let mut state = self.0.lock();
        let queue = state.streams.get_mut(&**stream);
        let job = queue.and_then(VecDeque::pop_front);
        if job.is_none() {
            state.streams.remove(&**stream);
        }
        job
    }

    /// Takes nothing more; whether nothing is on its way.
    pub(super) fn close(&self) -> bool {
        let mut state = self.0.lock();
        state.closed = true;
        state.streams.is_empty()
    }
}

/// Refuses a batch that is too long, holds an id twice, or a type that readers would not see.
pub(super) fn check(events: &[NewEvent]) -> Result<(), StoreError> {
    let refused = |reason: String| StoreError::InvalidArgument {
        argument: "events".into(),
        reason,
    };
    if events.len() > MAX_BATCH {
        return Err(refused(format!(
            "expected at most {MAX_BATCH}, found {}",
            events.len()
        )));
    }
    if let Some(event) = events.iter().find(|event| event.type_name.starts_with('$')) {
        return Err(refused(format!(
            "types that begin with $ are the server's own, found {}",
            event.type_name
        )));
    }
    let mut seen = HashSet::with_capacity(events.len());
    match events.iter().find(|event| !seen.insert(event.id)) {
        Some(twice) => Err(refused(format!("{} is there twice", twice.id))),
        None => Ok(()),
    }
}

fn state(last: Option<u64>) -> StreamState {
    last.map_or(StreamState::NoStream, StreamState::StreamRevision)
}

/// A batch in the shape that is sent.
struct Batch {
    ids: Vec<Uuid>,
    data: Vec<EventData>,
}

impl Batch {
    fn new(events: &[NewEvent]) -> Result<Self, StoreError> {
        Ok(Self {
            ids: events.iter().map(|event| event.id).collect(),
            data: events
                .iter()
                .map(event::to_server)
                .collect::<Result<_, _>>()?,
        })
    }

    /// The revision of its last event, if it is stored from `last` on.
    fn end(&self, last: Option<u64>) -> u64 {
        last.map_or(0, |last| last + 1) + self.ids.len() as u64 - 1
    }
}

impl Core {
    /// Works off the queue of `stream`.
    pub(super) async fn append_all(self: Arc<Self>, stream: StreamName) {
        let mut leave = Leave {
            core: &self,
            stream: &stream,
            midway: true,
        };
        let mut away = false;
        while let Some(job) = self.queues.next(&stream) {
            if away && self.is_closed() {
                // Nobody waits for a server that does not answer as often as there are batches.
                let _ = job.answer.send(Err(StoreError::Closed {}));
                continue;
            }
            let result = self.append(&stream, job.events, job.expected).await;
            away = matches!(result, Err(StoreError::Unavailable { .. }));
            if let Ok(Appended {
                position: Some(position),
                ..
            }) = result
            {
                self.watch.reached(position);
            }
            // Nobody may wait for it any more.
            let _ = job.answer.send(result);
        }
        // The stream is off the map, and may be on it again for another task.
        leave.midway = false;
    }

    async fn append(
        &self,
        stream: &StreamName,
        events: Vec<NewEvent>,
        expected: ExpectedRevision,
    ) -> Result<Appended, StoreError> {
        if events.is_empty() {
            return Ok(Appended {
                revision: self.tail(stream).await?.last(),
                position: None,
                repeated: false,
            });
        }
        let window = self.link.config().repeat_window.max(events.len());
        let batch = Batch::new(&events)?;
        drop(events);
        let mut known = match self.recent.lock().take(stream) {
            Some(known) if known.covers(window) => Some(known),
            _ => None,
        };
        for tries in 0.. {
            let mut now = match known.take() {
                Some(known) => known,
                None => self.known(stream, window).await?,
            };
            if let Some(revision) = self.stored(stream, &batch, &now).await? {
                now.note(&batch.ids, revision);
                self.recent.lock().put(stream.shared(), now);
                return self.repetition(stream, revision).await;
            }
            let at = match expected {
                ExpectedRevision::Any if tries >= TRIES => StreamState::Any,
                ExpectedRevision::StreamExists if tries >= TRIES => StreamState::StreamExists,
                ExpectedRevision::Any | ExpectedRevision::StreamExists if now.last.is_some() => {
                    state(now.last)
                }
                ExpectedRevision::Any | ExpectedRevision::NoStream => StreamState::NoStream,
                // The server's numbers are signed, and no stream gets that far.
                ExpectedRevision::Exact(revision) if revision < 1 << 62 => {
                    StreamState::StreamRevision(revision)
                }
                ExpectedRevision::StreamExists | ExpectedRevision::Exact(_) => {
                    let actual = now.last;
                    self.recent.lock().put(stream.shared(), now);
                    return Err(conflict(stream, expected, actual));
                }
            };
            match self.write(stream, at, batch.data.clone()).await {
                Ok(written) => return self.written(stream, &batch, now, &written, window).await,
                Err(Failure::WrongRevision(actual)) => {
                    let now = if actual == now.last {
                        now
                    } else {
                        self.caught_up(stream, now, window).await?
                    };
                    let asked = matches!(
                        expected,
                        ExpectedRevision::NoStream | ExpectedRevision::Exact(_)
                    );
                    if asked && self.stored(stream, &batch, &now).await?.is_none() {
                        self.recent.lock().put(stream.shared(), now);
                        return Err(conflict(stream, expected, actual));
                    }
                    known = Some(now);
                }
                // Whether it was stored is not known, nor what is.
                Err(failure) => return Err(failure.into_store(stream)),
            }
        }
        // The loop above ends by itself.
        Err(Failure::WrongRevision(None).into_store(stream))
    }

    /// The revision of the batch's last event, if it is stored already.
    async fn stored(
        &self,
        stream: &StreamName,
        batch: &Batch,
        known: &Known,
    ) -> Result<Option<u64>, StoreError> {
        match known.judge(&batch.ids) {
            Verdict::New => Ok(None),
            Verdict::Repetition(revision) => Ok(Some(revision)),
            Verdict::Duplicate(id) => Err(duplicate(id, stream)),
            Verdict::Partly(last) => {
                let count = batch.ids.len();
                let begin = (last + 1).checked_sub(count as u64);
                let Some(begin) = begin else {
                    return Err(duplicate(batch.ids[count - 1], stream));
                };
                let from = StreamPosition::Position(begin);
                let slice = self
                    .slice(stream, from, Direction::Forwards, count)
                    .await
                    .map_err(|failure| failure.into_store(stream))?;
                if slice
                    .events
                    .iter()
                    .map(|event| event.id)
                    .eq(batch.ids.iter().copied())
                {
                    Ok(Some(last))
                } else {
                    Err(duplicate(batch.ids[count - 1], stream))
                }
            }
        }
    }

    /// The first result again.
    async fn repetition(&self, stream: &StreamName, revision: u64) -> Result<Appended, StoreError> {
        Ok(Appended {
            revision: Some(revision),
            position: self.position_of(stream, revision).await?,
            repeated: true,
        })
    }

    async fn position_of(
        &self,
        stream: &StreamName,
        revision: u64,
    ) -> Result<Option<Position>, StoreError> {
        let event = self.event_at(stream, revision).await?;
        event.map(|event| event.position()).transpose()
    }

    /// The batch was taken: now, or by the server's own judgement before.
    async fn written(
        &self,
        stream: &StreamName,
        batch: &Batch,
        mut known: Known,
        written: &WriteResult,
        window: usize,
    ) -> Result<Appended, StoreError> {
        let revision = written.next_expected_version;
        let repeated = known.last.is_some_and(|last| revision <= last);
        if revision == batch.end(known.last) {
            known.push(batch.ids.iter().copied(), window);
            self.recent.lock().put(stream.shared(), known);
        } else if repeated {
            known.note(&batch.ids, revision);
            self.recent.lock().put(stream.shared(), known);
        }
        let given = event::position(written.position.commit, written.position.prepare).ok();
        let position = match given.filter(|position| position.0 > 0) {
            Some(position) => Some(position),
            None => self.position_of(stream, revision).await?,
        };
        Ok(Appended {
            revision: Some(revision),
            position,
            repeated,
        })
    }

    /// What is known of the stream, with what has come since.
    async fn caught_up(
        &self,
        stream: &StreamName,
        mut known: Known,
        window: usize,
    ) -> Result<Known, StoreError> {
        let from = StreamPosition::Position(known.next());
        let slice = match self.slice(stream, from, Direction::Forwards, window).await {
            Ok(slice) => slice,
            Err(Failure::NotFound) => return self.known(stream, window).await,
            Err(other) => return Err(other.into_store(stream)),
        };
        let follows = slice
            .events
            .first()
            .is_none_or(|e| e.revision == known.next());
        if slice.events.is_empty() || !follows || slice.events.len() >= window {
            return self.known(stream, window).await;
        }
        known.push(slice.events.iter().map(|event| event.id), window);
        Ok(known)
    }

    /// What is known of the stream as it is now.
    pub(super) async fn up_to_date(
        &self,
        stream: &StreamName,
        window: usize,
    ) -> Result<Known, StoreError> {
        let known = self.recent.lock().take(stream);
        match known.filter(|known| known.covers(window)) {
            Some(known) if known.last.is_some() => {
                let from = StreamPosition::Position(known.next());
                let new = self.slice(stream, from, Direction::Forwards, 1).await;
                match new {
                    Ok(slice) if slice.events.is_empty() => Ok(known),
                    Ok(_) => self.caught_up(stream, known, window).await,
                    Err(Failure::NotFound | Failure::Deleted) => Ok(Known::new(None, [], true)),
                    Err(other) => Err(other.into_store(stream)),
                }
            }
            _ => self.known(stream, window).await,
        }
    }

    pub(super) async fn write(
        &self,
        stream: &str,
        at: StreamState,
        events: Vec<EventData>,
    ) -> Result<WriteResult, Failure> {
        let mut options = AppendToStreamOptions::default()
            .stream_state(at)
            .requires_leader(true)
            .deadline(self.link.config().deadline);
        if let Some(login) = self.login() {
            options = options.authenticated(login);
        }
        let name = bytes::Bytes::copy_from_slice(stream.as_bytes());
        self.link
            .call(&format!("append to {stream}"), |client| {
                let (name, options, events) = (name.clone(), options.clone(), events.clone());
                async move { client.append_to_stream(name, &options, events).await }
            })
            .await
    }
}

/// Takes a stream off the map should its task die; what was in its queue answers that the store is away.
struct Leave<'a> {
    core: &'a Core,
    stream: &'a StreamName,
    midway: bool,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if self.midway {
            let left = self.core.queues.0.lock().streams.remove(&**self.stream);
            drop(left);
        }
        self.core.idle.notify_waiters();
    }
}

/// The stream is not as expected.
pub(super) fn conflict(
    stream: &StreamName,
    expected: ExpectedRevision,
    actual: Option<u64>,
) -> StoreError {
    StoreError::RevisionConflict {
        stream: stream.to_string(),
        expected,
        actual,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_that_comes_while_the_store_is_closed_is_refused() {
        let queues = Queues::default();
        let stream = StreamName::new("order-1").unwrap();
        let job = || Job {
            events: Vec::new(),
            expected: ExpectedRevision::Any,
            answer: oneshot::channel().0,
        };
        assert!(queues.put(&stream, job()).unwrap());
        assert!(!queues.put(&stream, job()).unwrap());

        assert!(!queues.close(), "two are on their way");

        let refused = queues.put(&stream, job());
        assert!(matches!(refused, Err(StoreError::Closed {})));
        while queues.next(&stream).is_some() {}
        assert!(queues.close());
    }
}
