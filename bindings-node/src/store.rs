//! The event store: appends and pages of events.

use bytes::Bytes;
use napi::Either;
use napi_derive::napi;
use orkestra::{
    clock::Timestamp,
    ports::{
        Append, Appended, DeleteMode, ExpectedRevision, NewEvent, Position, ReadAll, ReadStream,
        StoreError, StreamName,
    },
    topic::Pattern,
};
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    bridge::Started,
    error::{parse, throw},
    pages::{self, BREAK, FIELD},
    registry::NodeRegistry,
    services::NodeStores,
};

/// A revision, or `"any"`, `"no_stream"`, `"stream_exists"`.
type ExpectedIn = Either<i64, String>;

fn expected_of(given: &ExpectedIn) -> Result<ExpectedRevision, StoreError> {
    let word = match given {
        Either::A(revision) => {
            return Ok(ExpectedRevision::Exact(
                u64::try_from(*revision).unwrap_or(0),
            ));
        }
        Either::B(word) => word.as_str(),
    };
    match word {
        "any" => Ok(ExpectedRevision::Any),
        "no_stream" => Ok(ExpectedRevision::NoStream),
        "stream_exists" => Ok(ExpectedRevision::StreamExists),
        other => Err(StoreError::InvalidArgument {
            argument: "expected".into(),
            reason: format!("expected any, no_stream, stream_exists or a revision, found {other}"),
        }),
    }
}

fn append_of(stream: &str, expected: &ExpectedIn, events: &str) -> napi::Result<Append> {
    Ok(Append {
        stream: StreamName::new(stream).map_err(|error| throw(&error))?,
        events: new_events(events)?,
        expected: expected_of(expected).map_err(|error| throw(&error))?,
    })
}

/// Events as TypeScript hands them over: of each its id, type, version, time in microseconds, stored metadata and payload.
pub(crate) fn new_events(text: &str) -> napi::Result<Vec<NewEvent>> {
    let parts = text.split(BREAK).filter(|part| !part.is_empty());
    parts
        .map(|part| new_event(part).ok_or_else(damaged))
        .collect()
}

fn new_event(part: &str) -> Option<NewEvent> {
    let mut fields = part.split(FIELD);
    let event = NewEvent {
        id: Uuid::try_parse(fields.next()?).ok()?,
        type_name: fields.next()?.into(),
        version: fields.next()?.parse().ok()?,
        occurred_at: Timestamp::from_micros(fields.next()?.parse().ok()?),
        metadata: Bytes::copy_from_slice(fields.next()?.as_bytes()),
        data: Bytes::copy_from_slice(fields.next()?.as_bytes()),
    };
    fields.next().is_none().then_some(event)
}

fn damaged() -> napi::Error {
    napi::Error::from_reason("an event is damaged on its way to the store")
}

fn appended_json(appended: &Appended) -> String {
    let number = |number: Option<u64>| number.map_or_else(|| "null".to_owned(), |n| n.to_string());
    format!(
        "{{\"revision\":{},\"position\":{},\"repeated\":{}}}",
        number(appended.revision),
        number(appended.position.map(|p| p.0)),
        appended.repeated
    )
}

#[derive(Deserialize)]
struct ReadAllIn {
    after: Option<u64>,
    limit: usize,
    topics: Option<Vec<String>>,
    stream_prefix: Option<String>,
}

pub(crate) fn patterns_of(topics: &[String]) -> napi::Result<Vec<Pattern>> {
    let patterns = topics.iter().map(|topic| Pattern::new(topic));
    patterns
        .collect::<Result<_, _>>()
        .map_err(|error| throw(&error))
}

#[napi]
impl NodeStores {
    /// Appends events to a stream. Ends with JSON.
    #[napi]
    pub fn append(
        &self,
        stream: String,
        expected: ExpectedIn,
        events: String,
    ) -> napi::Result<Started> {
        let store = self.services()?.events;
        let append = append_of(&stream, &expected, &events)?;
        self.spawner.start(async move {
            let appended = store
                .append(append.stream, append.events, append.expected)
                .await?;
            Ok::<_, StoreError>(Some(appended_json(&appended)))
        })
    }

    /// Appends to several streams in one transaction: three lists of one length. Ends with a JSON list.
    #[napi]
    pub fn append_many(
        &self,
        streams: Vec<String>,
        expected: Vec<ExpectedIn>,
        events: Vec<String>,
    ) -> napi::Result<Started> {
        let store = self.services()?.events;
        let given = streams.iter().zip(&expected).zip(&events);
        let appends = given
            .map(|((stream, expected), events)| append_of(stream, expected, events))
            .collect::<napi::Result<Vec<_>>>()?;
        self.spawner.start(async move {
            let appended = store.append_many(appends).await?;
            let items: Vec<_> = appended.iter().map(appended_json).collect();
            Ok::<_, StoreError>(Some(format!("[{}]", items.join(","))))
        })
    }

    /// A page of a stream: `{last_revision, end, events}`.
    #[napi]
    pub fn read_stream(
        &self,
        stream: String,
        from: Option<i64>,
        backwards: bool,
        limit: u32,
    ) -> napi::Result<Started> {
        let store = self.services()?.events;
        let stream = StreamName::new(&stream).map_err(|error| throw(&error))?;
        let mut options = ReadStream::default().limit(limit as usize);
        options.from_revision = from.and_then(|from| u64::try_from(from).ok());
        if backwards {
            options = options.backwards();
        }
        self.spawner.start(async move {
            let page = store.read_stream(stream, options).await?;
            let last = page
                .last_revision
                .map_or_else(|| "null".to_owned(), |r| r.to_string());
            let mut text = format!(
                "{{\"last_revision\":{last},\"end\":{},\"events\":",
                page.end
            );
            pages::write(&mut text, &page.events);
            text.push('}');
            Ok::<_, StoreError>(Some(text))
        })
    }

    /// A page of the whole store: `{position, end, events}`.
    #[napi]
    pub fn read_all(&self, registry: &NodeRegistry, json: String) -> napi::Result<Started> {
        let store = self.services()?.events;
        let given: ReadAllIn = parse(&json)?;
        let mut options = ReadAll::after(given.after.map(Position)).limit(given.limit);
        if let Some(topics) = &given.topics {
            options = options.types(registry.inner.filter(&patterns_of(topics)?));
        }
        options.stream_prefix = given.stream_prefix;
        self.spawner.start(async move {
            let page = store.read_all(options).await?;
            let position = page
                .position
                .map_or_else(|| "null".to_owned(), |p| p.to_string());
            let mut text = format!("{{\"position\":{position},\"end\":{},\"events\":", page.end);
            pages::write(&mut text, &page.events);
            text.push('}');
            Ok::<_, StoreError>(Some(text))
        })
    }

    /// The position of the last event, nothing for an empty store.
    #[napi]
    pub fn head(&self) -> napi::Result<Started> {
        let store = self.services()?.events;
        self.spawner.start(async move {
            let head = store.head().await?;
            Ok::<_, StoreError>(head.map(|position| position.to_string()))
        })
    }

    /// Deletes a stream: softly, or for good.
    #[napi]
    pub fn delete_stream(
        &self,
        stream: String,
        expected: ExpectedIn,
        hard: bool,
    ) -> napi::Result<Started> {
        let store = self.services()?.events;
        let stream = StreamName::new(&stream).map_err(|error| throw(&error))?;
        let expected = expected_of(&expected).map_err(|error| throw(&error))?;
        let mode = if hard {
            DeleteMode::Hard
        } else {
            DeleteMode::Soft
        };
        self.spawner.start(async move {
            let deleted = store.delete_stream(stream, expected, mode).await?;
            Ok::<_, StoreError>(Some(deleted.to_string()))
        })
    }
}
