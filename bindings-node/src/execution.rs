//! One command on its way through one aggregate: the store's part of the core's steps, up to where JavaScript has to fold or decide.

use std::{cell::RefCell, fmt::Write, rc::Rc};

use bytes::Bytes;
use napi_derive::napi;
use orkestra::{
    Services,
    aggregate::{Action, Execution, ExecutionOptions, recorded_prefix},
    clock::Timestamp,
    code::Coded,
    ports::{ReadStream, RecordedEvent, Snapshot, StoreError, StreamName},
};
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    bridge::{Spawner, Started},
    error::throw,
    names::parse_borrowed,
    pages,
    services::NodeStores,
    store::new_events,
};

#[derive(Deserialize)]
struct ExecutionIn {
    stream: String,
    command_id: Uuid,
    snapshot_every: Option<u64>,
    schema_version: u32,
    conflict_retries: u32,
    /// Absent without a cached state; `{"revision": …}` with one.
    cached: Option<CachedIn>,
}

#[derive(Deserialize)]
struct CachedIn {
    revision: Option<u64>,
}

/// One command on its way through one aggregate.
#[napi(js_name = "Execution")]
pub struct NodeExecution {
    spawner: Spawner,
    services: Services,
    stream: StreamName,
    options: ExecutionOptions,
    machine: Rc<RefCell<Execution>>,
}

#[derive(Clone)]
struct Driver {
    services: Services,
    stream: StreamName,
    command_id: Uuid,
    schema_version: u32,
    machine: Rc<RefCell<Execution>>,
}

/// What JavaScript has to do next, as one JSON object: `{reset?, snapshot?, events?, next, …}`.
#[derive(Default)]
struct Step {
    json: String,
    tail: String,
}

impl Step {
    fn put(&mut self, key: &str, value: impl std::fmt::Display) {
        self.begin(key);
        let _ = write!(self.json, "{value}");
    }

    fn put_events(&mut self, key: &str, events: &[RecordedEvent]) {
        self.begin(key);
        pages::write_folded(&mut self.json, events);
        pages::write_folded_tail(&mut self.tail, events);
    }

    fn begin(&mut self, key: &str) {
        self.json
            .push_str(if self.json.is_empty() { "{\"" } else { ",\"" });
        self.json.push_str(key);
        self.json.push_str("\":");
    }

    fn end(mut self, next: &str) -> String {
        self.put("next", format_args!("\"{next}\""));
        self.json.push('}');
        self.json.push_str(&self.tail);
        self.json
    }
}

fn json_number(number: Option<u64>) -> String {
    number.map_or_else(|| "null".to_owned(), |n| n.to_string())
}

impl Driver {
    /// Goes on until JavaScript is needed: to fold a page, to decide, to give the state for a snapshot, or to answer.
    ///
    /// `refusal` is what the store said to an append that turned out to be no repetition.
    async fn advance(self, refusal: Option<StoreError>) -> Result<Option<String>, StoreError> {
        let mut step = Step::default();
        loop {
            let action = self.machine.borrow().action();
            match action {
                Action::Start => {
                    step = Step::default();
                    step.put("reset", true);
                    self.machine.borrow_mut().started();
                }
                Action::LoadSnapshot => {
                    // A snapshot that cannot be read is none.
                    let found = self.services.snapshots.load(self.stream.clone()).await;
                    let found = match found {
                        Err(error) if error.is_transient() => return Err(error),
                        found => found.ok().flatten().filter(|s| is_json(&s.state)),
                    };
                    let facts = found.as_ref().map(|s| (s.revision, s.schema_version));
                    if self.machine.borrow_mut().snapshot(facts)
                        && let Some(snapshot) = found
                    {
                        step.put("snapshot", String::from_utf8_lossy(&snapshot.state));
                    }
                }
                Action::Load { from, limit } => {
                    let options = ReadStream::from(from).limit(limit);
                    let stream = self.stream.clone();
                    let page = self.services.events.read_stream(stream, options).await?;
                    self.machine.borrow_mut().loaded(&page);
                    let after = self.machine.borrow().action();
                    if matches!(after, Action::Start) {
                        continue;
                    }
                    step.put_events("events", &page.events);
                    return Ok(Some(match after {
                        Action::Decide => self.decide(step),
                        _ => step.end("load"),
                    }));
                }
                Action::Decide => return Ok(Some(self.decide(step))),
                Action::FindRecorded { event_id } => {
                    let stream = self.stream.clone();
                    let found = self
                        .services
                        .events
                        .find_in_stream(stream, event_id)
                        .await?;
                    self.machine.borrow_mut().found(found.as_ref());
                }
                Action::ReadRecorded { from, limit } => {
                    let options = ReadStream::from(from).limit(limit);
                    let stream = self.stream.clone();
                    let page = self.services.events.read_stream(stream, options).await?;
                    let count = recorded_prefix(self.command_id, &page.events);
                    let recorded = page.events.get(..count).unwrap_or_default();
                    step.put_events("recorded", recorded);
                    let last = recorded.last().map(|e| (e.revision, e.position));
                    self.machine.borrow_mut().read_recorded(count, last);
                }
                Action::SaveSnapshot { revision } => {
                    step.put("revision", revision);
                    return Ok(Some(step.end("snapshot")));
                }
                Action::Append { .. } => return Ok(Some(step.end("append"))),
                Action::Refuse => {
                    return match refusal {
                        Some(error) => Err(error),
                        None => Ok(Some(step.end("refuse"))),
                    };
                }
                Action::Done(executed) => {
                    step.put("revision", json_number(executed.revision));
                    step.put("position", json_number(executed.position.map(|p| p.0)));
                    step.put("repeated", executed.repeated);
                    return Ok(Some(step.end("done")));
                }
            }
        }
    }

    fn decide(&self, mut step: Step) -> String {
        step.put("revision", json_number(self.machine.borrow().revision()));
        step.end("decide")
    }
}

fn is_json(state: &[u8]) -> bool {
    serde_json::from_slice::<&serde_json::value::RawValue>(state).is_ok()
}

#[napi]
impl NodeExecution {
    /// Begins; `json` says the stream, the command's id and the aggregate's options.
    #[napi(constructor)]
    pub fn new(stores: &NodeStores, json: String) -> napi::Result<Self> {
        let given: ExecutionIn = parse_borrowed(&json)?;
        let options = ExecutionOptions {
            command_id: given.command_id,
            snapshot_every: given.snapshot_every,
            schema_version: given.schema_version,
            conflict_retries: given.conflict_retries,
            cached: given.cached.map(|cached| cached.revision),
        };
        Ok(Self {
            spawner: stores.spawner.clone(),
            services: stores.services()?,
            stream: StreamName::new(&given.stream).map_err(|error| throw(&error))?,
            options,
            machine: Rc::new(RefCell::new(Execution::new(options))),
        })
    }

    fn driver(&self) -> Driver {
        Driver {
            services: self.services.clone(),
            stream: self.stream.clone(),
            command_id: self.options.command_id,
            schema_version: self.options.schema_version,
            machine: Rc::clone(&self.machine),
        }
    }

    /// Goes on until JavaScript is needed.
    #[napi]
    pub fn advance(&self) -> napi::Result<Started> {
        self.spawner.start(self.driver().advance(None))
    }

    /// `decide` returned these events.
    #[napi]
    pub fn decided(&self, events: String) -> napi::Result<Started> {
        let events = new_events(&events)?;
        self.machine.borrow_mut().decided(events.len());
        let driver = self.driver();
        self.spawner.start(async move {
            let action = driver.machine.borrow().action();
            let mut refusal = None;
            if let Action::Append { expected } = action {
                let stream = driver.stream.clone();
                let result = driver
                    .services
                    .events
                    .append(stream, events, expected)
                    .await;
                refusal = result.as_ref().err().cloned();
                driver.machine.borrow_mut().appended(result)?;
            }
            driver.advance(refusal).await
        })
    }

    /// `decide` refused or failed.
    #[napi]
    pub fn refused(&self) -> napi::Result<Started> {
        self.machine.borrow_mut().refused();
        self.advance()
    }

    /// The state to save as a snapshot, JSON; `now` is in microseconds. A snapshot that cannot be saved fails nothing.
    #[napi]
    pub fn snapshot(&self, state: String, revision: i64, now: i64) -> napi::Result<Started> {
        let driver = self.driver();
        self.spawner.start(async move {
            let snapshot = Snapshot {
                stream: driver.stream.clone(),
                revision: u64::try_from(revision).unwrap_or(0),
                schema_version: driver.schema_version,
                state: Bytes::from(state),
                taken_at: Timestamp::from_micros(now),
            };
            let _ = driver.services.snapshots.save(snapshot).await;
            driver.machine.borrow_mut().saved();
            driver.advance(None).await
        })
    }
}
