//! Messages on their way to the broker: body, topic and metadata of what Python sends.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use orkestra::{
    broker::{Broker, DEFAULT_ASK_TIMEOUT},
    message::{Command, CommandEnvelope, CommandStatus, Event, MessageKind, PayloadLimits, wire},
    ports::{BusError, Outgoing, TraceContext},
};
use parking_lot::RwLock;
use pyo3::{
    IntoPyObjectExt,
    prelude::*,
    sync::PyOnceLock,
    types::{PyBytes, PyType},
};

use crate::{
    convert,
    envelope::EventEnvelope,
    errors, fastcall, payload,
    registry::{self, Registry},
    runtime::Op,
    stamp::Stamp,
};

/// What an app sends with, once its services are open.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    broker: Broker,
    registry: Registry,
    limits: PayloadLimits,
    /// By the address of the class, which is kept alive beside.
    known: Arc<RwLock<HashMap<usize, Arc<Outbound>>>>,
}

/// What is known of a message class that is sent.
pub(crate) struct Outbound {
    class: Py<PyType>,
    kind: MessageKind,
    type_name: Arc<str>,
    topic: Arc<str>,
    version: u32,
    /// Bytes of JSON -> the command's result.
    decode: PyOnceLock<Py<PyAny>>,
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outbound({})", self.type_name)
    }
}

/// What a sending asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// The result of a command, within so many seconds.
    Result(Option<Duration>),
    /// That the broker has a command.
    Accepted,
    /// That the broker has an event.
    Published,
}

impl Sender {
    pub(crate) fn new(broker: Broker, registry: Registry, limits: PayloadLimits) -> Self {
        Self {
            broker,
            registry,
            limits,
            known: Arc::default(),
        }
    }

    /// What is known of the class of `message`.
    pub(crate) fn outbound(
        &self,
        message: &Bound<'_, PyAny>,
        kind: MessageKind,
    ) -> PyResult<Arc<Outbound>> {
        let class = message.get_type();
        if !fastcall::is_message(message) {
            return Err(wrong_kind(&class, kind));
        }
        let address = class.as_ptr() as usize;
        let found = self.known.read().get(&address).cloned();
        let outbound = if let Some(outbound) = found {
            outbound
        } else {
            let made = Arc::new(Outbound::of(&self.registry, &class, kind)?);
            self.known.write().insert(address, Arc::clone(&made));
            made
        };
        if outbound.kind == kind {
            return Ok(outbound);
        }
        Err(wrong_kind(&class, kind))
    }

    /// The sending of `message`, which has `stamp`, as something to await.
    pub(crate) fn send(
        &self,
        message: &Bound<'_, PyAny>,
        outbound: &Arc<Outbound>,
        stamp: &Stamp,
        max_retries: Option<u32>,
        trace: TraceContext,
        wish: Wish,
    ) -> PyResult<Op> {
        let json = payload::encode(message, &outbound.type_name, self.limits)?;
        let outgoing = outbound
            .outgoing(&json, stamp, max_retries, trace)
            .map_err(|error| errors::raise(&error))?;
        let broker = self.broker.clone();
        Ok(match wish {
            Wish::Result(timeout) => {
                let timeout = timeout.unwrap_or(DEFAULT_ASK_TIMEOUT);
                let outbound = Arc::clone(outbound);
                Op::new(
                    async move { broker.ask(outgoing, timeout).await },
                    move |py, json| outbound.result(py, &json),
                )
            }
            Wish::Accepted => {
                let id = stamp.id;
                Op::new(async move { broker.send(outgoing).await }, move |py, ()| {
                    Ok(convert::uuid(py, id).into_any().unbind())
                })
            }
            Wish::Published => {
                let event = message.clone().unbind();
                let at = stamp.at;
                Op::new(async move { broker.send(outgoing).await }, move |py, ()| {
                    EventEnvelope::published(py, event, at).into_py_any(py)
                })
            }
        })
    }
}

impl Outbound {
    /// What is known of a class; `kind` is what is expected.
    pub(crate) fn of(
        registry: &Registry,
        class: &Bound<'_, PyType>,
        kind: MessageKind,
    ) -> PyResult<Self> {
        let info = class
            .getattr("__orkestra_type__")
            .map_err(|_| wrong_kind(class, kind))?;
        let type_name: String = info.getattr("type_name")?.extract()?;
        let topic = registry
            .0
            .topic_for(&type_name)
            .map_err(|error| errors::raise(&error))?;
        let found = match info.getattr("kind")?.extract::<String>()?.as_str() {
            "command" => MessageKind::Command,
            _ => MessageKind::Event,
        };
        Ok(Self {
            class: class.clone().unbind(),
            kind: found,
            type_name: type_name.into(),
            topic: topic.into(),
            version: info.getattr("version")?.extract()?,
            decode: PyOnceLock::new(),
        })
    }

    pub(crate) fn kind(&self) -> MessageKind {
        self.kind
    }

    pub(crate) fn type_name(&self) -> &str {
        &self.type_name
    }

    pub(crate) fn outgoing(
        &self,
        json: &Bound<'_, PyBytes>,
        stamp: &Stamp,
        max_retries: Option<u32>,
        trace: TraceContext,
    ) -> Result<Outgoing, orkestra::message::MessageError> {
        let payload = Bytes::copy_from_slice(json.as_bytes());
        let metadata = stamp.metadata();
        let correlation_id = metadata.correlation_id.to_string().into();
        let body = match self.kind {
            MessageKind::Command => {
                let mut envelope = CommandEnvelope::new(Command {
                    id: stamp.id,
                    type_name: Arc::clone(&self.type_name),
                    params: payload,
                    metadata,
                });
                envelope.status = CommandStatus::Dispatched;
                envelope.attempts = 1;
                envelope.max_retries = max_retries;
                wire::encode_command(&envelope)?
            }
            MessageKind::Event => wire::encode_event(&Event {
                id: stamp.id,
                type_name: Arc::clone(&self.type_name),
                version: self.version,
                data: payload,
                metadata,
                occurred_at: stamp.at,
            })?,
        };
        Ok(Outgoing {
            kind: self.kind,
            id: stamp.id,
            topic: Arc::clone(&self.topic),
            correlation_id,
            body,
            issued_at: stamp.at,
            max_retries,
            trace,
        })
    }

    /// The result of a command of this class from its JSON.
    fn result(&self, py: Python<'_>, json: &[u8]) -> PyResult<Py<PyAny>> {
        let decode = self.decode.get_or_try_init(py, || {
            Ok::<_, PyErr>(
                py.import("orkestra._payloads")?
                    .getattr("result_decoder")?
                    .call1((self.class.bind(py),))?
                    .unbind(),
            )
        })?;
        decode
            .bind(py)
            .call1((PyBytes::new(py, json),))
            .map(Bound::unbind)
            .map_err(|error| {
                let what = format!("the result of {}", self.type_name);
                registry::invalid(py, &what, error)
            })
    }
}

fn wrong_kind(class: &Bound<'_, PyType>, kind: MessageKind) -> PyErr {
    errors::raise(&BusError::WrongKind {
        expected: match kind {
            MessageKind::Command => "a command".into(),
            MessageKind::Event => "an event".into(),
        },
        found: class
            .qualname()
            .map(|name| name.to_string())
            .unwrap_or_default(),
    })
}
