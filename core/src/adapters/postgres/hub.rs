//! What others tell: their commits, by notifications, and whoever waits here.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio_postgres::Notification;

use crate::adapters::shared::signal::Signal;

/// Where news arrive.
pub(super) struct Hub {
    /// Tells our own notifications from others'.
    owner: String,
    /// Rings when there are new events.
    pub(super) events: Arc<Signal>,
    /// Rings when a checkpoint moved.
    pub(super) checkpoints: Arc<Signal>,
    /// Rings when there is a message in the outbox.
    pub(super) messages: Arc<Signal>,
    /// A user's transaction has left something to be recorded.
    pub(super) staged: Notify,
}

impl Hub {
    pub(super) fn new(owner: [u8; 8]) -> Self {
        Self {
            owner: format!("{:016x}", u64::from_be_bytes(owner)),
            events: Arc::default(),
            checkpoints: Arc::default(),
            messages: Arc::default(),
            staged: Notify::new(),
        }
    }

    /// What is told to others when events, or `what` else, were committed here.
    pub(super) fn note(&self, what: &str) -> String {
        format!("{what} {}", self.owner)
    }

    /// Takes what a notification says.
    pub(super) fn hear(&self, notification: &Notification) {
        let (what, from) = match notification.payload().split_once(' ') {
            Some((what, from)) => (what, from),
            None => (notification.payload(), ""),
        };
        if from == self.owner {
            // We were there.
            return;
        }
        match what {
            "events" => self.events.ring(),
            "checkpoints" => self.checkpoints.ring(),
            "messages" => self.messages.ring(),
            "staged" => self.staged.notify_one(),
            _ => {}
        }
    }

    /// Anything may have happened.
    pub(super) fn ring_all(&self) {
        self.events.ring();
        self.checkpoints.ring();
        self.messages.ring();
        self.staged.notify_one();
    }
}
