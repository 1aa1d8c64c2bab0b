//! Our events as the server's, and back. The page of decisions on KurrentDB has the mapping in words.

use std::{borrow::Cow, fmt::Write as _, str, sync::Arc};

use bytes::Bytes;
use kurrentdb::EventData;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    clock::Timestamp,
    message::{LinkId, Metadata, wire},
    ports::{NewEvent, Position, RecordedEvent, StoreError},
};

/// Streams whose names begin so hold snapshots.
pub(super) const SNAPSHOTS: &str = "snapshot-";

/// The largest integer that every language holds exactly.
const MAX_SAFE: u64 = (1 << 53) - 1;

/// What an event of ours carries in its metadata beside the metadata itself.
#[derive(Serialize, Deserialize)]
struct Stamp<'a> {
    version: u32,
    #[serde(borrow)]
    occurred_at: Cow<'a, str>,
}

/// What is read of an event's metadata.
#[derive(Deserialize)]
struct Known<'a> {
    #[serde(borrow)]
    orkestra: Stamp<'a>,
}

/// The ids by which the server's own projections link events.
#[derive(Default, Deserialize)]
struct Links<'a> {
    #[serde(borrow, default)]
    correlation_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    causation_id: Option<Cow<'a, str>>,
}

/// The same as the server's projections name them.
#[derive(Serialize, Deserialize)]
struct SystemLinks<'a> {
    #[serde(rename = "$correlationId", borrow, default)]
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<Cow<'a, str>>,
    #[serde(rename = "$causationId", borrow, default)]
    #[serde(skip_serializing_if = "Option::is_none")]
    causation_id: Option<Cow<'a, str>>,
}

fn refused(event: &NewEvent, part: &str, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::InvalidArgument {
        argument: "events".into(),
        reason: format!("the {part} of {} is not JSON: {error}", event.id),
    }
}

/// `event` as the server stores it.
pub(super) fn to_server(event: &NewEvent) -> Result<EventData, StoreError> {
    let data: &RawValue =
        serde_json::from_slice(&event.data).map_err(|e| refused(event, "payload", &e))?;
    let data = EventData::json(&*event.type_name, &data)
        .map_err(|e| refused(event, "payload", &e))?
        .id(event.id);
    Ok(data.metadata(metadata_to_server(event)?))
}

/// `{"orkestra":{…},"$correlationId":…,"$causationId":…,` and then the metadata as it is.
fn metadata_to_server(event: &NewEvent) -> Result<Bytes, StoreError> {
    let not_json = |e: &dyn std::fmt::Display| refused(event, "metadata", e);
    if !is_object(&event.metadata) {
        return Err(not_json(&"expected an object"));
    }
    let text = str::from_utf8(&event.metadata).map_err(|e| not_json(&e))?;
    // What is damaged is kept so, for readers to find out.
    let links: Links<'_> = serde_json::from_str(text).unwrap_or_default();
    let rest = text.trim_start().strip_prefix('{').unwrap_or("}");
    let rest = rest.trim_start();
    let stamp = Stamp {
        version: event.version,
        occurred_at: event.occurred_at.to_string().into(),
    };
    let links = SystemLinks {
        correlation_id: links.correlation_id,
        causation_id: links.causation_id,
    };
    let stamp = serde_json::to_string(&stamp).map_err(|e| not_json(&e))?;
    let links = serde_json::to_string(&links).map_err(|e| not_json(&e))?;
    let links = links.trim_matches(['{', '}']);
    let mut json = String::with_capacity(stamp.len() + links.len() + rest.len() + 16);
    // Writing to a string cannot fail.
    let _ = write!(json, "{{\"orkestra\":{stamp}");
    for part in [links, rest] {
        if !part.is_empty() && !part.starts_with('}') {
            json.push(',');
        }
        json.push_str(part);
    }
    Ok(Bytes::from(json))
}

/// Whether the events of `stream`, or of that type, are the server's own or our snapshots: readers do not see them.
pub(super) fn is_hidden(stream: &str, type_name: &str) -> bool {
    stream.starts_with('$') || stream.starts_with(SNAPSHOTS) || type_name.starts_with('$')
}

/// An event as the server gives it, in parts.
#[derive(Debug, Clone)]
pub(super) struct FromServer {
    pub(super) id: uuid::Uuid,
    pub(super) stream: Arc<str>,
    pub(super) type_name: Arc<str>,
    pub(super) revision: u64,
    pub(super) commit: u64,
    pub(super) prepare: u64,
    pub(super) created: Timestamp,
    pub(super) data: Bytes,
    pub(super) metadata: Bytes,
}

impl FromServer {
    pub(super) fn new(event: kurrentdb::RecordedEvent) -> Self {
        Self {
            id: event.id,
            stream: event.stream_id().into(),
            type_name: event.event_type.into(),
            revision: event.revision,
            commit: event.position.commit,
            prepare: event.position.prepare,
            created: Timestamp::from_micros(event.created.timestamp_micros()),
            data: event.data,
            metadata: event.custom_metadata,
        }
    }

    pub(super) fn is_hidden(&self) -> bool {
        is_hidden(&self.stream, &self.type_name)
    }

    /// Where its own record begins in the server's log.
    ///
    /// That is its commit position too, but for what was written to several streams in one transaction: there all share the commit's.
    pub(super) fn position(&self) -> Result<Position, StoreError> {
        position(self.commit, self.prepare)
    }

    /// As the port gives it. What was not written by us is made to fit.
    pub(super) fn recorded(self) -> Result<RecordedEvent, StoreError> {
        let position = self.position()?;
        let text = str::from_utf8(&self.metadata).unwrap_or_default();
        let stamp = serde_json::from_str::<Known<'_>>(text)
            .ok()
            .map(|known| known.orkestra)
            .and_then(|s| Some((s.version, Timestamp::parse(&s.occurred_at)?)));
        let (version, occurred_at, metadata) = match stamp {
            Some((version, occurred_at)) => (version.max(1), occurred_at, self.metadata.clone()),
            None => (1, self.created, self.foreign_metadata()),
        };
        let data = if is_object(&self.data) {
            self.data
        } else {
            foreign_data(&self.data)
        };
        Ok(RecordedEvent {
            id: self.id,
            type_name: self.type_name,
            version,
            stream: self.stream,
            revision: self.revision,
            position,
            data,
            metadata,
            occurred_at,
        })
    }

    /// Metadata of an event that others wrote: what of it can be read as ours, and the links by the server's own names where ours are missing.
    fn foreign_metadata(&self) -> Bytes {
        let text = str::from_utf8(&self.metadata).unwrap_or_default();
        let ours = wire::decode_metadata(&self.metadata, self.id, self.created);
        let links = serde_json::from_str::<Links<'_>>(text);
        let theirs = serde_json::from_str::<SystemLinks<'_>>(text).ok();
        let is_linked = |l: &Links<'_>| l.correlation_id.is_some() || l.causation_id.is_some();
        let theirs = theirs.filter(|_| !links.as_ref().is_ok_and(is_linked));
        match (ours, theirs) {
            (Ok(_), None) => self.metadata.clone(),
            (ours, theirs) => {
                let root = |_| Metadata::root(self.id, self.created);
                let mut metadata = ours.unwrap_or_else(root);
                if let Some(theirs) = theirs {
                    let link =
                        |name, id: Option<Cow<'_, str>>| LinkId::parse(name, id?.as_ref()).ok();
                    if let Some(id) = link("$correlationId", theirs.correlation_id) {
                        metadata.correlation_id = id;
                    }
                    metadata.causation_id = link("$causationId", theirs.causation_id);
                }
                wire::encode_metadata(&metadata)
            }
        }
    }
}

/// The position of a record.
pub(super) fn position(commit: u64, prepare: u64) -> Result<Position, StoreError> {
    let position = if prepare < commit { prepare } else { commit };
    match position {
        u64::MAX => Err(StoreError::Unsupported {
            store: "this KurrentDB server".into(),
            what: "tell positions when a stream is read".into(),
            reason: "version 22.6 or later is needed".into(),
        }),
        position if position > MAX_SAFE => Err(StoreError::Corrupt {
            what: format!("position {position}"),
            reason: "it is larger than 9007199254740991".into(),
        }),
        position => Ok(Position(position)),
    }
}

fn is_object(data: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(data) else {
        return false;
    };
    text.trim_start().starts_with('{')
        && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// A payload that is no JSON object, as one: `{"value":…}` around other JSON, else `{"hex":"…"}`.
fn foreign_data(data: &[u8]) -> Bytes {
    let json = str::from_utf8(data)
        .ok()
        .filter(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok());
    if let Some(json) = json {
        return format!("{{\"value\":{json}}}").into();
    }
    let mut text = String::with_capacity(data.len() * 2 + 10);
    text.push_str("{\"hex\":\"");
    for byte in data {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.push_str("\"}");
    text.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;

    fn ours(metadata: &str) -> NewEvent {
        NewEvent {
            id: Uuid::from_u128(7),
            type_name: "Shop.OrderPlaced".into(),
            version: 3,
            data: "{\"a\":1}".into(),
            metadata: Bytes::from(metadata.to_owned()),
            occurred_at: Timestamp::from_micros(1_774_612_800_123_456),
        }
    }

    fn from_server(data: impl Into<Bytes>, metadata: impl Into<Bytes>) -> FromServer {
        FromServer {
            id: Uuid::from_u128(7),
            stream: "order-1".into(),
            type_name: "Shop.OrderPlaced".into(),
            revision: 4,
            commit: 900,
            prepare: 900,
            created: Timestamp::from_micros(5_000_000),
            data: data.into(),
            metadata: metadata.into(),
        }
    }

    #[test]
    fn metadata_carries_the_version_the_time_and_the_names_of_the_server() {
        let event = ours("{\"correlation_id\":\"c\",\"causation_id\":\"d\",\"source\":\"web\"}");

        let metadata = metadata_to_server(&event).unwrap();

        assert_eq!(
            serde_json::from_slice::<Value>(&metadata).unwrap(),
            json!({
                "orkestra": { "version": 3, "occurred_at": "2026-03-27T12:00:00.123456Z" },
                "$correlationId": "c", "$causationId": "d",
                "correlation_id": "c", "causation_id": "d", "source": "web",
            })
        );
        let back = from_server(event.data.clone(), metadata)
            .recorded()
            .unwrap();
        assert_eq!((back.version, back.occurred_at), (3, event.occurred_at));
        assert_eq!(back.metadata().unwrap().source.as_deref(), Some("web"));
    }

    #[test]
    fn empty_metadata_and_one_without_links_are_kept() {
        for metadata in [
            "{}",
            " { } ",
            "{\"source\":\"web\"}",
            "{ \"source\" : \"web\" }",
        ] {
            let stored = metadata_to_server(&ours(metadata)).unwrap();
            let stored: Value = serde_json::from_slice(&stored).unwrap();
            let given: Value = serde_json::from_str(metadata).unwrap();
            assert_eq!(stored.get("source"), given.get("source"), "{metadata}");
            assert_eq!(stored["orkestra"]["version"], 3);
        }
        assert!(metadata_to_server(&ours("[]")).is_err());
    }

    #[test]
    fn what_others_wrote_is_made_to_fit() {
        for (data, expected) in [
            ("{\"a\": 1}", json!({ "a": 1 })),
            ("[1]", json!({ "value": [1] })),
            ("\"x\"", json!({ "value": "x" })),
            ("", json!({ "hex": "" })),
            ("{", json!({ "hex": "7b" })),
        ] {
            let event = from_server(data, "").recorded().unwrap();
            assert_eq!(
                serde_json::from_slice::<Value>(&event.data).unwrap(),
                expected
            );
            assert_eq!(event.version, 1);
            assert_eq!(event.occurred_at, Timestamp::from_micros(5_000_000));
        }

        let event = from_server("{}", "{\"$correlationId\":\"c\",\"actor_type\":5}");
        let metadata = event.recorded().unwrap().metadata().unwrap();
        assert_eq!(metadata.correlation_id.to_string(), "c");
    }

    #[test]
    fn the_position_is_where_the_record_itself_begins() {
        assert_eq!(position(900, 900).unwrap(), Position(900));
        assert_eq!(position(900, 800).unwrap(), Position(800));
        assert!(matches!(
            position(u64::MAX, u64::MAX),
            Err(StoreError::Unsupported { .. })
        ));
        assert!(matches!(
            position(1 << 53, 1 << 53),
            Err(StoreError::Corrupt { .. })
        ));
    }

    #[test]
    fn what_is_not_for_readers_is_hidden() {
        assert!(is_hidden("$stats-1", "x"));
        assert!(is_hidden("$$order-1", "$metadata"));
        assert!(is_hidden("snapshot-order-1", "orkestra.snapshot"));
        assert!(is_hidden("order-1", "$>"));
        assert!(!is_hidden("order-$1", "Shop.$"));
    }

    proptest! {
        #[test]
        fn whatever_the_server_sends_becomes_an_event_that_can_be_read(
            data in proptest::collection::vec(any::<u8>(), 0..60),
            metadata in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let event = from_server(data, metadata).recorded().unwrap();
            prop_assert!(is_object(&event.data));
            prop_assert!(event.event().is_ok());
        }

        #[test]
        fn whatever_is_nearly_ours_becomes_an_event(
            data in "[{}\\[\\]\":,a0 ]{0,12}",
            stamp in "(\\{\"version\":(0|1|-1|1\\.5|\"x\"|4294967296),\"occurred_at\":(\"2026-03-27T12:00:00Z\"|\"\"|1|\"\\\\u0041\")\\}|1|null)",
            rest in "(,\"correlation_id\":(\"\"|\"c\"|5)|,\"issued_at\":(\"x\"|1)|,\"actor_type\":\"U\\u00e9\"|)",
        ) {
            let metadata = format!("{{\"orkestra\":{stamp}{rest}}}");
            let event = from_server(data, metadata).recorded().unwrap();
            prop_assert!(is_object(&event.data) && is_object(&event.metadata));
            prop_assert!(event.version >= 1);
        }

        #[test]
        fn what_is_written_comes_back(
            version in 1..u32::MAX, micros in 0..4_000_000_000_000_000_i64,
            correlation in "\\PC{1,20}", source in "\\PC{0,20}",
        ) {
            let metadata = json!({ "correlation_id": correlation, "source": source }).to_string();
            let event = NewEvent { version, occurred_at: Timestamp::from_micros(micros), ..ours(&metadata) };
            let stored = metadata_to_server(&event).unwrap();
            let back = from_server(event.data.clone(), stored).recorded().unwrap();
            prop_assert_eq!((back.version, back.occurred_at), (event.version, event.occurred_at));
            let expected = wire::decode_metadata(&event.metadata, event.id, event.occurred_at);
            if let Ok(expected) = expected {
                let read = back.metadata().unwrap();
                prop_assert_eq!(read.correlation_id, expected.correlation_id);
                prop_assert_eq!(read.source, expected.source);
            }
        }
    }
}
