//! What a payload may be: limits that hold before bytes leave the process.

use super::MessageError;

/// Bytes that a payload may have unless the app says otherwise: 1 MiB.
pub const DEFAULT_MAX_PAYLOAD_BYTES: usize = 1024 * 1024;

/// Levels of arrays and objects that a payload may have.
pub const MAX_DEPTH: usize = 128;

/// The limits of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayloadLimits {
    /// Bytes of the encoded payload. Default 1 MiB.
    pub max_bytes: usize,
}

impl Default for PayloadLimits {
    fn default() -> Self {
        Self {
            max_bytes: DEFAULT_MAX_PAYLOAD_BYTES,
        }
    }
}

impl PayloadLimits {
    /// Checks the payload that a language's own encoder made: its size, its depth, that it is an object, and that it has no NaN or
    /// infinity (some encoders write those as bare words). It does not parse numbers and strings again: the encoder is trusted with these.
    ///
    /// # Errors
    /// [`MessageError::TooLarge`], [`MessageError::TooDeep`], [`MessageError::NotJson`].
    pub fn check(&self, type_name: &str, payload: &[u8]) -> Result<(), MessageError> {
        if payload.len() > self.max_bytes {
            return Err(MessageError::TooLarge {
                type_name: type_name.to_owned(),
                size: payload.len() as u64,
                limit: self.max_bytes as u64,
            });
        }
        let not_json = |path: &str, reason: &str| MessageError::NotJson {
            type_name: type_name.to_owned(),
            path: path.to_owned(),
            reason: reason.to_owned(),
        };
        if payload.first() != Some(&b'{') || payload.last() != Some(&b'}') {
            return Err(not_json("$", "expected a JSON object"));
        }
        let mut depth = 0_usize;
        let mut i = 0;
        while let Some(&byte) = payload.get(i) {
            match byte {
                b'"' => {
                    i += 1;
                    loop {
                        match payload.get(i) {
                            Some(b'"') => break,
                            Some(b'\\') => i += 2,
                            Some(_) => i += 1,
                            None => return Err(not_json("$", "a string does not end")),
                        }
                    }
                }
                b'{' | b'[' => {
                    depth += 1;
                    if depth > MAX_DEPTH {
                        return Err(MessageError::TooDeep {
                            type_name: type_name.to_owned(),
                            limit: MAX_DEPTH as u64,
                        });
                    }
                }
                b'}' | b']' => {
                    depth = depth
                        .checked_sub(1)
                        .ok_or_else(|| not_json("$", "a bracket closes nothing"))?;
                }
                b'N' | b'I' => return Err(not_json("$", "NaN and infinity are not JSON")),
                _ => {}
            }
            i += 1;
        }
        if depth == 0 {
            Ok(())
        } else {
            Err(not_json("$", "a bracket is not closed"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(payload: &str) -> Result<(), MessageError> {
        PayloadLimits { max_bytes: 4096 }.check("Shop.OrderPlaced", payload.as_bytes())
    }

    #[test]
    fn an_object_within_the_limits_passes() {
        check(r#"{"a":[1,"NaN ] \" \\",{"b":null}]}"#).unwrap();
        check("{}").unwrap();
    }

    #[test]
    fn what_json_cannot_hold_is_refused() {
        for payload in [
            r#"{"a":NaN}"#,
            r#"{"a":-Infinity}"#,
            "[]",
            "",
            "1",
            r#"{"a":[}"#,
        ] {
            let error = check(payload).unwrap_err();
            assert!(
                matches!(error, MessageError::NotJson { .. }),
                "{payload}: {error}"
            );
        }
    }

    #[test]
    fn size_and_depth_are_limited() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(128), "]".repeat(128));
        assert!(matches!(
            check(&deep),
            Err(MessageError::TooDeep { limit: 128, .. })
        ));
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(5000));
        assert!(matches!(
            check(&long),
            Err(MessageError::TooLarge { limit: 4096, .. })
        ));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_check_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = PayloadLimits::default().check("T", &bytes);
        }

        #[test]
        fn whatever_serde_writes_as_an_object_passes(keys in proptest::collection::hash_map(".{0,10}", ".{0,20}", 0..8)) {
            let text = serde_json::to_vec(&keys).unwrap();
            proptest::prop_assert!(PayloadLimits::default().check("T", &text).is_ok());
        }
    }
}
