//! Names by their numbers, shared by all the events that carry them. They never change within one generation of the tables, so that they may
//! be kept.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio_postgres::types::Type;

use super::{connect::Conn, error::Failure};
use crate::ports::StoreError;

// A row for each number, and one at least: all of them tell the generation.
const STREAMS: &str = "SELECT n.id, s.name, {schema}.generation() FROM unnest($1) AS n (id) \
     LEFT JOIN LATERAL (SELECT s.name FROM {schema}.streams s WHERE s.id = n.id LIMIT 1) s ON true";
const TYPES: &str = "SELECT t.id::bigint, t.name, g.generation FROM (SELECT {schema}.generation() AS generation) g \
     LEFT JOIN {schema}.types t ON t.id > $1";

/// Streams whose names are kept.
const MAX_NAMES: usize = 100_000;

type Map = HashMap<i64, Arc<str>>;

/// The names that a store knows.
#[derive(Default)]
pub(super) struct Names(Mutex<Known>);

#[derive(Default)]
struct Known {
    generation: i64,
    streams: Map,
    types: Arc<Map>,
}

impl Known {
    /// Forgets what is not of `generation`.
    fn enter(&mut self, generation: i64) {
        if self.generation != generation {
            *self = Self {
                generation,
                ..Self::default()
            };
        }
    }
}

impl Names {
    /// The names of the streams `wanted`, where the tables are of `generation`. [`Failure::Replaced`] if they are not any more.
    pub(super) async fn streams(
        &self,
        conn: &Conn,
        generation: i64,
        wanted: impl Iterator<Item = i64>,
    ) -> Result<Map, Failure> {
        let mut found = Map::new();
        let mut missing = BTreeSet::new();
        {
            let mut known = self.0.lock();
            known.enter(generation);
            let mut last = None;
            for id in wanted {
                if last == Some(id) {
                    continue;
                }
                last = Some(id);
                if let Some(name) = known.streams.get(&id) {
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
            if row.try_get::<_, i64>(2)? != generation {
                return Err(Failure::Replaced);
            }
            if let Some(name) = row.try_get::<_, Option<&str>>(1)? {
                found.insert(row.try_get(0)?, name.into());
            }
        }
        let mut known = self.0.lock();
        known.enter(generation);
        if known.streams.len() + missing.len() > MAX_NAMES {
            known.streams.clear();
        }
        for id in missing {
            if let Some(name) = found.get(&id) {
                known.streams.insert(id, Arc::clone(name));
            }
        }
        Ok(found)
    }

    /// All types that there are, at least those of `wanted`, where the tables are of `generation`. [`Failure::Replaced`] if they are not any more.
    pub(super) async fn types(
        &self,
        conn: &Conn,
        generation: i64,
        wanted: impl Iterator<Item = i64>,
    ) -> Result<Arc<Map>, Failure> {
        let mut wanted = wanted;
        let last = {
            let mut known = self.0.lock();
            known.enter(generation);
            if wanted.all(|id| known.types.contains_key(&id)) {
                return Ok(Arc::clone(&known.types));
            }
            known.types.keys().copied().max().unwrap_or(0)
        };
        match self.learn_types(conn, last).await? {
            (found, types) if found == generation => Ok(types),
            _ => Err(Failure::Replaced),
        }
    }

    /// The types that are known, and the generation of the tables where they were learned; all that there are if none is known.
    pub(super) async fn known_types(&self, conn: &Conn) -> Result<(i64, Arc<Map>), Failure> {
        {
            let known = self.0.lock();
            if !known.types.is_empty() {
                return Ok((known.generation, Arc::clone(&known.types)));
            }
        }
        self.learn_types(conn, 0).await
    }

    /// Asks for the types behind the number `last`.
    async fn learn_types(&self, conn: &Conn, last: i64) -> Result<(i64, Arc<Map>), Failure> {
        // Numbers are given out in order, but committed in any: those before the last one are looked at again.
        let after = i32::try_from(last - 1000).unwrap_or(0).max(0);
        let rows = conn.query(TYPES, &[(&after, Type::INT4)]).await?;
        let mut known = self.0.lock();
        for row in rows {
            known.enter(row.try_get(2)?);
            if let Some(id) = row.try_get::<_, Option<i64>>(0)? {
                let name = row.try_get::<_, &str>(1)?.into();
                Arc::make_mut(&mut known.types).insert(id, name);
            }
        }
        Ok((known.generation, Arc::clone(&known.types)))
    }

    /// Forgets what is not of `generation`.
    pub(super) fn enter(&self, generation: i64) {
        self.0.lock().enter(generation);
    }
}

/// The name with the number `id`.
pub(super) fn name(known: &Map, id: i64) -> Result<Arc<str>, Failure> {
    known.get(&id).map(Arc::clone).ok_or_else(|| {
        Failure::Refused(StoreError::Corrupt {
            what: format!("the name of number {id}"),
            reason: "it is not there".into(),
        })
    })
}
