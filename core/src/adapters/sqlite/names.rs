//! Names by their numbers, shared by all the events that carry them. They never change, so that a reader may keep them.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
};

use rusqlite::Connection;

/// Names kept per reader.
const MAX_NAMES: usize = 100_000;

/// A cache of names.
pub(super) struct Names {
    sql: &'static str,
    by_id: HashMap<i64, Arc<str>, BuildHasherDefault<RowIds>>,
    last: Option<(i64, Arc<str>)>,
}

impl Names {
    /// Names that `sql` finds by number.
    pub(super) fn new(sql: &'static str) -> Self {
        Self {
            sql,
            by_id: HashMap::default(),
            last: None,
        }
    }

    /// The name of `id`.
    pub(super) fn get(&mut self, conn: &Connection, id: i64) -> Result<&Arc<str>, rusqlite::Error> {
        let hit = self.last.as_ref().is_some_and(|(last, _)| *last == id);
        if !hit {
            self.last = None;
        }
        let name = match self.last.take() {
            Some((_, name)) => name,
            None => match self.by_id.get(&id) {
                Some(name) => Arc::clone(name),
                None => self.look_up(conn, id)?,
            },
        };
        Ok(&self.last.insert((id, name)).1)
    }

    fn look_up(&mut self, conn: &Connection, id: i64) -> Result<Arc<str>, rusqlite::Error> {
        let name: Arc<str> = conn
            .prepare_cached(self.sql)?
            .query_row([id], |row| row.get(0))?;
        if self.by_id.len() >= MAX_NAMES {
            self.by_id.clear();
        }
        self.by_id.insert(id, Arc::clone(&name));
        Ok(name)
    }
}

/// Row ids count up from 1: a multiplication spreads them well enough.
#[derive(Default)]
struct RowIds(u64);

impl Hasher for RowIds {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn write_i64(&mut self, id: i64) {
        self.0 = id.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
