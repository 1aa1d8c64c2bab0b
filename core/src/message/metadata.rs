//! Who and why: what travels beside a message's payload.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::MessageError;
use crate::clock::Timestamp;

/// The longest correlation, causation or actor id and source, in characters.
pub const MAX_ID_CHARS: usize = 255;

/// An id that links messages: usually a message's UUID, but any text from outside is kept as it came.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum LinkId {
    /// A UUID in its canonical spelling.
    Uuid(Uuid),
    /// Any other text of 1 to 255 characters.
    Text(Arc<str>),
}

impl LinkId {
    /// Takes any text of 1 to 255 characters without control characters.
    ///
    /// # Errors
    /// [`MessageError::InvalidMetadata`] names `field`.
    pub fn parse(field: &str, text: &str) -> Result<Self, MessageError> {
        if let Some(id) = canonical_uuid(text) {
            return Ok(Self::Uuid(id));
        }
        check_text(field, text)?;
        Ok(Self::Text(text.into()))
    }
}

impl From<Uuid> for LinkId {
    fn from(id: Uuid) -> Self {
        Self::Uuid(id)
    }
}

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(id) => id.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for LinkId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A message id as text in its canonical spelling, whatever the case it is given in.
///
/// # Errors
/// [`MessageError::InvalidId`] if `text` is not a UUID with hyphens.
pub fn parse_message_id(text: &str) -> Result<Uuid, MessageError> {
    if text.len() == 36
        && let Ok(id) = Uuid::try_parse(text)
        && !id.is_nil()
    {
        return Ok(id);
    }
    Err(MessageError::InvalidId {
        value: shorten(text),
    })
}

fn canonical_uuid(text: &str) -> Option<Uuid> {
    if text.len() != 36 || text.bytes().any(|b| b.is_ascii_uppercase()) {
        return None;
    }
    Uuid::try_parse(text).ok()
}

pub(crate) fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(80).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

fn check_text(field: &str, text: &str) -> Result<(), MessageError> {
    let reason = if text.is_empty() {
        "expected at least one character".to_owned()
    } else if text.chars().nth(MAX_ID_CHARS).is_some() {
        format!(
            "expected at most {MAX_ID_CHARS} characters, found {}",
            text.chars().count()
        )
    } else if text.chars().any(char::is_control) {
        "expected no control characters".to_owned()
    } else {
        return Ok(());
    };
    Err(MessageError::InvalidMetadata {
        field: field.to_owned(),
        reason,
    })
}

/// Who sent a message, when, and what it belongs to. Immutable.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Metadata {
    /// Links a whole chain of messages. Of the chain's first message it is that message's own id.
    pub correlation_id: LinkId,
    /// The message that caused this one, `None` for the first of a chain.
    pub causation_id: Option<LinkId>,
    /// Who acts, for example `user_123`.
    pub actor_id: Option<Arc<str>>,
    /// `user`, `system` (default), `expert`, `scheduler` or any other lower-case word.
    pub actor_type: ActorType,
    /// Where it came from, for example `web`.
    pub source: Option<Arc<str>>,
    /// When it was sent, UTC.
    pub issued_at: Timestamp,
}

impl Metadata {
    /// The metadata of a chain's first message.
    pub fn root(message_id: Uuid, issued_at: Timestamp) -> Self {
        Self {
            correlation_id: LinkId::Uuid(message_id),
            causation_id: None,
            actor_id: None,
            actor_type: ActorType::System,
            source: None,
            issued_at,
        }
    }

    /// Metadata for a message caused by `causation_id`: correlation, actor and source stay, the time is new.
    #[must_use]
    pub fn derive(&self, causation_id: impl Into<LinkId>, now: Timestamp) -> Self {
        Self {
            causation_id: Some(causation_id.into()),
            issued_at: now,
            ..self.clone()
        }
    }
}

/// What a sender says about itself; what it leaves out comes from the message being handled, or from the defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetadataFields {
    /// See [`Metadata::correlation_id`].
    pub correlation_id: Option<String>,
    /// See [`Metadata::causation_id`].
    pub causation_id: Option<String>,
    /// See [`Metadata::actor_id`].
    pub actor_id: Option<String>,
    /// See [`Metadata::actor_type`].
    pub actor_type: Option<String>,
    /// See [`Metadata::source`].
    pub source: Option<String>,
}

impl MetadataFields {
    /// The metadata of the message `id` sent at `now`, caused by `cause` (the message being handled and its id) if there is one.
    ///
    /// # Errors
    /// [`MessageError::InvalidMetadata`] names the field that is out of its range.
    pub fn resolve(
        &self,
        id: Uuid,
        now: Timestamp,
        cause: Option<(&Metadata, Uuid)>,
    ) -> Result<Metadata, MessageError> {
        let mut metadata = match cause {
            Some((metadata, cause)) => metadata.derive(cause, now),
            None => Metadata::root(id, now),
        };
        if let Some(text) = &self.correlation_id {
            metadata.correlation_id = LinkId::parse("correlation_id", text)?;
        }
        if let Some(text) = &self.causation_id {
            metadata.causation_id = Some(LinkId::parse("causation_id", text)?);
        }
        if let Some(text) = &self.actor_id {
            check_text("actor_id", text)?;
            metadata.actor_id = Some(text.as_str().into());
        }
        if let Some(text) = &self.actor_type {
            metadata.actor_type = ActorType::parse(text)?;
        }
        if let Some(text) = &self.source {
            check_text("source", text)?;
            metadata.source = Some(text.as_str().into());
        }
        Ok(metadata)
    }
}

/// The kind of actor: a lower-case word.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum ActorType {
    /// A person.
    User,
    /// The system itself; the default.
    #[default]
    System,
    /// An expert system or agent.
    Expert,
    /// A clock.
    Scheduler,
    /// Any other lower-case word.
    Other(Arc<str>),
}

impl ActorType {
    /// Takes a lower-case word: a letter, then letters, digits or `_`.
    ///
    /// # Errors
    /// [`MessageError::InvalidMetadata`] for anything else.
    pub fn parse(text: &str) -> Result<Self, MessageError> {
        Ok(match text {
            "user" => Self::User,
            "system" => Self::System,
            "expert" => Self::Expert,
            "scheduler" => Self::Scheduler,
            other => {
                let word = other.len() <= 64
                    && other.starts_with(|c: char| c.is_ascii_lowercase())
                    && other
                        .bytes()
                        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
                if !word {
                    return Err(MessageError::InvalidMetadata {
                        field: "actor_type".into(),
                        reason: format!("expected a lower-case word, found {}", shorten(other)),
                    });
                }
                Self::Other(other.into())
            }
        })
    }

    /// The word.
    pub fn as_str(&self) -> &str {
        match self {
            Self::User => "user",
            Self::System => "system",
            Self::Expert => "expert",
            Self::Scheduler => "scheduler",
            Self::Other(word) => word,
        }
    }
}

impl fmt::Display for ActorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ActorType {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_derived_message_keeps_correlation_actor_and_source() {
        let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let fields = MetadataFields {
            actor_id: Some("user_123".into()),
            actor_type: Some("user".into()),
            source: Some("web".into()),
            ..MetadataFields::default()
        };
        let root = fields
            .resolve(first, Timestamp::from_micros(1), None)
            .unwrap();

        let derived = MetadataFields::default()
            .resolve(second, Timestamp::from_micros(2), Some((&root, first)))
            .unwrap();

        assert_eq!(derived.correlation_id, LinkId::Uuid(first));
        assert_eq!(derived.causation_id, Some(LinkId::Uuid(first)));
        assert_eq!(derived.actor_id.as_deref(), Some("user_123"));
        assert_eq!(derived.actor_type, ActorType::User);
        assert_eq!(derived.source.as_deref(), Some("web"));
        assert_eq!(derived.issued_at, Timestamp::from_micros(2));
    }

    #[test]
    fn ids_that_are_no_ids_are_refused() {
        for text in [
            "",
            "x",
            "00000000-0000-0000-0000-000000000000",
            "0123456789abcdef0123456789abcdef",
        ] {
            assert!(parse_message_id(text).is_err(), "{text}");
        }
        let id = parse_message_id("019506B8-9D2A-7C3E-8F00-0123456789AB").unwrap();
        assert_eq!(id.to_string(), "019506b8-9d2a-7c3e-8f00-0123456789ab");
    }

    #[test]
    fn a_foreign_correlation_id_keeps_its_spelling() {
        for text in ["req-1", "019506B8-9D2A-7C3E-8F00-0123456789AB"] {
            assert_eq!(
                LinkId::parse("correlation_id", text).unwrap().to_string(),
                text
            );
        }
        assert!(LinkId::parse("correlation_id", "").is_err());
        assert!(LinkId::parse("correlation_id", &"x".repeat(256)).is_err());
    }

    #[test]
    fn an_actor_type_is_a_lower_case_word() {
        assert_eq!(ActorType::parse("robot_2").unwrap().as_str(), "robot_2");
        for text in ["", "User", "two words", "é"] {
            assert!(ActorType::parse(text).is_err(), "{text}");
        }
    }
}
