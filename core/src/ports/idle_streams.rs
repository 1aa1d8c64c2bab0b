//! Finding streams to which nothing has been appended for a while.

use std::fmt;

use crate::{
    clock::Timestamp,
    ports::{StoreError, StreamName},
};

/// Which streams, by name: `*` stands for any characters, none too; everything else for itself.
///
/// ```
/// use orkestra::ports::StreamPattern;
///
/// let pattern = StreamPattern::new("order-*")?;
/// assert!(pattern.matches("order-7"));
/// assert!(!pattern.matches("reorder-7"));
/// assert_eq!(pattern.prefix(), "order-");
/// # Ok::<(), orkestra::ports::StoreError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StreamPattern(String);

impl StreamPattern {
    /// Checks a pattern.
    ///
    /// # Errors
    /// [`StoreError::InvalidArgument`] if it is empty.
    pub fn new(pattern: &str) -> Result<Self, StoreError> {
        if pattern.is_empty() {
            return Err(StoreError::InvalidArgument {
                argument: "streams".into(),
                reason: "expected a pattern, found an empty one (`*` means every stream)".into(),
            });
        }
        Ok(Self(pattern.to_owned()))
    }

    /// Every stream.
    pub fn all() -> Self {
        Self("*".into())
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What every name that matches begins with: what is before the first `*`.
    pub fn prefix(&self) -> &str {
        self.0.split('*').next().unwrap_or_default()
    }

    /// Whether the stream `name` is meant.
    pub fn matches(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else {
            return false;
        };
        let Some(last) = parts.next_back() else {
            return rest.is_empty();
        };
        for part in parts {
            // The leftmost place leaves the most for what follows.
            let Some(place) = rest.find(part) else {
                return false;
            };
            rest = &rest[place + part.len()..];
        }
        rest.ends_with(last)
    }
}

impl fmt::Display for StreamPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which idle streams to find.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct IdleStreams {
    /// Whose names match.
    pub pattern: StreamPattern,
    /// Whose last event occurred before this time.
    pub before: Timestamp,
    /// After this name, exclusive; `None` from the first.
    pub after: Option<StreamName>,
    /// At most this many in the page. 0 means the default, 100.
    pub limit: usize,
}

impl IdleStreams {
    /// Streams that match `pattern` and have been idle since `before`.
    pub fn new(pattern: StreamPattern, before: Timestamp) -> Self {
        Self {
            pattern,
            before,
            after: None,
            limit: 0,
        }
    }

    /// The same after the name `after`.
    #[must_use]
    pub fn after(self, after: Option<StreamName>) -> Self {
        Self { after, ..self }
    }

    /// The same with another limit.
    #[must_use]
    pub fn limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    /// The limit, the default filled in.
    pub fn page_size(&self) -> usize {
        match self.limit {
            0 => 100,
            limit => limit,
        }
    }
}

/// A stream that has been idle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdleStream {
    /// The stream.
    pub stream: StreamName,
    /// Its last revision: what a deletion expects, so that it does nothing to a stream that has gone on.
    pub last_revision: u64,
    /// When its last event occurred.
    pub last_occurred_at: Timestamp,
}

/// Idle streams in the order of their names, by UTF-8 bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdlePage {
    /// The streams; may be empty though more follow.
    pub streams: Vec<IdleStream>,
    /// The last name that was looked at: go on after it. `None` when all have been looked at.
    pub after: Option<StreamName>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_characters() {
        for (pattern, name, expected) in [
            ("*", "order-1", true),
            ("order-*", "order-", true),
            ("order-*", "order-1", true),
            ("order-*", "orders-1", false),
            ("order-1", "order-1", true),
            ("order-1", "order-12", false),
            ("*-1", "order-1", true),
            ("*-1", "order-11", false),
            ("o*r*-1", "order-1", true),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a*b*a", "aba", true),
            ("a*b*a", "ab", false),
            ("order-?", "order-1", false),
            ("日*", "日本", true),
        ] {
            let pattern = StreamPattern::new(pattern).unwrap();
            assert_eq!(pattern.matches(name), expected, "{pattern} {name}");
        }
        assert!(StreamPattern::new("").is_err());
    }

    #[test]
    fn the_prefix_is_what_every_name_begins_with() {
        for (pattern, prefix) in [("order-*", "order-"), ("*", ""), ("a*b", "a"), ("x", "x")] {
            assert_eq!(StreamPattern::new(pattern).unwrap().prefix(), prefix);
        }
    }
}
