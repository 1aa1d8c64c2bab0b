//! `Registry`: the types and handlers of an app, over the core's; and how recorded payloads become typed events.

use std::{collections::HashMap, sync::Arc, time::Duration};

use orkestra::{
    message::{MessageError, MessageKind},
    ports::{ConsumerSpec, HandlerAddress, RecordedEvent, TypeFilter},
    registry::{
        HandlerIndex, HandlerOptions, HandlerSpec, Registry as CoreRegistry, TypeIndex, TypeInfo,
        TypeSpec,
    },
    retry::RetryPolicy,
    topic::Pattern,
};
use parking_lot::RwLock;
use pyo3::{
    PyTraverseError,
    gc::PyVisit,
    prelude::*,
    sync::PyOnceLock,
    types::{PyBytes, PyDict, PyString, PyTuple},
};

use crate::{
    errors, fastcall,
    retry::PyRetryPolicy,
    stamp::{Link, PyStamp, Stamp},
};

/// How a type's payload becomes an object.
#[derive(Debug)]
struct Decoder {
    /// `validate_json` of the class.
    validate: Py<PyAny>,
    version: u32,
    /// Steps by the version they start from.
    upcasters: HashMap<u32, Py<PyAny>>,
    /// Whether its objects hold nothing but their fields.
    holds_fields_only: bool,
}

#[derive(Debug)]
pub(crate) struct Inner {
    core: RwLock<CoreRegistry>,
    decoders: RwLock<HashMap<String, Arc<Decoder>>>,
}

/// The types and handlers of an app.
#[pyclass(frozen, module = "orkestra._orkestra")]
#[derive(Debug, Clone)]
pub(crate) struct Registry(pub(crate) Arc<Inner>);

static NAMES: PyOnceLock<(Py<PyTuple>, Py<PyString>)> = PyOnceLock::new();

impl Inner {
    /// The app's name, underscored.
    pub(crate) fn app(&self) -> String {
        self.core.read().app().to_owned()
    }

    /// The filter of a handler's subscription.
    pub(crate) fn filter_for(&self, handler: usize) -> TypeFilter {
        self.core.read().filter_for(HandlerIndex(handler))
    }

    /// The filter for these topic patterns; `None` wants all.
    pub(crate) fn filter(&self, patterns: Option<Vec<String>>) -> PyResult<TypeFilter> {
        let core = self.core.read();
        match patterns {
            None => Ok(TypeFilter {
                app_prefix: core.app_prefix().into(),
                ..TypeFilter::default()
            }),
            Some(patterns) => Ok(core.filter(&parse(&patterns)?)),
        }
    }

    /// Turns a recorded event into an object of its class, stamped; a `RawEvent` for an unknown type.
    pub(crate) fn decode<'py>(
        &self,
        py: Python<'py>,
        event: &RecordedEvent,
    ) -> PyResult<Bound<'py, PyAny>> {
        let decoder = self.decoders.read().get(&*event.type_name).cloned();
        Self::decode_with(py, event, decoder.as_deref())
    }

    /// The same of an event that stays for a while, with many others: the garbage collector is spared it, if it can be.
    pub(crate) fn decode_to_stay<'py>(
        &self,
        py: Python<'py>,
        event: &RecordedEvent,
    ) -> PyResult<Bound<'py, PyAny>> {
        let decoder = self.decoders.read().get(&*event.type_name).cloned();
        let object = Self::decode_with(py, event, decoder.as_deref())?;
        if decoder.is_some_and(|decoder| decoder.holds_fields_only) {
            fastcall::spare(&object);
        }
        Ok(object)
    }

    fn decode_with<'py>(
        py: Python<'py>,
        event: &RecordedEvent,
        decoder: Option<&Decoder>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let object = match decoder {
            Some(decoder) => decoder.decode(py, &event.type_name, event.version, &event.data)?,
            None => py
                .import("orkestra.messages")?
                .getattr("RawEvent")?
                .call1((
                    &*event.type_name,
                    event.version,
                    json_loads(py, &event.data)?,
                ))?,
        };
        let stamp = PyStamp::sent(Stamp {
            id: event.id,
            at: event.occurred_at,
            link: Link::Stored(event.metadata.as_ref().into()),
        });
        let stamp = Bound::new(py, stamp)?;
        fastcall::hide(&stamp);
        fastcall::put_stamp(&object, stamp.as_any());
        Ok(object)
    }

    /// The topic of a type name.
    pub(crate) fn topic_for(&self, type_name: &str) -> Result<String, MessageError> {
        self.core.read().topic_for(type_name)
    }

    /// Turns the payload of a message that arrived into an object of its class: the one of its name; else `known`, or the one with its
    /// topic, as other services may have other names for it. A `RawEvent` for what no class is known for.
    pub(crate) fn decode_arrived<'py>(
        &self,
        py: Python<'py>,
        type_name: &str,
        known: Option<&str>,
        topic: &str,
        version: Option<u32>,
        json: &[u8],
    ) -> PyResult<Bound<'py, PyAny>> {
        let decoders = self.decoders.read();
        let decoder = decoders
            .get(type_name)
            .or_else(|| decoders.get(known?))
            .cloned();
        drop(decoders);
        let decoder = decoder.or_else(|| {
            let core = self.core.read();
            let info = core.types().iter().find(|info| info.topic == topic)?;
            self.decoders.read().get(&*info.type_name).cloned()
        });
        match decoder {
            Some(decoder) => {
                let version = version.unwrap_or(decoder.version);
                decoder.decode(py, type_name, version, json)
            }
            None => py.import("orkestra.messages")?.getattr("RawEvent")?.call1((
                type_name,
                version.unwrap_or(1),
                json_loads(py, json)?,
            )),
        }
    }

    /// The type of the command handler at `index`; `None` for an event handler.
    pub(crate) fn command_of(&self, index: usize) -> Option<String> {
        let core = self.core.read();
        let info = core.handler(HandlerIndex(index));
        let topic = info.patterns.first()?.as_str();
        let is_its = |found: &&TypeInfo| found.spec.kind == info.kind && found.topic == topic;
        (info.kind == MessageKind::Command)
            .then(|| core.types().iter().find(is_its))
            .flatten()
            .map(|found| found.type_name.to_string())
    }

    /// What the handler at `index` consumes.
    pub(crate) fn consumer_spec(&self, index: usize) -> ConsumerSpec {
        self.core.read().consumer_spec(HandlerIndex(index))
    }

    /// The queue of the handler of that full name, if it is one of the app's.
    pub(crate) fn address_of(&self, handler: &str) -> Option<HandlerAddress> {
        let core = self.core.read();
        Some(core.consumer_spec(core.handler_named(handler)?).address)
    }

    /// When the handler at `index` is tried again.
    pub(crate) fn policy(&self, index: usize) -> RetryPolicy {
        self.core
            .read()
            .handler(HandlerIndex(index))
            .options
            .policy
            .clone()
    }

    pub(crate) fn knows(&self, type_name: &str) -> bool {
        self.decoders.read().contains_key(type_name)
    }
}

fn parse(patterns: &[String]) -> PyResult<Vec<Pattern>> {
    patterns
        .iter()
        .map(|text| Pattern::new(text).map_err(|error| errors::raise(&error)))
        .collect()
}

fn json_loads<'py>(py: Python<'py>, json: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    py.import("json")?.getattr("loads")?.call1((json,))
}

impl Decoder {
    fn decode<'py>(
        &self,
        py: Python<'py>,
        type_name: &str,
        version: u32,
        json: &[u8],
    ) -> PyResult<Bound<'py, PyAny>> {
        let (names, ignore) = NAMES.get_or_try_init(py, || {
            Ok::<_, PyErr>((
                PyTuple::new(py, ["extra"])?.unbind(),
                PyString::intern(py, "ignore").unbind(),
            ))
        })?;
        let bytes = if version == self.version {
            PyBytes::new(py, json).into_any()
        } else {
            self.upcast(py, type_name, version, json)?
        };
        fastcall::call(
            self.validate.bind(py),
            [&bytes, ignore.bind(py).as_any()],
            Some(names.bind(py)),
        )
        .map_err(|error| invalid(py, type_name, error))
    }

    fn upcast<'py>(
        &self,
        py: Python<'py>,
        type_name: &str,
        from: u32,
        json: &[u8],
    ) -> PyResult<Bound<'py, PyAny>> {
        let no_upcaster = |from| {
            errors::raise(&MessageError::NoUpcaster {
                type_name: type_name.to_owned(),
                from,
                to: self.version,
            })
        };
        if from > self.version {
            return Err(no_upcaster(from));
        }
        let mut data = json_loads(py, json)?;
        for version in from..self.version {
            let step = self
                .upcasters
                .get(&version)
                .ok_or_else(|| no_upcaster(version))?;
            data = step.bind(py).call1((data,))?;
        }
        let text = py.import("json")?.getattr("dumps")?.call1((data,))?;
        text.call_method0("encode")
    }
}

/// pydantic's error as ours, with every field that is wrong.
pub(crate) fn invalid(py: Python<'_>, type_name: &str, error: PyErr) -> PyErr {
    let made = py
        .import("orkestra._payloads")
        .and_then(|module| module.getattr("invalid_payload"))
        .and_then(|make| make.call1((type_name, error.value(py))));
    match made {
        Ok(made) => {
            let made = PyErr::from_value(made);
            made.set_cause(py, Some(error));
            made
        }
        Err(other) => other,
    }
}

#[pymethods]
impl Registry {
    #[new]
    #[pyo3(signature = (app, app_prefix=None))]
    fn new(app: &str, app_prefix: Option<&str>) -> PyResult<Self> {
        let core = CoreRegistry::new(app, app_prefix).map_err(|error| errors::raise(&error))?;
        Ok(Self(Arc::new(Inner {
            core: RwLock::new(core),
            decoders: RwLock::default(),
        })))
    }

    /// The app's name, underscored.
    #[getter]
    fn app(&self) -> String {
        self.0.core.read().app().to_owned()
    }

    /// The app's prefix, empty for none.
    #[getter]
    fn app_prefix(&self) -> String {
        self.0.core.read().app_prefix().to_owned()
    }

    /// Makes a message class known and returns its index.
    fn add_type(&self, class: &Bound<'_, PyAny>) -> PyResult<usize> {
        let info = class.getattr("__orkestra_type__")?;
        let text = |name: &str| -> PyResult<String> { info.getattr(name)?.extract() };
        let kind = match text("kind")?.as_str() {
            "command" => MessageKind::Command,
            _ => MessageKind::Event,
        };
        let version: u32 = info.getattr("version")?.extract()?;
        let aliases: Vec<String> = info.getattr("aliases")?.extract()?;
        let spec = TypeSpec {
            kind,
            type_name: text("type_name")?,
            version,
            aliases,
            identity: class.as_ptr() as u64,
            origin: text("origin")?,
        };
        let names: Vec<String> = std::iter::once(&spec.type_name)
            .chain(&spec.aliases)
            .cloned()
            .collect();
        let index = self
            .0
            .core
            .write()
            .add_type(spec)
            .map_err(|error| errors::raise(&error))?;
        let upcasters: HashMap<u32, Py<PyAny>> = match class.getattr("__orkestra_upcasters__") {
            Ok(steps) => steps.extract()?,
            Err(_) => HashMap::new(),
        };
        let decoder = Arc::new(Decoder {
            validate: class
                .getattr("__pydantic_validator__")?
                .getattr("validate_json")?
                .unbind(),
            version,
            upcasters,
            holds_fields_only: class
                .py()
                .import("orkestra._payloads")?
                .getattr("holds_fields_only")?
                .call1((class,))?
                .extract()?,
        });
        let mut decoders = self.0.decoders.write();
        for name in names {
            decoders.insert(name, Arc::clone(&decoder));
        }
        Ok(index.0)
    }

    /// The names of the types that are known, in order.
    fn type_names(&self) -> Vec<String> {
        let core = self.0.core.read();
        core.types()
            .iter()
            .map(|t| t.type_name.to_string())
            .collect()
    }

    /// The index of the type of that name or alias.
    fn type_named(&self, name: &str) -> Option<usize> {
        self.0.core.read().type_named(name).map(|index| index.0)
    }

    /// The topic of a type name.
    fn topic_for(&self, type_name: &str) -> PyResult<String> {
        self.0
            .core
            .read()
            .topic_for(type_name)
            .map_err(|error| errors::raise(&error))
    }

    /// Registers a handler and returns its index.
    #[pyo3(signature = (*, command, name, types, patterns, policy, concurrency, timeout, prefetch=None, inbox=false))]
    #[expect(
        clippy::too_many_arguments,
        reason = "keyword-only, called at one place"
    )]
    fn add_handler(
        &self,
        command: bool,
        name: Option<String>,
        types: Vec<usize>,
        patterns: Vec<String>,
        policy: &PyRetryPolicy,
        concurrency: Option<u32>,
        timeout: Option<f64>,
        prefetch: Option<u32>,
        inbox: bool,
    ) -> PyResult<usize> {
        let spec = HandlerSpec {
            name,
            types: types.into_iter().map(TypeIndex).collect(),
            patterns: parse(&patterns)?,
            options: HandlerOptions {
                inbox,
                policy: policy.0.clone(),
                concurrency,
                timeout: timeout.map(|t| Duration::try_from_secs_f64(t).unwrap_or_default()),
                prefetch,
            },
        };
        let mut core = self.0.core.write();
        let added = if command {
            core.add_command_handler(spec)
        } else {
            core.add_event_handler(spec)
        };
        added
            .map(|index| index.0)
            .map_err(|error| errors::raise(&error))
    }

    /// Registers a projection; gives its full name and the topic patterns of what it wants.
    fn add_projection(
        &self,
        name: &str,
        types: Vec<usize>,
        patterns: Vec<String>,
    ) -> PyResult<(String, Vec<String>)> {
        let types: Vec<_> = types.into_iter().map(TypeIndex).collect();
        let mut core = self.0.core.write();
        let (full_name, patterns) = core
            .add_projection(name, &types, parse(&patterns)?)
            .map_err(|error| errors::raise(&error))?;
        let patterns = patterns.iter().map(|p| p.as_str().to_owned()).collect();
        Ok((full_name, patterns))
    }

    /// What is known of a handler: `name`, `full_name`, `concurrency`, `timeout`.
    fn handler<'py>(&self, py: Python<'py>, index: usize) -> PyResult<Bound<'py, PyDict>> {
        let core = self.0.core.read();
        let info = core.handler(HandlerIndex(index));
        let dict = PyDict::new(py);
        dict.set_item("name", &info.name)?;
        dict.set_item("full_name", &info.full_name)?;
        dict.set_item("concurrency", info.concurrency)?;
        dict.set_item("timeout", info.options.timeout.map(|t| t.as_secs_f64()))?;
        dict.set_item(
            "patterns",
            info.patterns
                .iter()
                .map(Pattern::as_str)
                .collect::<Vec<_>>(),
        )?;
        Ok(dict)
    }

    /// The handler of a command type.
    fn command_handler(&self, type_name: &str) -> PyResult<usize> {
        self.0
            .core
            .read()
            .command_handler(type_name)
            .map(|index| index.0)
            .map_err(|error| errors::raise(&error))
    }

    /// The handlers of an event type, each once, in order of registration.
    fn event_handlers(&self, type_name: &str) -> Vec<usize> {
        let core = self.0.core.read();
        core.event_handlers(type_name)
            .into_iter()
            .map(|index| index.0)
            .collect()
    }

    /// An object of the class of `type_name` from a payload in JSON; `None` for an unknown type.
    fn decode<'py>(
        &self,
        py: Python<'py>,
        type_name: &str,
        version: Option<u32>,
        json: &[u8],
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let decoder = self.0.decoders.read().get(type_name).cloned();
        decoder
            .map(|decoder| decoder.decode(py, type_name, version.unwrap_or(decoder.version), json))
            .transpose()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(decoders) = self.0.decoders.try_read() {
            for decoder in decoders.values() {
                visit.call(&decoder.validate)?;
                for step in decoder.upcasters.values() {
                    visit.call(step)?;
                }
            }
        }
        Ok(())
    }
}

/// The topic of a type name in an app with this prefix.
#[pyfunction]
pub(crate) fn topic_of(type_name: &str, app_prefix: &str) -> PyResult<String> {
    orkestra::topic::topic_for(type_name, app_prefix).map_err(|error| errors::raise(&error))
}

/// Whether a topic matches a pattern.
#[pyfunction]
pub(crate) fn topic_matches(pattern: &str, topic: &str) -> PyResult<bool> {
    Pattern::new(pattern)
        .map(|pattern| pattern.matches(topic))
        .map_err(|error| errors::raise(&error))
}

/// The core's catalogue of errors: code, class, layer, transient, names of the details.
#[pyfunction]
pub(crate) fn catalogue() -> Vec<(
    &'static str,
    &'static str,
    &'static str,
    bool,
    Vec<&'static str>,
)> {
    orkestra::catalogue()
        .map(|e| (e.code, e.class, e.layer, e.transient, e.details.to_vec()))
        .collect()
}
