//! Exchanges and queues: their names, their arguments, and declaring them.

use lapin::{
    Channel, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};

use super::{
    RabbitmqConfig,
    config::QueueType,
    error::{NOT_FOUND, bus_error, reply},
    ladder::RUNGS,
    link::Live,
};
use crate::{
    message::MessageKind,
    ports::{BusError, ConsumerSpec, HandlerAddress},
};

pub(super) const COMMANDS: &str = "orkestra.commands";
pub(super) const EVENTS: &str = "orkestra.events";
pub(super) const DEAD_LETTERS: &str = "orkestra.deadletter";
pub(super) const CATCH_ALL: &str = "orkestra.deadletter.queue";
pub(super) const RETRY: &str = "orkestra.retry";
pub(super) const RETURN: &str = "orkestra.return";
/// Picks the rung at the exchange `orkestra.retry`. It does not begin with `x-`, as such headers are not looked at there.
pub(super) const DELAY_HEADER: &str = "orkestra-delay";
/// From RabbitMQ 4 on the default is 20, after which a message would go without our knowing; we count ourselves.
const DELIVERY_LIMIT: i64 = 1_000_000;
/// A reply queue that nobody listens to goes after this.
const REPLY_EXPIRES_MS: i64 = 60_000;

/// The queue of a handler.
pub(super) fn home_queue(address: &HandlerAddress) -> String {
    match address.kind {
        MessageKind::Command => format!("orkestra.cmd.{}", address.topic),
        MessageKind::Event => format!("orkestra.evt.{}", address.handler),
    }
}

/// The queue of a rung of the ladder.
fn rung_queue(rung: u64) -> String {
    format!("orkestra.retry.{rung}")
}

/// Exchanges and queues as `config` wants them.
pub(super) struct Topology<'a> {
    pub(super) config: &'a RabbitmqConfig,
}

impl Topology<'_> {
    /// What all services share, once per connection.
    pub(super) async fn prepare(&self, live: &Live) -> Result<(), BusError> {
        let mut prepared = live.prepared.lock().await;
        if !*prepared {
            self.shared(live).await?;
            *prepared = true;
        }
        Ok(())
    }

    async fn shared(&self, live: &Live) -> Result<(), BusError> {
        let channel = live.channel().await?;
        let none = FieldTable::default;
        let alternate = table([("alternate-exchange", long(DEAD_LETTERS))]);
        for (name, kind, arguments) in [
            (COMMANDS, ExchangeKind::Topic, none()),
            (EVENTS, ExchangeKind::Topic, none()),
            (DEAD_LETTERS, ExchangeKind::Topic, none()),
            (RETRY, ExchangeKind::Headers, none()),
            (RETURN, ExchangeKind::Direct, alternate),
        ] {
            self.exchange(&channel, name, kind, arguments).await?;
        }
        self.catch_all(live).await?;
        close(&channel).await;
        Ok(())
    }

    /// What retries need, when it cannot be declared once it is needed: every rung.
    pub(super) async fn rungs(&self, live: &Live) -> Result<(), BusError> {
        if self.config.passive {
            for rung in RUNGS {
                self.rung(live, rung).await?;
            }
        }
        Ok(())
    }

    /// The queue of all dead letters. One that is there already is taken as it is: another toolkit may have declared it.
    async fn catch_all(&self, live: &Live) -> Result<(), BusError> {
        let channel = live.channel().await?;
        let looked = self
            .queue(&channel, CATCH_ALL, FieldTable::default(), true)
            .await;
        match looked {
            Ok(()) => {
                self.bind(
                    &channel,
                    CATCH_ALL,
                    DEAD_LETTERS,
                    "#",
                    FieldTable::default(),
                )
                .await?;
                close(&channel).await;
                return Ok(());
            }
            Err(error) if self.config.passive => return Err(bus_error(&error)),
            Err(error) if matches!(reply(&error), Some((NOT_FOUND, _))) => {}
            Err(error) => return Err(bus_error(&error)),
        }
        let channel = live.channel().await?;
        let arguments = table([
            ("x-queue-type", long("quorum")),
            ("x-delivery-limit", AMQPValue::LongLongInt(DELIVERY_LIMIT)),
        ]);
        self.queue(&channel, CATCH_ALL, arguments, false)
            .await
            .map_err(|error| bus_error(&error))?;
        self.bind(
            &channel,
            CATCH_ALL,
            DEAD_LETTERS,
            "#",
            FieldTable::default(),
        )
        .await?;
        close(&channel).await;
        Ok(())
    }

    /// A handler's queue with its bindings, on `channel`.
    pub(super) async fn home(
        &self,
        channel: &Channel,
        spec: &ConsumerSpec,
    ) -> Result<(), BusError> {
        let name = home_queue(&spec.address);
        let mut arguments = table([
            ("x-queue-type", long(self.config.queue_type.as_str())),
            ("x-dead-letter-exchange", long(DEAD_LETTERS)),
        ]);
        if self.config.queue_type == QueueType::Quorum {
            arguments.insert(
                "x-delivery-limit".into(),
                AMQPValue::LongLongInt(DELIVERY_LIMIT),
            );
        }
        self.queue(channel, &name, arguments, self.config.passive)
            .await
            .map_err(|error| bus_error(&error))?;
        let none = FieldTable::default;
        self.bind(channel, &name, RETURN, &name, none()).await?;
        match spec.address.kind {
            MessageKind::Command => {
                self.bind(channel, &name, COMMANDS, &spec.address.topic, none())
                    .await?;
            }
            MessageKind::Event => {
                for pattern in &spec.patterns {
                    self.bind(channel, &name, EVENTS, pattern.as_str(), none())
                        .await?;
                }
            }
        }
        Ok(())
    }

    /// A rung of the ladder, once per connection.
    pub(super) async fn rung(&self, live: &Live, rung: u64) -> Result<(), BusError> {
        if live.rungs.lock().contains(&rung) {
            return Ok(());
        }
        let channel = live.channel().await?;
        let name = rung_queue(rung);
        let arguments = table([
            ("x-queue-type", long("quorum")),
            (
                "x-message-ttl",
                AMQPValue::LongLongInt(i64::try_from(rung).unwrap_or(i64::MAX)),
            ),
            ("x-dead-letter-exchange", long(RETURN)),
            ("x-dead-letter-strategy", long("at-least-once")),
            ("x-overflow", long("reject-publish")),
        ]);
        self.queue(&channel, &name, arguments, self.config.passive)
            .await
            .map_err(|error| bus_error(&error))?;
        let arguments = table([
            ("x-match", long("all")),
            (DELAY_HEADER, long(&rung.to_string())),
        ]);
        self.bind(&channel, &name, RETRY, &name, arguments).await?;
        live.rungs.lock().insert(rung);
        close(&channel).await;
        Ok(())
    }

    /// A queue for answers.
    pub(super) async fn replies(&self, channel: &Channel, name: &str) -> Result<(), BusError> {
        let arguments = table([
            ("x-queue-type", long("classic")),
            ("x-expires", AMQPValue::LongLongInt(REPLY_EXPIRES_MS)),
        ]);
        self.queue(channel, name, arguments, false)
            .await
            .map_err(|error| bus_error(&error))
    }

    async fn exchange(
        &self,
        channel: &Channel,
        name: &str,
        kind: ExchangeKind,
        arguments: FieldTable,
    ) -> Result<(), BusError> {
        let options = ExchangeDeclareOptions {
            durable: true,
            passive: self.config.passive,
            ..ExchangeDeclareOptions::default()
        };
        channel
            .exchange_declare(name.into(), kind, options, arguments)
            .await
            .map_err(|error| bus_error(&error))
    }

    async fn queue(
        &self,
        channel: &Channel,
        name: &str,
        arguments: FieldTable,
        passive: bool,
    ) -> lapin::Result<()> {
        let options = QueueDeclareOptions {
            durable: true,
            passive,
            ..QueueDeclareOptions::default()
        };
        channel
            .queue_declare(short(name), options, arguments)
            .await
            .map(|_| ())
    }

    async fn bind(
        &self,
        channel: &Channel,
        queue: &str,
        exchange: &str,
        key: &str,
        arguments: FieldTable,
    ) -> Result<(), BusError> {
        if self.config.passive {
            return Ok(());
        }
        channel
            .queue_bind(
                short(queue),
                exchange.into(),
                short(key),
                QueueBindOptions::default(),
                arguments,
            )
            .await
            .map_err(|error| bus_error(&error))
    }
}

async fn close(channel: &Channel) {
    // Its work is done; if this fails the connection is gone, which shows elsewhere.
    let _ = channel.close(200, "OK".into()).await;
}

/// `text` as AMQP's short string. What is longer than 255 bytes is cut; names are checked before.
pub(super) fn short(text: &str) -> ShortString {
    ShortString::try_new(text).unwrap_or_else(|_| {
        let mut end = 255;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text[..end].into()
    })
}

pub(super) fn long(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

fn table<const N: usize>(entries: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert(name.into(), value);
    }
    table
}
