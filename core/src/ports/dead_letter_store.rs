//! Messages given up on.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{clock::Timestamp, message::MessageKind, ports::StoreError, topic::Pattern};

/// An error of one attempt, as data. The first is the latest cause, the chain follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorRecord {
    /// The error's type, as its language names it.
    #[serde(rename = "type")]
    pub error_type: String,
    /// Its message.
    pub message: String,
    /// Its trace as text, empty when there is none.
    #[serde(default)]
    pub trace: String,
}

/// Why a message was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadLetterReason {
    /// The retries are used up.
    RetriesExhausted,
    /// The policy does not retry this error.
    NotRetryable,
    /// The body does not decode.
    Undecodable,
    /// The process ended each time.
    CrashLimit,
    /// The broker gave it up: rejected, expired, over a queue's limit, or its queue is gone.
    Broker,
}

impl DeadLetterReason {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RetriesExhausted => "retries_exhausted",
            Self::NotRetryable => "not_retryable",
            Self::Undecodable => "undecodable",
            Self::CrashLimit => "crash_limit",
            Self::Broker => "broker",
        }
    }

    /// The reason of that word.
    pub fn parse(word: &str) -> Option<Self> {
        [
            Self::RetriesExhausted,
            Self::NotRetryable,
            Self::Undecodable,
            Self::CrashLimit,
            Self::Broker,
        ]
        .into_iter()
        .find(|r| r.as_str() == word)
    }
}

/// Where a dead letter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadLetterStatus {
    /// Waiting for somebody.
    Dead,
    /// Handed to its handler again; gone when that succeeds.
    Requeued,
}

impl DeadLetterStatus {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Requeued => "requeued",
        }
    }

    /// The status of that word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Dead, Self::Requeued]
            .into_iter()
            .find(|status| status.as_str() == word)
    }
}

/// One time that a message was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedAttempts {
    /// Why.
    pub reason: DeadLetterReason,
    /// The last attempt's error and its chain of causes.
    pub errors: Vec<ErrorRecord>,
    /// Attempts this time.
    pub attempts: u32,
    /// When the first attempt failed, RFC 3339.
    pub first_failed_at: String,
    /// When the last attempt failed, RFC 3339.
    pub last_failed_at: String,
}

/// A message given up on, for one handler.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// The entry's id: stays the same when the message fails again.
    pub id: Uuid,
    /// The full name of the handler, `<app>.<handler>`.
    pub handler: String,
    /// Command or event.
    pub kind: MessageKind,
    /// The message's id.
    pub message_id: Uuid,
    /// The message's type name.
    pub type_name: String,
    /// The message's topic.
    pub topic: String,
    /// The body as on the wire; for what did not decode, the bytes as they came.
    pub body: Bytes,
    /// Whether `body` can be handed to the handler again.
    pub requeueable: bool,
    /// Why it was given up the last time.
    pub reason: DeadLetterReason,
    /// The last attempt's error and its chain of causes.
    pub errors: Vec<ErrorRecord>,
    /// Attempts in all.
    pub attempts: u32,
    /// When the first attempt failed.
    pub first_failed_at: Timestamp,
    /// When the last attempt failed.
    pub last_failed_at: Timestamp,
    /// The correlation id of the message.
    pub correlation_id: String,
    /// The trace that the message belonged to, if it was traced.
    pub trace_id: Option<String>,
    /// Dead or requeued.
    pub status: DeadLetterStatus,
    /// The earlier times that it was given up, oldest first.
    pub history: Vec<FailedAttempts>,
}

impl DeadLetter {
    /// Whether `text`, in lower case, is in what people search.
    pub(crate) fn mentions(&self, text: &str) -> bool {
        let has = |field: &str| field.to_lowercase().contains(text);
        has(&self.type_name)
            || has(&self.topic)
            || self.errors.iter().any(|error| has(&error.message))
            || has(&String::from_utf8_lossy(&self.body))
    }

    /// This entry after its message was given up once more, as `latest` says.
    ///
    /// The id and the first time stay, what this entry said becomes the end of the history, attempts are added, all else is `latest`'s.
    #[must_use]
    pub fn again(self, latest: Self) -> Self {
        let earlier: u32 = self.history.iter().map(|h| h.attempts).sum();
        // Of a later round only the end is kept, so its beginning is not known any more.
        let first_failed_at = if self.history.is_empty() {
            self.first_failed_at
        } else {
            self.last_failed_at
        };
        let mut history = self.history;
        history.push(FailedAttempts {
            reason: self.reason,
            errors: self.errors,
            attempts: self.attempts.saturating_sub(earlier),
            first_failed_at: first_failed_at.to_string(),
            last_failed_at: self.last_failed_at.to_string(),
        });
        Self {
            id: self.id,
            attempts: self.attempts.saturating_add(latest.attempts),
            first_failed_at: self.first_failed_at,
            status: DeadLetterStatus::Dead,
            history,
            ..latest
        }
    }
}

/// Which dead letters. The default is all of them, newest first, 100 a page.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct DeadLetterFilter {
    /// Of this handler.
    pub handler: Option<String>,
    /// Whose topic matches.
    pub topic: Option<Pattern>,
    /// Last failed at this time or later.
    pub since: Option<Timestamp>,
    /// Last failed before this time.
    pub until: Option<Timestamp>,
    /// Whose body, type, topic or error messages have this text in them, case not regarded.
    pub text: Option<String>,
    /// Only of this status.
    pub status: Option<DeadLetterStatus>,
    /// At most this many; 0 means 100.
    pub limit: usize,
    /// Passing over this many.
    pub offset: usize,
}

/// A page of dead letters.
#[derive(Debug, Clone, Default)]
pub struct DeadLetterPage {
    /// The entries, the last failed first.
    pub items: Vec<DeadLetter>,
    /// How many the filter finds in all.
    pub total: usize,
}

/// A store of dead letters. One entry per handler and message.
#[async_trait]
pub trait DeadLetterStore: Send + Sync + fmt::Debug {
    /// Records `letter`. If the handler has an entry for the message, that entry keeps its id and first time, what it said moves to its
    /// history, attempts are added, and it is dead again. Returns the entry as it is now.
    ///
    /// # Errors
    /// Transient ones if the store is away.
    async fn record(&self, letter: DeadLetter) -> Result<DeadLetter, StoreError>;

    /// The entries that `filter` finds.
    ///
    /// # Errors
    /// Transient ones if the store is away.
    async fn list(&self, filter: DeadLetterFilter) -> Result<DeadLetterPage, StoreError>;

    /// The entry `id`.
    ///
    /// # Errors
    /// [`StoreError::NoDeadLetter`]; transient ones if the store is away.
    async fn get(&self, id: Uuid) -> Result<DeadLetter, StoreError>;

    /// Marks the entry `id` as requeued, with another body if one is given, and returns it.
    ///
    /// # Errors
    /// [`StoreError::NoDeadLetter`]; transient ones if the store is away.
    async fn requeue(&self, id: Uuid, body: Option<Bytes>) -> Result<DeadLetter, StoreError>;

    /// Marks the entry `id` as dead again, with this body: it was marked as requeued and could not be handed over.
    ///
    /// # Errors
    /// [`StoreError::NoDeadLetter`]; transient ones if the store is away.
    async fn take_back(&self, id: Uuid, body: Bytes) -> Result<DeadLetter, StoreError>;

    /// Removes the entry `id`; returns whether there was one.
    ///
    /// # Errors
    /// Transient ones if the store is away.
    async fn discard(&self, id: Uuid) -> Result<bool, StoreError>;

    /// Removes at most `limit` entries, of `handler` alone if one is given, that last failed before `before`, oldest first, whatever their
    /// status. Returns how many.
    ///
    /// # Errors
    /// Transient ones if the store is away.
    async fn purge(
        &self,
        before: Timestamp,
        handler: Option<String>,
        limit: usize,
    ) -> Result<u64, StoreError>;
}
