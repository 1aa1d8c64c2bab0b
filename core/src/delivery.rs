//! One message for one handler: when to call it, when to wait, when to give up. Sans-io: the host calls, sleeps and records.
//!
//! The host calls [`Delivery::begin`], runs the handler, and for anything but success reports what happened; the answer says what to do.

use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    message::MessageKind,
    ports::{DeadLetter, DeadLetterReason, DeadLetterStatus, ErrorRecord},
    retry::RetryPolicy,
};

/// What to do after an attempt that did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Wait this long, then begin again.
    Retry {
        /// The wait.
        after: Duration,
    },
    /// Give up: record a dead letter.
    DeadLetter {
        /// Why.
        reason: DeadLetterReason,
    },
}

/// A message on its way to one handler.
#[derive(Debug, Clone)]
pub struct Delivery {
    policy: RetryPolicy,
    max_retries: u32,
    attempts: u32,
    failures: u32,
    first_failed_at: Option<Timestamp>,
    last_failed_at: Option<Timestamp>,
    errors: Vec<ErrorRecord>,
}

/// What a dead letter says beside the attempts.
#[derive(Debug, Clone)]
pub struct Addressed {
    /// An id for the entry.
    pub id: Uuid,
    /// Full name of the handler.
    pub handler: String,
    /// Command or event.
    pub kind: MessageKind,
    /// The message's id.
    pub message_id: Uuid,
    /// The message's type name.
    pub type_name: String,
    /// The message's topic.
    pub topic: String,
    /// The body as on the wire, `None` if it cannot be encoded.
    pub body: Option<Bytes>,
    /// The message's correlation id.
    pub correlation_id: String,
    /// The trace that the message belongs to.
    pub trace_id: Option<String>,
}

impl Delivery {
    /// A delivery under a handler's `policy`. The sender's wish comes before the handler's, then the default: 0 retries for a command, 3 for
    /// an event.
    pub fn new(policy: &RetryPolicy, kind: MessageKind, sender_max_retries: Option<u32>) -> Self {
        let default = match kind {
            MessageKind::Command => 0,
            MessageKind::Event => 3,
        };
        Self {
            max_retries: sender_max_retries.or(policy.max_retries).unwrap_or(default),
            policy: policy.clone(),
            attempts: 0,
            failures: 0,
            first_failed_at: None,
            last_failed_at: None,
            errors: Vec::new(),
        }
    }

    /// The same for a message that comes back: `attempts` have begun before, `failures` of them used up a retry.
    #[must_use]
    pub fn resumed(
        mut self,
        attempts: u32,
        failures: u32,
        first_failed_at: Option<Timestamp>,
    ) -> Self {
        self.attempts = attempts;
        self.failures = failures;
        self.first_failed_at = first_failed_at;
        self
    }

    /// Begins an attempt and returns its 1-based number.
    pub fn begin(&mut self) -> u32 {
        self.attempts = self.attempts.saturating_add(1);
        self.attempts
    }

    /// Attempts so far.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Attempts that used up a retry.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// When the first attempt failed, `None` before that.
    pub fn first_failed_at(&self) -> Option<Timestamp> {
        self.first_failed_at
    }

    /// The attempt failed. `error_types` are the names of the error's type and its base types, its own first; `errors` the error and its causes,
    /// latest first; `draw` comes from [0, 1).
    pub fn failed(
        &mut self,
        error_types: &[String],
        errors: Vec<ErrorRecord>,
        now: Timestamp,
        draw: f64,
    ) -> Next {
        self.note(errors, now);
        self.failures = self.failures.saturating_add(1);
        if !self.policy.wants(error_types) {
            return Next::DeadLetter {
                reason: DeadLetterReason::NotRetryable,
            };
        }
        if self.failures > self.max_retries {
            return Next::DeadLetter {
                reason: DeadLetterReason::RetriesExhausted,
            };
        }
        Next::Retry {
            after: self.policy.delay(self.failures, draw),
        }
    }

    /// The handler asked to be called again after `delay`. This is an attempt but uses up no retry: the handler knows what it waits for.
    pub fn retry_after(
        &mut self,
        delay: Duration,
        errors: Vec<ErrorRecord>,
        now: Timestamp,
    ) -> Next {
        self.note(errors, now);
        Next::Retry { after: delay }
    }

    fn note(&mut self, errors: Vec<ErrorRecord>, now: Timestamp) {
        self.first_failed_at.get_or_insert(now);
        self.last_failed_at = Some(now);
        self.errors = errors;
    }

    /// The dead letter of this delivery, given up for `reason` at `now`.
    pub fn dead_letter(
        &self,
        reason: DeadLetterReason,
        to: Addressed,
        now: Timestamp,
    ) -> DeadLetter {
        DeadLetter {
            id: to.id,
            handler: to.handler,
            kind: to.kind,
            message_id: to.message_id,
            type_name: to.type_name,
            topic: to.topic,
            requeueable: to.body.is_some(),
            body: to.body.unwrap_or_default(),
            reason,
            errors: self.errors.clone(),
            attempts: self.attempts,
            first_failed_at: self.first_failed_at.unwrap_or(now),
            last_failed_at: self.last_failed_at.unwrap_or(now),
            correlation_id: to.correlation_id,
            trace_id: to.trace_id,
            status: DeadLetterStatus::Dead,
            history: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(0);

    fn fail(delivery: &mut Delivery) -> Next {
        delivery.begin();
        delivery.failed(&["ValueError".to_owned()], Vec::new(), NOW, 0.5)
    }

    #[test]
    fn a_command_has_no_retries_unless_somebody_says_so() {
        let gave_up = Next::DeadLetter {
            reason: DeadLetterReason::RetriesExhausted,
        };
        let policy = RetryPolicy::default();
        assert_eq!(
            fail(&mut Delivery::new(&policy, MessageKind::Command, None)),
            gave_up
        );

        let mut delivery = Delivery::new(&RetryPolicy::retries(5), MessageKind::Command, Some(1));
        let first = fail(&mut delivery);
        let second = fail(&mut delivery);

        assert_eq!(
            first,
            Next::Retry {
                after: Duration::from_millis(50)
            }
        );
        assert_eq!(second, gave_up);
        assert_eq!(delivery.attempts(), 2);
    }

    #[test]
    fn an_event_has_three_retries() {
        let mut delivery = Delivery::new(&RetryPolicy::default(), MessageKind::Event, None);

        let retries = (0..3)
            .filter(|_| matches!(fail(&mut delivery), Next::Retry { .. }))
            .count();

        assert_eq!(retries, 3);
        assert!(matches!(fail(&mut delivery), Next::DeadLetter { .. }));
    }

    #[test]
    fn an_error_that_the_policy_gives_up_on_is_not_retried() {
        let policy = RetryPolicy {
            give_up_on: vec!["ValueError".into()],
            ..RetryPolicy::retries(9)
        };

        let next = fail(&mut Delivery::new(&policy, MessageKind::Event, None));

        assert_eq!(
            next,
            Next::DeadLetter {
                reason: DeadLetterReason::NotRetryable
            }
        );
    }

    #[test]
    fn retry_after_uses_up_no_retry() {
        let mut delivery = Delivery::new(&RetryPolicy::retries(1), MessageKind::Command, None);
        for _ in 0..10 {
            delivery.begin();
            let next = delivery.retry_after(Duration::from_secs(1), Vec::new(), NOW);
            assert_eq!(
                next,
                Next::Retry {
                    after: Duration::from_secs(1)
                }
            );
        }

        assert!(matches!(fail(&mut delivery), Next::Retry { .. }));
        assert!(matches!(fail(&mut delivery), Next::DeadLetter { .. }));
        assert_eq!(delivery.attempts(), 12);
    }
}
