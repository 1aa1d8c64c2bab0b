//! The registry: which types and handlers an app has.

use std::time::Duration;

use napi_derive::napi;
use orkestra::{
    message::MessageKind,
    registry::{HandlerIndex, HandlerOptions, HandlerSpec, Registry, TypeIndex, TypeSpec},
    retry::RetryPolicy,
    topic::Pattern,
};
use serde::Deserialize;

use crate::{
    error::{parse, throw},
    store::patterns_of,
};

/// The types and handlers of an app.
#[napi(js_name = "Registry")]
pub struct NodeRegistry {
    pub(crate) inner: Registry,
}

#[derive(Deserialize)]
struct TypeIn {
    kind: String,
    type_name: String,
    version: u32,
    aliases: Vec<String>,
    identity: u64,
    origin: String,
}

#[derive(Deserialize)]
struct HandlerIn {
    name: Option<String>,
    types: Vec<usize>,
    patterns: Vec<String>,
    policy: RetryPolicy,
    concurrency: Option<u32>,
    timeout_ms: Option<f64>,
    #[serde(default)]
    prefetch: Option<u32>,
    #[serde(default)]
    inbox: bool,
}

#[derive(Deserialize)]
struct ProjectionIn {
    name: String,
    types: Vec<usize>,
    patterns: Vec<String>,
}

impl HandlerIn {
    fn spec(self) -> napi::Result<HandlerSpec> {
        let patterns = self.patterns.iter().map(|text| Pattern::new(text));
        let timeout = self.timeout_ms.map(|ms| ms.max(0.0) / 1000.0);
        Ok(HandlerSpec {
            name: self.name,
            types: self.types.into_iter().map(TypeIndex).collect(),
            patterns: patterns
                .collect::<Result<_, _>>()
                .map_err(|error| throw(&error))?,
            options: HandlerOptions {
                inbox: self.inbox,
                policy: self.policy,
                concurrency: self.concurrency,
                timeout: timeout.map(|s| Duration::try_from_secs_f64(s).unwrap_or(Duration::MAX)),
                prefetch: self.prefetch,
            },
        })
    }
}

fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

#[napi]
impl NodeRegistry {
    /// A registry of the app `name`; no prefix means the name, camelised.
    #[napi(constructor)]
    pub fn new(name: String, app_prefix: Option<String>) -> napi::Result<Self> {
        let inner = Registry::new(&name, app_prefix.as_deref()).map_err(|error| throw(&error))?;
        Ok(Self { inner })
    }

    /// The app's name, underscored.
    #[napi(getter)]
    pub fn app(&self) -> String {
        self.inner.app().to_owned()
    }

    /// The app's prefix.
    #[napi(getter)]
    pub fn app_prefix(&self) -> String {
        self.inner.app_prefix().to_owned()
    }

    /// Makes a type known and returns its number.
    #[napi]
    pub fn add_type(&mut self, json: String) -> napi::Result<u32> {
        let spec: TypeIn = parse(&json)?;
        let kind = if spec.kind == "command" {
            MessageKind::Command
        } else {
            MessageKind::Event
        };
        let index = self.inner.add_type(TypeSpec {
            kind,
            type_name: spec.type_name,
            version: spec.version,
            aliases: spec.aliases,
            identity: spec.identity,
            origin: spec.origin,
        });
        index
            .map(|index| number(index.0))
            .map_err(|error| throw(&error))
    }

    /// Registers the handler of a command and returns its number.
    #[napi]
    pub fn add_command_handler(&mut self, json: String) -> napi::Result<u32> {
        let spec = parse::<HandlerIn>(&json)?.spec()?;
        let index = self.inner.add_command_handler(spec);
        index
            .map(|index| number(index.0))
            .map_err(|error| throw(&error))
    }

    /// Registers an event handler and returns its number.
    #[napi]
    pub fn add_event_handler(&mut self, json: String) -> napi::Result<u32> {
        let spec = parse::<HandlerIn>(&json)?.spec()?;
        let index = self.inner.add_event_handler(spec);
        index
            .map(|index| number(index.0))
            .map_err(|error| throw(&error))
    }

    /// Registers a projection; JSON both ways: its full name and the patterns of all that it wants come back.
    #[napi]
    pub fn add_projection(&mut self, json: String) -> napi::Result<String> {
        let given: ProjectionIn = parse(&json)?;
        let types: Vec<_> = given.types.into_iter().map(TypeIndex).collect();
        let (full_name, patterns) = self
            .inner
            .add_projection(&given.name, &types, patterns_of(&given.patterns)?)
            .map_err(|error| throw(&error))?;
        let patterns: Vec<_> = patterns.iter().map(Pattern::as_str).collect();
        Ok(serde_json::json!({ "fullName": full_name, "patterns": patterns }).to_string())
    }

    /// A handler as JSON: `{name, full_name, concurrency}`.
    #[napi]
    pub fn handler(&self, index: u32) -> String {
        let info = self.inner.handler(HandlerIndex(index as usize));
        serde_json::json!({
            "name": info.name, "full_name": info.full_name, "concurrency": info.concurrency,
        })
        .to_string()
    }

    /// The number of the handler of the command named so.
    #[napi]
    pub fn command_handler(&self, type_name: String) -> napi::Result<u32> {
        let index = self.inner.command_handler(&type_name);
        index
            .map(|index| number(index.0))
            .map_err(|error| throw(&error))
    }

    /// The numbers of the handlers of the event named so, in order of registration.
    #[napi]
    pub fn event_handlers(&self, type_name: String) -> Vec<u32> {
        let handlers = self.inner.event_handlers(&type_name);
        handlers.into_iter().map(|index| number(index.0)).collect()
    }

    /// The number of the type of that name or alias, if the app knows it.
    #[napi]
    pub fn type_named(&self, name: String) -> Option<u32> {
        self.inner.type_named(&name).map(|index| number(index.0))
    }

    /// The topic of a type name, known or not.
    #[napi]
    pub fn topic_for(&self, type_name: String) -> napi::Result<String> {
        self.inner
            .topic_for(&type_name)
            .map_err(|error| throw(&error))
    }
}
