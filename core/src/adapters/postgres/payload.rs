//! What JSON may hold and `jsonb` may not: the character U+0000, and halves of surrogate pairs.

use crate::ports::{NewEvent, StoreError};

/// Refuses an event that cannot be stored. Nearly all are let through after one look for escapes.
pub(super) fn check(event: &NewEvent) -> Result<(), StoreError> {
    for (name, json) in [("$.data", &event.data), ("$.metadata", &event.metadata)] {
        if let Some((path, reason)) = find(name, json) {
            return Err(StoreError::UnsupportedPayload {
                event_id: event.id.to_string(),
                path,
                reason: reason.into(),
            });
        }
    }
    Ok(())
}

/// Where in `json` something is that cannot be stored, and what.
fn find(root: &str, json: &[u8]) -> Option<(String, &'static str)> {
    if !json.contains(&b'\\') || !json.windows(2).any(|two| two == b"\\u") {
        return None;
    }
    let mut walk = Walk {
        json,
        at: 0,
        path: vec![root.to_owned()],
    };
    let reason = walk.value()?;
    Some((walk.path.concat(), reason))
}

/// Goes through valid JSON, and stops where something is wrong with a text.
struct Walk<'a> {
    json: &'a [u8],
    at: usize,
    path: Vec<String>,
}

impl Walk<'_> {
    fn peek(&mut self) -> Option<u8> {
        while self.json.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.json.get(self.at).copied()
    }

    fn value(&mut self) -> Option<&'static str> {
        // Depth is bounded elsewhere, but not by much: containers are kept here and not on the thread's stack.
        let mut open: Vec<Option<usize>> = Vec::new();
        loop {
            match self.peek()? {
                b'{' => {
                    self.at += 1;
                    open.push(None);
                    self.path.push(String::new());
                }
                b'[' => {
                    self.at += 1;
                    open.push(Some(0));
                    self.path.push("[0]".into());
                }
                b'}' | b']' => {
                    self.at += 1;
                    open.pop();
                    self.path.pop();
                }
                b',' => {
                    self.at += 1;
                    if let Some(Some(index)) = open.last_mut() {
                        *index += 1;
                        *self.path.last_mut()? = format!("[{index}]");
                    }
                }
                b'"' => {
                    let start = self.at;
                    let wrong = self.text();
                    let text = self.json.get(start + 1..self.at - 1).unwrap_or_default();
                    let text = String::from_utf8_lossy(text);
                    let is_key = matches!(open.last(), Some(None)) && self.peek() == Some(b':');
                    if is_key && let Some(last) = self.path.last_mut() {
                        *last = format!(".{}", text.chars().take(100).collect::<String>());
                    }
                    if wrong.is_some() {
                        return wrong;
                    }
                }
                _ => self.at += 1,
            }
        }
    }

    /// Passes over a text; says what is wrong with it.
    fn text(&mut self) -> Option<&'static str> {
        self.at += 1;
        let mut wrong = None;
        let mut high = false;
        while let Some(byte) = self.json.get(self.at).copied() {
            self.at += 1;
            let unit = match byte {
                b'"' => {
                    if high {
                        wrong = wrong.or(Some(LONE));
                    }
                    return wrong;
                }
                b'\\' => {
                    let escape = self.json.get(self.at).copied();
                    self.at += 1;
                    if escape == Some(b'u') {
                        let digits = self.json.get(self.at..self.at + 4);
                        self.at += 4;
                        digits
                            .and_then(|d| std::str::from_utf8(d).ok())
                            .and_then(|d| u16::from_str_radix(d, 16).ok())
                    } else {
                        None
                    }
                }
                _ => None,
            };
            let (is_high, is_low) = unit.map_or((false, false), |u| {
                ((0xd800..0xdc00).contains(&u), (0xdc00..0xe000).contains(&u))
            });
            if unit == Some(0) {
                wrong = wrong.or(Some("it has the character U+0000"));
            }
            if high != is_low {
                wrong = wrong.or(Some(LONE));
            }
            high = is_high;
        }
        wrong
    }
}

const LONE: &str = "it has half of a surrogate pair";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// Texts of JSON, many of them with what cannot be stored.
    fn texts() -> impl Strategy<Value = String> {
        let parts = [
            "a",
            "é",
            "\\\\",
            "\\\"",
            "\\u0000",
            "\\\\u0000",
            "\\u00e9",
            "\\ud83d",
            "\\ude00",
            "\\uD83D\\uDE00",
        ];
        proptest::collection::vec(proptest::sample::select(parts.to_vec()), 0..5)
            .prop_map(|parts| parts.concat())
    }

    fn has_zero(value: &Value) -> bool {
        match value {
            Value::String(text) => text.contains('\0'),
            Value::Array(items) => items.iter().any(has_zero),
            Value::Object(fields) => fields.iter().any(|(k, v)| k.contains('\0') || has_zero(v)),
            _ => false,
        }
    }

    #[test]
    fn what_cannot_be_stored_is_found_with_its_path() {
        for (json, path) in [
            (r#"{"notes":"a\u0000"}"#, "$.data.notes"),
            (
                r#"{"a":1,"lines":[{"x":""},{"y":"\uD800"}]}"#,
                "$.data.lines[1].y",
            ),
            (r#"{"a":{"b":[1,[2,"\udc00\ud800"]]}}"#, "$.data.a.b[1][1]"),
            (r#"{"bad\u0000key":1}"#, r"$.data.bad\u0000key"),
        ] {
            let found = find("$.data", json.as_bytes()).map(|(path, _)| path);
            assert_eq!(found.as_deref(), Some(path), "{json}");
        }
    }

    #[test]
    fn what_only_looks_like_it_is_let_through() {
        for json in [
            r#"{"notes":"\\u0000"}"#,
            r#"{"notes":"\ud83d\ude00 \u00e9"}"#,
            r#"{"notes":"\"\\\\u0000"}"#,
            "{}",
        ] {
            assert_eq!(find("$", json.as_bytes()), None, "{json}");
        }
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_a_parser_finds(a in texts(), b in texts(), c in texts()) {
            let json = format!("{{\"{a}\": [1, {{\"n\": null}}, \"{b}\"], \"z\": {{\"y\": \"{c}\"}}}}");
            // The parser refuses halves of pairs by itself.
            let parsed: Result<Value, _> = serde_json::from_str(&json);
            let wrong = parsed.is_ok_and(|value| has_zero(&value)) || serde_json::from_str::<Value>(&json).is_err();
            prop_assert_eq!(find("$", json.as_bytes()).is_some(), wrong, "{}", json);
        }

        #[test]
        fn nothing_panics(json in proptest::collection::vec(proptest::sample::select(&b"{}[]\":,\\u0d8 a"[..]), 0..60)) {
            let _ = find("$", &json);
        }
    }
}
