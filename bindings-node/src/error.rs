//! Errors on their way to JavaScript: `{code, message, details}` as JSON in the reason, read by `fromNative` in `ts/errors.ts` alone.

use orkestra::code::Coded;
use serde::de::DeserializeOwned;

/// The JSON of `error`.
pub(crate) fn encode(error: &impl Coded) -> String {
    serde_json::json!({
        "code": error.code(),
        "message": error.to_string(),
        "details": error.details(),
    })
    .to_string()
}

/// `error` as what a native method throws.
pub(crate) fn throw(error: &impl Coded) -> napi::Error {
    napi::Error::from_reason(encode(error))
}

/// Reads what our own TypeScript wrote.
pub(crate) fn parse<T: DeserializeOwned>(json: &str) -> napi::Result<T> {
    serde_json::from_str(json).map_err(|error| napi::Error::from_reason(error.to_string()))
}
