//! Named readers of the log.

use std::{cell::RefCell, rc::Rc};

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
    pages,
    registry::NodeRegistry,
    services::NodeStores,
    store::patterns_of,
};

#[derive(Deserialize)]
struct SubscribeIn {
    /// Without a name the place is kept in memory only.
    name: Option<String>,
    /// `"origin"`, `"now"` or a position.
    start: StartIn,
    /// A handler's events instead of `topics`.
    handler: Option<usize>,
    topics: Option<Vec<String>>,
    stream_prefix: Option<String>,
    batch_size: usize,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum StartIn {
    After(u64),
    Word(String),
}

/// A named reader of the log.
#[napi(js_name = "Subscription")]
pub struct NodeSubscription {
    spawner: Spawner,
    slot: Slot,
}

type Slot = Rc<RefCell<Option<Subscription>>>;

/// The subscription while a call uses it; back in its place when the call ends or is dropped.
struct Lent {
    slot: Slot,
    subscription: Option<Subscription>,
}

impl Lent {
    fn take(slot: &Slot) -> Result<Self, StoreError> {
        let subscription = slot.borrow_mut().take();
        if subscription.is_none() {
            return Err(StoreError::InvalidArgument {
                argument: "subscription".into(),
                reason: "a call is under way".into(),
            });
        }
        Ok(Self {
            slot: Rc::clone(slot),
            subscription,
        })
    }

    fn get(&mut self) -> Result<&mut Subscription, StoreError> {
        self.subscription.as_mut().ok_or(StoreError::Closed {})
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        *self.slot.borrow_mut() = self.subscription.take();
    }
}

#[napi]
impl NodeSubscription {
    /// A subscription; `json` says which events, from where and under which name.
    #[napi(constructor)]
    pub fn new(stores: &NodeStores, registry: &NodeRegistry, json: String) -> napi::Result<Self> {
        let services = stores.services()?;
        let given: SubscribeIn = parse(&json)?;
        let start = match given.start {
            StartIn::After(position) => Start::After(Position(position)),
            StartIn::Word(word) if word == "now" => Start::Now,
            StartIn::Word(_) => Start::Origin,
        };
        let types = match (given.handler, &given.topics) {
            (Some(handler), _) => registry.inner.filter_for(HandlerIndex(handler)),
            (None, Some(topics)) => registry.inner.filter(&patterns_of(topics)?),
            (None, None) => TypeFilter::default(),
        };
        let mut options = SubscriptionOptions::new(start, types).batch_size(given.batch_size);
        options.stream_prefix = given.stream_prefix;
        let subscription = services.subscribe(given.name, options);
        Ok(Self {
            spawner: stores.spawner.clone(),
            slot: Rc::new(RefCell::new(Some(subscription))),
        })
    }

    /// Finds the place to start at.
    #[napi]
    pub fn open(&self) -> napi::Result<Started> {
        let slot = Rc::clone(&self.slot);
        self.spawner.start(async move {
            let mut lent = Lent::take(&slot)?;
            lent.get()?.open().await?;
            Ok::<_, StoreError>(None)
        })
    }

    /// Waits for the next events: `{position, events}`.
    #[napi]
    pub fn next(&self) -> napi::Result<Started> {
        let slot = Rc::clone(&self.slot);
        self.spawner.start(async move {
            let mut lent = Lent::take(&slot)?;
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

    /// Gives the right to read under the name back.
    #[napi]
    pub fn release(&self) -> napi::Result<Started> {
        let slot = Rc::clone(&self.slot);
        self.spawner.start(async move {
            let mut lent = Lent::take(&slot)?;
            lent.get()?.release().await?;
            Ok::<_, StoreError>(None)
        })
    }

    /// Everything up to `position` is handled.
    #[napi]
    pub fn ack(&self, position: i64) -> napi::Result<Started> {
        let slot = Rc::clone(&self.slot);
        let position = u64::try_from(position).ok().map(Position);
        self.spawner.start(async move {
            let mut lent = Lent::take(&slot)?;
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
