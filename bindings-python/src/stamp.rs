//! What is put on a message when it is sent: its id, its time, and where its metadata comes from.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use orkestra::{
    clock::Timestamp,
    message::{LinkId, Metadata as CoreMetadata, wire},
    ports::TraceContext,
};
use pyo3::prelude::*;
use uuid::Uuid;

/// Where a message's metadata comes from. Strings are made only when somebody asks.
#[derive(Debug, Clone)]
pub(crate) enum Link {
    /// The first of its chain, with nothing said about the sender.
    Root,
    /// Caused by another message, with nothing said about the sender.
    Caused { correlation: Uuid, causation: Uuid },
    /// Everything, but for the time of issue.
    Full(Arc<CoreMetadata>),
    /// As it is stored beside a recorded event.
    Stored(Box<[u8]>),
    /// One of these, and the trace that the message belongs to.
    Traced(Arc<(Link, TraceContext)>),
}

impl Link {
    /// The same in a trace.
    pub(crate) fn traced(self, trace: TraceContext) -> Self {
        if trace.is_empty() {
            self
        } else {
            Self::Traced(Arc::new((self, trace)))
        }
    }

    fn plain(&self) -> &Self {
        match self {
            Self::Traced(traced) => traced.0.plain(),
            link => link,
        }
    }
}

/// A message's id, time and metadata.
#[derive(Debug, Clone)]
pub(crate) struct Stamp {
    pub(crate) id: Uuid,
    pub(crate) at: Timestamp,
    pub(crate) link: Link,
}

impl Stamp {
    /// The metadata in full.
    pub(crate) fn metadata(&self) -> CoreMetadata {
        match self.link.plain() {
            // No link is plain and traced.
            Link::Root | Link::Traced(_) => CoreMetadata::root(self.id, self.at),
            Link::Caused {
                correlation,
                causation,
            } => CoreMetadata {
                correlation_id: LinkId::Uuid(*correlation),
                causation_id: Some(LinkId::Uuid(*causation)),
                ..CoreMetadata::root(self.id, self.at)
            },
            Link::Full(metadata) => CoreMetadata::clone(metadata),
            Link::Stored(json) => wire::decode_metadata(json, self.id, self.at)
                .unwrap_or_else(|_| CoreMetadata::root(self.id, self.at)),
        }
    }

    /// The link of a message sent at `at` while this one is handled.
    pub(crate) fn caused(&self, at: Timestamp) -> Link {
        let link = match self.link.plain() {
            Link::Root | Link::Traced(_) => Link::Caused {
                correlation: self.id,
                causation: self.id,
            },
            Link::Caused { correlation, .. } => Link::Caused {
                correlation: *correlation,
                causation: self.id,
            },
            Link::Full(_) | Link::Stored(_) => {
                Link::Full(Arc::new(self.metadata().derive(self.id, at)))
            }
        };
        link.traced(self.trace())
    }

    /// The trace that the message belongs to, empty for none.
    pub(crate) fn trace(&self) -> TraceContext {
        match &self.link {
            Link::Traced(traced) => traced.1.clone(),
            Link::Stored(json) => TraceContext::stored_in(json),
            _ => TraceContext::default(),
        }
    }

    /// Has this metadata instead, in the same trace.
    pub(crate) fn set_metadata(&mut self, metadata: CoreMetadata) {
        self.link = Link::Full(Arc::new(metadata)).traced(self.trace());
    }
}

/// A stamp outside of a call: of a message made from another one, or of a recorded event.
#[pyclass(frozen, module = "orkestra._orkestra", name = "Stamp")]
#[derive(Debug)]
pub(crate) struct PyStamp {
    pub(crate) stamp: Stamp,
    unsent: AtomicBool,
}

impl PyStamp {
    /// A stamp of a message that was sent, or of a fact.
    pub(crate) fn sent(stamp: Stamp) -> Self {
        Self {
            stamp,
            unsent: AtomicBool::new(false),
        }
    }

    /// A stamp that the next sending takes over.
    pub(crate) fn unsent(stamp: Stamp) -> Self {
        Self {
            stamp,
            unsent: AtomicBool::new(true),
        }
    }

    /// Whether this is the first sending of the message; only the first caller is told so.
    pub(crate) fn take_unsent(&self) -> bool {
        self.unsent.load(Ordering::Relaxed) && self.unsent.swap(false, Ordering::Relaxed)
    }
}
