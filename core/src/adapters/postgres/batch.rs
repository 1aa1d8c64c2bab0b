//! Appends as the arrays that the server's function takes.

use std::{collections::HashMap, sync::Arc};

use tokio_postgres::{Row, types::Type};
use uuid::Uuid;

use super::{
    connect::{Conn, Param},
    error::Failure,
    numbers::Numbers,
    value::{Json, Moment, signed, unsigned},
};
use crate::ports::{Append, Appended, ExpectedRevision, Position, StoreError, StreamName};

const WRITE: &str = "SELECT generation, base, heads, ids, results, staged, refusals, last \
     FROM {schema}.write_batch($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)";

/// How a batch is done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Manner {
    /// Each append is looked at for itself, and all that users' transactions have left.
    pub(super) careful: bool,
    /// All or none.
    pub(super) atomic: bool,
}

/// The number of an expectation.
pub(super) fn number(expected: ExpectedRevision) -> i64 {
    match expected {
        ExpectedRevision::NoStream => -1,
        ExpectedRevision::StreamExists => -2,
        ExpectedRevision::Any => -4,
        ExpectedRevision::Exact(revision) => signed(revision),
    }
}

/// Several appends in one call.
#[derive(Default)]
pub(super) struct Batch<'a> {
    generation: i64,
    names: Vec<&'a StreamName>,
    streams: Vec<&'a str>,
    known: Vec<i64>,
    places: Vec<i32>,
    expected: Vec<i64>,
    before: Vec<i32>,
    counts: Vec<i32>,
    appends: Vec<i32>,
    offsets: Vec<i32>,
    ids: Vec<Uuid>,
    types: Vec<i32>,
    versions: Vec<i32>,
    times: Vec<Moment>,
    data: Vec<Json<'a>>,
    metadata: Vec<Json<'a>>,
}

/// What a call did.
pub(super) struct Written {
    /// What became of each append.
    pub(super) results: Vec<Result<Appended, StoreError>>,
    /// The numbers of streams that were not known before.
    pub(super) streams: Vec<(Arc<str>, i64)>,
}

/// What a call did besides its appends, or found.
pub(super) struct Besides {
    /// The generation of the tables, where it has to do with appends.
    pub(super) generation: Option<i64>,
    /// Whether users' transactions have left something that waits to be recorded.
    pub(super) staged: bool,
    /// How much of that was refused.
    pub(super) refusals: u64,
    /// The last position that was given.
    pub(super) last: Option<Position>,
}

impl Besides {
    pub(super) fn read(row: &Row) -> Result<Self, Failure> {
        Ok(Self {
            generation: row.try_get(0)?,
            staged: row.try_get::<_, Option<bool>>(5)?.unwrap_or_default(),
            refusals: row
                .try_get::<_, Option<i32>>(6)?
                .and_then(|n| u64::try_from(n).ok())
                .unwrap_or_default(),
            last: row
                .try_get::<_, Option<i64>>(7)?
                .map(|last| Position(unsigned(last))),
        })
    }
}

impl<'a> Batch<'a> {
    /// The arrays for `appends`; `numbers` has those of all their types, and of some streams.
    pub(super) fn new(appends: impl IntoIterator<Item = &'a Append>, numbers: &Numbers) -> Self {
        let mut batch = Self {
            generation: numbers.generation(),
            ..Self::default()
        };
        let mut streams: HashMap<&str, (i32, i32)> = HashMap::new();
        for (append, number_of_append) in appends.into_iter().zip(1..) {
            let next = i32::try_from(streams.len() + 1).unwrap_or(i32::MAX);
            let count = i32::try_from(append.events.len()).unwrap_or(i32::MAX);
            let (place, before) = streams.entry(&append.stream).or_insert((next, 0));
            if *place == next {
                batch.names.push(&append.stream);
                batch.streams.push(&append.stream);
                batch
                    .known
                    .push(numbers.stream(&append.stream).unwrap_or(0));
            }
            batch.places.push(*place);
            batch.before.push(*before);
            *before += count;
            batch.expected.push(number(append.expected));
            batch.counts.push(count);
            for (event, offset) in append.events.iter().zip(0..) {
                batch.appends.push(number_of_append);
                batch.offsets.push(offset);
                batch.ids.push(event.id);
                batch
                    .types
                    .push(numbers.type_id(&event.type_name).unwrap_or(0));
                batch
                    .versions
                    .push(i32::try_from(event.version).unwrap_or(i32::MAX));
                batch.times.push(Moment(event.occurred_at));
                batch.data.push(Json(&event.data));
                batch.metadata.push(Json(&event.metadata));
            }
        }
        batch
    }

    /// Has the server do it. `note` is told to all who listen.
    pub(super) async fn write(
        &self,
        conn: &Conn,
        manner: Manner,
        note: Option<&str>,
    ) -> Result<Row, Failure> {
        let params: [Param<'_>; 18] = [
            (&self.generation, Type::INT8),
            (&self.streams, Type::TEXT_ARRAY),
            (&self.known, Type::INT8_ARRAY),
            (&self.places, Type::INT4_ARRAY),
            (&self.expected, Type::INT8_ARRAY),
            (&self.before, Type::INT4_ARRAY),
            (&self.counts, Type::INT4_ARRAY),
            (&self.appends, Type::INT4_ARRAY),
            (&self.offsets, Type::INT4_ARRAY),
            (&self.ids, Type::UUID_ARRAY),
            (&self.types, Type::INT4_ARRAY),
            (&self.versions, Type::INT4_ARRAY),
            (&self.times, Type::TIMESTAMPTZ_ARRAY),
            (&self.data, Type::JSONB_ARRAY),
            (&self.metadata, Type::JSON_ARRAY),
            (&manner.careful, Type::BOOL),
            (&manner.atomic, Type::BOOL),
            (&note, Type::TEXT),
        ];
        conn.write(WRITE, &params).await
    }

    /// What the server's answer to the call for `appends` says. [`Failure::Replaced`] if it did none of them, as the numbers are not its own.
    pub(super) fn read<'b>(
        &self,
        row: &Row,
        besides: &Besides,
        appends: impl IntoIterator<Item = &'b Append>,
    ) -> Result<Written, Failure> {
        let ids: Option<Vec<i64>> = row.try_get(3)?;
        let found: Option<Vec<Json<'_>>> = row.try_get(4)?;
        let results = match found {
            _ if self.counts.is_empty() => Vec::new(),
            _ if besides.generation != Some(self.generation) => return Err(Failure::Replaced),
            Some(found) => found
                .iter()
                .zip(appends)
                .map(|(one, append)| outcome(*one, append))
                .collect(),
            None => {
                let base: Option<i64> = row.try_get(1)?;
                let heads: Option<Vec<i64>> = row.try_get(2)?;
                self.undisturbed(base.unwrap_or_default(), &heads.unwrap_or_default())
            }
        };
        let news = self.names.iter().zip(&self.known);
        let streams = news
            .zip(ids.unwrap_or_default())
            .filter(|((_, known), _)| **known == 0)
            .map(|((name, _), id)| (name.shared(), id))
            .collect();
        Ok(Written { results, streams })
    }

    /// The results when nothing stood against any append.
    fn undisturbed(&self, base: i64, heads: &[i64]) -> Vec<Result<Appended, StoreError>> {
        let mut next = base;
        let places = self.places.iter().zip(&self.before).zip(&self.counts);
        places
            .map(|((place, before), count)| {
                let stream = usize::try_from(*place - 1).unwrap_or_default();
                let head = heads.get(stream).copied().unwrap_or(-1);
                let revision = head + i64::from(*before) + i64::from(*count);
                next += i64::from(*count);
                Ok(Appended {
                    revision: u64::try_from(revision).ok(),
                    position: (*count > 0).then(|| Position(unsigned(next - 1))),
                    repeated: false,
                })
            })
            .collect()
    }
}

/// What the server says about one append that it looked at for itself.
fn outcome(said: Json<'_>, append: &Append) -> Result<Appended, StoreError> {
    let said: serde_json::Value =
        serde_json::from_slice(said.0).map_err(|error| StoreError::Corrupt {
            what: "the answer to an append".into(),
            reason: error.to_string(),
        })?;
    let count = |key: &str| said.get(key).and_then(serde_json::Value::as_u64);
    let text = |key: &str| {
        said.get(key)
            .and_then(serde_json::Value::as_str)
            .unwrap_or_default()
    };
    // Undone, or not tried, because of another one: that one has the error.
    if said.is_null() || said.get("revision").is_some() {
        Ok(Appended {
            revision: count("revision"),
            position: count("position").map(Position),
            repeated: said.get("repeated").is_some(),
        })
    } else if said.get("duplicate").is_some() {
        Err(StoreError::DuplicateEvent {
            event_id: text("duplicate").into(),
            stream: text("stream").into(),
        })
    } else {
        Err(StoreError::RevisionConflict {
            stream: append.stream.to_string(),
            expected: append.expected,
            actual: count("conflict"),
        })
    }
}
