//! Deleting streams, and the metadata that the server keeps of each.

use bytes::Bytes;
use kurrentdb::{EventData, StreamPosition, StreamState, TombstoneStreamOptions};
use serde_json::{Map, Value};

use super::{Core, append::conflict, error::Failure, event::SNAPSHOTS, read::Tail};
use crate::ports::{DeleteMode, Direction, ExpectedRevision, StoreError, StreamName};

/// How often a change of a stream's metadata is tried while others change it too.
const TRIES: u32 = 8;

/// Up to which revision a stream is cut off.
const TRUNCATE_BEFORE: &str = "$tb";

/// What the server keeps of a stream, and the revision of that.
#[derive(Debug, Default)]
struct StreamMetadata {
    fields: Map<String, Value>,
    revision: Option<u64>,
}

impl Core {
    async fn stream_metadata(&self, stream: &str) -> Result<StreamMetadata, StoreError> {
        let name = format!("$${stream}");
        let read = self
            .slice(&name, StreamPosition::End, Direction::Backwards, 1)
            .await;
        let slice = match read {
            Ok(slice) => slice,
            Err(Failure::NotFound | Failure::Deleted) => return Ok(StreamMetadata::default()),
            Err(other) => return Err(other.into_store(&name)),
        };
        let Some(event) = slice.events.first() else {
            return Ok(StreamMetadata::default());
        };
        Ok(StreamMetadata {
            fields: serde_json::from_slice(&event.data).unwrap_or_default(),
            revision: Some(event.revision),
        })
    }

    /// Sets one field of the stream's metadata and leaves the others alone.
    pub(super) async fn set_stream_metadata(
        &self,
        stream: &str,
        field: &str,
        value: u64,
    ) -> Result<(), StoreError> {
        let name = format!("$${stream}");
        for _ in 0..TRIES {
            let mut metadata = self.stream_metadata(stream).await?;
            let there = metadata.fields.get(field).and_then(Value::as_u64);
            // Whoever cut off more was later, though his change came first.
            let value = match there {
                Some(there) if field == TRUNCATE_BEFORE => there.max(value),
                _ => value,
            };
            metadata.fields.insert(field.to_owned(), value.into());
            let at = metadata
                .revision
                .map_or(StreamState::NoStream, StreamState::StreamRevision);
            let event = EventData::json("$metadata", &metadata.fields).map_err(|error| {
                StoreError::Corrupt {
                    what: format!("the metadata of {stream}"),
                    reason: error.to_string(),
                }
            })?;
            match self.write(&name, at, vec![event]).await {
                Ok(_) => return Ok(()),
                Err(Failure::WrongRevision(_)) => {}
                Err(other) => return Err(other.into_store(&name)),
            }
        }
        Err(Failure::WrongRevision(None).into_store(&name))
    }

    pub(super) async fn delete(
        &self,
        stream: &StreamName,
        expected: ExpectedRevision,
        mode: DeleteMode,
    ) -> Result<bool, StoreError> {
        let tail = self.tail(stream).await?;
        if !expected.holds(tail.last()) {
            return Err(conflict(stream, expected, tail.last()));
        }
        match (tail, mode) {
            (Tail::None | Tail::Deleted, _) | (Tail::Empty(_), DeleteMode::Soft) => Ok(false),
            (Tail::At(last), DeleteMode::Soft) => {
                // What is appended meanwhile comes after the deletion and stays.
                self.set_stream_metadata(stream, TRUNCATE_BEFORE, last + 1)
                    .await?;
                self.delete_snapshot(stream).await?;
                Ok(true)
            }
            (Tail::At(_) | Tail::Empty(_), DeleteMode::Hard) => {
                self.tombstone(stream, expected).await?;
                self.recent.lock().take(stream);
                self.delete_snapshot(stream).await?;
                Ok(true)
            }
        }
    }

    async fn tombstone(
        &self,
        stream: &StreamName,
        expected: ExpectedRevision,
    ) -> Result<(), StoreError> {
        let at = match expected {
            ExpectedRevision::Any | ExpectedRevision::NoStream => StreamState::Any,
            ExpectedRevision::StreamExists => StreamState::StreamExists,
            ExpectedRevision::Exact(revision) => StreamState::StreamRevision(revision),
        };
        let mut options = TombstoneStreamOptions::default()
            .stream_state(at)
            .requires_leader(true)
            .deadline(self.link.config().deadline);
        if let Some(login) = self.login() {
            options = options.authenticated(login);
        }
        let name = Bytes::from(stream.as_bytes().to_vec());
        let done = self
            .link
            .call(&format!("delete {stream}"), |client| {
                let (name, options) = (name.clone(), options.clone());
                async move { client.tombstone_stream(name, &options).await }
            })
            .await;
        match done {
            // Deleted by somebody else at the same time, or by a call of ours whose answer was lost.
            Ok(_) | Err(Failure::Deleted) => Ok(()),
            Err(Failure::Refused(_) | Failure::WrongRevision(_)) => {
                let actual = self.tail(stream).await?.last();
                Err(conflict(stream, expected, actual))
            }
            Err(other) => Err(other.into_store(stream)),
        }
    }

    /// Deletes the snapshot of `stream`.
    async fn delete_snapshot(&self, stream: &StreamName) -> Result<(), StoreError> {
        let name = format!("{SNAPSHOTS}{stream}");
        match self.tail(&name).await? {
            Tail::At(last) => {
                self.set_stream_metadata(&name, TRUNCATE_BEFORE, last + 1)
                    .await
            }
            Tail::None | Tail::Deleted | Tail::Empty(_) => Ok(()),
        }
    }
}
