//! What answers a command over a broker, and its JSON.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};
use uuid::Uuid;

use super::{MessageError, shorten};

/// How a command ended, for the one who asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// Handled: the result as JSON.
    Succeeded {
        /// JSON of any kind; `null` for nothing.
        result: Bytes,
    },
    /// Refused.
    Rejected {
        /// Why.
        reason: String,
        /// More facts.
        data: Value,
    },
    /// Given up.
    Failed {
        /// The full name of the handler.
        handler: String,
        /// The last error's type.
        error_type: String,
        /// Its message.
        message: String,
        /// Its trace as text, empty when there is none.
        trace: String,
    },
}

#[derive(Serialize, Deserialize)]
struct ErrorJson<'a> {
    #[serde(rename = "type", default)]
    error_type: std::borrow::Cow<'a, str>,
    #[serde(default)]
    message: std::borrow::Cow<'a, str>,
    #[serde(default)]
    trace: std::borrow::Cow<'a, str>,
}

#[derive(Serialize)]
struct Out<'a> {
    #[serde(rename = "__type__")]
    kind: &'static str,
    command_id: Uuid,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    handler: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorJson<'a>>,
}

#[derive(Deserialize)]
struct In<'a> {
    #[serde(rename = "__type__")]
    kind: String,
    command_id: Uuid,
    status: String,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    data: Value,
    #[serde(default)]
    handler: String,
    #[serde(borrow)]
    error: Option<ErrorJson<'a>>,
}

const KIND: &str = "command_reply";

impl Reply {
    /// The body of the answer to the command `command_id`. A result that is no JSON is answered as a failure.
    pub fn encode(&self, command_id: Uuid) -> Bytes {
        let mut out = Out {
            kind: KIND,
            command_id,
            status: "succeeded",
            result: None,
            reason: None,
            data: None,
            handler: None,
            error: None,
        };
        match self {
            Self::Succeeded { result } => match serde_json::from_slice(result) {
                Ok(json) => out.result = Some(json),
                Err(error) => {
                    return Self::Failed {
                        handler: String::new(),
                        error_type: "ORK_MESSAGE_NOT_JSON".into(),
                        message: format!("the result is no JSON: {error}"),
                        trace: String::new(),
                    }
                    .encode(command_id);
                }
            },
            Self::Rejected { reason, data } => {
                out.status = "rejected";
                out.reason = Some(reason);
                out.data = (!data.is_null()).then_some(data);
            }
            Self::Failed {
                handler,
                error_type,
                message,
                trace,
            } => {
                out.status = "failed";
                out.handler = Some(handler);
                out.error = Some(ErrorJson {
                    error_type: error_type.into(),
                    message: message.into(),
                    trace: trace.into(),
                });
            }
        }
        serde_json::to_vec(&out).map_or_else(|_| Bytes::from_static(b"{}"), Bytes::from)
    }

    /// Reads the body of an answer: which command it answers, and how.
    ///
    /// # Errors
    /// [`MessageError::Malformed`], [`MessageError::InvalidField`].
    pub fn decode(body: &[u8]) -> Result<(Uuid, Self), MessageError> {
        let json: In<'_> =
            serde_json::from_slice(body).map_err(|error| MessageError::Malformed {
                reason: error.to_string(),
            })?;
        let wrong = |field: &str, expected: &str, found: &str| MessageError::InvalidField {
            type_name: KIND.into(),
            field: format!("$.{field}"),
            expected: expected.into(),
            found: shorten(found),
        };
        if json.kind != KIND {
            return Err(wrong("__type__", KIND, &json.kind));
        }
        let reply = match json.status.as_str() {
            "succeeded" => Self::Succeeded {
                result: json.result.map_or_else(
                    || Bytes::from_static(b"null"),
                    |json| Bytes::copy_from_slice(json.get().as_bytes()),
                ),
            },
            "rejected" => Self::Rejected {
                reason: json.reason,
                data: json.data,
            },
            "failed" => {
                let error = json.error.unwrap_or(ErrorJson {
                    error_type: "".into(),
                    message: "".into(),
                    trace: "".into(),
                });
                Self::Failed {
                    handler: json.handler,
                    error_type: error.error_type.into_owned(),
                    message: error.message.into_owned(),
                    trace: error.trace.into_owned(),
                }
            }
            other => return Err(wrong("status", "succeeded, rejected or failed", other)),
        };
        Ok((json.command_id, reply))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_answer_comes_back_as_it_was() {
        let id = Uuid::from_u128(7);
        for reply in [
            Reply::Succeeded {
                result: Bytes::from_static(b"{\"a\":1.0}"),
            },
            Reply::Succeeded {
                result: Bytes::from_static(b"null"),
            },
            Reply::Rejected {
                reason: "sold out".into(),
                data: serde_json::json!({"left": 0}),
            },
            Reply::Failed {
                handler: "shop.x".into(),
                error_type: "ValueError".into(),
                message: "no \"way\"".into(),
                trace: "line 1\nline 2".into(),
            },
        ] {
            assert_eq!(Reply::decode(&reply.encode(id)).unwrap(), (id, reply));
        }
    }

    #[test]
    fn a_result_that_is_no_json_is_a_failure() {
        let reply = Reply::Succeeded {
            result: Bytes::from_static(b"nope"),
        };
        let (_, reply) = Reply::decode(&reply.encode(Uuid::nil())).unwrap();
        assert!(matches!(reply, Reply::Failed { .. }));
    }

    proptest! {
        #[test]
        fn nothing_from_outside_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Reply::decode(&body);
        }
    }
}
