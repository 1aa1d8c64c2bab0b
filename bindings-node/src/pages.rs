//! Recorded events as one JSON text per page, payloads and metadata copied as they are.
//!
//! Of events that are folded only what that needs is JSON, which JavaScript parses whole. The rest is a tail behind it, with [`BREAK`] before each
//! event's part: it is asked for now and then only. Inside JSON that character is always escaped.

use std::fmt::Write;

use orkestra::ports::RecordedEvent;

/// Before each event's part of the tail.
pub(crate) const BREAK: char = '\u{1e}';
/// Between the fields of a part.
pub(crate) const FIELD: char = '\u{1f}';

/// A JSON array of `events`.
pub(crate) fn write(text: &mut String, events: &[RecordedEvent]) {
    write_all(text, events, |text, event| {
        text.push_str("{\"id\":\"");
        write_id(text, event);
        text.push_str("\",\"type\":");
        quote(text, &event.type_name);
        text.push_str(",\"stream\":");
        quote(text, &event.stream);
        // Writing into a string cannot fail.
        let _ = write!(
            text,
            ",\"version\":{},\"revision\":{},\"position\":{},\"occurred_at\":\"{}\",\"metadata\":",
            event.version, event.revision, event.position, event.occurred_at
        );
        text.push_str(&String::from_utf8_lossy(&event.metadata));
        text.push_str(",\"data\":");
    });
}

/// As [`write`], for events that are folded: only what that needs.
pub(crate) fn write_folded(text: &mut String, events: &[RecordedEvent]) {
    write_all(text, events, |text, event| {
        text.push_str("{\"type\":");
        quote(text, &event.type_name);
        let _ = write!(text, ",\"version\":{},\"data\":", event.version);
    });
}

/// The tail of [`write_folded`]: id, revision and metadata.
pub(crate) fn write_folded_tail(text: &mut String, events: &[RecordedEvent]) {
    for event in events {
        text.push(BREAK);
        write_id(text, event);
        let _ = write!(text, "{FIELD}{}{FIELD}", event.revision);
        text.push_str(&String::from_utf8_lossy(&event.metadata));
    }
}

fn write_all(
    text: &mut String,
    events: &[RecordedEvent],
    facts: impl Fn(&mut String, &RecordedEvent),
) {
    let bytes: usize = events.iter().map(|e| e.data.len() + e.metadata.len()).sum();
    text.reserve(bytes + events.len() * 256);
    text.push('[');
    for (i, event) in events.iter().enumerate() {
        if i > 0 {
            text.push(',');
        }
        facts(text, event);
        text.push_str(&String::from_utf8_lossy(&event.data));
        text.push('}');
    }
    text.push(']');
}

fn write_id(text: &mut String, event: &RecordedEvent) {
    text.push_str(event.id.hyphenated().encode_lower(&mut [0; 36]));
}

fn quote(text: &mut String, value: &str) {
    let is_plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
    if value.bytes().all(is_plain) {
        text.push('"');
        text.push_str(value);
        text.push('"');
    } else {
        text.push_str(&serde_json::Value::from(value).to_string());
    }
}
