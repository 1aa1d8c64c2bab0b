//! Properties and headers: a message as the broker carries it.

use std::borrow::Borrow;

use bytes::Bytes;
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};
use uuid::Uuid;

use super::topology::{DELAY_HEADER, short};
use crate::{
    clock::Timestamp,
    message::MessageKind,
    ports::{DeadLetter, ErrorRecord, Outgoing, RawMessage, TraceContext},
};

pub(super) const ATTEMPT: &str = "x-orkestra-attempt";
pub(super) const FAILURES: &str = "x-orkestra-failures";
pub(super) const FIRST_FAILED: &str = "x-orkestra-first-failed-at";
pub(super) const LAST_FAILED: &str = "x-orkestra-last-failed-at";
pub(super) const TOPIC: &str = "x-orkestra-topic";
pub(super) const DEAD_LETTER: &str = "x-orkestra-dead-letter";
pub(super) const HANDLER: &str = "x-orkestra-handler";
pub(super) const QUEUE: &str = "x-orkestra-queue";
pub(super) const REASON: &str = "x-orkestra-reason";
pub(super) const ERRORS: &str = "x-orkestra-errors";
/// Milliseconds still to wait, of a wait that is longer than the last rung.
pub(super) const REST: &str = "x-orkestra-rest";
/// How often a message came back without an answer, on a copy of it.
pub(super) const RETURNS: &str = "x-orkestra-returns";
const MAX_RETRIES: &str = "x-max-retries";
const DELIVERY_COUNT: &str = "x-delivery-count";
const PERSISTENT: u8 = 2;
/// Bytes of a dead letter's errors at most.
const LONGEST_ERRORS: usize = 32_768;
/// Bytes of all headers at most: they have to fit into one frame, which is 131,072 bytes at RabbitMQ.
pub(super) const LONGEST: usize = 120_000;

/// Headers that would send a copy elsewhere, or that speak of an earlier delivery.
const NOT_COPIED: [&str; 6] = ["CC", "BCC", DELIVERY_COUNT, DELAY_HEADER, REST, RETURNS];

/// The properties of a message as it is sent the first time.
pub(super) fn outgoing(
    message: &Outgoing,
    app: &ShortString,
    reply_to: Option<&str>,
) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert(ATTEMPT.into(), AMQPValue::LongInt(1));
    if let Some(max) = message.max_retries {
        put_number(&mut headers, MAX_RETRIES, u64::from(max));
    }
    put_trace(&mut headers, &message.trace);
    let properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type("application/json".into())
        .with_type(message.kind.as_str().into())
        .with_message_id(id_text(message.id))
        .with_correlation_id(short(&message.correlation_id))
        .with_timestamp(message.issued_at.as_millis() / 1000)
        .with_app_id(app.clone())
        .with_headers(headers);
    match reply_to {
        Some(queue) => properties.with_reply_to(queue.into()),
        None => properties,
    }
}

/// The properties of an answer to the command `id`. It need not survive the broker: who asks waits for a while only.
pub(super) fn reply(id: Option<&ShortString>, app: &ShortString) -> BasicProperties {
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_type("command_reply".into())
        .with_app_id(app.clone());
    match id {
        Some(id) => properties.with_correlation_id(id.clone()),
        None => properties,
    }
}

/// Whether a copy needs it.
fn is_ours(name: &str) -> bool {
    name.starts_with("x-orkestra-") || [MAX_RETRIES, "traceparent"].contains(&name)
}

/// The properties of a copy of a message that came: as they were, less what would send the copy elsewhere or shorten its life. Of headers that leave
/// no room for more only ours are kept.
pub(super) fn copy(original: &BasicProperties) -> (BasicProperties, FieldTable) {
    let mut headers = FieldTable::default();
    let fits = size(original) <= LONGEST / 2;
    for (name, value) in original.headers().iter().flatten() {
        let text = Borrow::<str>::borrow(name);
        if !NOT_COPIED.contains(&text) && (fits || is_ours(text)) {
            headers.insert(name.clone(), value.clone());
        }
    }
    let mut copy = BasicProperties::default().with_delivery_mode(PERSISTENT);
    // Without `expiration`, which would end the copy, and `user_id`, which is checked against our own.
    let optional = [
        (
            original.content_type(),
            BasicProperties::with_content_type as fn(_, _) -> _,
        ),
        (
            original.content_encoding(),
            BasicProperties::with_content_encoding,
        ),
        (
            original.correlation_id(),
            BasicProperties::with_correlation_id,
        ),
        (original.reply_to(), BasicProperties::with_reply_to),
        (original.message_id(), BasicProperties::with_message_id),
        (original.kind(), BasicProperties::with_type),
        (original.app_id(), BasicProperties::with_app_id),
    ];
    for (value, with) in optional {
        if let Some(value) = value {
            copy = with(copy, value.clone());
        }
    }
    if let Some(timestamp) = original.timestamp() {
        copy = copy.with_timestamp(*timestamp);
    }
    if let Some(priority) = original.priority() {
        copy = copy.with_priority(*priority);
    }
    (copy, headers)
}

/// Adds what is known of a message that was given up.
pub(super) fn put_letter(headers: &mut FieldTable, letter: &DeadLetter, queue: &str) {
    put(headers, HANDLER, &letter.handler);
    put(headers, QUEUE, queue);
    put(headers, TOPIC, &letter.topic);
    put(headers, REASON, letter.reason.as_str());
    put(headers, ERRORS, &told(&letter.errors));
    put_number(headers, ATTEMPT, u64::from(letter.attempts));
    put(headers, FIRST_FAILED, &letter.first_failed_at.to_string());
    put(headers, LAST_FAILED, &letter.last_failed_at.to_string());
}

/// The errors as JSON, shortened as far as needed: all headers of a message have to fit into one frame.
fn told(errors: &[ErrorRecord]) -> String {
    let cut = |text: &str, longest: usize| {
        let mut end = longest.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        match text.len() - end {
            0 => text.to_owned(),
            more => format!("{} ({more} bytes more)", &text[..end]),
        }
    };
    let mut json = String::new();
    for (longest, most) in [
        (usize::MAX, usize::MAX),
        (8_192, 100),
        (1_024, 10),
        (64, 10),
    ] {
        let short: Vec<_> = errors
            .iter()
            .take(most)
            .map(|error| ErrorRecord {
                error_type: cut(&error.error_type, longest),
                message: cut(&error.message, longest),
                trace: cut(&error.trace, longest),
            })
            .collect();
        json = serde_json::to_string(&short).unwrap_or_default();
        if json.len() <= LONGEST_ERRORS {
            break;
        }
    }
    json
}

/// The bytes of the headers in the frame, more or less.
pub(super) fn size(properties: &BasicProperties) -> usize {
    fn of(value: &AMQPValue) -> usize {
        match value {
            AMQPValue::LongString(text) => text.as_bytes().len() + 5,
            AMQPValue::ShortString(text) => Borrow::<str>::borrow(text).len() + 2,
            AMQPValue::ByteArray(bytes) => bytes.len() + 5,
            AMQPValue::FieldArray(values) => values.as_slice().iter().map(of).sum::<usize>() + 5,
            AMQPValue::FieldTable(table) => table_size(table) + 5,
            _ => 9,
        }
    }
    fn table_size(table: &FieldTable) -> usize {
        table
            .into_iter()
            .map(|(name, value)| Borrow::<str>::borrow(name).len() + 1 + of(value))
            .sum()
    }
    properties.headers().as_ref().map_or(0, table_size)
}

pub(super) fn put(headers: &mut FieldTable, name: &str, value: &str) {
    headers.insert(name.into(), AMQPValue::LongString(value.into()));
}

pub(super) fn put_number(headers: &mut FieldTable, name: &str, value: u64) {
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    headers.insert(name.into(), AMQPValue::LongLongInt(value));
}

fn put_trace(headers: &mut FieldTable, trace: &TraceContext) {
    for (name, value) in [
        ("traceparent", &trace.traceparent),
        ("tracestate", &trace.tracestate),
        ("baggage", &trace.baggage),
    ] {
        if let Some(value) = value {
            put(headers, name, value);
        }
    }
}

pub(super) fn id_text(id: Uuid) -> ShortString {
    let mut buffer = Uuid::encode_buffer();
    ShortString::from(&*id.hyphenated().encode_lower(&mut buffer))
}

/// The headers of a message that came. One of the wrong type is as good as none.
#[derive(Clone, Copy)]
pub(super) struct Headers<'a>(Option<&'a FieldTable>);

impl<'a> Headers<'a> {
    pub(super) fn of(properties: &'a BasicProperties) -> Self {
        Self(properties.headers().as_ref())
    }

    fn get(self, name: &str) -> Option<&'a AMQPValue> {
        self.0?.inner().get(name)
    }

    pub(super) fn text(self, name: &str) -> Option<&'a str> {
        let found = match self.get(name)? {
            AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
            AMQPValue::ShortString(text) => Some(text.borrow()),
            _ => None,
        };
        self.known(name, found)
    }

    pub(super) fn number(self, name: &str) -> Option<u64> {
        let found = match self.get(name)? {
            AMQPValue::ShortShortInt(n) => u64::try_from(*n).ok(),
            AMQPValue::ShortShortUInt(n) => Some(u64::from(*n)),
            AMQPValue::ShortInt(n) => u64::try_from(*n).ok(),
            AMQPValue::ShortUInt(n) => Some(u64::from(*n)),
            AMQPValue::LongInt(n) => u64::try_from(*n).ok(),
            AMQPValue::LongUInt(n) => Some(u64::from(*n)),
            AMQPValue::LongLongInt(n) => u64::try_from(*n).ok(),
            _ => None,
        };
        self.known(name, found)
    }

    fn known<T>(self, name: &str, found: Option<T>) -> Option<T> {
        if found.is_none() {
            let value = self.get(name);
            tracing::debug!(name, ?value, "a header of the wrong type is ignored");
        }
        found
    }

    fn time(self, name: &str) -> Option<Timestamp> {
        let text = self.text(name)?;
        self.known(name, Timestamp::parse(text))
    }

    fn small(self, name: &str) -> Option<u32> {
        self.number(name)
            .map(|n| u32::try_from(n).unwrap_or(u32::MAX))
    }

    /// How often it came back without an answer: the broker's count, and that of an earlier copy.
    pub(super) fn returns(self) -> u32 {
        let counted = self.small(DELIVERY_COUNT).unwrap_or(0);
        counted.saturating_add(self.small(RETURNS).unwrap_or(0))
    }

    /// Whether the broker counts its deliveries.
    pub(super) fn is_counted(self) -> bool {
        self.get(DELIVERY_COUNT).is_some()
    }

    /// Where it died last, says the broker: queue, reason and the routing key it had there.
    pub(super) fn death(self) -> Option<Death<'a>> {
        let AMQPValue::FieldArray(deaths) = self.get("x-death")? else {
            return None;
        };
        let AMQPValue::FieldTable(last) = deaths.as_slice().first()? else {
            return None;
        };
        let last = Headers(Some(last));
        let AMQPValue::FieldArray(keys) = last.get("routing-keys")? else {
            return None;
        };
        let topic = match keys.as_slice().first() {
            Some(AMQPValue::LongString(key)) => std::str::from_utf8(key.as_bytes()).ok(),
            _ => None,
        };
        Some(Death {
            queue: last.text("queue")?,
            reason: last.text("reason")?,
            topic: topic.unwrap_or_default(),
        })
    }
}

/// The latest entry of `x-death`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Death<'a> {
    pub(super) queue: &'a str,
    pub(super) reason: &'a str,
    pub(super) topic: &'a str,
}

/// A message as it came. `delivered` is how often it was delivered before.
pub(super) fn raw(
    properties: &BasicProperties,
    body: Bytes,
    routing_key: &str,
    delivered: u32,
) -> RawMessage {
    let headers = Headers::of(properties);
    let text = |value: &Option<ShortString>| value.as_ref().map(ToString::to_string);
    let shared = |name| headers.text(name).map(Into::into);
    RawMessage {
        kind: properties.kind().as_ref().and_then(|kind| {
            [MessageKind::Command, MessageKind::Event]
                .into_iter()
                .find(|k| k.as_str() == Borrow::<str>::borrow(kind))
        }),
        id: text(properties.message_id()).and_then(|id| Uuid::try_parse(&id).ok()),
        body,
        topic: headers.text(TOPIC).unwrap_or(routing_key).to_owned(),
        attempts: headers
            .small(ATTEMPT)
            .unwrap_or(1)
            .saturating_sub(1)
            .saturating_add(delivered),
        failures: headers.small(FAILURES).unwrap_or(0),
        first_failed_at: headers.time(FIRST_FAILED),
        last_failed_at: headers.time(LAST_FAILED),
        errors: errors(headers),
        max_retries: headers.small(MAX_RETRIES),
        trace: TraceContext {
            traceparent: shared("traceparent"),
            tracestate: shared("tracestate"),
            baggage: shared("baggage"),
        },
        wants_reply: properties.reply_to().is_some(),
        dead_letter: headers
            .text(DEAD_LETTER)
            .and_then(|id| Uuid::try_parse(id).ok()),
    }
}

fn errors(headers: Headers<'_>) -> Vec<ErrorRecord> {
    headers
        .text(ERRORS)
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

/// Adds what a message needs that is put into one queue by name.
pub(super) fn requeued(
    properties: BasicProperties,
    topic: &str,
    entry: Option<Uuid>,
) -> BasicProperties {
    let mut headers = properties.headers().clone().unwrap_or_default();
    put(&mut headers, TOPIC, topic);
    if let Some(entry) = entry {
        put(&mut headers, DEAD_LETTER, &entry.to_string());
    }
    properties.with_headers(headers)
}

#[cfg(test)]
mod tests {
    use super::{super::topology::long, *};

    fn with(entries: &[(&str, AMQPValue)]) -> BasicProperties {
        let mut headers = FieldTable::default();
        for (name, value) in entries {
            headers.insert((*name).into(), value.clone());
        }
        BasicProperties::default().with_headers(headers)
    }

    #[test]
    fn headers_of_the_wrong_type_are_as_good_as_none() {
        let nonsense = AMQPValue::FieldTable(FieldTable::default());
        let names = [
            ATTEMPT,
            FAILURES,
            FIRST_FAILED,
            LAST_FAILED,
            TOPIC,
            DEAD_LETTER,
            ERRORS,
            RETURNS,
            MAX_RETRIES,
            DELIVERY_COUNT,
            "traceparent",
            "x-death",
        ];
        let properties = with(&names.map(|name| (name, nonsense.clone())));

        let raw = raw(&properties, Bytes::new(), "orders.placed", 0);

        assert_eq!(raw.topic, "orders.placed");
        assert_eq!((raw.attempts, raw.failures, raw.max_retries), (0, 0, None));
        assert_eq!(raw.trace, TraceContext::default());
        assert!(raw.first_failed_at.is_none() && raw.dead_letter.is_none());
        assert!(Headers::of(&properties).death().is_none());
        assert_eq!(Headers::of(&properties).returns(), 0);
    }

    #[test]
    fn numbers_are_read_whatever_their_width_and_never_wrap() {
        for (value, read) in [
            (AMQPValue::ShortShortUInt(3), 2),
            (AMQPValue::LongLongInt(3), 2),
            (AMQPValue::LongLongInt(-3), 0),
            (AMQPValue::LongLongInt(i64::MAX), u32::MAX - 1),
            (AMQPValue::LongLongInt(0), 0),
        ] {
            let properties = with(&[(ATTEMPT, value)]);
            assert_eq!(raw(&properties, Bytes::new(), "", 0).attempts, read);
        }
    }

    #[test]
    fn a_copy_goes_nowhere_else_and_does_not_expire() {
        let original = with(&[
            ("CC", AMQPValue::FieldArray(vec![long("elsewhere")].into())),
            ("traceparent", long("00-nonsense")),
            ("x-death", long("kept")),
            (RETURNS, AMQPValue::LongInt(4)),
        ])
        .with_expiration("1".into())
        .with_user_id("somebody".into())
        .with_message_id("id".into())
        .with_reply_to("answers".into());

        let (copy, headers) = copy(&original);

        assert_eq!(headers.inner().len(), 2);
        assert!(copy.expiration().is_none() && copy.user_id().is_none());
        assert_eq!(copy.message_id(), original.message_id());
        assert_eq!(copy.reply_to(), original.reply_to());
        assert_eq!(*copy.delivery_mode(), Some(PERSISTENT));
    }
}
