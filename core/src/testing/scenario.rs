//! given / when / then for an aggregate: no store, no clock, nothing but its functions.

use std::fmt;

use crate::{Aggregate, Reject};

/// A test of one decision.
///
/// ```
/// # use orkestra::{Aggregate, Command, Event, Message, Reject, testing::Scenario};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)] struct Add { by: i64 }
/// # impl Message for Add { const TYPE_NAME: &'static str = "Shop.Add"; }
/// # impl Command for Add { type Output = orkestra::AggregateAnswer; }
/// # #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)] struct Added { by: i64 }
/// # impl Message for Added { const TYPE_NAME: &'static str = "Shop.Added"; }
/// # impl Event for Added {}
/// struct Counter;
/// impl Aggregate for Counter {
///     const NAME: &'static str = "Counter";
///     type State = i64;
///     type Command = Add;
///     type Event = Added;
///     fn initial() -> i64 { 0 }
///     fn stream_id(_: &Add) -> String { "counter".into() }
///     fn decide(state: &i64, command: &Add) -> Result<Vec<Added>, Reject> {
///         if state + command.by > 10 { return Err(Reject::new("too much")); }
///         Ok(vec![Added { by: command.by }])
///     }
///     fn evolve(state: i64, event: &Added) -> i64 { state + event.by }
/// }
///
/// Scenario::<Counter>::given([Added { by: 4 }]).when(Add { by: 6 }).then([Added { by: 6 }]);
/// Scenario::<Counter>::given([Added { by: 5 }]).when(Add { by: 6 }).then_rejected("too much");
/// ```
#[must_use = "a scenario checks nothing before `then`"]
pub struct Scenario<A: Aggregate> {
    state: A::State,
    decision: Option<Result<Vec<A::Event>, Reject>>,
}

impl<A: Aggregate> fmt::Debug for Scenario<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scenario({})", A::NAME)
    }
}

impl<A: Aggregate> Scenario<A> {
    /// The events that happened before.
    pub fn given(events: impl IntoIterator<Item = impl Into<A::Event>>) -> Self {
        Self {
            state: events
                .into_iter()
                .fold(A::initial(), |state, event| A::evolve(state, &event.into())),
            decision: None,
        }
    }

    /// Nothing happened before.
    pub fn new() -> Self {
        Self {
            state: A::initial(),
            decision: None,
        }
    }

    /// The command.
    pub fn when(mut self, command: impl Into<A::Command>) -> Self {
        self.decision = Some(A::decide(&self.state, &command.into()));
        self
    }

    /// The events that follow.
    ///
    /// # Panics
    /// If others follow.
    pub fn then(self, expected: impl IntoIterator<Item = impl Into<A::Event>>)
    where
        A::Event: PartialEq + fmt::Debug,
    {
        let expected: Vec<A::Event> = expected.into_iter().map(Into::into).collect();
        match self.decision {
            Some(Ok(events)) => assert_eq!(events, expected, "{} decided otherwise", A::NAME),
            Some(Err(reject)) => panic!("{} rejected the command: {}", A::NAME, reject.reason),
            None => panic!("a scenario needs `when` before `then`"),
        }
    }

    /// The command is refused with this reason.
    ///
    /// # Panics
    /// If it is not.
    pub fn then_rejected(self, reason: &str) {
        match self.decision {
            Some(Err(reject)) => assert_eq!(reject.reason, reason),
            Some(Ok(events)) => panic!("{} decided {} events", A::NAME, events.len()),
            None => panic!("a scenario needs `when` before `then_rejected`"),
        }
    }
}

impl<A: Aggregate> Default for Scenario<A> {
    fn default() -> Self {
        Self::new()
    }
}
