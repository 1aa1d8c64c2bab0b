//! What the writer has learned of the tables: the numbers of types and streams, and what it need not look at. It is good for one generation
//! of them.

use std::{collections::HashMap, sync::Arc};

use tokio_postgres::types::Type;

use super::{connect::Conn, error::Failure, value::Transaction};
use crate::ports::Append;

const TYPE_IDS: &str = "SELECT {schema}.type_ids($1), {schema}.generation()";
const MEND: &str = "SELECT {schema}.mend_positions()";

/// Types and streams whose numbers are remembered.
const MAX_TYPES: usize = 10_000;
const MAX_STREAMS: usize = 10_000;

/// Which transactions left nothing in the staging table that is not recorded: those before `horizon` that are not `unfinished`.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) horizon: Transaction,
    pub(super) unfinished: Vec<Transaction>,
}

/// What the writer remembers.
#[derive(Default)]
pub(super) struct Numbers {
    generation: i64,
    types: HashMap<Arc<str>, i32>,
    streams: HashMap<Arc<str>, i64>,
    seen: Seen,
}

impl Numbers {
    /// The generation of the tables that they are good for.
    pub(super) fn generation(&self) -> i64 {
        self.generation
    }

    pub(super) fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Remembers what was seen in tables of `generation`, if they are these.
    pub(super) fn learn_seen(&mut self, generation: i64, seen: Seen) {
        if generation == self.generation {
            self.seen = seen;
        }
    }

    pub(super) fn stream(&self, name: &str) -> Option<i64> {
        self.streams.get(name).copied()
    }

    pub(super) fn type_id(&self, name: &str) -> Option<i32> {
        self.types.get(name).copied()
    }

    /// Learns the types of `appends`, all of them, and the generation.
    pub(super) async fn learn(&mut self, conn: &Conn, appends: &[&Append]) -> Result<(), Failure> {
        if self.types.len() > MAX_TYPES {
            self.types.clear();
        }
        loop {
            let mut new: Vec<&Arc<str>> = Vec::new();
            for event in appends.iter().flat_map(|append| &append.events) {
                if !self.types.contains_key(&event.type_name) && !new.contains(&&event.type_name) {
                    new.push(&event.type_name);
                }
            }
            if new.is_empty() && self.generation != 0 {
                return Ok(());
            }
            let names: Vec<&str> = new.iter().map(|name| &***name).collect();
            let row = conn.write(TYPE_IDS, &[(&names, Type::TEXT_ARRAY)]).await?;
            let ids: Option<Vec<i32>> = row.try_get(0)?;
            let generation: i64 = row.try_get(1)?;
            if generation != self.generation {
                conn.write(MEND, &[]).await?;
                *self = Self {
                    generation,
                    ..Self::default()
                };
            }
            let ids = ids.unwrap_or_default();
            self.types.extend(new.into_iter().cloned().zip(ids));
        }
    }

    pub(super) fn learn_streams(&mut self, learned: impl IntoIterator<Item = (Arc<str>, i64)>) {
        if self.streams.len() > MAX_STREAMS {
            self.streams.clear();
        }
        self.streams.extend(learned);
    }
}
