//! Names by their numbers, shared by all the events that carry them. They never change, so that they may be kept.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio_postgres::types::Type;

use super::{connect::Conn, error::Failure};
use crate::ports::StoreError;

const STREAMS: &str = "SELECT id, name FROM {schema}.streams WHERE id = ANY($1)";
const TYPES: &str = "SELECT id::bigint, name FROM {schema}.types WHERE id > $1";

/// Streams whose names are kept.
const MAX_NAMES: usize = 100_000;

type Known = HashMap<i64, Arc<str>>;

/// The names that a store knows.
#[derive(Default)]
pub(super) struct Names {
    streams: Mutex<Known>,
    types: Mutex<Known>,
}

impl Names {
    /// The names of the streams `wanted`.
    pub(super) async fn streams(
        &self,
        conn: &Conn,
        wanted: impl Iterator<Item = i64>,
    ) -> Result<Known, Failure> {
        let mut found = Known::new();
        let mut missing = BTreeSet::new();
        {
            let known = self.streams.lock();
            let mut last = None;
            for id in wanted {
                if last == Some(id) {
                    continue;
                }
                last = Some(id);
                if let Some(name) = known.get(&id) {
                    found.entry(id).or_insert_with(|| Arc::clone(name));
                } else {
                    missing.insert(id);
                }
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        let missing: Vec<i64> = missing.into_iter().collect();
        for row in conn.query(STREAMS, &[(&missing, Type::INT8_ARRAY)]).await? {
            found.insert(row.try_get(0)?, row.try_get::<_, &str>(1)?.into());
        }
        let mut known = self.streams.lock();
        if known.len() + missing.len() > MAX_NAMES {
            known.clear();
        }
        for id in missing {
            if let Some(name) = found.get(&id) {
                known.insert(id, Arc::clone(name));
            }
        }
        Ok(found)
    }

    /// All types that there are, at least those of `wanted`.
    pub(super) async fn types(
        &self,
        conn: &Conn,
        wanted: impl Iterator<Item = i64>,
    ) -> Result<Known, Failure> {
        let mut wanted = wanted;
        let last = {
            let known = self.types.lock();
            if !known.is_empty() && wanted.all(|id| known.contains_key(&id)) {
                return Ok(known.clone());
            }
            known.keys().copied().max().unwrap_or(0)
        };
        // Numbers are given out in order, but committed in any: those before the last one are looked at again.
        let after = i32::try_from(last - 1000).unwrap_or(0).max(0);
        let rows = conn.query(TYPES, &[(&after, Type::INT4)]).await?;
        let mut known = self.types.lock();
        for row in rows {
            known.insert(row.try_get(0)?, row.try_get::<_, &str>(1)?.into());
        }
        Ok(known.clone())
    }

    /// Forgets everything: it may be another database.
    pub(super) fn forget(&self) {
        self.streams.lock().clear();
        self.types.lock().clear();
    }
}

/// The name with the number `id`.
pub(super) fn name(known: &Known, id: i64) -> Result<Arc<str>, Failure> {
    known.get(&id).map(Arc::clone).ok_or_else(|| {
        Failure::Refused(StoreError::Corrupt {
            what: format!("the name of number {id}"),
            reason: "it is not there".into(),
        })
    })
}
