//! What the broker says, as errors of the port.

use lapin::ErrorKind;

use crate::ports::BusError;

/// `200` to `599` of AMQP 0-9-1 with the broker's text.
pub(super) fn reply(error: &lapin::Error) -> Option<(u16, &str)> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some((
            error.get_id(),
            std::borrow::Borrow::<str>::borrow(error.get_message()),
        )),
        _ => None,
    }
}

pub(super) const ACCESS_REFUSED: u16 = 403;
pub(super) const NOT_FOUND: u16 = 404;
pub(super) const PRECONDITION_FAILED: u16 = 406;
pub(super) const NOT_ALLOWED: u16 = 530;

/// The error of something done on a connection.
pub(super) fn bus_error(error: &lapin::Error) -> BusError {
    match reply(error) {
        Some((code, text)) => of_reply(code, text),
        None => unavailable(plain(error)),
    }
}

/// The error of connecting.
pub(super) fn login_error(error: &lapin::Error) -> BusError {
    match reply(error) {
        Some((ACCESS_REFUSED, text)) => refused("the login", text),
        Some((NOT_ALLOWED, text)) => refused("the virtual host", text),
        _ => bus_error(error),
    }
}

pub(super) fn unavailable(reason: impl Into<String>) -> BusError {
    BusError::Unavailable {
        reason: reason.into(),
    }
}

/// The error in words, without lapin's own.
fn plain(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::IOError(error) | ErrorKind::RuntimeShutdownError(error) => error.to_string(),
        ErrorKind::InvalidProtocolVersion(_) | ErrorKind::ParsingError(_) => {
            "what answers is not AMQP 0-9-1".into()
        }
        ErrorKind::InvalidChannelState(..)
        | ErrorKind::InvalidConnectionState(_)
        | ErrorKind::InvalidChannel(_) => "the connection was closed".into(),
        ErrorKind::MissingHeartbeatError => "the broker has gone silent".into(),
        _ => error.to_string(),
    }
}

/// A reply code with its text, such as `NOT_FOUND - no queue 'x' in vhost '/'`.
pub(super) fn of_reply(code: u16, text: &str) -> BusError {
    match code {
        ACCESS_REFUSED => refused(&resource(text).unwrap_or_else(|| "it".into()), text),
        NOT_FOUND => match resource(text) {
            Some(resource) => BusError::TopologyMissing { resource },
            None => unavailable(without_code(text)),
        },
        PRECONDITION_FAILED => match mismatch(text) {
            Some((resource, difference)) => BusError::TopologyMismatch {
                resource,
                difference,
            },
            None => unavailable(without_code(text)),
        },
        NOT_ALLOWED => refused("the virtual host", text),
        _ => unavailable(without_code(text)),
    }
}

fn refused(what: &str, text: &str) -> BusError {
    BusError::AccessRefused {
        what: what.to_owned(),
        reason: without_code(text),
    }
}

fn without_code(text: &str) -> String {
    text.split_once(" - ")
        .map_or(text, |(_, text)| text)
        .to_owned()
}

/// `queue x` or `exchange x`: what the text is about.
fn resource(text: &str) -> Option<String> {
    ["queue", "exchange"].into_iter().find_map(|kind| {
        let start = text.find(&format!("{kind} '"))? + kind.len() + 2;
        let name = &text[start..];
        Some(format!("{kind} {}", &name[..name.find('\'')?]))
    })
}

/// The difference in `inequivalent arg 'a' for queue 'x' in vhost '/': received 'b' but current is 'c'`.
fn mismatch(text: &str) -> Option<(String, String)> {
    let resource = resource(text)?;
    let (_, rest) = text.split_once("inequivalent arg '")?;
    let (argument, rest) = rest.split_once('\'')?;
    let (_, rest) = rest.split_once("received ")?;
    let (ours, theirs) = rest.split_once(" but current is ")?;
    Some((
        resource,
        format!(
            "{argument}: expected {}, found {}",
            value(ours),
            value(theirs)
        ),
    ))
}

/// `'quorum'`, `the value '1000' of type 'long'`, `none`: the value alone.
fn value(text: &str) -> &str {
    let text = text
        .strip_prefix("the value ")
        .or_else(|| text.strip_prefix("value "))
        .unwrap_or(text);
    let text = text
        .split_once(" of type ")
        .map_or(text, |(value, _)| value);
    text.trim_matches('\'')
}

/// Whether the text says that a message is too large.
pub(super) fn is_too_large(code: u16, text: &str) -> bool {
    code == PRECONDITION_FAILED && text.contains("message size")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_told_apart() {
        for (text, resource, difference) in [
            (
                "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'orkestra.cmd.a' in vhost '/': received 'quorum' but current is 'classic'",
                "queue orkestra.cmd.a",
                "x-queue-type: expected quorum, found classic",
            ),
            (
                "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received the value '1000' of type 'signedint' but current is none",
                "queue q",
                "x-message-ttl: expected 1000, found none",
            ),
            (
                "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'orkestra.events' in vhost '/': received 'topic' but current is 'fanout'",
                "exchange orkestra.events",
                "type: expected topic, found fanout",
            ),
            (
                "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': received 'true' but current is 'false'",
                "queue q",
                "durable: expected true, found false",
            ),
        ] {
            assert_eq!(
                of_reply(406, text).to_string(),
                format!("{resource} exists with other arguments: {difference}")
            );
        }
    }

    #[test]
    fn what_is_missing_or_refused_is_named() {
        for (code, text, told) in [
            (
                404,
                "NOT_FOUND - no queue 'orkestra.cmd.a' in vhost '/'",
                "queue orkestra.cmd.a does not exist",
            ),
            (
                403,
                "ACCESS_REFUSED - access to exchange 'e' in vhost '/' refused for user 'u'",
                "the broker refuses exchange e: access to exchange 'e' in vhost '/' refused for user 'u'",
            ),
        ] {
            assert_eq!(of_reply(code, text).to_string(), told);
        }
    }

    #[test]
    fn other_text_is_told_as_it_is() {
        for (code, text, told) in [
            (406, "PRECONDITION_FAILED - fast reply", "fast reply"),
            (320, "nonsense", "nonsense"),
        ] {
            assert_eq!(
                of_reply(code, text).to_string(),
                format!("the broker is unavailable: {told}")
            );
        }
    }
}
