//! The JSON of DESIGN.md section 4, both ways.
//!
//! The payload crosses as bytes: it is checked for being JSON, never made into a tree. Unknown keys are ignored.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{
    ActorType, Command, CommandEnvelope, CommandStatus, Event, LinkId, MAX_DEPTH, MessageError,
    Metadata, parse_message_id, shorten,
};
use crate::{clock::Timestamp, topic::check_type_name};

/// What a body holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Decoded {
    /// A command envelope.
    Command(Box<CommandEnvelope>),
    /// An event envelope.
    Event(Box<Event>),
}

#[derive(Serialize)]
struct CommandOut<'a> {
    #[serde(rename = "__type__")]
    kind: &'static str,
    command_type: &'a str,
    command_id: Uuid,
    params: &'a RawValue,
    metadata: &'a Metadata,
    status: CommandStatus,
    attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_retries: Option<u32>,
}

#[derive(Serialize)]
struct EventOut<'a> {
    #[serde(rename = "__type__")]
    kind: &'static str,
    event_type: &'a str,
    event_id: Uuid,
    event_version: u32,
    data: &'a RawValue,
    metadata: &'a Metadata,
    occurred_at: Timestamp,
}

fn raw<'a>(type_name: &str, payload: &'a [u8]) -> Result<&'a RawValue, MessageError> {
    serde_json::from_slice(payload).map_err(|error| MessageError::NotJson {
        type_name: type_name.to_owned(),
        path: "$".into(),
        reason: error.to_string(),
    })
}

/// An envelope without its payload, at most as a rule.
const ENVELOPE: usize = 512;

fn write(type_name: &str, payload: &[u8], value: &impl Serialize) -> Result<Bytes, MessageError> {
    let mut json = Vec::with_capacity(payload.len() + ENVELOPE);
    serde_json::to_writer(&mut json, value)
        .map(|()| Bytes::from(json))
        .map_err(|error| MessageError::NotJson {
            type_name: type_name.to_owned(),
            path: "$".into(),
            reason: error.to_string(),
        })
}

/// The body of a command. `max_retries` is written when the sender set it.
///
/// # Errors
/// [`MessageError::NotJson`] if the payload is not JSON.
pub fn encode_command(envelope: &CommandEnvelope) -> Result<Bytes, MessageError> {
    let command = &envelope.command;
    write(
        &command.type_name,
        &command.params,
        &CommandOut {
            kind: "command_envelope",
            command_type: &command.type_name,
            command_id: command.id,
            params: raw(&command.type_name, &command.params)?,
            metadata: &command.metadata,
            status: envelope.status,
            attempts: envelope.attempts,
            max_retries: envelope.max_retries,
        },
    )
}

/// The body of an event.
///
/// # Errors
/// [`MessageError::NotJson`] if the payload is not JSON.
pub fn encode_event(event: &Event) -> Result<Bytes, MessageError> {
    write(
        &event.type_name,
        &event.data,
        &EventOut {
            kind: "event_envelope",
            event_type: &event.type_name,
            event_id: event.id,
            event_version: event.version,
            data: raw(&event.type_name, &event.data)?,
            metadata: &event.metadata,
            occurred_at: event.occurred_at,
        },
    )
}

/// The metadata object alone, as it is stored beside an event.
pub fn encode_metadata(metadata: &Metadata) -> Bytes {
    serde_json::to_vec(metadata).map_or_else(|_| Bytes::from_static(b"{}"), Bytes::from)
}

/// Reads a body. `received_at` stands in for times that the sender left out.
///
/// # Errors
/// [`MessageError::Malformed`], [`MessageError::MissingField`], [`MessageError::InvalidField`] with its JSON path,
/// [`MessageError::InvalidTypeName`], [`MessageError::TooDeep`].
pub fn decode(body: &[u8], received_at: Timestamp) -> Result<Decoded, MessageError> {
    let top = Object::parse(body)?;
    let kind = top.text("__type__")?;
    match kind.as_ref() {
        "command_envelope" => decode_command(top, received_at),
        "event_envelope" => decode_event(top, received_at),
        other => Err(MessageError::InvalidField {
            type_name: "envelope".into(),
            field: "$.__type__".into(),
            expected: "command_envelope or event_envelope".into(),
            found: shorten(other),
        }),
    }
}

/// Reads the metadata object that is stored beside the event `id`.
///
/// # Errors
/// As [`decode`].
pub fn decode_metadata(
    json: &[u8],
    id: Uuid,
    received_at: Timestamp,
) -> Result<Metadata, MessageError> {
    let mut object = Object::parse(json)?;
    "$.metadata".clone_into(&mut object.path);
    read_metadata(&object, id, received_at)
}

fn decode_command(mut top: Object<'_>, received_at: Timestamp) -> Result<Decoded, MessageError> {
    let type_name = top.text("command_type")?.into_owned();
    check_type_name(&type_name)?;
    top.type_name.clone_from(&type_name);
    let id = top.id("command_id")?;
    let params = top.payload("params")?;
    let metadata = top.metadata(id, received_at)?;
    let status = match top.optional_text("status")? {
        None => CommandStatus::Pending,
        Some(word) => CommandStatus::parse(&word)
            .ok_or_else(|| top.wrong("status", "a status of a command", &word))?,
    };
    let attempts = top.number("attempts")?.unwrap_or(0);
    let max_retries = top.number("max_retries")?;
    let mut envelope = CommandEnvelope::new(Command {
        id,
        type_name: type_name.into(),
        params,
        metadata,
    });
    envelope.status = status;
    envelope.attempts = attempts;
    envelope.max_retries = max_retries;
    Ok(Decoded::Command(Box::new(envelope)))
}

fn decode_event(mut top: Object<'_>, received_at: Timestamp) -> Result<Decoded, MessageError> {
    let type_name = top.text("event_type")?.into_owned();
    check_type_name(&type_name)?;
    top.type_name.clone_from(&type_name);
    let id = top.id("event_id")?;
    let version = top.number("event_version")?.unwrap_or(1);
    if version == 0 {
        return Err(top.wrong("event_version", "a number from 1", "0"));
    }
    let data = top.payload("data")?;
    let occurred_at = top.time("occurred_at")?;
    let metadata = top.metadata(id, occurred_at.unwrap_or(received_at))?;
    Ok(Decoded::Event(Box::new(Event {
        id,
        type_name: type_name.into(),
        version,
        data,
        occurred_at: occurred_at.unwrap_or(metadata.issued_at),
        metadata,
    })))
}

fn read_metadata(
    object: &Object<'_>,
    id: Uuid,
    default_time: Timestamp,
) -> Result<Metadata, MessageError> {
    let link = |key: &str| -> Result<Option<LinkId>, MessageError> {
        match object.optional_text(key)? {
            None => Ok(None),
            Some(text) => LinkId::parse(key, &text)
                .map(Some)
                .map_err(|_| object.wrong(key, "text of 1 to 255 characters", &text)),
        }
    };
    let text = |key: &str| -> Result<Option<Arc<str>>, MessageError> {
        Ok(object.optional_text(key)?.map(|t| Arc::from(t.as_ref())))
    };
    Ok(Metadata {
        correlation_id: link("correlation_id")?.unwrap_or(LinkId::Uuid(id)),
        causation_id: link("causation_id")?,
        actor_id: text("actor_id")?,
        actor_type: match object.optional_text("actor_type")? {
            None => ActorType::System,
            Some(word) => ActorType::parse(&word)
                .map_err(|_| object.wrong("actor_type", "a lower-case word", &word))?,
        },
        source: text("source")?,
        issued_at: object.time("issued_at")?.unwrap_or(default_time),
    })
}

/// One level of an object, its values unparsed.
struct Object<'a> {
    type_name: String,
    path: String,
    fields: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> Object<'a> {
    fn parse(json: &'a [u8]) -> Result<Self, MessageError> {
        let malformed = |reason: String| MessageError::Malformed { reason };
        let text = std::str::from_utf8(json).map_err(|error| malformed(error.to_string()))?;
        let fields = serde_json::from_str::<Fields<'a>>(text)
            .map_err(|error| malformed(error.to_string()))?;
        Ok(Self {
            type_name: "envelope".into(),
            path: "$".into(),
            fields: fields.0,
        })
    }

    fn get(&self, key: &str) -> Option<&'a RawValue> {
        // As with every JSON parser that fills a map, the last of two equal keys counts.
        self.fields
            .iter()
            .rev()
            .find(|(k, _)| k == key)
            .map(|(_, v)| *v)
            .filter(|v| v.get() != "null")
    }

    fn missing(&self, key: &str) -> MessageError {
        MessageError::MissingField {
            type_name: self.type_name.clone(),
            field: format!("{}.{key}", self.path),
        }
    }

    fn wrong(&self, key: &str, expected: &str, found: &str) -> MessageError {
        MessageError::InvalidField {
            type_name: self.type_name.clone(),
            field: format!("{}.{key}", self.path),
            expected: expected.to_owned(),
            found: shorten(found),
        }
    }

    fn optional_text(&self, key: &str) -> Result<Option<Cow<'a, str>>, MessageError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        serde_json::from_str::<Text<'a>>(value.get())
            .map(|text| Some(text.0))
            .map_err(|_| self.wrong(key, "text", value.get()))
    }

    fn text(&self, key: &str) -> Result<Cow<'a, str>, MessageError> {
        self.optional_text(key)?.ok_or_else(|| self.missing(key))
    }

    fn id(&self, key: &str) -> Result<Uuid, MessageError> {
        let text = self.text(key)?;
        parse_message_id(&text).map_err(|_| self.wrong(key, "a UUID", &text))
    }

    fn number(&self, key: &str) -> Result<Option<u32>, MessageError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        serde_json::from_str(value.get())
            .map(Some)
            .map_err(|_| self.wrong(key, "a whole number from 0 to 4294967295", value.get()))
    }

    fn time(&self, key: &str) -> Result<Option<Timestamp>, MessageError> {
        let Some(text) = self.optional_text(key)? else {
            return Ok(None);
        };
        Timestamp::parse(&text)
            .map(Some)
            .ok_or_else(|| self.wrong(key, "a time of RFC 3339", &text))
    }

    fn payload(&self, key: &str) -> Result<Bytes, MessageError> {
        let value = self.get(key).ok_or_else(|| self.missing(key))?.get();
        if !value.starts_with('{') {
            return Err(self.wrong(key, "an object", value));
        }
        let limits = super::PayloadLimits {
            max_bytes: usize::MAX,
        };
        limits.check(&self.type_name, value.as_bytes())?;
        Ok(Bytes::copy_from_slice(value.as_bytes()))
    }

    fn metadata(&self, id: Uuid, default_time: Timestamp) -> Result<Metadata, MessageError> {
        let Some(value) = self.get("metadata") else {
            return Ok(Metadata::root(id, default_time));
        };
        if !value.get().starts_with('{') {
            return Err(self.wrong("metadata", "an object", value.get()));
        }
        let mut object = Object::parse(value.get().as_bytes())?;
        object.type_name.clone_from(&self.type_name);
        "$.metadata".clone_into(&mut object.path);
        read_metadata(&object, id, default_time)
    }
}

#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Fields<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<'a>(std::marker::PhantomData<&'a ()>);
        impl<'de: 'a, 'a> serde::de::Visitor<'de> for Visitor<'a> {
            type Value = Fields<'a>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "an object at most {MAX_DEPTH} levels deep")
            }

            fn visit_map<M: serde::de::MapAccess<'de>>(
                self,
                mut map: M,
            ) -> Result<Self::Value, M::Error> {
                let mut fields = Vec::with_capacity(10);
                while let Some(key) = map.next_key::<Text<'a>>()? {
                    fields.push((key.0, map.next_value::<&'a RawValue>()?));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Visitor(std::marker::PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

    fn command(json: &str) -> Result<CommandEnvelope, MessageError> {
        match decode(json.as_bytes(), NOW)? {
            Decoded::Command(envelope) => Ok(*envelope),
            Decoded::Event(_) => panic!("an event"),
        }
    }

    #[test]
    fn what_is_optional_has_defaults() {
        let envelope = command(
            r#"{"extra":[1],"__type__":"command_envelope","command_type":"Shop.PlaceOrder",
                "command_id":"019506b8-9d2a-7c3e-8f00-0123456789ab","params":{"a":1.0}}"#,
        )
        .unwrap();

        assert_eq!(envelope.status, CommandStatus::Pending);
        assert_eq!(envelope.attempts, 0);
        assert_eq!(envelope.max_retries, None);
        assert_eq!(envelope.command.params, r#"{"a":1.0}"#);
        assert_eq!(envelope.command.metadata.issued_at, NOW);
        assert_eq!(
            envelope.command.metadata.correlation_id,
            LinkId::Uuid(envelope.command.id)
        );
    }

    #[test]
    fn what_is_wrong_is_named_by_its_path() {
        let with = |field: &str, value: &str| {
            let mut map = serde_json::json!({
                "__type__": "command_envelope", "command_type": "Shop.PlaceOrder",
                "command_id": "019506b8-9d2a-7c3e-8f00-0123456789ab", "params": {}, "metadata": {},
            });
            let value: serde_json::Value = serde_json::from_str(value).unwrap();
            match field.split_once('.') {
                Some((outer, inner)) => map[outer][inner] = value,
                None => map[field] = value,
            }
            command(&map.to_string()).unwrap_err().to_string()
        };
        for (field, value, message) in [
            (
                "command_id",
                "null",
                "Shop.PlaceOrder: $.command_id is missing",
            ),
            (
                "command_id",
                "\"7\"",
                "Shop.PlaceOrder: $.command_id: expected a UUID, found 7",
            ),
            (
                "params",
                "[]",
                "Shop.PlaceOrder: $.params: expected an object, found []",
            ),
            ("params", "null", "Shop.PlaceOrder: $.params is missing"),
            (
                "attempts",
                "-1",
                "Shop.PlaceOrder: $.attempts: expected a whole number from 0 to 4294967295, found -1",
            ),
            (
                "status",
                "\"lost\"",
                "Shop.PlaceOrder: $.status: expected a status of a command, found lost",
            ),
            (
                "metadata.issued_at",
                "\"now\"",
                "Shop.PlaceOrder: $.metadata.issued_at: expected a time of RFC 3339, found now",
            ),
            (
                "metadata.actor_id",
                "7",
                "Shop.PlaceOrder: $.metadata.actor_id: expected text, found 7",
            ),
            (
                "__type__",
                "\"letter\"",
                "envelope: $.__type__: expected command_envelope or event_envelope, found letter",
            ),
        ] {
            assert_eq!(with(field, value), message);
        }
        assert!(matches!(command("{"), Err(MessageError::Malformed { .. })));
        assert!(matches!(command("[]"), Err(MessageError::Malformed { .. })));
    }

    #[test]
    fn deep_nesting_is_an_error_not_a_crash() {
        let json = format!(
            r#"{{"__type__":"event_envelope","event_type":"Shop.OrderPlaced",
               "event_id":"019506b8-9d2a-7c3e-8f00-0123456789ab","data":{{"a":{}{}}}}}"#,
            "[".repeat(10_000),
            "]".repeat(10_000)
        );

        let error = decode(json.as_bytes(), NOW).unwrap_err();

        assert!(
            matches!(
                error,
                MessageError::TooDeep { .. } | MessageError::Malformed { .. }
            ),
            "{error}"
        );
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let _ = decode(&bytes, NOW);
        }

        #[test]
        fn an_event_survives_the_wire(
            data in proptest::collection::hash_map("[a-z]{1,6}", ".{0,20}", 0..6),
            micros in 0_i64..4_000_000_000_000_000,
            version in 1_u32..9,
            actor in proptest::option::of("[a-z]{1,9}"),
        ) {
            let id = crate::clock::derive_event_id(Uuid::from_u128(7), version);
            let mut metadata = Metadata::root(id, Timestamp::from_micros(micros));
            metadata.actor_id = actor.map(Into::into);
            let event = Event {
                id,
                type_name: "Shop.OrderPlaced".into(),
                version,
                data: serde_json::to_vec(&data).unwrap().into(),
                metadata,
                occurred_at: Timestamp::from_micros(micros),
            };

            let body = encode_event(&event).unwrap();

            proptest::prop_assert_eq!(decode(&body, NOW).unwrap(), Decoded::Event(Box::new(event)));
        }
    }
}
