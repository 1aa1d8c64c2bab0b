//! (policy, attempt, random draw) -> delay. Pure: it never sleeps.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::code::coded_errors;

coded_errors! {
    /// What can be wrong with a retry policy.
    pub enum RetryError: "RETRY" {
        /// A number of the policy is out of its range.
        #[error("retry policy: {field}: {reason}")]
        InvalidPolicy {
            /// The field.
            field: String,
            /// What was expected and found.
            reason: String,
        } = "ORK_RETRY_INVALID_POLICY", "InvalidRetryPolicyError", transient: false;
    }
}

/// When to try again.
///
/// The delay before retry `n` (1-based) is `min(initial * multiplier^(n-1), max_delay)`, spread by `jitter`: the part `jitter` of it is
/// multiplied by a random draw, so 1 (full jitter) gives anything from 0 to the delay, and 0 the delay itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetryPolicy {
    /// Retries after the first attempt; `None` takes the default of the kind of message: 0 for a command, 3 for an event.
    pub max_retries: Option<u32>,
    /// Delay before the first retry, in seconds. Default 0.1.
    pub initial: f64,
    /// Growth from one retry to the next, at least 1. Default 2.
    pub multiplier: f64,
    /// No delay is longer, in seconds. Default 30.
    pub max_delay: f64,
    /// Share of the delay that is random, 0 to 1. Default 1.
    pub jitter: f64,
    /// Only errors of these types are retried; empty means all. A type is matched with its base types.
    pub retry_on: Vec<String>,
    /// Errors of these types are never retried. Stronger than `retry_on`.
    pub give_up_on: Vec<String>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_retries: None,
            initial: 0.1,
            multiplier: 2.0,
            max_delay: 30.0,
            jitter: 1.0,
            retry_on: Vec::new(),
            give_up_on: Vec::new(),
        }
    }
}

impl RetryPolicy {
    /// The default policy with this many retries.
    pub fn retries(max_retries: u32) -> Self {
        Self {
            max_retries: Some(max_retries),
            ..Self::default()
        }
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// [`RetryError::InvalidPolicy`] names the field that is out of range.
    pub fn check(&self) -> Result<(), RetryError> {
        let refuse = |field: &str, reason: String| {
            Err(RetryError::InvalidPolicy {
                field: field.to_owned(),
                reason,
            })
        };
        for (field, value, low, high) in [
            ("initial", self.initial, 0.0, 1e9),
            ("multiplier", self.multiplier, 1.0, 1e6),
            ("max_delay", self.max_delay, 0.0, 1e9),
            ("jitter", self.jitter, 0.0, 1.0),
        ] {
            // A NaN fails both comparisons, so the range is asked for, not its opposite.
            if !(low..=high).contains(&value) {
                return refuse(
                    field,
                    format!("expected a number from {low} to {high}, found {value}"),
                );
            }
        }
        Ok(())
    }

    /// The delay before retry `retry` (1-based), for a `draw` from [0, 1).
    pub fn delay(&self, retry: u32, draw: f64) -> Duration {
        let exponent = i32::try_from(retry.saturating_sub(1)).unwrap_or(i32::MAX);
        let grown = self.initial * self.multiplier.powi(exponent);
        let capped = if grown.is_finite() {
            grown.min(self.max_delay)
        } else {
            self.max_delay
        };
        let seconds = capped * (1.0 - self.jitter) + capped * self.jitter * draw;
        // Whole microseconds, so that the three languages name the same number.
        let micros = (seconds * 1e6).round().clamp(0.0, 1e15);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to 0..=1e15 above"
        )]
        Duration::from_micros(micros as u64)
    }

    /// Whether an error of these types (its own first, then its bases) may be retried at all.
    pub fn wants<S: AsRef<str>>(&self, error_types: &[S]) -> bool {
        let any = |names: &[String]| {
            error_types
                .iter()
                .any(|t| names.iter().any(|n| same_type(n, t.as_ref())))
        };
        !any(&self.give_up_on) && (self.retry_on.is_empty() || any(&self.retry_on))
    }
}

/// `OSError` names `builtins.OSError` and `ParseIntError` names `core::num::ParseIntError` too: people write the short name.
fn same_type(wanted: &str, found: &str) -> bool {
    wanted == found || found.rsplit(['.', ':']).next() == Some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_limit() {
        let policy = RetryPolicy {
            jitter: 0.0,
            ..RetryPolicy::default()
        };

        let delays: Vec<_> = [1, 2, 3, 9, 10, u32::MAX]
            .map(|n| policy.delay(n, 0.9).as_millis())
            .into();

        assert_eq!(delays, [100, 200, 400, 25_600, 30_000, 30_000]);
    }

    #[test]
    fn full_jitter_takes_the_draws_share_of_the_delay() {
        let policy = RetryPolicy::default();

        assert_eq!(policy.delay(1, 0.0), Duration::ZERO);
        assert_eq!(policy.delay(2, 0.5), Duration::from_millis(100));
    }

    #[test]
    fn a_number_out_of_range_is_named() {
        let policy = RetryPolicy {
            multiplier: f64::NAN,
            ..RetryPolicy::default()
        };

        let error = policy.check().unwrap_err();

        assert!(error.to_string().contains("multiplier"), "{error}");
    }

    #[test]
    fn giving_up_is_stronger_than_trying_again() {
        let policy = RetryPolicy {
            retry_on: vec!["OSError".into()],
            give_up_on: vec!["FileNotFoundError".into()],
            ..RetryPolicy::default()
        };

        assert!(policy.wants(&["builtins.OSError"]));
        assert!(!policy.wants(&["FileNotFoundError", "OSError"]));
        assert!(!policy.wants(&["ValueError"]));
    }
}
