//! Recorded events as one JSON text per page, payloads copied as they are.

use std::fmt::Write;

use orkestra::ports::RecordedEvent;

/// A JSON array of `events`.
pub(crate) fn write(text: &mut String, events: &[RecordedEvent]) {
    let payloads: usize = events.iter().map(|e| e.data.len() + e.metadata.len()).sum();
    text.reserve(payloads + events.len() * 256);
    text.push('[');
    for (i, event) in events.iter().enumerate() {
        if i > 0 {
            text.push(',');
        }
        write_event(text, event);
    }
    text.push(']');
}

fn write_event(text: &mut String, event: &RecordedEvent) {
    // Writing into a string cannot fail.
    let _ = write!(text, "{{\"id\":\"{}\",\"type\":", event.id);
    quote(text, &event.type_name);
    let _ = write!(text, ",\"version\":{},\"stream\":", event.version);
    quote(text, &event.stream);
    let _ = write!(
        text,
        ",\"revision\":{},\"position\":{},\"occurred_at\":\"{}\",\"metadata\":",
        event.revision, event.position, event.occurred_at
    );
    text.push_str(&String::from_utf8_lossy(&event.metadata));
    text.push_str(",\"data\":");
    text.push_str(&String::from_utf8_lossy(&event.data));
    text.push('}');
}

fn quote(text: &mut String, value: &str) {
    text.push_str(&serde_json::Value::from(value).to_string());
}
