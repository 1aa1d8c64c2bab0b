//! How an app is.

use super::Orkestra;
use crate::{
    Error,
    outbox::RelayHealth,
    ports::{BusHealth, DeadLetterFilter, DeadLetterStatus, OutboxBacklog, Position},
    projection::ProjectionState,
    subscription::SubscriptionError,
};

/// How an app is. Made by [`Orkestra::health`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Health {
    /// Whether it runs, its store answers, every reader reads, and its bus takes and delivers.
    pub ok: bool,
    /// The app's name.
    pub app: String,
    /// Whether it takes calls.
    pub open: bool,
    /// What the store says when it does not answer.
    pub error: Option<Error>,
    /// The position of the last event in the store.
    pub head: Option<Position>,
    /// Dead letters in the state store that wait for somebody.
    pub dead_letters: usize,
    /// Event handlers and projections that have stopped, and why.
    pub stopped: Vec<(String, SubscriptionError)>,
    /// How far the projections are; empty where the store does not answer.
    pub projections: Vec<ProjectionState>,
    /// The broker's connection and consumers; `None` without a broker.
    pub bus: Option<BusHealth>,
    /// What publishes the log and the outbox to the broker; `None` without a broker.
    pub relay: Option<RelayHealth>,
    /// Messages in the outbox, and since when the oldest is there.
    pub outbox: OutboxBacklog,
}

impl Orkestra {
    /// How the app is. It never fails.
    pub async fn health(&self) -> Health {
        let services = &self.inner.services;
        let found = self.look().await;
        let stopped = self.stopped_subscriptions();
        let bus = services.broker.as_ref().map(crate::broker::Broker::health);
        let relay = services.relay_health();
        let sound = |bus: &BusHealth| {
            let consuming = bus.consumers.iter().all(|consumer| consumer.consuming);
            consuming && bus.blocked.is_none() && bus.error.is_none()
        };
        let ((head, dead_letters, outbox), error) = match found {
            Ok(found) => (found, None),
            Err(error) => (Default::default(), Some(error)),
        };
        Health {
            ok: self.is_open()
                && error.is_none()
                && stopped.is_empty()
                && bus.as_ref().is_none_or(sound)
                && relay.as_ref().is_none_or(|relay| relay.error.is_none()),
            app: self.name().to_owned(),
            open: self.is_open(),
            error,
            head,
            dead_letters,
            stopped,
            projections: self.states().await.unwrap_or_default(),
            bus,
            relay,
            outbox,
        }
    }

    async fn look(&self) -> Result<(Option<Position>, usize, OutboxBacklog), Error> {
        let services = &self.inner.services;
        let head = services.events.head().await?;
        let dead = DeadLetterFilter {
            status: Some(DeadLetterStatus::Dead),
            limit: 1,
            ..DeadLetterFilter::default()
        };
        let page = services.dead_letters.list(dead).await?;
        let outbox = services.outbox.backlog().await?;
        Ok((head, page.total, outbox))
    }
}
