//! Type name -> topic, and topic patterns. Pure.
//!
//! `MyApp.Orders.Commands.PlaceOrder` in the app `MyApp` has the topic `orders.commands.place_order`.

use std::fmt;

use crate::message::MessageError;

/// The longest topic, type name or pattern: what an AMQP routing key can hold, in bytes.
pub const MAX_TOPIC_BYTES: usize = 255;

/// Checks a type name: dotted segments, each an ASCII letter followed by letters, digits or `_`.
///
/// # Errors
/// [`MessageError::InvalidTypeName`] says what is wrong with it.
pub fn check_type_name(type_name: &str) -> Result<(), MessageError> {
    let refuse = |reason: String| {
        Err(MessageError::InvalidTypeName {
            type_name: type_name.chars().take(300).collect(),
            reason,
        })
    };
    if type_name.is_empty() {
        return refuse("it is empty".into());
    }
    if type_name.len() > MAX_TOPIC_BYTES {
        return refuse(format!("it is longer than {MAX_TOPIC_BYTES} bytes"));
    }
    for segment in type_name.split('.') {
        let mut chars = segment.chars();
        match chars.next() {
            None => return refuse("a segment is empty".into()),
            Some(c) if !c.is_ascii_alphabetic() => {
                return refuse(format!("segment `{segment}` does not begin with a letter"));
            }
            Some(_) => {}
        }
        if let Some(c) = chars.find(|c| !c.is_ascii_alphanumeric() && *c != '_') {
            return refuse(format!("segment `{segment}` has the character `{c}`"));
        }
    }
    Ok(())
}

/// The topic of `type_name` in an app with `app_prefix` (dotted; empty for none).
///
/// The leading segments that the two share are dropped, the rest is underscored as Elixir's `Macro.underscore` does and joined with dots.
///
/// # Errors
/// [`MessageError::InvalidTypeName`]; [`MessageError::EmptyTopic`] if nothing is left.
pub fn topic_for(type_name: &str, app_prefix: &str) -> Result<String, MessageError> {
    check_type_name(type_name)?;
    let mut prefix = app_prefix.split('.').filter(|s| !s.is_empty()).peekable();
    let mut topic = String::with_capacity(type_name.len() + 8);
    for segment in type_name.split('.') {
        if topic.is_empty() && prefix.peek() == Some(&segment) {
            prefix.next();
            continue;
        }
        // Only leading segments may be dropped.
        while prefix.next().is_some() {}
        if !topic.is_empty() {
            topic.push('.');
        }
        underscore_into(segment, &mut topic);
    }
    if topic.is_empty() {
        return Err(MessageError::EmptyTopic {
            type_name: type_name.to_owned(),
            app_prefix: app_prefix.to_owned(),
        });
    }
    if topic.len() > MAX_TOPIC_BYTES {
        return Err(MessageError::InvalidTypeName {
            type_name: type_name.to_owned(),
            reason: format!("its topic is longer than {MAX_TOPIC_BYTES} bytes"),
        });
    }
    Ok(topic)
}

/// `MyApp` -> `my_app`, as Elixir's `Macro.underscore` does it for one segment.
pub fn underscore(segment: &str) -> String {
    let mut out = String::with_capacity(segment.len() + 4);
    underscore_into(segment, &mut out);
    out
}

fn underscore_into(segment: &str, out: &mut String) {
    let bytes = segment.as_bytes();
    let mut previous = 0_u8;
    for (i, &byte) in bytes.iter().enumerate() {
        if i > 0 && byte.is_ascii_uppercase() {
            let starts_a_word = bytes.get(i + 1).is_some_and(|next| {
                !next.is_ascii_uppercase() && !next.is_ascii_digit() && *next != b'_'
            });
            if starts_a_word || (!previous.is_ascii_uppercase() && previous != b'_') {
                out.push('_');
            }
        }
        out.push(char::from(byte.to_ascii_lowercase()));
        previous = byte;
    }
}

/// `my_app` or `my-app` or `My app` -> `MyApp`: the default app prefix of an app of that name.
pub fn camelize(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut upper = true;
    for c in name.chars() {
        if c == '_' || c == '-' || c == ' ' {
            upper = true;
        } else if c == '.' {
            out.push('.');
            upper = true;
        } else {
            if upper {
                out.extend(c.to_uppercase());
            } else {
                out.push(c);
            }
            upper = false;
        }
    }
    out
}

/// A topic pattern with AMQP's meaning: `*` is exactly one word, `#` zero or more words, anywhere.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    text: String,
    words: Vec<Word>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Word {
    Exact(String),
    One,
    Many,
}

impl Pattern {
    /// Parses a pattern of at most 255 bytes. The empty pattern matches no topic.
    ///
    /// # Errors
    /// [`MessageError::InvalidPattern`] if it is too long or has a control character.
    pub fn new(text: &str) -> Result<Self, MessageError> {
        let refuse = |reason: &str| {
            Err(MessageError::InvalidPattern {
                pattern: text.chars().take(300).collect(),
                reason: reason.to_owned(),
            })
        };
        if text.len() > MAX_TOPIC_BYTES {
            return refuse("it is longer than 255 bytes");
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return refuse("it has a space or a control character");
        }
        let mut words: Vec<Word> = Vec::new();
        for word in text.split('.') {
            let word = match word {
                "*" => Word::One,
                // `#.#` means the same as `#`, and one of them keeps matching cheap.
                "#" if words.last() == Some(&Word::Many) => continue,
                "#" => Word::Many,
                other => Word::Exact(other.to_owned()),
            };
            words.push(word);
        }
        Ok(Self {
            text: text.to_owned(),
            words,
        })
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether `topic` matches.
    pub fn matches(&self, topic: &str) -> bool {
        // The classic two-index walk: on a mismatch the last `#` takes one more word.
        let topic: Vec<&str> = topic.split('.').collect();
        let (mut w, mut t) = (0, 0);
        let mut back: Option<(usize, usize)> = None;
        while t < topic.len() {
            match self.words.get(w) {
                Some(Word::Many) => {
                    back = Some((w, t));
                    w += 1;
                }
                Some(Word::One) => {
                    w += 1;
                    t += 1;
                }
                Some(Word::Exact(word)) if word == topic[t] => {
                    w += 1;
                    t += 1;
                }
                _ => match back {
                    Some((many, start)) => {
                        w = many + 1;
                        t = start + 1;
                        back = Some((many, t));
                    }
                    None => return false,
                },
            }
        }
        self.words[w..].iter().all(|word| *word == Word::Many)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({})", self.text)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_camelised_for_the_prefix() {
        assert_eq!(camelize("my_app"), "MyApp");
        assert_eq!(camelize("shop"), "Shop");
        assert_eq!(camelize("MyApp"), "MyApp");
        assert_eq!(camelize("my-app.orders"), "MyApp.Orders");
    }

    #[test]
    fn a_type_name_that_is_none_says_why() {
        for (name, why) in [
            ("", "empty"),
            ("A..B", "segment is empty"),
            ("A.1B", "begin with a letter"),
            ("A.B-C", "character `-`"),
        ] {
            let error = topic_for(name, "").unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        assert!(topic_for(&"A".repeat(300), "").is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(name in ".{0,300}", prefix in ".{0,40}") {
            let _ = topic_for(&name, &prefix);
            if let Ok(pattern) = Pattern::new(&name) {
                pattern.matches(&prefix);
            }
        }

        #[test]
        fn a_hash_alone_matches_every_topic(topic in "[a-z_]{1,8}(\\.[a-z_]{1,8}){0,6}") {
            proptest::prop_assert!(Pattern::new("#").unwrap().matches(&topic));
            proptest::prop_assert!(Pattern::new(&topic).unwrap().matches(&topic));
        }
    }
}
