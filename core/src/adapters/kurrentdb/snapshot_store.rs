//! Snapshots: the last event of `snapshot-<stream>` is the stream's snapshot, and the server may drop the ones before.

use std::{borrow::Cow, str};

use async_trait::async_trait;
use bytes::Bytes;
use kurrentdb::{EventData, StreamPosition, StreamState};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    Core, KurrentdbStore,
    error::Failure,
    event::{FromServer, SNAPSHOTS},
    read::{Slice, check_name},
};
use crate::{
    clock::Timestamp,
    ports::{Direction, Snapshot, SnapshotStore, StoreError, StreamName},
};

/// The type of the events that hold snapshots.
const SNAPSHOT: &str = "orkestra.snapshot";

/// How often a save is tried while others save too.
const TRIES: u32 = 8;

/// A snapshot as the payload of an event.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    revision: u64,
    schema_version: u32,
    #[serde(borrow)]
    taken_at: Cow<'a, str>,
    #[serde(borrow)]
    state: &'a RawValue,
}

fn corrupt(stream: &StreamName, reason: impl Into<String>) -> StoreError {
    StoreError::Corrupt {
        what: format!("the snapshot of {stream}"),
        reason: reason.into(),
    }
}

fn decode(stream: &StreamName, event: &FromServer) -> Result<Snapshot, StoreError> {
    let text = str::from_utf8(&event.data).map_err(|e| corrupt(stream, e.to_string()))?;
    let stored: Stored<'_> =
        serde_json::from_str(text).map_err(|e| corrupt(stream, e.to_string()))?;
    let taken_at =
        Timestamp::parse(&stored.taken_at).ok_or_else(|| corrupt(stream, "taken_at is no time"))?;
    Ok(Snapshot {
        stream: stream.clone(),
        revision: stored.revision,
        schema_version: stored.schema_version,
        state: Bytes::copy_from_slice(stored.state.get().as_bytes()),
        taken_at,
    })
}

fn encode(snapshot: &Snapshot) -> Result<EventData, StoreError> {
    let not_json = |e: serde_json::Error| StoreError::InvalidArgument {
        argument: "state".into(),
        reason: format!("the snapshot of {} is not JSON: {e}", snapshot.stream),
    };
    let stored = Stored {
        revision: snapshot.revision,
        schema_version: snapshot.schema_version,
        taken_at: snapshot.taken_at.to_string().into(),
        state: serde_json::from_slice(&snapshot.state).map_err(not_json)?,
    };
    EventData::json(SNAPSHOT, &stored).map_err(not_json)
}

impl Core {
    /// The end of the stream's snapshots.
    async fn last_snapshot(&self, stream: &StreamName) -> Result<Slice, StoreError> {
        let name = format!("{SNAPSHOTS}{stream}");
        let read = self
            .slice(&name, StreamPosition::End, Direction::Backwards, 1)
            .await;
        match read {
            Ok(slice) => Ok(slice),
            Err(Failure::NotFound | Failure::Deleted) => Ok(Slice::default()),
            Err(other) => Err(other.into_store(&name)),
        }
    }

    async fn save_snapshot(&self, snapshot: &Snapshot) -> Result<(), StoreError> {
        let stream = &snapshot.stream;
        let name = format!("{SNAPSHOTS}{stream}");
        let event = encode(snapshot)?;
        for _ in 0..TRIES {
            let end = self.last_snapshot(stream).await?;
            if let Some(Ok(there)) = end.events.first().map(|event| decode(stream, event))
                && there.schema_version == snapshot.schema_version
                && there.revision > snapshot.revision
            {
                return Ok(());
            }
            let at = if let Some(last) = end.last {
                StreamState::StreamRevision(last)
            } else {
                // The server may drop all but the last one. If it knows the stream, and others deleted it, it tells so from now on.
                self.set_stream_metadata(&name, "$maxCount", 1).await?;
                StreamState::NoStream
            };
            match self.write(&name, at, vec![event.clone()]).await {
                Ok(_) => return Ok(()),
                Err(Failure::WrongRevision(_)) => {}
                Err(other) => return Err(other.into_store(&name)),
            }
        }
        Err(Failure::WrongRevision(None).into_store(&name))
    }
}

#[async_trait]
impl SnapshotStore for KurrentdbStore {
    async fn save(&self, snapshot: Snapshot) -> Result<(), StoreError> {
        check_name(&snapshot.stream)?;
        self.run(|core| async move { core.save_snapshot(&snapshot).await })
            .await
    }

    async fn load(&self, stream: StreamName) -> Result<Option<Snapshot>, StoreError> {
        check_name(&stream)?;
        self.run(|core| async move {
            let end = core.last_snapshot(&stream).await?;
            let last = end.events.first();
            last.map(|event| decode(&stream, event)).transpose()
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(data: impl Into<Bytes>) -> FromServer {
        FromServer {
            id: uuid::Uuid::from_u128(1),
            stream: "snapshot-order-1".into(),
            type_name: SNAPSHOT.into(),
            revision: 0,
            commit: 1,
            prepare: 1,
            created: Timestamp::from_micros(0),
            data: data.into(),
            metadata: Bytes::new(),
        }
    }

    proptest! {
        #[test]
        fn whatever_is_stored_is_a_snapshot_or_corrupt(data in proptest::collection::vec(any::<u8>(), 0..80)) {
            let stream = StreamName::new("order-1").unwrap();
            let decoded = decode(&stream, &event(data));
            let is_corrupt = matches!(decoded, Err(StoreError::Corrupt { .. }));
            prop_assert!(decoded.is_ok() || is_corrupt);
        }
    }
}
