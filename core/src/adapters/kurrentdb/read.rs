//! Reading streams.

use std::sync::Arc;

use kurrentdb::{Error, ReadEvent, ReadStreamOptions, StreamPosition};
use uuid::Uuid;

use super::{
    Core,
    error::Failure,
    event::{FromServer, SNAPSHOTS},
    recent::Known,
};
use crate::ports::{Direction, EventRef, ReadStream, StoreError, StreamName, StreamPage};

/// The most events that a page has, whatever is asked for.
pub(super) const MAX_EVENTS: usize = 10_000;

/// The most bytes of payload that a page has; a single event may have more.
pub(super) const MAX_BYTES: usize = 16 * 1024 * 1024;

/// Revisions past this one are never reached; the server's numbers are signed.
const LAST_REVISION: u64 = 1 << 62;

/// What a stream's read gave.
#[derive(Debug, Default)]
pub(super) struct Slice {
    /// The events, hidden ones too.
    pub(super) events: Vec<FromServer>,
    /// The stream's last revision; `None` if the slice ended where it became too large.
    pub(super) last: Option<u64>,
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
                    if slice.last.is_none() {
                        // It is the last that a server says; one that shuts down may stop before.
                        return Err(Error::ServerError("the read was cut short".into()));
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
        Ok(match (slice.events.first(), slice.last) {
            (Some(event), _) => Tail::At(event.revision),
            (None, Some(last)) => Tail::Empty(last),
            (None, None) => Tail::None,
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
        let newest = slice.events.first().map(|event| event.revision);
        let ids = slice.events.iter().rev().map(|event| event.id);
        Ok(Known::new(newest.or(slice.last), ids, slice.ended))
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
        let last_revision = match slice.last {
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

pub(super) fn event_ref(event: &FromServer) -> Result<EventRef, StoreError> {
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
