//! RabbitMQ as the bus between processes.

mod config;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
pub use config::{QueueType, RabbitmqConfig};
use uuid::Uuid;

use crate::{
    clock::Clock,
    ports::{
        BrokerLetter, Bus, BusError, BusHealth, ConsumerSpec, HandlerAddress, Inbox, Outgoing,
        TakeLetter,
    },
};

/// A bus over RabbitMQ.
#[derive(Debug)]
pub struct RabbitmqBus {
    _config: RabbitmqConfig,
}

impl RabbitmqBus {
    /// A bus for the app of that (underscored) name. It connects when it is first needed.
    ///
    /// # Errors
    /// [`BusError::Unavailable`] if its thread cannot be started.
    pub fn open(
        config: RabbitmqConfig,
        _app: &str,
        _clock: Arc<dyn Clock>,
    ) -> Result<Self, BusError> {
        Ok(Self { _config: config })
    }
}

fn unfinished() -> BusError {
    BusError::Unavailable {
        reason: "the adapter is not finished".into(),
    }
}

#[async_trait]
impl Bus for RabbitmqBus {
    async fn send(&self, _message: Outgoing) -> Result<(), BusError> {
        Err(unfinished())
    }

    async fn ask(&self, _command: Outgoing) -> Result<Bytes, BusError> {
        Err(unfinished())
    }

    async fn consume(&self, _spec: ConsumerSpec) -> Result<Inbox, BusError> {
        Err(unfinished())
    }

    async fn requeue(
        &self,
        _to: HandlerAddress,
        _message: Outgoing,
        _entry: Option<Uuid>,
    ) -> Result<(), BusError> {
        Err(unfinished())
    }

    async fn letters(&self, _limit: usize) -> Result<Vec<BrokerLetter>, BusError> {
        Err(unfinished())
    }

    async fn drain_letters(&self, _limit: usize, _take: TakeLetter) -> Result<usize, BusError> {
        Err(unfinished())
    }

    fn health(&self) -> BusHealth {
        BusHealth::default()
    }

    async fn pause(&self) {}

    async fn close(&self, _deadline: Duration) {}
}
