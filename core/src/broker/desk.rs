//! What a consumer needs around what arrives.

use std::sync::Arc;

use super::{Consumer, once};
use crate::{
    background::Background,
    clock::{Clock, IdSource},
    ports::{ConsumerSpec, DeadLetterStore, Inbox, InboxStore},
    telemetry::Telemetry,
};

/// The stores and sources that consumers share. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Desk {
    /// Where dead letters are recorded; `None` if that store does not outlive the process, so that they go to the broker's.
    pub(crate) dead_letters: Option<Arc<dyn DeadLetterStore>>,
    /// Where it is recorded what was handled, for handlers that want that.
    pub(crate) handled: Option<Arc<dyn InboxStore>>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) background: Background,
    pub(crate) telemetry: Telemetry,
}

impl Desk {
    /// The consumer of what arrives in `inbox`; a handler with an inbox gets nothing that it has handled.
    pub(crate) fn consumer(&self, spec: ConsumerSpec, inbox: Inbox) -> Consumer {
        match &self.handled {
            Some(handled) if spec.inbox => {
                let (inbox, filter) = once::filtered(self, &spec, Arc::clone(handled), inbox);
                Consumer::new(self.clone(), spec, inbox, Some(Arc::new(filter)))
            }
            _ => Consumer::new(self.clone(), spec, inbox, None),
        }
    }
}
