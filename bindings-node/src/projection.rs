//! Readers of views.

use napi_derive::napi;
use orkestra::{
    Error,
    ports::{Position, TypeFilter},
    projection::{Mode, Projection, ProjectionBatch, ProjectionOptions},
};
use serde::Deserialize;
use serde_json::json;

use crate::{
    bridge::{Spawner, Started},
    error::parse,
    lent::Slot,
    pages,
    registry::NodeRegistry,
    services::NodeStores,
    store::patterns_of,
    subscription::StartIn,
    view::{RowIn, switch_json},
};

#[derive(Deserialize)]
struct ProjectionIn {
    /// `<app>.<projection>`.
    name: String,
    /// Of a rebuild, whether it goes on where an earlier one stopped.
    rebuild: Option<bool>,
    topics: Option<Vec<String>>,
    stream_prefix: Option<String>,
    start: StartIn,
    batch_size: usize,
}

/// The reader of one view.
#[napi(js_name = "Projection")]
pub struct NodeProjection {
    spawner: Spawner,
    slot: Slot<Projection>,
}

/// A position as JavaScript gives it.
pub(crate) fn place(position: Option<i64>) -> Option<Position> {
    position.and_then(|p| u64::try_from(p).ok()).map(Position)
}

fn write(batch: &ProjectionBatch) -> String {
    let position = batch
        .position
        .map_or_else(|| "null".to_owned(), |p| p.to_string());
    let replaying = batch.replaying;
    let mut text = format!("{{\"position\":{position},\"replaying\":{replaying},\"events\":");
    pages::write(&mut text, &batch.events);
    text.push('}');
    text
}

#[napi]
impl NodeProjection {
    /// The reader of the live view, or of a rebuild; `json` says of which projection.
    #[napi(constructor)]
    pub fn new(stores: &NodeStores, registry: &NodeRegistry, json: String) -> napi::Result<Self> {
        let services = stores.services()?;
        let given: ProjectionIn = parse(&json)?;
        let types = match &given.topics {
            Some(topics) => registry.inner.filter(&patterns_of(topics)?),
            None => TypeFilter::default(),
        };
        let mut options = ProjectionOptions::new(types);
        options.stream_prefix = given.stream_prefix;
        options.start = given.start.read();
        options.batch_size = given.batch_size;
        let mode = given
            .rebuild
            .map_or(Mode::Live, |resume| Mode::Rebuild { resume });
        Ok(Self {
            spawner: stores.spawner.clone(),
            slot: Slot::new(services.projection(given.name, mode, &options)),
        })
    }

    /// What the names of the view's tables have at their end.
    #[napi]
    pub fn suffix(&self) -> napi::Result<&'static str> {
        self.slot.look(Projection::suffix)
    }

    /// Whether the tables may be missing.
    #[napi]
    pub fn is_unprepared(&self) -> napi::Result<bool> {
        self.slot.look(Projection::is_unprepared)
    }

    /// The tables are there.
    #[napi]
    pub fn prepared(&self) -> napi::Result<()> {
        self.slot.with(Projection::prepared)
    }

    /// The save of a view that stands at `position` afterwards, JSON.
    #[napi]
    pub fn checkpoint(&self, position: Option<i64>) -> napi::Result<String> {
        self.slot.look(|projection| {
            let save = projection.checkpoint(place(position));
            json!({
                "name": save.name,
                "expected": save.expected.map(|p| p.0),
                "position": save.position.map(|p| p.0),
                "token": save.token.0,
                "anew": save.anew,
                "unsure": save.unsure,
            })
            .to_string()
        })
    }

    /// The handler failed.
    #[napi]
    pub fn failed(&self) -> napi::Result<()> {
        self.slot.with(Projection::failed)
    }

    /// What follows the view's place is read again.
    #[napi]
    pub fn rewind(&self) -> napi::Result<()> {
        self.slot.with(Projection::rewind)
    }

    /// Finds the place to start at.
    #[napi]
    pub fn open(&self) -> napi::Result<Started> {
        let slot = self.slot.clone();
        self.spawner.start(async move {
            slot.take()?.get()?.open().await?;
            Ok::<_, Error>(None)
        })
    }

    /// Waits for the next events: `{position, replaying, events}`.
    #[napi]
    pub fn next(&self) -> napi::Result<Started> {
        let slot = self.slot.clone();
        self.spawner.start(async move {
            let batch = slot.take()?.get()?.next().await?;
            Ok::<_, Error>(Some(write(&batch)))
        })
    }

    /// The next events, nothing when there are none now.
    #[napi]
    pub fn try_next(&self) -> napi::Result<Started> {
        let slot = self.slot.clone();
        self.spawner.start(async move {
            let batch = slot.take()?.get()?.try_next().await?;
            Ok::<_, Error>(batch.as_ref().map(write))
        })
    }

    /// The view's transaction is committed, with the checkpoint at `position`.
    #[napi]
    pub fn saved(&self, position: Option<i64>) -> napi::Result<Started> {
        let slot = self.slot.clone();
        self.spawner.start(async move {
            slot.take()?.get()?.saved(place(position)).await?;
            Ok::<_, Error>(None)
        })
    }

    /// Everything up to `position` is handled, without a transaction of the view.
    #[napi]
    pub fn handled(&self, position: Option<i64>) -> napi::Result<Started> {
        let slot = self.slot.clone();
        self.spawner.start(async move {
            slot.take()?.get()?.handled(place(position)).await?;
            Ok::<_, Error>(None)
        })
    }

    /// The view stands elsewhere: its row as JSON, or nothing.
    #[napi]
    pub fn found(&self, row: Option<String>) -> napi::Result<Started> {
        let slot = self.slot.clone();
        let row: Option<RowIn> = row.map(|json| parse(&json)).transpose()?;
        self.spawner.start(async move {
            slot.take()?.get()?.found(row.map(RowIn::read)).await?;
            Ok::<_, Error>(None)
        })
    }

    /// How far it is, JSON.
    #[napi]
    pub fn progress(&self) -> napi::Result<Started> {
        let slot = self.slot.clone();
        self.spawner.start(async move {
            let progress = slot.take()?.get()?.progress().await?;
            let json = json!({
                "position": progress.position.map(|p| p.0),
                "head": progress.head.map(|p| p.0),
                "handled": progress.handled,
                "caughtUp": progress.caught_up,
            });
            Ok::<_, Error>(Some(json.to_string()))
        })
    }

    /// Has the live view wait.
    #[napi]
    pub fn pause_live(&self) -> napi::Result<Started> {
        let slot = self.slot.clone();
        self.spawner.start(async move {
            slot.take()?.get()?.pause_live().await?;
            Ok::<_, Error>(None)
        })
    }

    /// What the user's switch moves, JSON.
    #[napi]
    pub fn switch(&self) -> napi::Result<Started> {
        let slot = self.slot.clone();
        self.spawner.start(async move {
            let switch = slot.take()?.get()?.switch().await?;
            Ok::<_, Error>(Some(switch_json(&switch)))
        })
    }

    /// The switch is committed.
    #[napi]
    pub fn switched(&self) -> napi::Result<Started> {
        let slot = self.slot.clone();
        self.spawner.start(async move {
            slot.take()?.get()?.switched().await?;
            Ok::<_, Error>(None)
        })
    }

    /// The switch was rolled back.
    #[napi]
    pub fn not_switched(&self) -> napi::Result<Started> {
        let slot = self.slot.clone();
        self.spawner.start(async move {
            slot.take()?.get()?.not_switched().await?;
            Ok::<_, Error>(None)
        })
    }

    /// Lets another process go on at once.
    #[napi]
    pub fn release(&self) -> napi::Result<Started> {
        let slot = self.slot.clone();
        self.spawner.start(async move {
            slot.take()?.get()?.release().await?;
            Ok::<_, Error>(None)
        })
    }
}

#[napi]
impl NodeStores {
    /// How far the projection of that full name is, JSON.
    #[napi]
    pub fn projection_state(&self, name: String) -> napi::Result<Started> {
        let services = self.services()?;
        self.spawner.start(async move {
            let state = services.projection_state(&name).await?;
            let json = json!({
                "position": state.position.map(|p| p.0),
                "head": state.head.map(|p| p.0),
                "lag": state.lag,
                "rebuild": state.rebuild.map(|p| p.0),
            });
            Ok::<_, Error>(Some(json.to_string()))
        })
    }
}
