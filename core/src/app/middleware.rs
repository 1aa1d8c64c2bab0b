//! Code around sending and around handling.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use uuid::Uuid;

use super::handler::Answer;
use crate::message::{MessageKind, Metadata};

/// What a middleware sees of a message.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Envelope {
    /// Command or event.
    pub kind: MessageKind,
    /// The message's id.
    pub id: Uuid,
    /// The message's type name.
    pub type_name: Arc<str>,
    /// The message's topic.
    pub topic: String,
    /// Who and why.
    pub metadata: Metadata,
    /// Full name of the handler; `None` around sending.
    pub handler: Option<String>,
    /// The 1-based attempt; 0 around sending.
    pub attempt: u32,
}

/// What a middleware returns.
pub type MiddlewareFuture<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

/// Code around sending or handling: does what it wants before and after `next`, or instead of it.
pub trait Middleware: Send + Sync {
    /// Called once for each sending, or each attempt to handle.
    fn around<'a>(&'a self, envelope: &'a Envelope, next: Next<'a>) -> MiddlewareFuture<'a>;
}

type Inner<'a> = Box<dyn FnOnce() -> MiddlewareFuture<'a> + Send + 'a>;

/// The rest of the chain.
pub struct Next<'a> {
    chain: &'a [Arc<dyn Middleware>],
    envelope: &'a Envelope,
    inner: Inner<'a>,
}

impl fmt::Debug for Next<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Next({} more)", self.chain.len())
    }
}

impl<'a> Next<'a> {
    pub(super) fn new(
        chain: &'a [Arc<dyn Middleware>],
        envelope: &'a Envelope,
        inner: impl FnOnce() -> MiddlewareFuture<'a> + Send + 'a,
    ) -> Self {
        Self {
            chain,
            envelope,
            inner: Box::new(inner),
        }
    }

    /// Goes on.
    pub fn run(self) -> MiddlewareFuture<'a> {
        match self.chain.split_first() {
            None => (self.inner)(),
            Some((first, rest)) => first.around(
                self.envelope,
                Next {
                    chain: rest,
                    ..self
                },
            ),
        }
    }
}
