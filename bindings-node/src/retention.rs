//! Letting go of what is old.

use std::time::Duration;

use napi_derive::napi;
use orkestra::{
    Error,
    ports::{StoreError, StreamPattern},
    retention::{PurgeStreams, Retention},
};
use serde::Deserialize;
use serde_json::json;

use crate::{bridge::Started, error::parse, services::NodeStores};

#[derive(Deserialize)]
struct PurgeIn {
    older_than_ms: f64,
    streams: Option<String>,
    archive: Option<String>,
}

fn age(ms: f64) -> Duration {
    Duration::try_from_secs_f64(ms / 1000.0).unwrap_or(Duration::MAX)
}

#[napi]
impl NodeStores {
    /// Deletes idle streams; JSON both ways.
    #[napi]
    pub fn purge_streams(&self, json: String) -> napi::Result<Started> {
        let retention = self.services()?.retention();
        let given: PurgeIn = parse(&json)?;
        self.spawner.start(async move {
            let mut options = PurgeStreams::new(age(given.older_than_ms));
            if let Some(pattern) = &given.streams {
                options = options.streams(StreamPattern::new(pattern)?);
            }
            if let Some(file) = given.archive {
                options = options.archive(file);
            }
            let purged = retention.purge_streams(options).await?;
            let json = json!({
                "streams": purged.streams, "events": purged.events,
                "wentOn": purged.went_on, "hidden": purged.hidden,
            });
            Ok::<_, Error>(Some(json.to_string()))
        })
    }

    /// Removes dead letters, of one handler or all. Ends with how many.
    #[napi]
    pub fn purge_dead_letters(
        &self,
        older_than_ms: f64,
        handler: Option<String>,
    ) -> napi::Result<Started> {
        self.purge(async move |retention: Retention| {
            let older_than = age(older_than_ms);
            retention
                .purge_dead_letters(older_than, handler.as_deref())
                .await
        })
    }

    /// Removes messages from the outbox. Ends with how many.
    #[napi]
    pub fn purge_outbox(&self, older_than_ms: f64) -> napi::Result<Started> {
        self.purge(async move |retention: Retention| {
            retention.purge_outbox(age(older_than_ms)).await
        })
    }

    /// Forgets what handlers handled. Ends with how many records.
    #[napi]
    pub fn purge_inbox(&self, older_than_ms: f64) -> napi::Result<Started> {
        self.purge(async move |retention: Retention| {
            retention.purge_inbox(age(older_than_ms)).await
        })
    }
}

impl NodeStores {
    fn purge<F>(&self, work: F) -> napi::Result<Started>
    where
        F: AsyncFnOnce(Retention) -> Result<u64, StoreError> + 'static,
    {
        let retention = self.services()?.retention();
        self.spawner.start(async move {
            let removed = work(retention).await?;
            Ok::<_, StoreError>(Some(removed.to_string()))
        })
    }
}
