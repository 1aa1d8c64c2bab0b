//! Appending within a transaction.

use std::{collections::HashSet, sync::Arc};

use rusqlite::{
    ErrorCode, OptionalExtension, ToSql,
    types::{ToSqlOutput, ValueRef},
};
use uuid::Uuid;

use super::{
    error::Failure,
    heads::Head,
    number::{signed, unsigned},
    queue::Size,
    writer::Tx,
};
use crate::ports::{
    Append, Appended, ExpectedRevision, MAX_BATCH, NewEvent, Position, StoreError, StreamName,
};

/// JSON bytes, stored as text so that SQLite's JSON functions read them.
struct Json<'a>(&'a [u8]);

impl ToSql for Json<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(self.0)))
    }
}

/// Refuses a batch that is too long or holds an id twice.
pub(super) fn check(events: &[NewEvent]) -> Result<(), StoreError> {
    let refused = |reason: String| StoreError::InvalidArgument {
        argument: "events".into(),
        reason,
    };
    if events.len() > MAX_BATCH {
        return Err(refused(format!(
            "expected at most {MAX_BATCH}, found {}",
            events.len()
        )));
    }
    let mut seen = HashSet::with_capacity(if events.len() > 1 { events.len() } else { 0 });
    if events.len() > 1
        && let Some(twice) = events.iter().find(|event| !seen.insert(event.id))
    {
        return Err(refused(format!("{} is there twice", twice.id)));
    }
    Ok(())
}

/// How much `events` write.
pub(super) fn size(events: &[NewEvent]) -> Size {
    Size {
        events: events.len(),
        bytes: events.iter().map(|e| e.data.len() + e.metadata.len()).sum(),
    }
}

impl Tx<'_> {
    /// Appends a batch. What fails leaves nothing behind.
    pub(super) fn append(
        &mut self,
        stream: &StreamName,
        events: &[NewEvent],
        expected: ExpectedRevision,
    ) -> Result<Appended, Failure> {
        let head = self.head(stream)?;
        let actual = head.and_then(|h| h.last);
        if events.is_empty() {
            return Ok(Appended {
                revision: actual,
                position: None,
                repeated: false,
            });
        }
        if !expected.holds(actual) {
            return match self.stored_before(head, events)? {
                Some(answer) => answer,
                None => Err(StoreError::RevisionConflict {
                    stream: stream.to_string(),
                    expected,
                    actual,
                }
                .into()),
            };
        }
        let several = events.len() > 1;
        if several {
            self.savepoint("SAVEPOINT orkestra_batch")?;
        }
        match self.insert(stream, head, events) {
            Ok(appended) => {
                if several {
                    self.savepoint("RELEASE orkestra_batch")?;
                }
                Ok(appended)
            }
            Err(error) if id_is_taken(&error) => {
                if several {
                    self.undo_to("ROLLBACK TO orkestra_batch", "RELEASE orkestra_batch")?;
                }
                self.stored_before(head, events)?
                    .unwrap_or(Err(error.into()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Appends to several streams, all or nothing.
    pub(super) fn append_many(&mut self, appends: &[Append]) -> Result<Vec<Appended>, Failure> {
        self.savepoint("SAVEPOINT orkestra_many")?;
        let done = appends
            .iter()
            .map(|a| self.append(&a.stream, &a.events, a.expected))
            .collect::<Result<Vec<_>, _>>();
        match done {
            Ok(appended) => {
                self.savepoint("RELEASE orkestra_many")?;
                Ok(appended)
            }
            Err(Failure::Refused(error)) => {
                self.undo_to("ROLLBACK TO orkestra_many", "RELEASE orkestra_many")?;
                Err(error.into())
            }
            Err(failed) => Err(failed),
        }
    }

    fn insert(
        &mut self,
        stream: &StreamName,
        head: Option<Head>,
        events: &[NewEvent],
    ) -> Result<Appended, rusqlite::Error> {
        let head = match head {
            Some(head) => head,
            None => self.add_stream(stream)?,
        };
        let first = head.last.map_or(0, |last| last + 1);
        let start = self.next_position()?;
        let (mut revision, mut position) = (first, start);
        for event in events {
            let type_id = self.type_id(&event.type_name)?;
            self.insert_event.execute(rusqlite::params![
                (!self.heads.dense).then(|| signed(position)),
                head.id,
                signed(revision),
                event.id.as_bytes(),
                type_id,
                event.version,
                event.occurred_at.as_micros(),
                Json(&event.data),
                Json(&event.metadata),
            ])?;
            self.heads.dense = true;
            debug_assert_eq!(self.conn.last_insert_rowid(), signed(position));
            revision += 1;
            position += 1;
        }
        self.heads.set_next_position(position);
        self.heads.advance(stream, head.id, revision - 1);
        self.stored = true;
        Ok(Appended {
            revision: Some(revision - 1),
            position: Some(Position(position - 1)),
            repeated: false,
        })
    }

    /// The head of `stream`, `None` if it was never written to.
    pub(super) fn head(&mut self, stream: &StreamName) -> Result<Option<Head>, rusqlite::Error> {
        if let Some(head) = self.heads.stream(stream) {
            return Ok(Some(head));
        }
        let found = self
            .find_head
            .query_row([&**stream], |row| {
                Ok(Head {
                    id: row.get(0)?,
                    last: row.get::<_, Option<i64>>(1)?.map(unsigned),
                })
            })
            .optional()?;
        if let Some(head) = found {
            self.heads.remember(stream.shared(), head);
        }
        Ok(found)
    }

    fn add_stream(&mut self, stream: &StreamName) -> Result<Head, rusqlite::Error> {
        let id = self
            .conn
            .prepare_cached("INSERT INTO orkestra_streams (name) VALUES (?1)")?
            .insert([&**stream])?;
        let head = Head { id, last: None };
        self.heads.remember(stream.shared(), head);
        Ok(head)
    }

    fn type_id(&mut self, name: &Arc<str>) -> Result<i64, rusqlite::Error> {
        if let Some(id) = self.heads.type_id(name) {
            return Ok(id);
        }
        let found = self
            .conn
            .prepare_cached("SELECT id FROM orkestra_types WHERE name = ?1")?
            .query_row([&**name], |row| row.get(0))
            .optional()?;
        let id = match found {
            Some(id) => id,
            None => self
                .conn
                .prepare_cached("INSERT INTO orkestra_types (name) VALUES (?1)")?
                .insert([&**name])?,
        };
        self.heads.remember_type(Arc::clone(name), id);
        Ok(id)
    }

    /// One more than the greatest position ever given out.
    pub(super) fn next_position(&mut self) -> Result<u64, rusqlite::Error> {
        if let Some(next) = self.heads.next_position() {
            return Ok(next);
        }
        let last: i64 = self.conn.query_row(
            "SELECT max(coalesce((SELECT max(position) FROM orkestra_events), 0), \
                        coalesce((SELECT max(head) FROM orkestra_deletions), 0))",
            [],
            |row| row.get(0),
        )?;
        let next = unsigned(last) + 1;
        self.heads.set_next_position(next);
        Ok(next)
    }

    /// The answer to events of which some are stored already, `None` if none is.
    fn stored_before(
        &self,
        head: Option<Head>,
        events: &[NewEvent],
    ) -> Result<Option<Result<Appended, Failure>>, rusqlite::Error> {
        let mut stored = None;
        let mut last: Option<(i64, i64)> = None;
        for (n, event) in events.iter().enumerate() {
            let found = self.find(event.id)?;
            if let Some((stream, ..)) = found {
                stored.get_or_insert((event.id, stream));
            }
            last = match (found, last) {
                (Some((stream, revision, position)), before)
                    if head.is_some_and(|h| h.id == stream)
                        && (n == 0 || before.is_some_and(|(before, _)| revision == before + 1)) =>
                {
                    Some((revision, position))
                }
                _ => None,
            };
            if last.is_none() && stored.is_some() {
                break;
            }
        }
        if let Some((revision, position)) = last {
            return Ok(Some(Ok(Appended {
                revision: Some(unsigned(revision)),
                position: Some(Position(unsigned(position))),
                repeated: true,
            })));
        }
        let Some((id, stream)) = stored else {
            return Ok(None);
        };
        let stream = self
            .conn
            .prepare_cached("SELECT name FROM orkestra_streams WHERE id = ?1")?
            .query_row([stream], |row| row.get(0))?;
        Ok(Some(Err(StoreError::DuplicateEvent {
            event_id: id.to_string(),
            stream,
        }
        .into())))
    }

    /// Stream number, revision and position of the event `id`.
    fn find(&self, id: Uuid) -> Result<Option<(i64, i64, i64)>, rusqlite::Error> {
        self.conn
            .prepare_cached(
                "SELECT stream_id, revision, position FROM orkestra_events WHERE event_id = ?1",
            )?
            .query_row([id.as_bytes()], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()
    }

    pub(super) fn savepoint(&self, sql: &str) -> Result<(), rusqlite::Error> {
        self.conn.prepare_cached(sql)?.execute([]).map(drop)
    }

    /// Undoes what happened since a savepoint; what was learned in between is forgotten.
    fn undo_to(&mut self, rollback: &str, release: &str) -> Result<(), rusqlite::Error> {
        self.heads.clear();
        self.savepoint(rollback)?;
        self.savepoint(release)
    }
}

fn id_is_taken(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
}
