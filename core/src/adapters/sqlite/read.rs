//! Reading events.

use std::{collections::HashMap, sync::Arc};

use rusqlite::{OptionalExtension, Transaction};
use uuid::Uuid;

use super::{
    error::Failure,
    number::{signed, unsigned},
    page::{COLUMNS, MAX_BYTES, MAX_EVENTS, PageBuilder, integer},
    reader::Reader,
};
use crate::ports::{
    Direction, EventRef, Page, Position, ReadAll, ReadStream, StreamName, StreamPage,
};

/// Events of a page of the whole store unless the caller says otherwise.
const DEFAULT_PAGE: usize = 1_000;

/// Unwanted events that a page passes over before it is given back as it is, so that no read holds its thread for long.
const MAX_PASSED_OVER: usize = 100_000;

impl Reader<'_> {
    pub(super) fn read_stream(
        &mut self,
        stream: &StreamName,
        options: ReadStream,
    ) -> Result<StreamPage, Failure> {
        // One moment for the stream's state and its events.
        let tx = Transaction::new_unchecked(self.conn, rusqlite::TransactionBehavior::Deferred)?;
        let found: Option<(i64, i64, Option<i64>)> = tx
            .prepare_cached(
                "SELECT s.id, coalesce(s.deleted_through, -1), \
                 (SELECT max(e.revision) FROM orkestra_events e WHERE e.stream_id = s.id) \
                 FROM orkestra_streams s WHERE s.name = ?1",
            )?
            .query_row([&**stream], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()?;
        let Some((id, deleted_through, Some(last))) = found else {
            return Ok(StreamPage {
                end: true,
                ..StreamPage::default()
            });
        };
        let floor = deleted_through + 1;
        let (from, to, order) = match options.direction {
            Direction::Forwards => {
                let from = options.from_revision.map_or(0, signed);
                (from.max(floor), i64::MAX, "")
            }
            Direction::Backwards => {
                let to = options.from_revision.map_or(i64::MAX, signed);
                (floor, to, " DESC")
            }
        };
        let limit = options.limit.min(MAX_EVENTS);
        let mut page = PageBuilder::new(limit, self.page_bytes.min(MAX_BYTES));
        let mut end = true;
        {
            let mut statement = tx.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM orkestra_events \
                 WHERE stream_id = ?1 AND revision BETWEEN ?2 AND ?3 ORDER BY revision{order}"
            ))?;
            let mut rows = statement.query((id, from, to))?;
            let name = stream.shared();
            while let Some(row) = rows.next()? {
                if page.len() >= limit || page.bytes() >= MAX_BYTES {
                    end = false;
                    break;
                }
                let type_name = self.types.get(self.conn, integer(row, 2)?)?;
                page.push(row, Arc::clone(&name), Arc::clone(type_name))?;
            }
        }
        tx.finish()?;
        self.page_bytes = page.bytes();
        Ok(StreamPage {
            events: page.finish(),
            last_revision: Some(unsigned(last)),
            end,
        })
    }

    pub(super) fn read_all(&mut self, options: &ReadAll) -> Result<Page, Failure> {
        let limit = match options.limit {
            0 => DEFAULT_PAGE,
            limit => limit.min(MAX_EVENTS),
        };
        let mut wanted = Wanted {
            options,
            types: HashMap::new(),
        };
        let mut page = PageBuilder::new(limit, self.page_bytes.min(MAX_BYTES));
        let mut position = None;
        let mut passed_over = 0;
        let mut end = true;
        let mut statement = self.conn.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM orkestra_events WHERE position > ?1 ORDER BY position"
        ))?;
        let mut rows = statement.query([options.after.map_or(0, |p| signed(p.0))])?;
        while let Some(row) = rows.next()? {
            if page.len() >= limit || page.bytes() >= MAX_BYTES || passed_over >= MAX_PASSED_OVER {
                end = false;
                break;
            }
            position = Some(integer(row, 0)?);
            let type_id = integer(row, 2)?;
            let type_name = self.types.get(self.conn, type_id)?;
            let stream = self.streams.get(self.conn, integer(row, 1)?)?;
            if wanted.has(type_id, type_name, stream) {
                page.push(row, Arc::clone(stream), Arc::clone(type_name))?;
            } else {
                passed_over += 1;
            }
        }
        drop(rows);
        self.page_bytes = page.bytes();
        Ok(Page {
            events: page.finish(),
            position: position.map(|p| Position(unsigned(p))),
            end,
        })
    }

    pub(super) fn head(&self) -> Result<Option<Position>, Failure> {
        let last: Option<i64> = self
            .conn
            .prepare_cached("SELECT max(position) FROM orkestra_events")?
            .query_row([], |row| row.get(0))?;
        Ok(last.map(|p| Position(unsigned(p))))
    }

    pub(super) fn find_event(&self, id: Uuid) -> Result<Option<EventRef>, Failure> {
        Ok(self
            .conn
            .prepare_cached(
                "SELECT s.name, e.revision, e.position FROM orkestra_events e \
                 JOIN orkestra_streams s ON s.id = e.stream_id WHERE e.event_id = ?1",
            )?
            .query_row([id.as_bytes()], |row| {
                Ok(EventRef {
                    stream: row.get(0)?,
                    revision: unsigned(row.get(1)?),
                    position: Position(unsigned(row.get(2)?)),
                })
            })
            .optional()?)
    }
}

/// Which events a page wants; each type is decided once.
struct Wanted<'a> {
    options: &'a ReadAll,
    types: HashMap<i64, bool>,
}

impl Wanted<'_> {
    fn has(&mut self, type_id: i64, type_name: &str, stream: &str) -> bool {
        let options = self.options;
        options
            .stream_prefix
            .as_deref()
            .is_none_or(|prefix| stream.starts_with(prefix))
            && (options.types.patterns.is_none()
                || *self
                    .types
                    .entry(type_id)
                    .or_insert_with(|| options.types.wants(type_name)))
    }
}
