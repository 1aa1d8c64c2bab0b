//! Scripts of calls, through the app's public API, on every store.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::TryStreamExt;
use orkestra::{
    Error, Orkestra,
    clock::{IdSource, SystemIds, Timestamp},
    code::Coded,
    message::Metadata,
    ports::{
        Append, Appended, DeleteMode, Direction, EventStore, ExpectedRevision, NewEvent, Position,
        ReadAll, ReadStream, RecordedEvent, StoreError, StreamName, TypeFilter, all_events,
        stream_events,
    },
    subscription::{Start, Subscription, SubscriptionOptions},
    topic::Pattern,
};
use orkestra_tests::kurrentdb::Server;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    events: HashMap<String, Fact>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Fact {
    r#type: String,
    data: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    id: String,
    needs: Option<String>,
    calls: Vec<Call>,
    #[serde(default)]
    increasing: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    #[serde(rename = "call")]
    name: String,
    arguments: Value,
    /// `null` is a result too.
    #[serde(default, deserialize_with = "given")]
    result: Option<Value>,
    error: Option<Value>,
}

fn given<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(value).map(Some)
}

/// What a case knows: its events, and what its variables stand for.
struct Run<'a> {
    file: &'a File,
    place: Place,
    ids: SystemIds,
    facts: HashMap<String, NewEvent>,
    variables: HashMap<String, Value>,
    readers: HashMap<String, Subscription>,
    app: Orkestra,
}

async fn start(place: &Place) -> Orkestra {
    let app = Orkestra::builder("shop")
        .app_prefix("Shop")
        .store(&place.url);
    let app = match &place.state {
        Some(state) => app.state(state),
        None => app,
    };
    app.start().await.unwrap()
}

fn expected(value: &Value) -> ExpectedRevision {
    match value {
        Value::Null => ExpectedRevision::Any,
        Value::Number(n) => ExpectedRevision::Exact(n.as_u64().unwrap()),
        word => match word.as_str().unwrap() {
            "any" => ExpectedRevision::Any,
            "no_stream" => ExpectedRevision::NoStream,
            "stream_exists" => ExpectedRevision::StreamExists,
            other => panic!("{other}"),
        },
    }
}

fn position(value: &Value) -> Option<Position> {
    value.as_u64().map(Position)
}

impl Run<'_> {
    fn store(&self) -> Arc<dyn EventStore> {
        Arc::clone(self.app.store().unwrap())
    }

    /// The value of a variable, or the value itself.
    fn value(&self, value: &Value) -> Value {
        match value.as_str() {
            Some(name) if name.starts_with('$') && self.variables.contains_key(name) => {
                self.variables[name].clone()
            }
            _ => value.clone(),
        }
    }

    /// The same object each time that it is named.
    fn event(&mut self, name: &str) -> NewEvent {
        let known = self.facts.entry(name.to_owned());
        let entry = known.or_insert_with(|| {
            let fact = &self.file.events[name];
            let occurred_at = Timestamp::from_micros(1_774_612_800_000_000);
            let id = self.ids.next_id(occurred_at);
            let metadata = Metadata::root(id, occurred_at);
            let event = orkestra::message::Event {
                id,
                type_name: fact.r#type.as_str().into(),
                version: 1,
                data: serde_json::to_vec(&fact.data).unwrap().into(),
                metadata,
                occurred_at,
            };
            event.into()
        });
        entry.clone()
    }

    fn append_of(&mut self, a: &Value) -> Result<Append, StoreError> {
        let names = a["events"].as_array().unwrap().clone();
        let mut events = Vec::new();
        for name in names {
            events.push(self.event(name.as_str().unwrap()));
        }
        Ok(Append {
            stream: StreamName::new(a["stream"].as_str().unwrap())?,
            events,
            expected: expected(&a["expected"]),
        })
    }

    fn filter(a: &Value) -> TypeFilter {
        let Some(topics) = a["topics"].as_array() else {
            return TypeFilter::default();
        };
        let patterns = topics
            .iter()
            .map(|t| Pattern::new(t.as_str().unwrap()).unwrap());
        TypeFilter::new(patterns, "Shop")
    }

    fn shown(&self, events: &[RecordedEvent]) -> Value {
        events
            .iter()
            .map(|event| {
                let mut known = self.facts.iter();
                let name = known.find(|(_, fact)| fact.id == event.id).unwrap().0;
                let fact = &self.file.events[name];
                let data: Value = serde_json::from_slice(&event.data).unwrap();
                assert_eq!((&*event.type_name, &data), (&*fact.r#type, &fact.data));
                json!({
                    "event": name,
                    "stream": &*event.stream,
                    "revision": event.revision,
                    "position": event.position.0,
                })
            })
            .collect()
    }

    async fn call(&mut self, call: &str, a: &Value) -> Result<Value, Error> {
        let store = self.store();
        let stream = || StreamName::new(a["stream"].as_str().unwrap());
        Ok(match call {
            "append" => {
                let Append {
                    stream,
                    events,
                    expected,
                } = self.append_of(a)?;
                done(store.append(stream, events, expected).await?)
            }
            "append_many" => {
                let mut appends = Vec::new();
                for append in a["appends"].as_array().unwrap() {
                    appends.push(self.append_of(append)?);
                }
                let all = store.append_many(appends).await?;
                all.into_iter().map(done).collect()
            }
            "read_stream" => {
                let direction = match a["backwards"].as_bool() {
                    Some(true) => Direction::Backwards,
                    _ => Direction::Forwards,
                };
                let (from, limit) = (a["from_revision"].as_u64(), a["limit"].as_u64());
                let events = stream_events(store, stream()?, from, direction, limit);
                self.shown(&events.try_collect::<Vec<_>>().await?)
            }
            "read_all" => {
                let mut read =
                    ReadAll::after(position(&self.value(&a["after"]))).types(Self::filter(a));
                read.stream_prefix = a["stream_prefix"].as_str().map(str::to_owned);
                let events = all_events(store, read, a["limit"].as_u64());
                self.shown(&events.try_collect::<Vec<_>>().await?)
            }
            "head" => store.head().await?.map_or(Value::Null, |p| p.0.into()),
            "stream_exists" => {
                let last = ReadStream::default().backwards().limit(1);
                let page = store.read_stream(stream()?, last).await?;
                (!page.events.is_empty()).into()
            }
            "delete_stream" => {
                let mode = match a["hard"].as_bool() {
                    Some(true) => DeleteMode::Hard,
                    _ => DeleteMode::Soft,
                };
                let at = expected(&a["expected"]);
                store.delete_stream(stream()?, at, mode).await?.into()
            }
            "caught_up" => {
                let seconds = a["timeout"].as_f64().unwrap_or(30.0);
                let (name, position) = (
                    a["name"].as_str().unwrap(),
                    position(&self.value(&a["position"])),
                );
                let timeout = Duration::from_secs_f64(seconds);
                self.app.caught_up(name, position.unwrap(), timeout).await?;
                Value::Null
            }
            "reopen" => {
                self.readers.clear();
                self.app.close().await?;
                self.app = start(&self.place).await;
                Value::Null
            }
            _ => self.read(call, a).await?,
        })
    }

    /// The calls that are about a reader.
    async fn read(&mut self, call: &str, a: &Value) -> Result<Value, Error> {
        let name = a["reader"].as_str().unwrap();
        if call == "subscribe" {
            let start = match self.value(&a["start"]) {
                Value::Null => Start::Origin,
                Value::Number(n) => Start::After(Position(n.as_u64().unwrap())),
                word => match word.as_str().unwrap() {
                    "origin" => Start::Origin,
                    "now" => Start::Now,
                    other => panic!("{other}"),
                },
            };
            let size = a["batch_size"]
                .as_u64()
                .map_or(0, |n| n.try_into().unwrap());
            let mut options = SubscriptionOptions::new(start, Self::filter(a)).batch_size(size);
            options.stream_prefix = a["stream_prefix"].as_str().map(str::to_owned);
            let mut reader = self.app.subscribe(a["name"].as_str(), options)?;
            reader.open().await?;
            self.readers.insert(name.to_owned(), reader);
            return Ok(Value::Null);
        }
        let position = position(&self.value(&a["position"]));
        let reader = self.readers.get_mut(name).unwrap();
        match call {
            "next" => {
                let batch = tokio::time::timeout(Duration::from_secs(60), reader.next());
                let batch = batch.await.unwrap()?;
                let end = batch.position.map(|p| p.0);
                Ok(json!({"events": self.shown(&batch.events), "position": end}))
            }
            "ack" => {
                reader.ack(position).await?;
                Ok(Value::Null)
            }
            "close_reader" => {
                reader.release().await?;
                self.readers.remove(name);
                Ok(Value::Null)
            }
            other => panic!("no call {other}"),
        }
    }

    /// Whether `found` is what `wanted` says: of objects the keys that it names, a variable as what it stands for.
    fn check(&mut self, wanted: &Value, found: &Value, at: &str) {
        match (wanted, found) {
            (Value::String(name), _) if name.starts_with('$') => {
                let known = self.variables.entry(name.clone());
                assert_eq!(known.or_insert_with(|| found.clone()), found, "{at}.{name}");
            }
            (Value::Object(wanted), Value::Object(found)) => {
                for (key, wanted) in wanted {
                    let found = found.get(key).unwrap_or(&Value::Null);
                    self.check(wanted, found, &format!("{at}.{key}"));
                }
            }
            (Value::Array(wanted), Value::Array(list)) => {
                assert_eq!(wanted.len(), list.len(), "{at}: {found}");
                for (n, (wanted, found)) in wanted.iter().zip(list).enumerate() {
                    self.check(wanted, found, &format!("{at}[{n}]"));
                }
            }
            _ => assert_eq!(wanted, found, "{at}"),
        }
    }
}

fn done(appended: Appended) -> Value {
    json!({
        "revision": appended.revision,
        "position": appended.position.map(|p| p.0),
        "repeated": appended.repeated,
    })
}

/// A place for a store: its URL, and what keeps it.
struct Place {
    url: String,
    /// Where the state is, if not in the store.
    state: Option<String>,
    durable: bool,
    _folder: Option<tempfile::TempDir>,
    /// The stand-in that the store is.
    _server: Option<Server>,
}

async fn run(case: &Case, file: &File, place: Place) {
    let app = start(&place).await;
    let can = app.store().unwrap().capabilities();
    let met = match case.needs.as_deref() {
        None => true,
        Some("hard_delete") => can.hard_delete,
        Some("append_many") => can.append_many,
        Some("unique_ids") => can.unique_ids,
        Some("durable") => place.durable,
        Some(other) => panic!("{other}"),
    };
    if !met {
        eprintln!("skipped: {} needs {:?}", case.id, case.needs);
        return app.close().await.unwrap();
    }
    let mut run = Run {
        file,
        place,
        ids: SystemIds::default(),
        facts: HashMap::new(),
        variables: HashMap::new(),
        readers: HashMap::new(),
        app,
    };
    for (n, call) in case.calls.iter().enumerate() {
        let at = format!("{} call {n} {}", case.id, call.name);
        let found = run.call(&call.name, &call.arguments).await;
        match (&call.error, found) {
            (None, Ok(found)) => {
                if let Some(wanted) = &call.result {
                    run.check(wanted, &found, &at);
                }
            }
            (None, Err(error)) => panic!("{at}: {error}"),
            (Some(wanted), Ok(found)) => panic!("{at}: expected {wanted}, found {found}"),
            (Some(wanted), Err(error)) => {
                let found = json!({"code": error.code(), "details": error.details()});
                run.check(wanted, &found, &at);
            }
        }
    }
    let numbers = case.increasing.iter().map(|v| run.variables[v].as_u64());
    assert!(numbers.is_sorted_by(|a, b| a < b), "{}", case.id);
    run.readers.clear();
    run.app.close().await.unwrap();
}

fn all(file: &str, place: impl Fn() -> Option<Place>) {
    let file: File = crate::read(&format!("store/{file}.json"));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    for case in &file.cases {
        // Without a server the file is skipped, and that was said.
        let Some(place) = place() else { return };
        runtime.block_on(run(case, &file, place));
    }
}

macro_rules! stores {
    ($($store:ident: $place:expr;)*) => {
        $(
            mod $store {
                #[test] fn append() { super::all("append", $place); }
                #[test] fn payloads() { super::all("payloads", $place); }
                #[test] fn read() { super::all("read", $place); }
                #[test] fn delete() { super::all("delete", $place); }
                #[test] fn subscriptions() { super::all("subscriptions", $place); }
            }
        )*
    };
}

stores! {
    memory: super::memory;
    sqlite: super::sqlite;
    postgres: super::postgres;
    kurrentdb_and_sqlite: super::kurrentdb;
}

#[expect(clippy::unnecessary_wraps, reason = "others may have no server")]
fn memory() -> Option<Place> {
    Some(Place {
        url: "memory:".into(),
        state: None,
        durable: false,
        _folder: None,
        _server: None,
    })
}

#[expect(clippy::unnecessary_wraps, reason = "others may have no server")]
fn sqlite() -> Option<Place> {
    let folder = tempfile::tempdir().unwrap();
    Some(Place {
        url: format!("sqlite:{}", folder.path().join("shop.db").display()),
        state: None,
        durable: true,
        _folder: Some(folder),
        _server: None,
    })
}

fn kurrentdb() -> Option<Place> {
    let (server, state) = (Server::new(), sqlite()?);
    Some(Place {
        url: server.url(),
        state: Some(state.url.clone()),
        _server: Some(server),
        ..state
    })
}

fn postgres() -> Option<Place> {
    Some(Place {
        url: orkestra_tests::postgres::shared()?.schema("vectors"),
        state: None,
        durable: true,
        _folder: None,
        _server: None,
    })
}
