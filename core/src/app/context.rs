//! The message being handled: what is sent from inside a handler is caused by it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use uuid::Uuid;

use super::Orkestra;
use crate::{
    clock::{Timestamp, derive_event_id},
    message::{MessageError, MessageKind, Metadata, MetadataFields},
    ports::TraceContext,
    registry::HandlerIndex,
};

/// What a handler may know beside its payload.
#[derive(Debug, Clone)]
pub struct Context {
    pub(super) app: Orkestra,
    pub(super) handling: Arc<Handling>,
    pub(super) handler: HandlerIndex,
    pub(super) attempt: u32,
}

impl Context {
    /// The app: dispatch and publish through it.
    pub fn app(&self) -> &Orkestra {
        &self.app
    }

    /// The metadata of the message being handled.
    pub fn metadata(&self) -> &Metadata {
        &self.handling.metadata
    }

    /// The id of the message being handled.
    pub fn message_id(&self) -> Uuid {
        self.handling.id
    }

    /// The 1-based number of this attempt.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
}

/// A message being handled.
#[derive(Debug)]
pub(super) struct Handling {
    pub(super) id: Uuid,
    pub(super) kind: MessageKind,
    pub(super) metadata: Metadata,
    /// The trace that it belongs to, which goes on in what is sent from here.
    pub(super) trace: TraceContext,
    /// Events made so far in this attempt: their ids follow from the command's.
    pub(super) events: AtomicU32,
    /// The handler has recorded in a transaction of its own that it handles the message.
    pub(super) claimed: AtomicBool,
}

impl Handling {
    /// The handling of a message of this process.
    pub(super) fn of(id: Uuid, kind: MessageKind, metadata: Metadata) -> Arc<Self> {
        let trace = current().map(|cause| cause.trace.clone());
        Self::traced(id, kind, metadata, trace.unwrap_or_default())
    }

    /// The handling of a message that came with a trace.
    pub(super) fn traced(
        id: Uuid,
        kind: MessageKind,
        metadata: Metadata,
        trace: TraceContext,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            kind,
            metadata,
            trace,
            events: AtomicU32::new(0),
            claimed: AtomicBool::new(false),
        })
    }
}

tokio::task_local! {
    static CURRENT: Arc<Handling>;
}

/// Runs `future` as the handling of a message.
pub(super) async fn handling<F: Future>(handling: Arc<Handling>, future: F) -> F::Output {
    handling.events.store(0, Ordering::Relaxed);
    CURRENT.scope(handling, future).await
}

/// `future` as a part of the handling that goes on here, if any, though another task runs it.
pub(super) fn inherited<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let cause = current();
    async move {
        match cause {
            Some(cause) => CURRENT.scope(cause, future).await,
            None => future.await,
        }
    }
}

/// The message being handled here, if any.
pub(super) fn current() -> Option<Arc<Handling>> {
    CURRENT.try_with(Arc::clone).ok()
}

/// What a sender says about a message beside its payload.
#[derive(Debug, Clone, Default)]
pub(super) struct Stamping {
    pub(super) id: Option<String>,
    pub(super) fields: MetadataFields,
}

impl Stamping {
    /// The id and the metadata of a message sent now.
    pub(super) fn stamp(
        &self,
        app: &Orkestra,
        kind: MessageKind,
        now: Timestamp,
    ) -> Result<(Uuid, Metadata), MessageError> {
        let cause = current();
        let id = match (&self.id, &cause) {
            (Some(text), _) => crate::message::parse_message_id(text)?,
            (None, Some(cause))
                if kind == MessageKind::Event && cause.kind == MessageKind::Command =>
            {
                derive_event_id(cause.id, cause.events.fetch_add(1, Ordering::Relaxed))
            }
            (None, _) => app.inner.plan.ids.next_id(now),
        };
        let metadata = self.fields.resolve(
            id,
            now,
            cause.as_deref().map(|cause| (&cause.metadata, cause.id)),
        )?;
        Ok((id, metadata))
    }
}

/// The options that every sender has, for a builder with the field `stamping`.
macro_rules! stamping_options {
    ($id:literal) => {
        #[doc = $id]
        pub fn id(mut self, id: impl Into<String>) -> Self {
            self.stamping.id = Some(id.into());
            self
        }

        /// Who acts: 1 to 255 characters.
        pub fn actor_id(mut self, actor_id: impl Into<String>) -> Self {
            self.stamping.fields.actor_id = Some(actor_id.into());
            self
        }

        /// What kind of actor: a lower-case word. Default `system`.
        pub fn actor_type(mut self, actor_type: impl Into<String>) -> Self {
            self.stamping.fields.actor_type = Some(actor_type.into());
            self
        }

        /// Where it comes from: 1 to 255 characters.
        pub fn source(mut self, source: impl Into<String>) -> Self {
            self.stamping.fields.source = Some(source.into());
            self
        }

        /// The chain that it belongs to. Default: the one of the message being handled, else a new one.
        pub fn correlation_id(mut self, correlation_id: impl Into<String>) -> Self {
            self.stamping.fields.correlation_id = Some(correlation_id.into());
            self
        }
    };
}
pub(super) use stamping_options;
