//! What the server keeps, and its rules. They follow the server's documentation and source as far as it is public.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use prost::bytes::Bytes;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::messages::{Empty, Expected};

/// `$tb` of a stream that was soft deleted.
const DELETED: u64 = i64::MAX as u64;

/// How many ids the server remembers for appends at any revision.
const REMEMBERED: usize = 1000;

/// An event in the log.
#[derive(Debug, Clone)]
pub struct Record {
    /// Where it begins.
    pub position: u64,
    /// Where the record that committed it begins: itself, but in a transaction.
    pub commit: u64,
    /// Its stream.
    pub stream: Arc<str>,
    /// Its number in the stream.
    pub revision: u64,
    /// Its id.
    pub id: Uuid,
    /// `type` and `content-type`.
    pub system: HashMap<String, String>,
    /// The user's metadata.
    pub metadata: Bytes,
    /// The payload.
    pub data: Bytes,
}

impl Record {
    /// Its type.
    pub fn type_name(&self) -> &str {
        self.system.get("type").map_or("", String::as_str)
    }
}

/// An event to append.
#[derive(Debug, Clone)]
pub struct NewRecord {
    /// The id.
    pub id: Uuid,
    /// `type` and `content-type`.
    pub system: HashMap<String, String>,
    /// The user's metadata.
    pub metadata: Bytes,
    /// The payload.
    pub data: Bytes,
}

impl NewRecord {
    /// A JSON event.
    pub fn json(type_name: &str, data: &Value) -> Self {
        let system = [("type", type_name), ("content-type", "application/json")];
        Self {
            id: Uuid::from_u128(0),
            system: system.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
            metadata: Bytes::new(),
            data: data.to_string().into(),
        }
    }
}

#[derive(Debug, Default)]
struct Stream {
    /// Places in the log, by revision.
    events: Vec<usize>,
    tombstoned: bool,
}

/// Why a write was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The stream is at this revision.
    WrongRevision(Option<u64>),
    /// It was tombstoned.
    Deleted,
}

/// What of a stream can be read.
#[derive(Debug, PartialEq, Eq)]
pub enum Readable {
    /// There is no such stream, or it was soft deleted.
    NotFound,
    /// It was tombstoned.
    Deleted,
    /// From this revision to that one, which may be before the first.
    From(u64, u64),
}

/// The server's data.
#[derive(Debug)]
pub struct Log {
    records: Vec<Record>,
    streams: HashMap<Arc<str>, Stream>,
    remembered: HashMap<Uuid, (Arc<str>, u64)>,
    oldest: VecDeque<Uuid>,
    /// Where records begin.
    begins: HashSet<u64>,
    end: u64,
}

impl Default for Log {
    fn default() -> Self {
        let mut log = Self {
            records: Vec::new(),
            streams: HashMap::new(),
            remembered: HashMap::new(),
            oldest: VecDeque::new(),
            begins: HashSet::new(),
            end: 0,
        };
        // A server is never quite empty.
        let epoch = NewRecord::json("$epoch", &Value::from(0));
        log.put("$epoch", vec![epoch]);
        log
    }
}

impl Log {
    /// All events, in order.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The place of the first event that is not before that position; `None` where no record begins.
    pub fn place(&self, commit: u64, prepare: u64) -> Option<usize> {
        let before = |record: &Record| (record.commit, record.position) < (commit, prepare);
        let place = self.records.partition_point(before);
        (commit >= self.end || self.begins.contains(&commit)).then_some(place)
    }

    fn last(&self, stream: &str) -> Option<u64> {
        let events = self.streams.get(stream)?.events.len() as u64;
        events.checked_sub(1)
    }

    fn metadata(&self, stream: &str) -> Map<String, Value> {
        let name = format!("$${stream}");
        let last = self
            .streams
            .get(name.as_str())
            .and_then(|s| s.events.last());
        let fields = last.map(|place| serde_json::from_slice(&self.records[*place].data));
        fields.and_then(Result::ok).unwrap_or_default()
    }

    fn has_metadata(&self, stream: &str) -> bool {
        self.last(&format!("$${stream}")).is_some()
    }

    fn cut(&self, stream: &str) -> u64 {
        let metadata = self.metadata(stream);
        metadata.get("$tb").and_then(Value::as_u64).unwrap_or(0)
    }

    /// What of `stream` can be read.
    pub fn readable(&self, stream: &str) -> Readable {
        let cut = self.cut(stream);
        match (self.streams.get(stream), self.last(stream)) {
            (Some(stream), _) if stream.tombstoned => Readable::Deleted,
            (Some(_), Some(last)) if cut != DELETED => {
                let kept = self
                    .metadata(stream)
                    .get("$maxCount")
                    .and_then(Value::as_u64);
                let first = kept.map_or(0, |kept| (last + 1).saturating_sub(kept));
                Readable::From(first.max(cut), last)
            }
            _ => Readable::NotFound,
        }
    }

    /// The event of `stream` at `revision`.
    pub fn event(&self, stream: &str, revision: u64) -> Option<&Record> {
        let place = self
            .streams
            .get(stream)?
            .events
            .get(usize::try_from(revision).ok()?)?;
        self.records.get(*place)
    }

    fn check(
        &self,
        stream: &str,
        expected: Expected,
        ids: &[Uuid],
    ) -> Result<Option<u64>, Refused> {
        let current = self.last(stream);
        let wrong = Err(Refused::WrongRevision(current));
        let soft_deleted = self.cut(stream) == DELETED;
        if self.streams.get(stream).is_some_and(|s| s.tombstoned) {
            return Err(Refused::Deleted);
        }
        let begin = match expected {
            Expected::StreamExists(_) if soft_deleted => return Err(Refused::Deleted),
            Expected::StreamExists(_) if current.is_none() && !self.has_metadata(stream) => {
                return wrong;
            }
            Expected::Any(_) | Expected::StreamExists(_) => {
                return self.remembered_as(stream, ids).ok_or(()).or(wrong);
            }
            Expected::NoStream(_) => 0,
            Expected::Revision(revision) => revision + 1,
        };
        let next = current.map_or(0, |c| c + 1);
        if begin >= next {
            return if begin == next { Ok(None) } else { wrong };
        }
        if ids.is_empty() {
            return wrong;
        }
        for (revision, id) in (begin..).zip(ids) {
            if self.event(stream, revision).is_none_or(|e| e.id != *id) {
                let anew = revision == begin && begin == 0 && soft_deleted;
                return if anew { Ok(None) } else { wrong };
            }
        }
        Ok((!ids.is_empty()).then(|| begin + ids.len() as u64 - 1))
    }

    #[expect(
        clippy::option_option,
        reason = "three outcomes, told apart by the one caller"
    )]
    /// `Some(None)`: new; `Some(Some(last))`: written before; `None`: half and half.
    fn remembered_as(&self, stream: &str, ids: &[Uuid]) -> Option<Option<u64>> {
        let known = |id: &Uuid| {
            let (of, revision) = self.remembered.get(id)?;
            (**of == *stream).then_some(*revision)
        };
        if ids.first().and_then(known).is_none() {
            return Some(None);
        }
        let mut last = None;
        for id in ids {
            last = Some(known(id)?);
        }
        Some(last)
    }

    /// Appends; answers the last revision and the position of that event.
    ///
    /// # Errors
    /// As [`Refused`] says.
    pub fn append(
        &mut self,
        stream: &str,
        expected: Expected,
        events: Vec<NewRecord>,
    ) -> Result<(Option<u64>, u64), Refused> {
        let ids: Vec<_> = events.iter().map(|event| event.id).collect();
        if let Some(last) = self.check(stream, expected, &ids)? {
            let position = self.event(stream, last).map_or(0, |e| e.position);
            return Ok((Some(last), position));
        }
        // New metadata brings a deleted stream back, as new events do.
        let back = stream.strip_prefix("$$").unwrap_or(stream);
        let back = (!events.is_empty() && self.cut(back) == DELETED).then_some(back);
        let next = back.map(|back| self.last(back).map_or(0, |last| last + 1));
        let position = self.put(stream, events);
        if let (Some(back), Some(next)) = (back, next) {
            self.set_cut(back, next);
        }
        Ok((self.last(stream), position))
    }

    /// Appends in the way of clients that spoke TCP: a record behind the events commits them.
    pub fn transaction(&mut self, stream: &str, events: Vec<NewRecord>) {
        let first = self.records.len();
        self.put(stream, events);
        let commit = self.end;
        self.begins.insert(commit);
        self.end += 70;
        for record in &mut self.records[first..] {
            record.commit = commit;
        }
    }

    fn set_cut(&mut self, stream: &str, cut: u64) {
        let mut metadata = self.metadata(stream);
        metadata.insert("$tb".into(), cut.into());
        let event = NewRecord::json("$metadata", &metadata.into());
        self.put(&format!("$${stream}"), vec![event]);
    }

    fn put(&mut self, stream: &str, events: Vec<NewRecord>) -> u64 {
        let name: Arc<str> = stream.into();
        let mut last = self.end;
        for event in events {
            let stream = self.streams.entry(Arc::clone(&name)).or_default();
            let revision = stream.events.len() as u64;
            stream.events.push(self.records.len());
            last = self.write(&name, revision, event);
        }
        last
    }

    fn write(&mut self, stream: &Arc<str>, revision: u64, event: NewRecord) -> u64 {
        let position = self.end;
        // A record is never shorter than its head.
        self.end += 70 + (stream.len() + event.data.len() + event.metadata.len()) as u64;
        if self.oldest.len() == REMEMBERED
            && let Some(id) = self.oldest.pop_front()
        {
            self.remembered.remove(&id);
        }
        self.oldest.push_back(event.id);
        self.begins.insert(position);
        self.remembered
            .insert(event.id, (Arc::clone(stream), revision));
        self.records.push(Record {
            position,
            commit: position,
            stream: Arc::clone(stream),
            revision,
            id: event.id,
            system: event.system,
            metadata: event.metadata,
            data: event.data,
        });
        position
    }

    /// Deletes softly.
    ///
    /// # Errors
    /// As [`Refused`] says.
    pub fn delete(&mut self, stream: &str, expected: Expected) -> Result<u64, Refused> {
        self.check(stream, expected, &[])?;
        if self.last(stream).is_none() && !self.has_metadata(stream) {
            return Err(Refused::WrongRevision(None));
        }
        // Whatever else the metadata said is gone.
        let metadata = NewRecord::json("$metadata", &json!({ "$tb": DELETED }));
        self.put(&format!("$${stream}"), vec![metadata]);
        Ok(self.records.last().map_or(0, |record| record.position))
    }

    /// Deletes for good.
    ///
    /// # Errors
    /// As [`Refused`] says.
    pub fn tombstone(&mut self, stream: &str, expected: Expected) -> Result<u64, Refused> {
        self.check(stream, expected, &[])?;
        let name: Arc<str> = stream.into();
        self.streams
            .entry(Arc::clone(&name))
            .or_default()
            .tombstoned = true;
        let event = NewRecord::json("$streamDeleted", &Value::Object(Map::new()));
        Ok(self.write(&name, DELETED, event))
    }

    /// What a broken disk would do to the events of streams whose names begin so.
    pub fn damage(&mut self, prefix: &str) {
        for record in &mut self.records {
            if record.stream.starts_with(prefix) {
                record.data = Bytes::from_static(b"{\"revision\":");
            }
        }
    }

    /// Makes room for what others wrote.
    pub fn foreign(&mut self, stream: &str, event: NewRecord) {
        let any = Expected::Any(Empty {});
        // Nothing is expected of the stream.
        let _ = self.append(stream, any, vec![event]);
    }
}
