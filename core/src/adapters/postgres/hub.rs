//! What others tell: their commits, by notifications, and whoever waits here.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::Notify;
use tokio_postgres::Notification;

use crate::{adapters::shared::signal::Signal, ports::Position};

/// Where news arrive.
pub(super) struct Hub {
    /// Tells our own notifications from others'.
    owner: String,
    /// Rings when there are new events.
    pub(super) events: Arc<Signal>,
    /// The position that the last ring for events told of, 0 if none.
    told: AtomicU64,
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
            told: AtomicU64::default(),
            checkpoints: Arc::default(),
            messages: Arc::default(),
            staged: Notify::new(),
        }
    }

    /// What is told to others when events, or `what` else, were committed here.
    pub(super) fn note(&self, what: &str) -> String {
        format!("{what} {}", self.owner)
    }

    /// Events up to `position` are committed.
    pub(super) fn stored(&self, position: Option<Position>) {
        let position = position.map_or(0, |position| position.0);
        self.told.store(position, Ordering::Release);
        self.events.ring();
    }

    /// How far the last ring for events told that the log reaches, if it told.
    pub(super) fn told(&self) -> Option<Position> {
        match self.told.load(Ordering::Acquire) {
            0 => None,
            position => Some(Position(position)),
        }
    }

    /// Takes what a notification says: what it is about, who sent it, and the position.
    pub(super) fn hear(&self, notification: &Notification) {
        let mut words = notification.payload().split(' ');
        let what = words.next().unwrap_or_default();
        if words.next() == Some(&self.owner) {
            // We were there.
            return;
        }
        match what {
            "events" => self.stored(words.next().and_then(|p| p.parse().ok()).map(Position)),
            "checkpoints" => self.checkpoints.ring(),
            "messages" => self.messages.ring(),
            "staged" => self.staged.notify_one(),
            _ => {}
        }
    }

    /// Anything may have happened.
    pub(super) fn ring_all(&self) {
        self.stored(None);
        self.checkpoints.ring();
        self.messages.ring();
        self.staged.notify_one();
    }
}
