//! Building a page of events: all payloads in one buffer, names shared.

use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{Row, types::ValueRef};
use uuid::Uuid;

use super::number::{small, time, unsigned};
use crate::ports::{Position, RecordedEvent};

/// The most events that a page has, whatever is asked for.
pub(super) const MAX_EVENTS: usize = 10_000;

/// The most bytes of payload that a page has; a single event may have more.
pub(super) const MAX_BYTES: usize = 16 * 1024 * 1024;

/// The columns that [`PageBuilder::push`] takes, from the first on.
pub(super) const COLUMNS: &str =
    "position, stream_id, type_id, revision, event_id, version, occurred_at, data, metadata";

/// A page in the making.
pub(super) struct PageBuilder {
    events: Vec<RecordedEvent>,
    /// Where each event's data and its metadata end.
    ends: Vec<(usize, usize)>,
    payload: Vec<u8>,
}

impl PageBuilder {
    /// A page of about `events` events and `bytes` bytes.
    pub(super) fn new(events: usize, bytes: usize) -> Self {
        let events = events.min(1_000);
        Self {
            events: Vec::with_capacity(events),
            ends: Vec::with_capacity(events),
            payload: Vec::with_capacity(bytes),
        }
    }

    /// Adds the event of `row`.
    pub(super) fn push(
        &mut self,
        row: &Row<'_>,
        stream: Arc<str>,
        type_name: Arc<str>,
    ) -> Result<(), rusqlite::Error> {
        let id = uuid(row, 4)?;
        self.copy(row, 7)?;
        let data_end = self.payload.len();
        self.copy(row, 8)?;
        self.ends.push((data_end, self.payload.len()));
        self.events.push(RecordedEvent {
            id,
            type_name,
            version: small(integer(row, 5)?),
            stream,
            revision: unsigned(integer(row, 3)?),
            position: Position(unsigned(integer(row, 0)?)),
            data: Bytes::new(),
            metadata: Bytes::new(),
            occurred_at: time(integer(row, 6)?),
        });
        Ok(())
    }

    fn copy(&mut self, row: &Row<'_>, column: usize) -> Result<(), rusqlite::Error> {
        match row.get_ref(column)? {
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
                self.payload.extend_from_slice(bytes);
                Ok(())
            }
            other => Err(wrong_type(column, &other)),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.payload.len()
    }

    /// The events, each with its slices of the one buffer.
    pub(super) fn finish(self) -> Vec<RecordedEvent> {
        let payload = Bytes::from(self.payload);
        let mut events = self.events;
        let mut start = 0;
        for (event, (middle, end)) in events.iter_mut().zip(self.ends) {
            event.data = payload.slice(start..middle);
            event.metadata = payload.slice(middle..end);
            start = end;
        }
        events
    }
}

/// The integer in `column`.
pub(super) fn integer(row: &Row<'_>, column: usize) -> Result<i64, rusqlite::Error> {
    match row.get_ref(column)? {
        ValueRef::Integer(number) => Ok(number),
        other => Err(wrong_type(column, &other)),
    }
}

/// The id in `column`.
pub(super) fn uuid(row: &Row<'_>, column: usize) -> Result<Uuid, rusqlite::Error> {
    let value = row.get_ref(column)?;
    if let ValueRef::Blob(bytes) = value
        && let Ok(bytes) = <[u8; 16]>::try_from(bytes)
    {
        return Ok(Uuid::from_bytes(bytes));
    }
    Err(wrong_type(column, &value))
}

fn wrong_type(column: usize, value: &ValueRef<'_>) -> rusqlite::Error {
    rusqlite::Error::InvalidColumnType(column, format!("column {column}"), value.data_type())
}
