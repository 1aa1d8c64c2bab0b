use orkestra::{
    clock::Timestamp,
    code::Coded,
    message::{
        ActorType, Command, CommandEnvelope, CommandStatus, Event, LinkId, Metadata,
        parse_message_id,
        wire::{self, Decoded},
    },
};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

#[derive(Deserialize)]
struct File {
    write: Vec<Write>,
    read: Vec<Read>,
}

#[derive(Deserialize)]
struct Write {
    name: String,
    command: Option<CommandFields>,
    event: Option<EventFields>,
    body: String,
}

#[derive(Deserialize)]
struct Read {
    name: String,
    body: String,
    received_at: Option<String>,
    command: Option<CommandFields>,
    event: Option<EventFields>,
    error: Option<Failure>,
}

#[derive(Deserialize)]
struct Failure {
    code: String,
    field: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CommandFields {
    #[serde(rename = "type")]
    type_name: String,
    id: String,
    params: Box<RawValue>,
    metadata: MetadataFields,
    status: String,
    attempts: u32,
    max_retries: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventFields {
    #[serde(rename = "type")]
    type_name: String,
    id: String,
    version: u32,
    data: Box<RawValue>,
    metadata: MetadataFields,
    occurred_at: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MetadataFields {
    correlation_id: String,
    causation_id: Option<String>,
    actor_id: Option<String>,
    actor_type: String,
    source: Option<String>,
    issued_at: String,
}

fn time(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap_or_else(|| panic!("{text} is no time"))
}

impl CommandFields {
    fn envelope(&self) -> CommandEnvelope {
        let mut envelope = CommandEnvelope::new(Command {
            id: parse_message_id(&self.id).unwrap(),
            type_name: self.type_name.as_str().into(),
            params: self.params.get().to_owned().into(),
            metadata: self.metadata.metadata(),
        });
        envelope.status = CommandStatus::parse(&self.status).unwrap();
        envelope.attempts = self.attempts;
        envelope.max_retries = self.max_retries;
        envelope
    }
}

impl EventFields {
    fn event(&self) -> Event {
        Event {
            id: parse_message_id(&self.id).unwrap(),
            type_name: self.type_name.as_str().into(),
            version: self.version,
            data: self.data.get().to_owned().into(),
            metadata: self.metadata.metadata(),
            occurred_at: time(&self.occurred_at),
        }
    }
}

impl MetadataFields {
    fn metadata(&self) -> Metadata {
        let link = |text: &String| LinkId::parse("id", text).unwrap();
        Metadata {
            correlation_id: link(&self.correlation_id),
            causation_id: self.causation_id.as_ref().map(link),
            actor_id: self.actor_id.as_deref().map(Into::into),
            actor_type: ActorType::parse(&self.actor_type).unwrap(),
            source: self.source.as_deref().map(Into::into),
            issued_at: time(&self.issued_at),
        }
    }
}

/// The payload as a JSON value, and the rest of the message without it.
fn apart(decoded: Decoded) -> (Value, Decoded) {
    // Deeper than serde_json's own limit: then the very bytes count.
    let value = |bytes: &[u8]| {
        serde_json::from_slice(bytes)
            .unwrap_or_else(|_| String::from_utf8_lossy(bytes).into_owned().into())
    };
    match decoded {
        Decoded::Command(mut envelope) => {
            let params = value(&std::mem::take(&mut envelope.command.params));
            (params, Decoded::Command(envelope))
        }
        Decoded::Event(mut event) => {
            let data = value(&std::mem::take(&mut event.data));
            (data, Decoded::Event(event))
        }
    }
}

#[test]
fn messages_are_written_as_these_bytes() {
    for row in crate::read::<File>("envelopes.json").write {
        let body = match (&row.command, &row.event) {
            (Some(command), None) => wire::encode_command(&command.envelope()),
            (None, Some(event)) => wire::encode_event(&event.event()),
            _ => panic!("{}: a command or an event", row.name),
        };
        let body = String::from_utf8(body.unwrap().into()).unwrap();
        assert_eq!(body, row.body, "{}", row.name);
    }
}

#[test]
fn these_bytes_are_read_as_messages() {
    for row in crate::read::<File>("envelopes.json").read {
        let expected = match (&row.command, &row.event) {
            (Some(command), None) => Decoded::Command(Box::new(command.envelope())),
            (None, Some(event)) => Decoded::Event(Box::new(event.event())),
            _ => continue,
        };
        let received_at = time(&row.received_at.expect("received_at"));
        let decoded = wire::decode(row.body.as_bytes(), received_at)
            .unwrap_or_else(|e| panic!("{}: {e}", row.name));
        assert_eq!(apart(decoded), apart(expected), "{}", row.name);
    }
}

#[test]
fn these_bytes_are_refused_with_code_and_path() {
    for row in crate::read::<File>("envelopes.json").read {
        let Some(expected) = row.error else { continue };
        let Err(error) = wire::decode(row.body.as_bytes(), Timestamp::from_micros(0)) else {
            panic!("{}: it is taken", row.name);
        };
        assert_eq!(error.code(), expected.code, "{}: {error}", row.name);
        let details = error.details();
        assert_eq!(
            details.get("field").and_then(Value::as_str),
            expected.field.as_deref(),
            "{}",
            row.name
        );
    }
}
