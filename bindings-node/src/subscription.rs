//! Named readers of the log.

use napi_derive::napi;
use orkestra::{
    ports::{Position, StoreError, TypeFilter},
    registry::HandlerIndex,
    subscription::{Start, Subscription, SubscriptionOptions},
};
use serde::Deserialize;

use crate::{
    bridge::{Spawner, Started},
    error::parse,
    lent::Slot,
    pages,
    registry::NodeRegistry,
    services::NodeStores,
    store::patterns_of,
};

#[derive(Deserialize)]
struct SubscribeIn {
    /// Without a name the place is kept in memory only.
    name: Option<String>,
    start: StartIn,
    /// A handler's events instead of `topics`.
    handler: Option<usize>,
    topics: Option<Vec<String>>,
    stream_prefix: Option<String>,
    batch_size: usize,
}

/// `"origin"`, `"now"` or a position.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum StartIn {
    After(u64),
    Word(String),
}

impl StartIn {
    pub(crate) fn read(self) -> Start {
        match self {
            Self::After(position) => Start::After(Position(position)),
            Self::Word(word) if word == "now" => Start::Now,
            Self::Word(_) => Start::Origin,
        }
    }
}

/// A named reader of the log.
#[napi(js_name = "Subscription")]
pub struct NodeSubscription {
    spawner: Spawner,
    slot: Slot<Subscription>,
}

#[napi]
impl NodeSubscription {
    /// A subscription; `json` says which events, from where and under which name.
    #[napi(constructor)]
    pub fn new(stores: &NodeStores, registry: &NodeRegistry, json: String) -> napi::Result<Self> {
        let services = stores.services()?;
        let given: SubscribeIn = parse(&json)?;
        let types = match (given.handler, &given.topics) {
            (Some(handler), _) => registry.inner.filter_for(HandlerIndex(handler)),
            (None, Some(topics)) => registry.inner.filter(&patterns_of(topics)?),
            (None, None) => TypeFilter::default(),
        };
        let mut options =
            SubscriptionOptions::new(given.start.read(), types).batch_size(given.batch_size);
        options.stream_prefix = given.stream_prefix;
        let subscription = services.subscribe(given.name, options);
        Ok(Self {
            spawner: stores.spawner.clone(),
            slot: Slot::new(subscription),
        })
    }

    /// Finds the place to start at.
    #[napi]
    pub fn open(&self) -> napi::Result<Started> {
        let slot = self.slot.clone();
        self.spawner.start(async move {
            let mut lent = slot.take()?;
            lent.get()?.open().await?;
            Ok::<_, StoreError>(None)
        })
    }

    /// Waits for the next events: `{position, events}`.
    #[napi]
    pub fn next(&self) -> napi::Result<Started> {
        let slot = self.slot.clone();
        self.spawner.start(async move {
            let mut lent = slot.take()?;
            let batch = lent.get()?.next().await?;
            let position = batch
                .position
                .map_or_else(|| "null".to_owned(), |p| p.to_string());
            let mut text = format!("{{\"position\":{position},\"events\":");
            pages::write(&mut text, &batch.events);
            text.push('}');
            Ok::<_, StoreError>(Some(text))
        })
    }

    /// What follows `position` is read again.
    #[napi]
    pub fn rewind(&self, position: i64) -> napi::Result<()> {
        let position = u64::try_from(position).ok().map(Position);
        self.slot.with(|reader| reader.rewind(position))
    }

    /// What follows `handled` is read again; without it, the last batch.
    #[napi]
    pub fn go_back(&self, handled: Option<i64>) -> napi::Result<()> {
        let handled = handled.and_then(|handled| u64::try_from(handled).ok());
        self.slot.with(|reader| match handled {
            Some(handled) => reader.go_back(Some(Position(handled))),
            None => reader.give_back(),
        })
    }

    /// Gives the right to read under the name back.
    #[napi]
    pub fn release(&self) -> napi::Result<Started> {
        let slot = self.slot.clone();
        self.spawner.start(async move {
            let mut lent = slot.take()?;
            lent.get()?.release().await?;
            Ok::<_, StoreError>(None)
        })
    }

    /// Everything up to `position` is handled.
    #[napi]
    pub fn ack(&self, position: i64) -> napi::Result<Started> {
        let slot = self.slot.clone();
        let position = u64::try_from(position).ok().map(Position);
        self.spawner.start(async move {
            let mut lent = slot.take()?;
            lent.get()?.ack(position).await?;
            Ok::<_, StoreError>(None)
        })
    }
}

#[napi]
impl NodeStores {
    /// Waits until the subscription `name` stands at `position` or after it.
    #[napi]
    pub fn caught_up(&self, name: String, position: i64) -> napi::Result<Started> {
        let checkpoints = self.services()?.checkpoints;
        let position = Position(u64::try_from(position).unwrap_or(0));
        self.spawner.start(async move {
            checkpoints.wait_until(name, position).await?;
            Ok::<_, StoreError>(None)
        })
    }
}
