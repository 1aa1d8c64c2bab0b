//! Messages given up on.

use bytes::Bytes;
use napi_derive::napi;
use orkestra::{
    clock::Timestamp,
    ports::{DeadLetter, DeadLetterFilter, DeadLetterStatus, StoreError},
    topic::Pattern,
};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    bridge::Started,
    delivery::NodeDelivery,
    error::{parse, throw},
    services::NodeStores,
};

#[derive(Deserialize)]
struct FilterIn {
    handler: Option<String>,
    topic: Option<String>,
    /// Microseconds.
    since: Option<i64>,
    until: Option<i64>,
    text: Option<String>,
    status: Option<String>,
    limit: usize,
    offset: usize,
}

impl FilterIn {
    fn read(self) -> napi::Result<DeadLetterFilter> {
        let topic = self.topic.map(|topic| Pattern::new(&topic)).transpose();
        let mut filter = DeadLetterFilter::default();
        filter.handler = self.handler;
        filter.topic = topic.map_err(|error| throw(&error))?;
        filter.since = self.since.map(Timestamp::from_micros);
        filter.until = self.until.map(Timestamp::from_micros);
        filter.text = self.text;
        filter.status = self.status.map(|status| {
            if status == DeadLetterStatus::Requeued.as_str() {
                DeadLetterStatus::Requeued
            } else {
                DeadLetterStatus::Dead
            }
        });
        filter.limit = self.limit;
        filter.offset = self.offset;
        Ok(filter)
    }
}

pub(crate) fn letter_json(letter: &DeadLetter) -> Value {
    json!({
        "id": letter.id,
        "handler": letter.handler,
        "kind": letter.kind.as_str(),
        "message_id": letter.message_id,
        "type": letter.type_name,
        "topic": letter.topic,
        "body": String::from_utf8_lossy(&letter.body),
        "requeueable": letter.requeueable,
        "reason": letter.reason,
        "errors": letter.errors,
        "attempts": letter.attempts,
        "first_failed_at": letter.first_failed_at,
        "last_failed_at": letter.last_failed_at,
        "correlation_id": letter.correlation_id,
        "trace_id": letter.trace_id,
        "status": letter.status.as_str(),
        "history": letter.history,
    })
}

pub(crate) fn id_of(text: &str) -> napi::Result<Uuid> {
    orkestra::message::parse_message_id(text).map_err(|error| throw(&error))
}

#[napi]
impl NodeStores {
    /// Records that a delivery was given up; `json` says what it is about, `now` is in microseconds. Ends with the entry.
    #[napi]
    pub fn record_dead_letter(
        &self,
        delivery: &NodeDelivery,
        json: String,
        now: i64,
    ) -> napi::Result<Started> {
        let letters = self.services()?.dead_letters;
        let letter = delivery.dead_letter(&json, now)?;
        self.spawner.start(async move {
            let letter = letters.record(letter).await?;
            Ok::<_, StoreError>(Some(letter_json(&letter).to_string()))
        })
    }

    /// The entries that a filter finds, JSON both ways: `{items, total}`.
    #[napi]
    pub fn list_dead_letters(&self, filter: String) -> napi::Result<Started> {
        let letters = self.services()?.dead_letters;
        let filter = parse::<FilterIn>(&filter)?.read()?;
        self.spawner.start(async move {
            let page = letters.list(filter).await?;
            let items: Vec<_> = page.items.iter().map(letter_json).collect();
            let text = json!({ "items": items, "total": page.total }).to_string();
            Ok::<_, StoreError>(Some(text))
        })
    }

    /// One entry.
    #[napi]
    pub fn dead_letter(&self, id: String) -> napi::Result<Started> {
        let letters = self.services()?.dead_letters;
        let id = id_of(&id)?;
        self.spawner.start(async move {
            let letter = letters.get(id).await?;
            Ok::<_, StoreError>(Some(letter_json(&letter).to_string()))
        })
    }

    /// Marks an entry as requeued, with another body if one is given. Ends with the entry.
    #[napi]
    pub fn requeue_dead_letter(&self, id: String, body: Option<String>) -> napi::Result<Started> {
        let letters = self.services()?.dead_letters;
        let id = id_of(&id)?;
        self.spawner.start(async move {
            let letter = letters.requeue(id, body.map(Bytes::from)).await?;
            Ok::<_, StoreError>(Some(letter_json(&letter).to_string()))
        })
    }

    /// Marks an entry as dead again, with this body: it could not be handed over.
    #[napi]
    pub fn take_back_dead_letter(&self, id: String, body: String) -> napi::Result<Started> {
        let letters = self.services()?.dead_letters;
        let id = id_of(&id)?;
        self.spawner.start(async move {
            letters.take_back(id, Bytes::from(body)).await?;
            Ok::<_, StoreError>(None)
        })
    }

    /// Removes an entry. Ends with whether there was one.
    #[napi]
    pub fn discard_dead_letter(&self, id: String) -> napi::Result<Started> {
        let letters = self.services()?.dead_letters;
        let id = id_of(&id)?;
        self.spawner.start(async move {
            let there = letters.discard(id).await?;
            Ok::<_, StoreError>(Some(there.to_string()))
        })
    }
}
