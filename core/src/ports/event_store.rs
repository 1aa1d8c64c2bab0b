//! Streams of events.

use std::{fmt, ops::Deref, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    message::{Event, MessageError, Metadata, shorten, wire},
    ports::{IdlePage, IdleStreams, StoreError},
    topic::{Pattern, topic_for},
};

/// The longest stream name, in characters.
pub const MAX_STREAM_NAME_CHARS: usize = 1000;

/// The most events that one append takes.
pub const MAX_BATCH: usize = 10_000;

/// The name of a stream: 1 to 1,000 characters, none of them a control character, no white space at either end, and no `$` in front.
///
/// Spaces inside are allowed. Names that begin with `$` belong to stores themselves (`$all`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamName(Arc<str>);

impl StreamName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`StoreError::InvalidStreamName`] says what is wrong with it.
    pub fn new(name: &str) -> Result<Self, StoreError> {
        let reason = if name.is_empty() {
            "it is empty"
        } else if name.starts_with('$') {
            "names that begin with `$` are reserved"
        } else if name.chars().nth(MAX_STREAM_NAME_CHARS).is_some() {
            "it is longer than 1000 characters"
        } else if name.chars().any(char::is_control) {
            "it has a control character"
        } else if name.trim() != name {
            "it begins or ends with white space"
        } else {
            return Ok(Self(name.into()));
        };
        Err(StoreError::InvalidStreamName {
            stream: shorten(name),
            reason: reason.to_owned(),
        })
    }

    /// The name, shared.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl Deref for StreamName {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A place in the whole store: compare it, never add to it. Numbers may be missing. The first event has 1 or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Position(pub u64);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an append asks of its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ExpectedRevision {
    /// Nothing.
    #[default]
    Any,
    /// That it has no events (never had any, or was hard deleted).
    NoStream,
    /// That it has events.
    StreamExists,
    /// That its last revision is this one.
    Exact(u64),
}

impl ExpectedRevision {
    /// Whether a stream whose last revision is `actual` is as expected.
    pub fn holds(self, actual: Option<u64>) -> bool {
        match self {
            Self::Any => true,
            Self::NoStream => actual.is_none(),
            Self::StreamExists => actual.is_some(),
            Self::Exact(revision) => actual == Some(revision),
        }
    }

    pub(crate) fn describe(self) -> String {
        match self {
            Self::Any => "any revision of".into(),
            Self::NoStream => "no stream".into(),
            Self::StreamExists => "a stream".into(),
            Self::Exact(revision) => format!("revision {revision} of"),
        }
    }
}

impl Serialize for ExpectedRevision {
    /// `"any"`, `"no_stream"`, `"stream_exists"` or the revision as a number.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Any => serializer.serialize_str("any"),
            Self::NoStream => serializer.serialize_str("no_stream"),
            Self::StreamExists => serializer.serialize_str("stream_exists"),
            Self::Exact(revision) => serializer.serialize_u64(*revision),
        }
    }
}

/// An event to append. Its payload has been checked against the app's limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// The id; unique in the whole store.
    pub id: Uuid,
    /// The type name.
    pub type_name: Arc<str>,
    /// Schema version of the payload, from 1.
    pub version: u32,
    /// The payload: a JSON object as UTF-8 bytes.
    pub data: Bytes,
    /// The metadata: a JSON object as UTF-8 bytes.
    pub metadata: Bytes,
    /// When it happened.
    pub occurred_at: Timestamp,
}

impl From<Event> for NewEvent {
    fn from(event: Event) -> Self {
        Self {
            id: event.id,
            type_name: event.type_name,
            version: event.version,
            data: event.data,
            metadata: wire::encode_metadata(&event.metadata),
            occurred_at: event.occurred_at,
        }
    }
}

/// An event as it was recorded: with its stream, revision and position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedEvent {
    /// The id.
    pub id: Uuid,
    /// The type name.
    pub type_name: Arc<str>,
    /// Schema version of the payload as it was recorded.
    pub version: u32,
    /// The stream.
    pub stream: Arc<str>,
    /// 0-based place in the stream.
    pub revision: u64,
    /// Place in the whole store.
    pub position: Position,
    /// The payload: a JSON object as UTF-8 bytes. A slice of its page: copy it to keep it for long.
    pub data: Bytes,
    /// The metadata: a JSON object as UTF-8 bytes.
    pub metadata: Bytes,
    /// When it happened.
    pub occurred_at: Timestamp,
}

impl RecordedEvent {
    /// The metadata, parsed.
    ///
    /// # Errors
    /// [`MessageError`] if what is stored is no metadata.
    pub fn metadata(&self) -> Result<Metadata, MessageError> {
        wire::decode_metadata(&self.metadata, self.id, self.occurred_at)
    }

    /// The event without its place.
    ///
    /// # Errors
    /// As [`RecordedEvent::metadata`].
    pub fn event(&self) -> Result<Event, MessageError> {
        Ok(Event {
            id: self.id,
            type_name: Arc::clone(&self.type_name),
            version: self.version,
            data: self.data.clone(),
            metadata: self.metadata()?,
            occurred_at: self.occurred_at,
        })
    }
}

/// One append of [`EventStore::append_many`].
#[derive(Debug, Clone)]
pub struct Append {
    /// The stream.
    pub stream: StreamName,
    /// The events in the order to record.
    pub events: Vec<NewEvent>,
    /// What the stream has to be like.
    pub expected: ExpectedRevision,
}

/// What an append did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Appended {
    /// The revision of the last event of the batch; of the stream, `None` if it has none, when the batch was empty.
    pub revision: Option<u64>,
    /// The position of the last event of the batch; `None` when the batch was empty.
    pub position: Option<Position>,
    /// Whether the same batch had been stored before and nothing was stored now.
    pub repeated: bool,
}

/// Which way a stream is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// Oldest first.
    #[default]
    Forwards,
    /// Newest first.
    Backwards,
}

/// How to read a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadStream {
    /// The first revision to read, inclusive. `None`: the first one forwards, the last one backwards.
    pub from_revision: Option<u64>,
    /// Oldest first by default.
    pub direction: Direction,
    /// At most this many events in the page. Default 500.
    pub limit: usize,
}

impl Default for ReadStream {
    fn default() -> Self {
        Self {
            from_revision: None,
            direction: Direction::Forwards,
            limit: 500,
        }
    }
}

impl ReadStream {
    /// Forwards from `revision`.
    pub fn from(revision: u64) -> Self {
        Self {
            from_revision: Some(revision),
            ..Self::default()
        }
    }

    /// The same with another limit.
    #[must_use]
    pub fn limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    /// The same, newest first.
    #[must_use]
    pub fn backwards(self) -> Self {
        Self {
            direction: Direction::Backwards,
            ..self
        }
    }
}

/// Events of a stream.
#[derive(Debug, Clone, Default)]
pub struct StreamPage {
    /// The events in the order asked for; fewer than the limit at the stream's end.
    pub events: Vec<RecordedEvent>,
    /// The stream's last revision, also where its events were soft deleted; `None` when there is no stream.
    pub last_revision: Option<u64>,
    /// Whether nothing follows this page.
    pub end: bool,
}

/// Which event types are wanted, by topic patterns. The default wants all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TypeFilter {
    /// An event is wanted when its topic matches any of these; `None` wants all.
    pub patterns: Option<Arc<[Pattern]>>,
    /// The app's prefix, from which topics follow.
    pub app_prefix: Arc<str>,
    /// Type names that are wanted whatever their topic: the aliases of wanted types.
    pub also: Arc<[Arc<str>]>,
}

impl TypeFilter {
    /// Wants the topics that match one of `patterns` in an app with `app_prefix`.
    pub fn new(patterns: impl IntoIterator<Item = Pattern>, app_prefix: &str) -> Self {
        Self {
            patterns: Some(patterns.into_iter().collect()),
            app_prefix: app_prefix.into(),
            also: Arc::default(),
        }
    }

    /// Whether events of `type_name` are wanted. A name that has no topic matches only `#`.
    pub fn wants(&self, type_name: &str) -> bool {
        let Some(patterns) = &self.patterns else {
            return true;
        };
        if self.also.iter().any(|name| **name == *type_name) {
            return true;
        }
        match topic_for(type_name, &self.app_prefix) {
            Ok(topic) => patterns.iter().any(|p| p.matches(&topic)),
            Err(_) => patterns.iter().any(|p| p.as_str() == "#"),
        }
    }
}

/// How to read the whole store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadAll {
    /// Events after this position, exclusive; `None` from the first.
    pub after: Option<Position>,
    /// At most this many events in the page. 0 means the default, 1,000.
    pub limit: usize,
    /// Which types. Default all.
    pub types: TypeFilter,
    /// Only streams whose names begin so.
    pub stream_prefix: Option<String>,
}

impl ReadAll {
    /// Events after `position`.
    pub fn after(position: Option<Position>) -> Self {
        Self {
            after: position,
            ..Self::default()
        }
    }

    /// The same with another limit.
    #[must_use]
    pub fn limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    /// The same for these types only.
    #[must_use]
    pub fn types(self, types: TypeFilter) -> Self {
        Self { types, ..self }
    }

    /// The same for streams whose names begin with `prefix`.
    #[must_use]
    pub fn stream_prefix(self, prefix: impl Into<String>) -> Self {
        Self {
            stream_prefix: Some(prefix.into()),
            ..self
        }
    }
}

/// Events of the whole store.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The events that were wanted, in increasing position.
    pub events: Vec<RecordedEvent>,
    /// How far the reading went, over unwanted events too: read on after it. `None` when nothing was there to read.
    pub position: Option<Position>,
    /// Whether the store's end was reached.
    pub end: bool,
}

/// How to delete a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeleteMode {
    /// The stream reads empty and its revisions continue; reading the whole store still gives its events.
    Soft,
    /// The events are gone and revisions start again at 0; the act is recorded.
    Hard,
}

/// Where an event stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRef {
    /// The stream.
    pub stream: Arc<str>,
    /// 0-based place in the stream.
    pub revision: u64,
    /// Place in the whole store.
    pub position: Position,
}

/// What an adapter can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, each read by name"
)]
pub struct Capabilities {
    /// Appends to several streams are one transaction.
    pub append_many: bool,
    /// What was acknowledged survives the end of the process.
    pub durable: bool,
    /// Other processes may use the same store.
    pub shared: bool,
    /// The database refuses to change or delete recorded events.
    pub immutable: bool,
    /// An event id that is stored in another stream is refused, and a repetition is found however old it is. Without it ids are looked for
    /// among the last events of their own stream.
    pub unique_ids: bool,
    /// A hard delete takes the events away at once, and the stream may begin again at revision 0. Without it the stream is closed for good
    /// ([`StoreError::StreamDeleted`]), and reading the whole store gives its events until the server cleans up.
    pub hard_delete: bool,
    /// Streams can be found by their names and their age ([`EventStore::idle_streams`]).
    pub idle_streams: bool,
}

impl Capabilities {
    /// All of it, or none.
    pub const fn all(yes: bool) -> Self {
        Self {
            append_many: yes,
            durable: yes,
            shared: yes,
            immutable: yes,
            unique_ids: yes,
            hard_delete: yes,
            idle_streams: yes,
        }
    }
}

/// A store of event streams.
///
/// Futures need no particular runtime: they wait for wakers only, so that any executor and any language's own loop may poll them.
#[async_trait]
pub trait EventStore: Send + Sync + fmt::Debug {
    /// What this adapter can do.
    fn capabilities(&self) -> Capabilities;

    /// Appends `events` to `stream` atomically, in their order.
    ///
    /// An empty batch stores nothing. A batch whose ids are all stored already, in this stream, in this order and one after the other, is
    /// a repetition: the first result comes again, whatever `expected` says. The call is in the queue when the future has been polled
    /// once; dropping the future later does not take it back. An append made after another one was accepted is stored after it.
    ///
    /// # Errors
    /// [`StoreError::RevisionConflict`] if `expected` does not hold; [`StoreError::DuplicateEvent`] if an id is stored elsewhere or only some
    /// are stored; [`StoreError::InvalidArgument`] for more than 10,000 events or one id twice; [`StoreError::StreamDeleted`] where a hard
    /// delete is for good; transient ones if the store is away.
    async fn append(
        &self,
        stream: StreamName,
        events: Vec<NewEvent>,
        expected: ExpectedRevision,
    ) -> Result<Appended, StoreError>;

    /// Appends to several streams in one transaction: all or nothing. One result per append, in order.
    ///
    /// # Errors
    /// As [`EventStore::append`], for the first append that fails; [`StoreError::Unsupported`] for several streams without
    /// [`Capabilities::append_many`].
    async fn append_many(&self, appends: Vec<Append>) -> Result<Vec<Appended>, StoreError>;

    /// Reads a page of `stream`. An unknown stream is an empty page.
    ///
    /// # Errors
    /// Transient ones if the store is away.
    async fn read_stream(
        &self,
        stream: StreamName,
        options: ReadStream,
    ) -> Result<StreamPage, StoreError>;

    /// Reads a page of the whole store in increasing position. A reader that remembers [`Page::position`] never misses an event.
    ///
    /// # Errors
    /// Transient ones if the store is away.
    async fn read_all(&self, options: ReadAll) -> Result<Page, StoreError>;

    /// The position of the last event, `None` for an empty store.
    ///
    /// # Errors
    /// Transient ones if the store is away.
    async fn head(&self) -> Result<Option<Position>, StoreError>;

    /// Where the event `id` is recorded, `None` if it is not.
    ///
    /// # Errors
    /// Transient ones if the store is away.
    async fn find_event(&self, id: Uuid) -> Result<Option<EventRef>, StoreError>;

    /// Where the event `id` is recorded in `stream`, `None` if it is not there.
    ///
    /// A store without an index of all ids ([`Capabilities::unique_ids`]) reads that stream's last events instead of the whole store.
    ///
    /// # Errors
    /// Transient ones if the store is away.
    async fn find_in_stream(
        &self,
        stream: StreamName,
        id: Uuid,
    ) -> Result<Option<EventRef>, StoreError> {
        let found = self.find_event(id).await?;
        Ok(found.filter(|event| *event.stream == *stream))
    }

    /// Deletes `stream`; an unknown or already deleted one is no error. Returns whether there was something to delete.
    ///
    /// A store that keeps snapshots too deletes the stream's: a fold of deleted events must not come back as state.
    ///
    /// # Errors
    /// [`StoreError::RevisionConflict`] if `expected` does not hold; transient ones if the store is away.
    async fn delete_stream(
        &self,
        stream: StreamName,
        expected: ExpectedRevision,
        mode: DeleteMode,
    ) -> Result<bool, StoreError>;

    /// Finds streams whose last event, also a softly deleted one, occurred before a time, in the order of their names. A page looks at a bounded
    /// number of streams, so that it takes a short while however many there are.
    ///
    /// # Errors
    /// [`StoreError::Unsupported`] without [`Capabilities::idle_streams`]; transient ones if the store is away.
    async fn idle_streams(&self, options: IdleStreams) -> Result<IdlePage, StoreError>;

    /// Waits until the store has an event after `position` (any event for `None`), by this process or another. May end early.
    ///
    /// # Errors
    /// [`StoreError::Closed`] once the store is closed.
    async fn wait_for_events(&self, position: Option<Position>) -> Result<(), StoreError>;

    /// Finishes what was accepted, then refuses everything with [`StoreError::Closed`]. Safe to call again.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if what was accepted could not be finished.
    async fn close(&self) -> Result<(), StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_names_have_a_rule() {
        for name in ["order-1", "with space", "a", "日本", &"x".repeat(1000)] {
            assert!(StreamName::new(name).is_ok(), "{name}");
        }
        for name in ["", "$all", " a", "a\n", "a\0b", &"x".repeat(1001)] {
            assert!(StreamName::new(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_conflict_names_both_sides() {
        let conflict = |expected, actual| {
            StoreError::RevisionConflict {
                stream: "cart-7".into(),
                expected,
                actual,
            }
            .to_string()
        };

        assert_eq!(
            conflict(ExpectedRevision::Exact(3), Some(4)),
            "expected revision 3 of cart-7, found 4"
        );
        assert_eq!(
            conflict(ExpectedRevision::NoStream, Some(0)),
            "expected no stream cart-7, found 0"
        );
        assert_eq!(
            conflict(ExpectedRevision::StreamExists, None),
            "expected a stream cart-7, found no stream"
        );
    }
}
