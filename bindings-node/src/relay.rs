//! The relay that publishes the log to the broker, and what it parks on its way to JavaScript.

use std::{
    collections::{HashMap, VecDeque},
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use napi_derive::napi;
use orkestra::{
    Error,
    outbox::{RelayOptions, Topics},
    ports::{BusError, DeadLetter},
    registry::Registry,
    topic::topic_for,
};
use parking_lot::Mutex;

use crate::{
    bridge::Started, dead_letters::letter_json, registry::NodeRegistry, services::NodeStores,
};

/// What the relay parked and nobody has been told of yet, JSON. The relay's thread fills it.
#[derive(Default)]
pub(crate) struct Parked(Mutex<(VecDeque<String>, Option<Waker>)>);

impl Parked {
    pub(crate) fn put(&self, letter: &DeadLetter) {
        let waker = {
            let (letters, waker) = &mut *self.0.lock();
            letters.push_back(letter_json(letter).to_string());
            waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll(&self, context: &Context<'_>) -> Poll<String> {
        let (letters, waker) = &mut *self.0.lock();
        let letter = letters.pop_front();
        if letter.is_none() {
            *waker = Some(context.waker().clone());
        }
        letter.map_or(Poll::Pending, Poll::Ready)
    }
}

#[napi]
impl NodeStores {
    /// Starts publishing the log to the broker.
    #[napi]
    pub fn start_relay(&self, registry: &NodeRegistry) -> napi::Result<Started> {
        let services = self.services()?;
        let parked = Arc::clone(&self.parked);
        let options = RelayOptions::new(topics_of(&registry.inner))
            .on_dead_letter(move |letter| parked.put(letter));
        self.spawner.start(async move {
            services.start_relay(options).await?;
            Ok::<_, Error>(None)
        })
    }

    /// Waits for the next event that the relay parks: its dead letter.
    #[napi]
    pub fn next_parked(&self) -> napi::Result<Started> {
        let parked = Arc::clone(&self.parked);
        self.spawner.start(async move {
            let letter = poll_fn(|context| parked.poll(context)).await;
            Ok::<_, BusError>(Some(letter))
        })
    }
}

/// The topics of the types that are known now, by name and alias; those of others follow from their names.
fn topics_of(registry: &Registry) -> Topics {
    let prefix = registry.app_prefix().to_owned();
    let known: HashMap<_, _> = registry
        .types()
        .iter()
        .flat_map(|info| {
            let names = info.spec.aliases.iter().chain([&info.spec.type_name]);
            names.map(|name| (name.clone(), info.topic.clone()))
        })
        .collect();
    Arc::new(move |type_name| {
        let topic = known.get(type_name).cloned();
        topic.or_else(|| topic_for(type_name, &prefix).ok())
    })
}
