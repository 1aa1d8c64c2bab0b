//! What becomes of a message: the state machines around it.

use std::fmt;

use serde::Serialize;

use super::{Command, Event};
use crate::clock::Timestamp;

/// Where a command stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum CommandStatus {
    /// Made, not sent.
    #[default]
    Pending,
    /// On its way or being handled.
    Dispatched,
    /// Handled; there is a result.
    Succeeded,
    /// An attempt failed.
    Failed,
    /// Refused by its handler: not a failure, never retried.
    Rejected,
}

impl CommandStatus {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Dispatched => "dispatched",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
        }
    }

    /// The status of that word.
    pub fn parse(word: &str) -> Option<Self> {
        [
            Self::Pending,
            Self::Dispatched,
            Self::Succeeded,
            Self::Failed,
            Self::Rejected,
        ]
        .into_iter()
        .find(|s| s.as_str() == word)
    }
}

impl fmt::Display for CommandStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A command and what becomes of it.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandEnvelope {
    /// The command.
    pub command: Command,
    /// Where it stands.
    pub status: CommandStatus,
    /// Attempts so far.
    pub attempts: u32,
    /// Retries that the sender wants, `None` to leave it to the handler.
    pub max_retries: Option<u32>,
    /// When it was first sent.
    pub dispatched_at: Option<Timestamp>,
    /// When it was handled, refused or given up.
    pub completed_at: Option<Timestamp>,
    /// The handler's result as JSON.
    pub result: Option<serde_json::Value>,
    /// The last error in one line.
    pub error: Option<String>,
}

impl CommandEnvelope {
    /// A pending envelope.
    pub fn new(command: Command) -> Self {
        Self {
            command,
            status: CommandStatus::Pending,
            attempts: 0,
            max_retries: None,
            dispatched_at: None,
            completed_at: None,
            result: None,
            error: None,
        }
    }

    /// Sent: from pending, or from failed for a retry. Counts the attempt.
    pub fn dispatch(&mut self, now: Timestamp) {
        self.status = CommandStatus::Dispatched;
        self.dispatched_at.get_or_insert(now);
        self.attempts += 1;
    }

    /// Handled with `result`.
    pub fn succeed(&mut self, result: Option<serde_json::Value>, now: Timestamp) {
        self.status = CommandStatus::Succeeded;
        self.completed_at = Some(now);
        self.result = result;
        self.error = None;
    }

    /// An attempt failed with `error`.
    pub fn fail(&mut self, error: impl Into<String>, now: Timestamp) {
        self.status = CommandStatus::Failed;
        self.completed_at = Some(now);
        self.error = Some(error.into());
    }

    /// Refused for `reason`.
    pub fn reject(&mut self, reason: impl Into<String>, now: Timestamp) {
        self.status = CommandStatus::Rejected;
        self.completed_at = Some(now);
        self.error = Some(reason.into());
    }

    /// Whether another attempt is allowed: failed, and attempts <= `max_retries` (0 when the sender said nothing).
    pub fn is_retryable(&self) -> bool {
        self.status == CommandStatus::Failed && self.attempts <= self.max_retries.unwrap_or(0)
    }
}

/// Where an event stands with one handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HandlerState {
    /// Not called yet, or waiting for a retry.
    Pending,
    /// Being handled.
    Processing,
    /// Handled.
    Succeeded,
    /// Given up.
    Failed,
    /// Not wanted by the handler; counts as handled.
    Skipped,
}

impl HandlerState {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }

    fn is_settled(self) -> bool {
        !matches!(self, Self::Pending | Self::Processing)
    }
}

/// Where an event stands with all its handlers together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EventStatus {
    /// Made, not published.
    Pending,
    /// Published; a handler is not done yet.
    Published,
    /// Every handler succeeded or skipped it, or there is none.
    Handled,
    /// Some failed, some did not.
    PartiallyHandled,
    /// All failed.
    Failed,
}

impl EventStatus {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Published => "published",
            Self::Handled => "handled",
            Self::PartiallyHandled => "partially_handled",
            Self::Failed => "failed",
        }
    }

    /// The status that follows from the handlers' states, once published. A handler that waits for its retry is pending.
    pub fn of(states: impl IntoIterator<Item = HandlerState>) -> Self {
        let (mut failed, mut done) = (0, 0);
        for state in states {
            if !state.is_settled() {
                return Self::Published;
            }
            if state == HandlerState::Failed {
                failed += 1;
            } else {
                done += 1;
            }
        }
        match (failed, done) {
            (0, _) => Self::Handled,
            (_, 0) => Self::Failed,
            _ => Self::PartiallyHandled,
        }
    }
}

/// An event and what becomes of it.
#[derive(Debug, Clone, PartialEq)]
pub struct EventEnvelope {
    /// The event.
    pub event: Event,
    /// When it was published.
    pub published_at: Option<Timestamp>,
    /// Each handler's state, in order of registration.
    pub handlers: Vec<(String, HandlerState)>,
}

impl EventEnvelope {
    /// A pending envelope.
    pub fn new(event: Event) -> Self {
        Self {
            event,
            published_at: None,
            handlers: Vec::new(),
        }
    }

    /// Published to these handlers.
    pub fn publish<S: Into<String>>(
        &mut self,
        handlers: impl IntoIterator<Item = S>,
        now: Timestamp,
    ) {
        self.published_at = Some(now);
        self.handlers = handlers
            .into_iter()
            .map(|name| (name.into(), HandlerState::Pending))
            .collect();
    }

    /// Records `state` for `handler`; an unknown handler is ignored.
    pub fn record(&mut self, handler: &str, state: HandlerState) {
        if let Some((_, s)) = self.handlers.iter_mut().find(|(name, _)| name == handler) {
            *s = state;
        }
    }

    /// Where the event stands.
    pub fn status(&self) -> EventStatus {
        match self.published_at {
            None => EventStatus::Pending,
            Some(_) => EventStatus::of(self.handlers.iter().map(|(_, s)| *s)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handlers_states_decide_the_status() {
        use HandlerState::{Failed, Pending, Processing, Skipped, Succeeded};

        for (states, status) in [
            (vec![], EventStatus::Handled),
            (vec![Succeeded, Skipped], EventStatus::Handled),
            (vec![Succeeded, Failed], EventStatus::PartiallyHandled),
            (vec![Skipped, Failed], EventStatus::PartiallyHandled),
            (vec![Failed, Failed], EventStatus::Failed),
            (vec![Failed, Pending], EventStatus::Published),
            (vec![Succeeded, Processing], EventStatus::Published),
        ] {
            assert_eq!(EventStatus::of(states.clone()), status, "{states:?}");
        }
    }
}
