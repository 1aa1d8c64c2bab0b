//! Letting go of what is old, while the system runs: whole streams, dead letters, messages of the outbox and records of the inbox.
//!
//! Everything is done in small steps, each a short transaction of its own, so that nobody waits for long; what is left when it ends in the
//! middle is done by the next call.

mod archive;

use std::{future::Future, path::PathBuf, sync::Arc, time::Duration};

use futures_util::StreamExt;
use tokio::sync::oneshot;

use self::archive::Archive;
use crate::{
    background::Background,
    clock::{Clock, Timestamp},
    ports::{
        DeadLetterStore, DeleteMode, Direction, EventStore, ExpectedRevision, IdleStream,
        IdleStreams, InboxStore, OutboxStore, StoreError, StreamPattern, stream_events,
    },
};

/// Rows that one step removes at most.
const ROWS: usize = 1_000;

/// Streams that are archived before the archive is made safe, and then deleted one by one.
const STREAMS: usize = 100;

/// Which streams to let go of.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PurgeStreams {
    /// Whose last event occurred longer ago than this.
    pub older_than: Duration,
    /// Whose names match. Default every stream.
    pub streams: StreamPattern,
    /// A file to which their events are appended first, one JSON object in each line. Default none: they are gone.
    pub archive: Option<PathBuf>,
}

impl PurgeStreams {
    /// Every stream that has been idle for longer than `older_than`, without an archive.
    pub fn new(older_than: Duration) -> Self {
        Self {
            older_than,
            streams: StreamPattern::all(),
            archive: None,
        }
    }

    /// The same for the streams that match `pattern`.
    #[must_use]
    pub fn streams(self, pattern: StreamPattern) -> Self {
        Self {
            streams: pattern,
            ..self
        }
    }

    /// The same with an archive.
    #[must_use]
    pub fn archive(self, file: impl Into<PathBuf>) -> Self {
        Self {
            archive: Some(file.into()),
            ..self
        }
    }
}

/// What became of the idle streams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PurgedStreams {
    /// Streams that are gone.
    pub streams: u64,
    /// Events that they had.
    pub events: u64,
    /// Streams to which something was appended meanwhile: they stay whole.
    pub went_on: u64,
    /// Streams that have softly deleted events, which no archive can have: they stay. Without an archive there are none of these.
    pub hidden: u64,
}

/// Lets go of what is old. Made by [`Services::retention`](crate::Services::retention).
#[derive(Debug, Clone)]
pub struct Retention {
    pub(crate) events: Arc<dyn EventStore>,
    pub(crate) dead_letters: Arc<dyn DeadLetterStore>,
    pub(crate) outbox: Arc<dyn OutboxStore>,
    pub(crate) inbox: Arc<dyn InboxStore>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Retention {
    /// Deletes whole streams for good, so that no aggregate loses only its beginning. With an archive, the events are on the disk before their
    /// stream is deleted, file and folder synced; one that got an event meanwhile stays as it is.
    ///
    /// Readers that have not come to the events yet never will: choose an age that every reader keeps up with. Who dies in the middle begins again:
    /// then an event may be in the archive twice, under the same id. Dropping the future ends the work after the step at hand.
    ///
    /// # Errors
    /// What the store says; [`StoreError::CannotOpen`] for an archive that cannot be written, [`StoreError::Locked`] (transient) for one that another
    /// call writes to, [`StoreError::DiskFull`].
    pub async fn purge_streams(&self, options: PurgeStreams) -> Result<PurgedStreams, StoreError> {
        let retention = self.clone();
        // On a thread of its own: a disk makes it wait.
        aside(async move { retention.purge_all(options).await }).await
    }

    async fn purge_all(&self, options: PurgeStreams) -> Result<PurgedStreams, StoreError> {
        let mut archive = options.archive.map(Archive::open).transpose()?;
        let before = self.before(options.older_than);
        let mut idle = IdleStreams::new(options.streams, before).limit(STREAMS);
        let mut purged = PurgedStreams::default();
        loop {
            let page = self.events.idle_streams(idle.clone()).await?;
            let mut streams = Vec::with_capacity(page.streams.len());
            for stream in page.streams {
                let kept = match &mut archive {
                    None => Kept::All,
                    Some(archive) => self.keep(&stream, archive).await?,
                };
                match kept {
                    Kept::All => streams.push(stream),
                    Kept::Hidden => purged.hidden += 1,
                    Kept::WentOn => purged.went_on += 1,
                }
            }
            if let (Some(archive), false) = (&mut archive, streams.is_empty()) {
                archive.sync()?;
            }
            for stream in streams {
                self.delete(stream, &mut purged).await?;
            }
            let Some(after) = page.after else {
                return Ok(purged);
            };
            idle = idle.after(Some(after));
        }
    }

    /// Appends the events of `stream` to the archive, all or none.
    async fn keep(&self, stream: &IdleStream, archive: &mut Archive) -> Result<Kept, StoreError> {
        let end = archive.end()?;
        let kept = self.append(stream, archive).await?;
        if kept != Kept::All {
            archive.cut(end)?;
        }
        Ok(kept)
    }

    async fn append(&self, stream: &IdleStream, archive: &mut Archive) -> Result<Kept, StoreError> {
        let name = stream.stream.clone();
        let all = stream_events(
            Arc::clone(&self.events),
            name,
            None,
            Direction::Forwards,
            None,
        );
        let mut all = std::pin::pin!(all);
        let mut next = 0;
        while let Some(event) = all.next().await {
            let event = event?;
            if event.revision != next {
                return Ok(Kept::Hidden);
            }
            if event.revision > stream.last_revision {
                return Ok(Kept::WentOn);
            }
            archive.append(&event)?;
            next += 1;
        }
        Ok(if next == stream.last_revision + 1 {
            Kept::All
        } else if next == 0 {
            Kept::Hidden
        } else {
            Kept::WentOn
        })
    }

    async fn delete(
        &self,
        stream: IdleStream,
        purged: &mut PurgedStreams,
    ) -> Result<(), StoreError> {
        let expected = ExpectedRevision::Exact(stream.last_revision);
        let deleting = self
            .events
            .delete_stream(stream.stream, expected, DeleteMode::Hard);
        match deleting.await {
            Ok(true) => {
                purged.streams += 1;
                purged.events += stream.last_revision + 1;
            }
            Ok(false) | Err(StoreError::RevisionConflict { .. }) => purged.went_on += 1,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Removes dead letters, of `handler` alone if one is given, that last failed longer ago than `older_than`. Returns how many.
    ///
    /// # Errors
    /// What the state store says.
    pub async fn purge_dead_letters(
        &self,
        older_than: Duration,
        handler: Option<&str>,
    ) -> Result<u64, StoreError> {
        let before = self.before(older_than);
        in_steps(|| {
            self.dead_letters
                .purge(before, handler.map(str::to_owned), ROWS)
        })
        .await
    }

    /// Removes messages from the outbox that were put in longer ago than `older_than`: they never leave. Returns how many.
    ///
    /// # Errors
    /// What the state store says.
    pub async fn purge_outbox(&self, older_than: Duration) -> Result<u64, StoreError> {
        let before = self.before(older_than);
        in_steps(|| self.outbox.purge(before, ROWS)).await
    }

    /// Forgets what handlers handled longer ago than `older_than`: such a message would be handled again. Returns how many records.
    ///
    /// # Errors
    /// What the state store says.
    pub async fn purge_inbox(&self, older_than: Duration) -> Result<u64, StoreError> {
        let before = self.before(older_than);
        in_steps(|| self.inbox.purge(before, ROWS)).await
    }

    fn before(&self, older_than: Duration) -> Timestamp {
        let age = i64::try_from(older_than.as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(self.clock.now().as_micros().saturating_sub(age))
    }
}

/// What the archive has of a stream.
#[derive(PartialEq, Eq)]
enum Kept {
    All,
    /// Not its softly deleted events.
    Hidden,
    /// Not what came meanwhile.
    WentOn,
}

/// Removes until there is nothing left to remove.
async fn in_steps<F: Future<Output = Result<u64, StoreError>>>(
    step: impl Fn() -> F,
) -> Result<u64, StoreError> {
    let mut removed = 0;
    loop {
        let step = step().await?;
        removed += step;
        if step < ROWS as u64 {
            return Ok(removed);
        }
    }
}

/// Runs `work` on a thread of its own until it ends, or this is dropped.
async fn aside<T: Send + 'static>(
    work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    let (tell, told) = oneshot::channel();
    let _running = Background::default().run(async move {
        let _ = tell.send(work.await);
    });
    told.await.unwrap_or_else(|_| {
        Err(StoreError::Unavailable {
            reason: "the thread of the work ended".into(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        adapters::memory::MemoryStore,
        clock::ManualClock,
        ports::StreamName,
        testing::{block_on, samples::orders},
    };

    #[test]
    fn a_stream_that_went_on_while_it_was_read_is_not_in_the_archive() {
        let clock = Arc::new(ManualClock::default());
        let store = Arc::new(MemoryStore::new(clock.clone()));
        let stream = StreamName::new("order-1").unwrap();
        let append = store.append(stream.clone(), orders(1..=3), ExpectedRevision::Any);
        block_on(append).unwrap();
        let retention = Retention {
            events: store.clone(),
            dead_letters: store.clone(),
            outbox: store.clone(),
            inbox: store,
            clock,
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("old.jsonl");
        std::fs::write(&path, "{\"position\":1}\n").unwrap();
        let mut archive = Archive::open(path.clone()).unwrap();
        let mut keep = |last_revision| {
            let stream = IdleStream {
                stream: stream.clone(),
                last_revision,
                last_occurred_at: Timestamp::default(),
            };
            let kept = block_on(retention.keep(&stream, &mut archive)).unwrap();
            archive.sync().unwrap();
            (
                kept == Kept::All,
                std::fs::read_to_string(&path).unwrap().lines().count(),
            )
        };

        assert_eq!(keep(1), (false, 1));

        assert_eq!(keep(2), (true, 4));
    }
}
