//! What becomes of a projection's batch.

use std::time::Duration;

use napi_derive::napi;
use orkestra::{
    clock::Timestamp,
    message::MessageKind,
    ports::{ErrorRecord, StoreError},
    projection::{Step, Work},
    retry::RetryPolicy,
    subscription::Poison,
};
use serde_json::json;

use crate::{
    bridge::Started, dead_letters::letter_json, delivery::AddressedIn, error::parse,
    projection::place, services::NodeStores,
};

/// A batch on its way into a view.
#[napi(js_name = "Work")]
pub struct NodeWork {
    inner: Work,
}

fn poison_of(word: &str) -> Poison {
    match word {
        "skip" => Poison::Skip,
        "stop" => Poison::Stop,
        _ => Poison::Park,
    }
}

fn word_of(poison: Poison) -> &'static str {
    match poison {
        Poison::Park => "park",
        Poison::Skip => "skip",
        Poison::Stop => "stop",
    }
}

#[napi]
impl NodeWork {
    /// Events at these positions, read up to `end`; `policy` is JSON.
    #[napi(constructor)]
    pub fn new(
        positions: Vec<i64>,
        end: Option<i64>,
        policy: String,
        poison: String,
    ) -> napi::Result<Self> {
        let policy: RetryPolicy = parse(&policy)?;
        let positions = positions.into_iter().filter_map(|p| place(Some(p)));
        Ok(Self {
            inner: Work::new(positions, place(end), &policy, poison_of(&poison)),
        })
    }

    /// What to do now, JSON.
    #[napi]
    pub fn step(&self) -> String {
        match self.inner.step() {
            Step::Handle { events, position } => json!({
                "do": "handle",
                "from": events.start,
                "to": events.end,
                "position": position.map(|p| p.0),
            }),
            Step::Wait { after } => json!({
                "do": "wait",
                "afterMs": after.as_secs_f64() * 1000.0,
            }),
            Step::GiveUp {
                event,
                poison,
                reason,
                position,
            } => json!({
                "do": "giveUp",
                "event": event,
                "poison": word_of(poison),
                "reason": reason.as_str(),
                "position": position.map(|p| p.0),
            }),
            Step::Done => json!({ "do": "done" }),
        }
        .to_string()
    }

    /// The 1-based number of the attempt.
    #[napi]
    pub fn attempt(&self) -> u32 {
        self.inner.attempt()
    }

    /// The events at hand are in the view.
    #[napi]
    pub fn succeeded(&mut self) {
        self.inner.succeeded();
    }

    /// The handler failed with an error of these types. `errors` is JSON, `now` microseconds.
    #[napi]
    pub fn failed(
        &mut self,
        types: Vec<String>,
        errors: String,
        now: i64,
        draw: f64,
    ) -> napi::Result<()> {
        let errors: Vec<ErrorRecord> = parse(&errors)?;
        self.inner
            .failed(&types, errors, Timestamp::from_micros(now), draw);
        Ok(())
    }

    /// The handler failed because something was away that comes back.
    #[napi]
    pub fn away(&mut self, errors: String, now: i64, draw: f64) -> napi::Result<()> {
        let errors: Vec<ErrorRecord> = parse(&errors)?;
        self.inner.away(errors, Timestamp::from_micros(now), draw);
        Ok(())
    }

    /// The handler wants to be called again after this many milliseconds.
    #[napi]
    pub fn retry_after(&mut self, delay_ms: f64, errors: String, now: i64) -> napi::Result<()> {
        let errors: Vec<ErrorRecord> = parse(&errors)?;
        let delay = Duration::try_from_secs_f64(delay_ms / 1000.0).unwrap_or_default();
        self.inner
            .retry_after(delay, errors, Timestamp::from_micros(now));
        Ok(())
    }

    /// What is stored cannot be read.
    #[napi]
    pub fn undecodable(&mut self, errors: String, now: i64) -> napi::Result<()> {
        let errors: Vec<ErrorRecord> = parse(&errors)?;
        self.inner.undecodable(errors, Timestamp::from_micros(now));
        Ok(())
    }

    /// The handler refused.
    #[napi]
    pub fn rejected(&mut self) {
        self.inner.rejected();
    }

    /// The wait is over.
    #[napi]
    pub fn waited(&mut self) {
        self.inner.waited();
    }

    /// The event at hand is parked or skipped.
    #[napi]
    pub fn given_up(&mut self) {
        self.inner.given_up();
    }
}

#[napi]
impl NodeStores {
    /// Records that a projection gave an event up; `json` says what it is about, `now` is in microseconds. Ends with the entry.
    #[napi]
    pub fn park_event(
        &self,
        work: &NodeWork,
        handler: String,
        json: String,
        now: i64,
    ) -> napi::Result<Started> {
        let letters = self.services()?.dead_letters;
        let (reason, addressed) = parse::<AddressedIn>(&json)?.read(handler, MessageKind::Event);
        let now = Timestamp::from_micros(now);
        let letter = work.inner.dead_letter(reason, addressed, now);
        self.spawner.start(async move {
            let letter = letters.record(letter).await?;
            Ok::<_, StoreError>(Some(letter_json(&letter).to_string()))
        })
    }
}
