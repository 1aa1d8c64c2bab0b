//! The trace of an event, kept in its stored metadata under W3C's own names.
//!
//! So it is in every store, and whoever reads metadata passes over it: `{"correlation_id":"…",…,"traceparent":"00-…-01"}`. On the wire it is a
//! header, never a part of the body. An event without a trace has no such keys.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ports::{NewEvent, RecordedEvent, TraceContext};

#[derive(Serialize, Deserialize)]
struct Stored {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    traceparent: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tracestate: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    baggage: Option<Arc<str>>,
}

impl TraceContext {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.traceparent.is_none() && self.tracestate.is_none() && self.baggage.is_none()
    }

    /// The trace in an event's stored `metadata`, empty if there is none.
    pub fn stored_in(metadata: &[u8]) -> Self {
        if !mentions_a_trace(metadata) {
            return Self::default();
        }
        serde_json::from_slice(metadata).map_or_else(
            |_| Self::default(),
            |stored: Stored| Self {
                traceparent: stored.traceparent,
                tracestate: stored.tracestate,
                baggage: stored.baggage,
            },
        )
    }

    /// The trace id of `traceparent` (W3C Trace Context, section 3.2), `None` if there is none or it is nonsense.
    pub fn trace_id(&self) -> Option<String> {
        let id = self.traceparent.as_deref()?.split('-').nth(1)?;
        let hex = id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (hex && id.bytes().any(|b| b != b'0')).then(|| id.to_owned())
    }
}

impl NewEvent {
    /// The same with `trace` beside its metadata, unless that has one already. Without a trace it costs nothing.
    #[must_use]
    pub fn traced(mut self, trace: &TraceContext) -> Self {
        if !trace.is_empty() && !mentions_a_trace(&self.metadata) {
            let stored = Stored {
                traceparent: trace.traceparent.clone(),
                tracestate: trace.tracestate.clone(),
                baggage: trace.baggage.clone(),
            };
            if let Some(metadata) = joined(&self.metadata, &stored) {
                self.metadata = metadata;
            }
        }
        self
    }
}

impl RecordedEvent {
    /// The trace in which the event was appended, empty if it was not traced.
    pub fn trace(&self) -> TraceContext {
        TraceContext::stored_in(&self.metadata)
    }
}

/// Whether to look closer: most events have no trace, and nothing is parsed for them.
fn mentions_a_trace(metadata: &[u8]) -> bool {
    str::from_utf8(metadata).is_ok_and(|text| text.contains("\"traceparent\""))
}

/// The object `metadata` with the fields of `stored` at its end; `None` if it is no object.
fn joined(metadata: &[u8], stored: &Stored) -> Option<Bytes> {
    let open = metadata.trim_ascii_end().strip_suffix(b"}")?;
    let added = serde_json::to_vec(stored).ok()?;
    let is_empty = open.trim_ascii() == b"{";
    let mut joined = Vec::with_capacity(open.len() + added.len());
    joined.extend_from_slice(open);
    if !is_empty {
        joined.push(b',');
    }
    joined.extend_from_slice(added.strip_prefix(b"{")?);
    Some(joined.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;
    use uuid::Uuid;

    use super::*;
    use crate::{
        clock::Timestamp,
        message::{Metadata, wire},
        ports::Position,
    };

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn event(metadata: &[u8]) -> NewEvent {
        NewEvent {
            id: Uuid::from_u128(1),
            type_name: "Shop.OrderPlaced".into(),
            version: 1,
            data: "{}".into(),
            metadata: Bytes::copy_from_slice(metadata),
            occurred_at: Timestamp::from_micros(0),
        }
    }

    fn recorded(event: NewEvent) -> RecordedEvent {
        RecordedEvent {
            id: event.id,
            type_name: event.type_name,
            version: event.version,
            stream: "order-1".into(),
            revision: 0,
            position: Position(1),
            data: event.data,
            metadata: event.metadata,
            occurred_at: event.occurred_at,
        }
    }

    fn trace() -> TraceContext {
        TraceContext {
            traceparent: Some(PARENT.into()),
            tracestate: Some("vendor=\"x\"".into()),
            baggage: None,
        }
    }

    #[test]
    fn a_trace_comes_back_and_the_metadata_are_the_same() {
        let metadata = Metadata::root(Uuid::from_u128(1), Timestamp::from_micros(5));
        for json in [wire::encode_metadata(&metadata), Bytes::from_static(b"{ }")] {
            let plain = recorded(event(&json));
            let traced = recorded(event(&json).traced(&trace()));

            assert_eq!(traced.trace(), trace());
            assert_eq!(plain.trace(), TraceContext::default());
            assert_eq!(traced.metadata().unwrap(), plain.metadata().unwrap());
        }
    }

    #[test]
    fn without_a_trace_nothing_changes_and_the_first_one_stays() {
        let plain = event(b"{}");
        assert_eq!(plain.clone().traced(&TraceContext::default()), plain);

        let first = plain.traced(&trace());
        let other = TraceContext {
            traceparent: Some("00-x".into()),
            ..TraceContext::default()
        };
        assert_eq!(first.clone().traced(&other), first);
    }

    #[test]
    fn a_trace_id_is_taken_from_what_is_well_formed() {
        let of = |text: &str| {
            let trace = TraceContext {
                traceparent: Some(text.into()),
                ..TraceContext::default()
            };
            trace.trace_id()
        };
        assert_eq!(
            of("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").as_deref(),
            Some("4bf92f3577b34da6a3ce929d0e0e4736")
        );
        for nonsense in [
            "",
            "-",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "nonsense",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        ] {
            assert_eq!(of(nonsense), None, "{nonsense}");
        }
    }
    proptest! {
        #[test]
        fn whatever_others_keep_in_metadata_stays(
            fields in proptest::collection::btree_map("\\PC{0,8}", "\\PC{0,8}", 0..4), space in "[ \n]{0,2}",
        ) {
            let json = format!("{}{space}", serde_json::to_string(&fields).unwrap());

            let traced = recorded(event(json.as_bytes()).traced(&trace()));

            prop_assert_eq!(traced.trace(), trace());
            let mut stored: serde_json::Map<String, Value> = serde_json::from_slice(&traced.metadata).unwrap();
            stored.retain(|name, _| fields.contains_key(name));
            prop_assert_eq!(Value::Object(stored), serde_json::to_value(&fields).unwrap());
        }

        #[test]
        fn whatever_stands_there_can_be_asked(metadata in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut metadata = metadata;
            metadata.extend_from_slice(b"\"traceparent\"");
            let _ = recorded(event(&metadata)).trace();
        }
    }
}
