//! The events: one log, and for each stream the places of its events in it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use uuid::Uuid;

use crate::ports::{
    Append, Appended, DeleteMode, Direction, EventRef, ExpectedRevision, IdlePage, IdleStream,
    IdleStreams, MAX_BATCH, NewEvent, Page, Position, ReadAll, ReadStream, RecordedEvent,
    StoreError, StreamName, StreamPage,
};

/// A page looks at no more events than this, wanted or not, so that a rare type never holds the lock for long.
const MAX_SCAN: usize = 10_000;

const DEFAULT_PAGE: usize = 1_000;

#[derive(Default)]
pub(super) struct Log {
    /// The event at position `n` is in slot `n - 1`; hard deleted ones leave a hole.
    slots: Vec<Option<RecordedEvent>>,
    streams: HashMap<Arc<str>, Stream>,
    /// Slot of each event id.
    ids: HashMap<Uuid, usize>,
    head: Option<Position>,
}

struct Stream {
    name: Arc<str>,
    /// Slot of each revision.
    slots: Vec<usize>,
    /// The first revision that is not soft deleted.
    first: usize,
}

impl Stream {
    fn last_revision(&self) -> Option<u64> {
        (self.slots.len() as u64).checked_sub(1)
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl Log {
    /// Where the log was, to go back to with [`Log::roll_back`].
    pub(super) fn mark(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn head(&self) -> Option<Position> {
        self.head
    }

    pub(super) fn append(&mut self, append: Append) -> Result<Appended, StoreError> {
        let Append {
            stream: name,
            events,
            expected,
        } = append;
        let actual = self.last_revision(&name);
        if events.is_empty() {
            return Ok(Appended {
                revision: actual,
                position: None,
                repeated: false,
            });
        }
        check_batch(&events)?;
        if let Some(first_result) = self.repetition(&name, &events)? {
            return Ok(first_result);
        }
        check_expected(&name, expected, actual)?;

        let base = self.slots.len();
        self.slots.reserve(events.len());
        let stream = self.streams.entry(name.shared()).or_insert_with(|| Stream {
            name: name.shared(),
            slots: Vec::new(),
            first: 0,
        });
        for (slot, event) in (base..).zip(events) {
            self.ids.insert(event.id, slot);
            self.slots.push(Some(RecordedEvent {
                id: event.id,
                type_name: event.type_name,
                version: event.version,
                stream: Arc::clone(&stream.name),
                revision: stream.slots.len() as u64,
                position: Position(slot as u64 + 1),
                data: event.data,
                metadata: event.metadata,
                occurred_at: event.occurred_at,
            }));
            stream.slots.push(slot);
        }
        let revision = stream.last_revision();
        self.head = Some(Position(self.slots.len() as u64));
        Ok(Appended {
            revision,
            position: self.head,
            repeated: false,
        })
    }

    /// Takes back what was appended since `mark`; nobody has seen it yet.
    pub(super) fn roll_back(&mut self, mark: usize) {
        for event in self.slots.drain(mark..).flatten() {
            self.ids.remove(&event.id);
            if let Some(stream) = self.streams.get_mut(&event.stream) {
                stream.slots.retain(|slot| *slot < mark);
                if stream.slots.is_empty() {
                    self.streams.remove(&event.stream);
                }
            }
        }
        self.find_head();
    }

    pub(super) fn find_event(&self, id: Uuid) -> Option<EventRef> {
        let event = self.event(*self.ids.get(&id)?)?;
        Some(EventRef {
            stream: Arc::clone(&event.stream),
            revision: event.revision,
            position: event.position,
        })
    }

    pub(super) fn read_stream(&self, name: &StreamName, options: ReadStream) -> StreamPage {
        let Some(stream) = self.streams.get(&**name) else {
            return StreamPage {
                end: true,
                ..StreamPage::default()
            };
        };
        let (first, length) = (stream.first, stream.slots.len());
        let range = match options.direction {
            Direction::Forwards => options.from_revision.map_or(0, index).max(first)..length,
            Direction::Backwards => {
                let after = options
                    .from_revision
                    .map_or(length, |r| index(r).saturating_add(1));
                first..after.min(length)
            }
        };
        let available = stream.slots.get(range).unwrap_or_default();
        let collect = |slots: &mut dyn Iterator<Item = &usize>| -> Vec<RecordedEvent> {
            slots
                .take(options.limit)
                .filter_map(|slot| self.event(*slot).cloned())
                .collect()
        };
        StreamPage {
            events: match options.direction {
                Direction::Forwards => collect(&mut available.iter()),
                Direction::Backwards => collect(&mut available.iter().rev()),
            },
            last_revision: stream.last_revision(),
            end: available.len() <= options.limit,
        }
    }

    pub(super) fn read_all(&self, options: &ReadAll) -> Page {
        let limit = match options.limit {
            0 => DEFAULT_PAGE,
            limit => limit,
        };
        let start = options.after.map_or(0, |p| index(p.0));
        let rest = self.slots.get(start..).unwrap_or_default();
        let mut page = Page::default();
        let mut seen = 0;
        // The topic of a type is worked out once a page, not once an event.
        let mut wanted: HashMap<&str, bool> = HashMap::new();
        for slot in rest.iter().take(MAX_SCAN.max(limit)) {
            if page.events.len() == limit {
                break;
            }
            seen += 1;
            let Some(event) = slot else { continue };
            page.position = Some(event.position);
            let in_streams = options
                .stream_prefix
                .as_ref()
                .is_none_or(|prefix| event.stream.starts_with(prefix.as_str()));
            let of_types = options.types.patterns.is_none()
                || *wanted
                    .entry(&event.type_name)
                    .or_insert_with(|| options.types.wants(&event.type_name));
            if in_streams && of_types {
                page.events.push(event.clone());
            }
        }
        page.end = seen == rest.len();
        if seen > 0 && page.position.is_none() && !page.end {
            // Nothing but holes: the reader must still get on.
            page.position = Some(Position((start + seen) as u64));
        }
        page
    }

    /// Returns the stream's last revision if there was something to delete.
    pub(super) fn delete(
        &mut self,
        name: &StreamName,
        expected: ExpectedRevision,
        mode: DeleteMode,
    ) -> Result<Option<u64>, StoreError> {
        check_expected(name, expected, self.last_revision(name))?;
        match mode {
            DeleteMode::Soft => {
                let Some(stream) = self.streams.get_mut(&**name) else {
                    return Ok(None);
                };
                let had_events = stream.first < stream.slots.len();
                stream.first = stream.slots.len();
                Ok(stream.last_revision().filter(|_| had_events))
            }
            DeleteMode::Hard => {
                let Some(stream) = self.streams.remove(&**name) else {
                    return Ok(None);
                };
                for slot in &stream.slots {
                    if let Some(event) = self.slots[*slot].take() {
                        self.ids.remove(&event.id);
                    }
                }
                self.find_head();
                Ok(stream.last_revision())
            }
        }
    }

    pub(super) fn idle_streams(&self, options: &IdleStreams) -> IdlePage {
        let mut names: Vec<&Arc<str>> = self
            .streams
            .keys()
            .filter(|name| options.pattern.matches(name))
            .filter(|name| options.after.as_ref().is_none_or(|after| ***name > **after))
            .collect();
        names.sort_unstable();
        let mut page = IdlePage::default();
        for name in names {
            let Some(last) = self.last_event(name) else {
                continue;
            };
            let Ok(stream) = StreamName::new(name) else {
                continue;
            };
            if last.occurred_at >= options.before {
                continue;
            }
            page.streams.push(IdleStream {
                stream: stream.clone(),
                last_revision: last.revision,
                last_occurred_at: last.occurred_at,
            });
            if page.streams.len() >= options.page_size() {
                page.after = Some(stream);
                break;
            }
        }
        page
    }

    fn last_event(&self, name: &str) -> Option<&RecordedEvent> {
        self.event(*self.streams.get(name)?.slots.last()?)
    }

    fn event(&self, slot: usize) -> Option<&RecordedEvent> {
        self.slots.get(slot)?.as_ref()
    }

    fn last_revision(&self, name: &str) -> Option<u64> {
        self.streams.get(name)?.last_revision()
    }

    fn find_head(&mut self) {
        self.head = self
            .slots
            .iter()
            .rev()
            .find_map(|slot| slot.as_ref().map(|event| event.position));
    }

    /// The result of the first append of `events`, if they are a repetition.
    fn repetition(
        &self,
        name: &StreamName,
        events: &[NewEvent],
    ) -> Result<Option<Appended>, StoreError> {
        let Some(known) = events
            .iter()
            .find_map(|event| self.event(*self.ids.get(&event.id)?))
        else {
            return Ok(None);
        };
        let repeated = self
            .streams
            .get(&**name)
            .filter(|_| known.id == events[0].id && *known.stream == **name)
            .and_then(|stream| {
                let first = index(known.revision);
                let slots = stream.slots.get(first..first + events.len())?;
                let same = |(slot, event): (&usize, &NewEvent)| {
                    self.event(*slot).is_some_and(|e| e.id == event.id)
                };
                slots.iter().zip(events).all(same).then_some(slots)
            });
        match repeated.and_then(|slots| self.event(*slots.last()?)) {
            Some(last) => Ok(Some(Appended {
                revision: Some(last.revision),
                position: Some(last.position),
                repeated: true,
            })),
            None => Err(StoreError::DuplicateEvent {
                event_id: known.id.to_string(),
                stream: known.stream.to_string(),
            }),
        }
    }
}

fn check_batch(events: &[NewEvent]) -> Result<(), StoreError> {
    let refuse = |reason: String| {
        Err(StoreError::InvalidArgument {
            argument: "events".into(),
            reason,
        })
    };
    if events.len() > MAX_BATCH {
        return refuse(format!(
            "expected at most {MAX_BATCH} events, found {}",
            events.len()
        ));
    }
    if events.len() > 1 {
        let mut seen = HashSet::with_capacity(events.len());
        if let Some(event) = events.iter().find(|event| !seen.insert(event.id)) {
            return refuse(format!("expected distinct ids, found {} twice", event.id));
        }
    }
    Ok(())
}

fn check_expected(
    name: &StreamName,
    expected: ExpectedRevision,
    actual: Option<u64>,
) -> Result<(), StoreError> {
    if expected.holds(actual) {
        return Ok(());
    }
    Err(StoreError::RevisionConflict {
        stream: name.to_string(),
        expected,
        actual,
    })
}
