//! Reading streams and the whole store.

use std::sync::Arc;

use kurrentdb::{ReadAllOptions, ReadEvent, ReadStreamOptions, StreamPosition, SubscriptionFilter};
use uuid::Uuid;

use super::{
    Core,
    error::Failure,
    event::{FromServer, SNAPSHOTS},
    recent::Known,
};
use crate::ports::{
    Direction, EventRef, Page, Position, ReadAll, ReadStream, StoreError, StreamName, StreamPage,
};

/// The most events that a page has, whatever is asked for.
const MAX_EVENTS: usize = 10_000;

/// The most bytes of payload that a page has; a single event may have more.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// Events of the whole store in a page that names no limit.
const DEFAULT_PAGE: usize = 1_000;

/// Unwanted events that a page passes over at most.
const MAX_PASSED_OVER: usize = 10_000;

/// Revisions past this one are never reached; the server's numbers are signed.
const LAST_REVISION: u64 = 1 << 62;

/// What a stream's read gave.
#[derive(Debug, Default)]
pub(super) struct Slice {
    /// The events, hidden ones too.
    pub(super) events: Vec<FromServer>,
    /// The stream's last revision, if the server told.
    last: Option<u64>,
    /// Whether the reading ended before the limit.
    ended: bool,
}

/// The end of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tail {
    /// There is no such stream, or it was deleted without telling where it ended.
    None,
    /// It was deleted for good.
    Deleted,
    /// Its last revision; nothing of it can be read.
    Empty(u64),
    /// Its last revision.
    At(u64),
}

impl Tail {
    pub(super) fn last(&self) -> Option<u64> {
        match self {
            Self::None | Self::Deleted => None,
            Self::Empty(last) | Self::At(last) => Some(*last),
        }
    }
}

/// Streams of users and of snapshots, not the server's own.
pub(super) fn no_system_streams() -> SubscriptionFilter {
    SubscriptionFilter::on_stream_name().regex("^[^$]")
}

/// Where the server begins for events after `position`, that one included.
fn start(position: Option<Position>) -> StreamPosition<kurrentdb::Position> {
    match position {
        None => StreamPosition::Start,
        Some(Position(at)) => StreamPosition::Position(kurrentdb::Position {
            commit: at,
            prepare: at,
        }),
    }
}

impl Core {
    /// Events of the stream from `from` on, which may be any stream of the server.
    pub(super) async fn slice(
        &self,
        stream: &str,
        from: StreamPosition<u64>,
        direction: Direction,
        limit: usize,
    ) -> Result<Slice, Failure> {
        let options = ReadStreamOptions::default();
        let options = match direction {
            Direction::Forwards => options.forwards(),
            Direction::Backwards => options.backwards(),
        };
        let mut options = options.position(from).max_count(limit);
        if let Some(login) = self.login() {
            options = options.authenticated(login);
        }
        let name = bytes::Bytes::copy_from_slice(stream.as_bytes());
        self.link
            .call(&format!("read {stream}"), |client| {
                let (name, options) = (name.clone(), options.clone());
                async move {
                    let mut reading = client.read_stream(name, &options).await?;
                    let mut slice = Slice::default();
                    let mut bytes = 0;
                    while let Some(read) = reading.next_read_event().await? {
                        match read {
                            ReadEvent::Event(event) => {
                                let Some(event) = event.event else { continue };
                                let event = FromServer::new(event);
                                bytes += event.data.len() + event.metadata.len();
                                slice.events.push(event);
                                if bytes >= MAX_BYTES && slice.events.len() < limit {
                                    return Ok(slice);
                                }
                            }
                            ReadEvent::LastStreamPosition(last) => slice.last = Some(last),
                            _ => {}
                        }
                    }
                    slice.ended = slice.events.len() < limit;
                    Ok(slice)
                }
            })
            .await
    }

    /// Where `stream` ends.
    pub(super) async fn tail(&self, stream: &str) -> Result<Tail, StoreError> {
        let read = self
            .slice(stream, StreamPosition::End, Direction::Backwards, 1)
            .await;
        let slice = match read {
            Ok(slice) => slice,
            Err(Failure::NotFound) => return Ok(Tail::None),
            Err(Failure::Deleted) => return Ok(Tail::Deleted),
            Err(other) => return Err(other.into_store(stream)),
        };
        if let Some(event) = slice.events.first() {
            return Ok(Tail::At(event.revision));
        }
        if let Some(last) = slice.last {
            return Ok(Tail::Empty(last));
        }
        // All of it is cut off: the cut says where it ended.
        let cut = self.stream_metadata(stream).await?.truncate_before();
        Ok(match cut {
            Some(cut) if (1..=LAST_REVISION).contains(&cut) => Tail::Empty(cut - 1),
            _ => Tail::None,
        })
    }

    /// The ids of the last `window` events.
    pub(super) async fn known(&self, stream: &str, window: usize) -> Result<Known, StoreError> {
        let read = self
            .slice(stream, StreamPosition::End, Direction::Backwards, window)
            .await;
        let slice = match read {
            Ok(slice) => slice,
            Err(Failure::NotFound) => return Ok(Known::new(None, [], true)),
            Err(other) => return Err(other.into_store(stream)),
        };
        match slice.events.first() {
            Some(event) => {
                let ids = slice.events.iter().rev().map(|event| event.id);
                Ok(Known::new(Some(event.revision), ids, slice.ended))
            }
            None => Ok(Known::new(self.tail(stream).await?.last(), [], true)),
        }
    }

    pub(super) async fn read_stream(
        &self,
        stream: &StreamName,
        options: ReadStream,
    ) -> Result<StreamPage, StoreError> {
        let limit = options.limit.clamp(1, MAX_EVENTS);
        let from = match (options.from_revision, options.direction) {
            (None, Direction::Forwards) => StreamPosition::Start,
            (None, Direction::Backwards) => StreamPosition::End,
            (Some(from), Direction::Backwards) if from >= LAST_REVISION => StreamPosition::End,
            (Some(from), Direction::Forwards) if from >= LAST_REVISION => {
                return Ok(StreamPage {
                    events: Vec::new(),
                    last_revision: self.tail(stream).await?.last(),
                    end: true,
                });
            }
            (Some(from), _) => StreamPosition::Position(from),
        };
        let slice = match self.slice(stream, from, options.direction, limit).await {
            Ok(slice) => slice,
            Err(Failure::NotFound | Failure::Deleted) => {
                return Ok(StreamPage {
                    end: true,
                    ..StreamPage::default()
                });
            }
            Err(other) => return Err(other.into_store(stream)),
        };
        let edge = slice.events.last().map(|event| event.revision);
        let newest = match options.direction {
            Direction::Forwards => edge.filter(|_| slice.ended),
            Direction::Backwards => slice
                .events
                .first()
                .map(|event| event.revision)
                .filter(|_| matches!(from, StreamPosition::End)),
        };
        let last_revision = match slice.last.or(newest) {
            Some(last) => Some(last),
            None => self.tail(stream).await?.last(),
        };
        if options.direction == Direction::Forwards {
            self.learn(stream, &slice, last_revision);
        }
        let end = match options.direction {
            Direction::Forwards => slice.ended || edge >= last_revision,
            Direction::Backwards => slice.ended || edge == Some(0),
        };
        let visible = slice.events.into_iter().filter(|event| !event.is_hidden());
        Ok(StreamPage {
            events: visible
                .map(FromServer::recorded)
                .collect::<Result<_, _>>()?,
            last_revision,
            end,
        })
    }

    /// Keeps the ids of a page that reaches to the stream's end: who reads a stream may append to it next.
    fn learn(&self, stream: &StreamName, slice: &Slice, last: Option<u64>) {
        let (Some(first), Some(newest)) = (slice.events.first(), slice.events.last()) else {
            return;
        };
        if Some(newest.revision) != last {
            return;
        }
        let mut recent = self.recent.lock();
        let mut known = match recent.take(stream) {
            Some(known) if known.last >= last => known,
            Some(mut known) if known.next() >= first.revision => {
                let next = known.next();
                let new = slice.events.iter().filter(|event| event.revision >= next);
                known.push(new.map(|event| event.id), self.link.config().repeat_window);
                known
            }
            _ => {
                let ids = slice.events.iter().map(|event| event.id);
                Known::new(last, ids, first.revision == 0)
            }
        };
        known.whole |= first.revision == 0 && known.len() as u64 == known.next();
        recent.put(stream.shared(), known);
    }

    /// The event at `revision`.
    pub(super) async fn event_at(
        &self,
        stream: &str,
        revision: u64,
    ) -> Result<Option<FromServer>, StoreError> {
        let from = StreamPosition::Position(revision);
        match self.slice(stream, from, Direction::Forwards, 1).await {
            Ok(slice) => Ok(slice.events.into_iter().find(|e| e.revision == revision)),
            Err(Failure::NotFound | Failure::Deleted) => Ok(None),
            Err(other) => Err(other.into_store(stream)),
        }
    }

    /// Hands events of the whole store to `see` until it answers false; true if the store's end was reached before. With `from` at a position
    /// the event at it comes first.
    async fn walk(
        &self,
        from: StreamPosition<kurrentdb::Position>,
        direction: Direction,
        count: usize,
        filter: &SubscriptionFilter,
        mut see: impl FnMut(FromServer) -> bool,
    ) -> Result<bool, StoreError> {
        let options = ReadAllOptions::default()
            .position(from)
            .filter(filter.clone())
            .max_count(count);
        let options = match direction {
            Direction::Forwards => options.forwards(),
            Direction::Backwards => options.backwards(),
        };
        let options = match self.login() {
            Some(login) => options.authenticated(login),
            None => options,
        };
        // The events are kept here until the call has succeeded: one that is done again begins anew.
        let read = self
            .link
            .call("read the whole store", |client| {
                let options = options.clone();
                async move {
                    let mut reading = client.read_all(&options).await?;
                    let (mut events, mut bytes) = (Vec::new(), 0);
                    while let Some(event) = reading.next().await? {
                        let Some(event) = event.event else { continue };
                        let event = FromServer::new(event);
                        bytes += event.data.len() + event.metadata.len();
                        events.push(event);
                        if bytes >= MAX_BYTES {
                            return Ok((events, false));
                        }
                    }
                    let ended = events.len() < count;
                    Ok((events, ended))
                }
            })
            .await;
        let (events, ended) = read.map_err(|failure| failure.into_store("$all"))?;
        for event in events {
            if !see(event) {
                return Ok(false);
            }
        }
        Ok(ended)
    }

    pub(super) async fn read_all(&self, options: &ReadAll) -> Result<Page, StoreError> {
        let limit = match options.limit {
            0 => DEFAULT_PAGE,
            limit => limit.min(MAX_EVENTS),
        };
        let filter = match options.stream_prefix.as_deref() {
            Some(prefix) if !prefix.is_empty() && !prefix.starts_with('$') => {
                SubscriptionFilter::on_stream_name().add_prefix(prefix)
            }
            _ => no_system_streams(),
        };
        let prefix = options.stream_prefix.as_deref().unwrap_or_default();
        let choosy = options.types.patterns.is_some();
        let mut page = Page::default();
        let (mut passed_over, mut bytes) = (0, 0);
        let mut broken = None;
        loop {
            let after = page.position.or(options.after);
            let missing = limit - page.events.len();
            // One more for the event at `after` itself.
            let count = 1 + if choosy {
                missing.max(DEFAULT_PAGE / 2)
            } else {
                missing
            };
            let ended = self
                .walk(start(after), Direction::Forwards, count, &filter, |event| {
                    let position = match event.position() {
                        Ok(position) => position,
                        Err(error) => {
                            broken = Some(error);
                            return false;
                        }
                    };
                    if Some(position) <= page.position.or(options.after) {
                        return true;
                    }
                    if page.events.len() >= limit
                        || passed_over >= MAX_PASSED_OVER
                        || bytes >= MAX_BYTES
                    {
                        return false;
                    }
                    page.position = Some(position);
                    let wanted = !event.is_hidden()
                        && event.stream.starts_with(prefix)
                        && options.types.wants(&event.type_name);
                    if !wanted {
                        passed_over += 1;
                        return true;
                    }
                    bytes += event.data.len() + event.metadata.len();
                    match event.recorded() {
                        Ok(event) => page.events.push(event),
                        Err(error) => broken = Some(error),
                    }
                    broken.is_none()
                })
                .await?;
            if let Some(error) = broken {
                return Err(error);
            }
            page.end = ended;
            let stuck = page.position.or(options.after) == after;
            let full = page.events.len() >= limit || bytes >= MAX_BYTES;
            if ended || stuck || full || passed_over >= MAX_PASSED_OVER {
                return Ok(page);
            }
        }
    }

    /// The last event that `wanted` takes, from the end of the store backwards.
    async fn last_event(
        &self,
        mut chunk: usize,
        wanted: impl Fn(&FromServer) -> bool,
    ) -> Result<Option<FromServer>, StoreError> {
        let filter = no_system_streams();
        let mut from = StreamPosition::End;
        loop {
            let (mut found, mut reached) = (None, None);
            let ended = self
                .walk(from, Direction::Backwards, chunk, &filter, |event| {
                    reached = Some(kurrentdb::Position {
                        commit: event.commit,
                        prepare: event.prepare,
                    });
                    if !event.is_hidden() && wanted(&event) {
                        found = Some(event);
                    }
                    found.is_none()
                })
                .await?;
            if found.is_some() || ended {
                return Ok(found);
            }
            match reached {
                Some(position) => from = StreamPosition::Position(position),
                None => return Ok(None),
            }
            chunk = (chunk * 4).min(DEFAULT_PAGE);
        }
    }

    pub(super) async fn head(&self) -> Result<Option<Position>, StoreError> {
        let last = self.last_event(1, |_| true).await?;
        last.map(|event| event.position()).transpose()
    }

    /// Looks through the whole store, the newest first.
    pub(super) async fn find_event(&self, id: Uuid) -> Result<Option<EventRef>, StoreError> {
        let found = self
            .last_event(DEFAULT_PAGE, |event| event.id == id)
            .await?;
        found.map(|event| event_ref(&event)).transpose()
    }

    /// Looks through the last events of `stream`.
    pub(super) async fn find_in_stream(
        &self,
        stream: &StreamName,
        id: Uuid,
    ) -> Result<Option<EventRef>, StoreError> {
        let window = self.link.config().repeat_window;
        let known = self.up_to_date(stream, window).await?;
        let revision = known.find(id);
        self.recent.lock().put(stream.shared(), known);
        let Some(revision) = revision else {
            return Ok(None);
        };
        let event = self.event_at(stream, revision).await?;
        event.map(|event| event_ref(&event)).transpose()
    }
}

fn event_ref(event: &FromServer) -> Result<EventRef, StoreError> {
    Ok(EventRef {
        stream: Arc::clone(&event.stream),
        revision: event.revision,
        position: event.position()?,
    })
}

/// Refuses the names of streams that hold snapshots.
pub(super) fn check_name(stream: &StreamName) -> Result<(), StoreError> {
    if stream.starts_with(SNAPSHOTS) {
        return Err(StoreError::InvalidStreamName {
            stream: stream.chars().take(100).collect(),
            reason: "names that begin with `snapshot-` hold snapshots in KurrentDB".into(),
        });
    }
    Ok(())
}
