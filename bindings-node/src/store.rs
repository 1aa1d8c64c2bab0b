//! The event store: appends and pages of events.

use napi_derive::napi;
use orkestra::{
    ports::{
        Append, Appended, DeleteMode, ExpectedRevision, NewEvent, Position, ReadAll, ReadStream,
        StoreError, StreamName,
    },
    topic::Pattern,
};
use serde::Deserialize;

use crate::{
    bridge::Started,
    error::{parse, throw},
    names::{MessageIn, parse_borrowed},
    pages,
    registry::NodeRegistry,
    services::NodeStores,
};

/// `"any"`, `"no_stream"`, `"stream_exists"` or a revision.
#[derive(Deserialize)]
#[serde(untagged)]
enum ExpectedIn {
    Exact(u64),
    Word(String),
}

impl ExpectedIn {
    fn read(&self) -> Result<ExpectedRevision, StoreError> {
        match self {
            Self::Exact(revision) => Ok(ExpectedRevision::Exact(*revision)),
            Self::Word(word) => match word.as_str() {
                "any" => Ok(ExpectedRevision::Any),
                "no_stream" => Ok(ExpectedRevision::NoStream),
                "stream_exists" => Ok(ExpectedRevision::StreamExists),
                other => Err(StoreError::InvalidArgument {
                    argument: "expected".into(),
                    reason: format!(
                        "expected any, no_stream, stream_exists or a revision, found {other}"
                    ),
                }),
            },
        }
    }
}

#[derive(Deserialize)]
struct AppendIn<'a> {
    stream: String,
    expected: ExpectedIn,
    #[serde(borrow)]
    events: Vec<MessageIn<'a>>,
}

impl AppendIn<'_> {
    fn append(&self) -> napi::Result<Append> {
        Ok(Append {
            stream: StreamName::new(&self.stream).map_err(|error| throw(&error))?,
            events: new_events(&self.events)?,
            expected: self.expected.read().map_err(|error| throw(&error))?,
        })
    }
}

pub(crate) fn new_events(events: &[MessageIn<'_>]) -> napi::Result<Vec<NewEvent>> {
    events
        .iter()
        .map(|event| Ok(NewEvent::from(event.event()?)))
        .collect()
}

fn appended_json(appended: &Appended) -> String {
    serde_json::json!({
        "revision": appended.revision, "position": appended.position, "repeated": appended.repeated,
    })
    .to_string()
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
    /// Appends events to a stream, JSON both ways.
    #[napi]
    pub fn append(&self, json: String) -> napi::Result<Started> {
        let store = self.services()?.events;
        let append = parse_borrowed::<AppendIn<'_>>(&json)?.append()?;
        self.spawner.start(async move {
            let appended = store
                .append(append.stream, append.events, append.expected)
                .await?;
            Ok::<_, StoreError>(Some(appended_json(&appended)))
        })
    }

    /// Appends to several streams in one transaction, JSON lists both ways.
    #[napi]
    pub fn append_many(&self, json: String) -> napi::Result<Started> {
        let store = self.services()?.events;
        let appends = parse_borrowed::<Vec<AppendIn<'_>>>(&json)?;
        let appends = appends
            .iter()
            .map(AppendIn::append)
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

    /// Deletes a stream: softly, or for good. `expected` is JSON.
    #[napi]
    pub fn delete_stream(
        &self,
        stream: String,
        expected: String,
        hard: bool,
    ) -> napi::Result<Started> {
        let store = self.services()?.events;
        let stream = StreamName::new(&stream).map_err(|error| throw(&error))?;
        let expected: ExpectedIn = parse(&expected)?;
        let expected = expected.read().map_err(|error| throw(&error))?;
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
