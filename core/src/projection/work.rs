//! What becomes of a batch: handled whole, retried, handled event by event to find the one that cannot be handled. Sans-io: the host calls, sleeps and records.
//!
//! ```
//! use orkestra::{ports::Position, projection::{Step, Work}, retry::RetryPolicy, subscription::Poison};
//!
//! let mut work = Work::new([Position(1), Position(2)], Some(Position(2)), &RetryPolicy::retries(0), Poison::Skip);
//! assert_eq!(work.step(), Step::Handle { events: 0..2, position: Some(Position(2)) });
//! work.failed(&["ValueError".into()], Vec::new(), orkestra::clock::Timestamp::default(), 0.5);
//! assert_eq!(work.step(), Step::Handle { events: 0..1, position: Some(Position(1)) });
//! work.succeeded();
//! assert_eq!(work.step(), Step::Handle { events: 1..2, position: Some(Position(2)) });
//! # work.succeeded();
//! # assert_eq!(work.step(), Step::Done);
//! ```

use std::{ops::Range, time::Duration};

use super::is_outage;
use crate::{
    clock::Timestamp,
    delivery::{Addressed, Delivery, Next},
    message::MessageKind,
    ports::{DeadLetter, DeadLetterReason, ErrorRecord, Position},
    retry::RetryPolicy,
    subscription::Poison,
};

/// What the host does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Call the handler with these events of the batch and a checkpoint for `position`, then say [`Work::succeeded`], [`Work::failed`],
    /// [`Work::rejected`] or [`Work::retry_after`].
    Handle {
        /// Which of the batch's events.
        events: Range<usize>,
        /// Where the view stands after them.
        position: Option<Position>,
    },
    /// Sleep, then say [`Work::waited`].
    Wait {
        /// The wait.
        after: Duration,
    },
    /// The event cannot be handled: do what `poison` says (park it as [`Work::dead_letter`], skip it, or stop), tell
    /// [`Projection::handled`](super::Projection::handled) about `position`, then say [`Work::given_up`].
    GiveUp {
        /// Which of the batch's events.
        event: usize,
        /// What to do with it.
        poison: Poison,
        /// Why.
        reason: DeadLetterReason,
        /// Where the reader stands after it.
        position: Option<Position>,
    },
    /// All events are done with: read on.
    Done,
}

/// A batch on its way into a view.
#[derive(Debug, Clone)]
pub struct Work {
    policy: RetryPolicy,
    poison: Poison,
    positions: Vec<Position>,
    end: Option<Position>,
    /// The first event that is not done with.
    first: usize,
    /// Whether the batch failed as a whole and is handled event by event.
    one_by_one: bool,
    delivery: Delivery,
    outages: u32,
    then: Then,
}

#[derive(Debug, Clone, Copy)]
enum Then {
    Handle,
    Wait(Duration),
    GiveUp(Poison, DeadLetterReason),
}

impl Work {
    /// Events at these positions, read up to `end`. Without a number of its own the policy makes 3 retries.
    pub fn new(
        positions: impl IntoIterator<Item = Position>,
        end: Option<Position>,
        policy: &RetryPolicy,
        poison: Poison,
    ) -> Self {
        Self {
            policy: policy.clone(),
            poison,
            positions: positions.into_iter().collect(),
            end,
            first: 0,
            one_by_one: false,
            delivery: Delivery::new(policy, MessageKind::Event, None),
            outages: 0,
            then: Then::Handle,
        }
    }

    /// What to do now. It changes nothing.
    pub fn step(&self) -> Step {
        if self.first >= self.positions.len() {
            return Step::Done;
        }
        match self.then {
            Then::Handle => {
                let events = self.at_hand();
                Step::Handle {
                    position: self.after(events.end),
                    events,
                }
            }
            Then::Wait(after) => Step::Wait { after },
            Then::GiveUp(poison, reason) => Step::GiveUp {
                event: self.first,
                poison,
                reason,
                position: self.after(self.first + 1),
            },
        }
    }

    /// The 1-based number of the attempt that [`Step::Handle`] is.
    pub fn attempt(&self) -> u32 {
        self.delivery.attempts().saturating_add(1)
    }

    /// Whether the batch failed as a whole and its events are handed over one by one.
    pub fn is_one_by_one(&self) -> bool {
        self.one_by_one
    }

    /// The events at hand are in the view.
    pub fn succeeded(&mut self) {
        let done = self.at_hand().end;
        self.go_on(done);
    }

    /// The handler failed. The arguments are those of [`Delivery::failed`].
    ///
    /// An error that says that something is away ([`is_outage`]) uses up no retry: the same is tried for as long as it takes.
    pub fn failed(
        &mut self,
        error_types: &[String],
        errors: Vec<ErrorRecord>,
        now: Timestamp,
        draw: f64,
    ) {
        if is_outage(error_types, &errors) {
            return self.away(errors, now, draw);
        }
        self.outages = 0;
        self.delivery.begin();
        match self.delivery.failed(error_types, errors, now, draw) {
            Next::Retry { after } => self.then = Then::Wait(after),
            Next::DeadLetter { reason } => self.cannot(self.poison, reason),
        }
    }

    /// The handler failed because something was away that comes back.
    pub fn away(&mut self, errors: Vec<ErrorRecord>, now: Timestamp, draw: f64) {
        self.outages = self.outages.saturating_add(1);
        // Not at once, and not in step with others, whatever the draw.
        let after = self.policy.delay(self.outages, 0.5 + draw / 2.0);
        self.retry_after(after, errors, now);
    }

    /// The handler asked to be called again after `delay`. This uses up no retry.
    pub fn retry_after(&mut self, delay: Duration, errors: Vec<ErrorRecord>, now: Timestamp) {
        self.delivery.begin();
        let _ = self.delivery.retry_after(delay, errors, now);
        self.then = Then::Wait(delay);
    }

    /// The handler refused: no retry, and no dead letter.
    pub fn rejected(&mut self) {
        self.cannot(Poison::Skip, DeadLetterReason::NotRetryable);
    }

    /// What is stored cannot be read as what the handler takes.
    pub fn undecodable(&mut self, errors: Vec<ErrorRecord>, now: Timestamp) {
        self.delivery.begin();
        let _ = self.delivery.failed(&[], errors, now, 0.0);
        self.cannot(self.poison, DeadLetterReason::Undecodable);
    }

    /// The wait is over.
    pub fn waited(&mut self) {
        self.then = Then::Handle;
    }

    /// The event at hand is parked or skipped.
    pub fn given_up(&mut self) {
        self.go_on(self.first + 1);
    }

    /// The dead letter of the event at hand. It cannot be requeued: a view needs its events in order, so it is rebuilt instead.
    pub fn dead_letter(
        &self,
        reason: DeadLetterReason,
        to: Addressed,
        now: Timestamp,
    ) -> DeadLetter {
        DeadLetter {
            requeueable: false,
            ..self.delivery.dead_letter(reason, to, now)
        }
    }

    fn at_hand(&self) -> Range<usize> {
        if self.one_by_one {
            self.first..self.first + 1
        } else {
            self.first..self.positions.len()
        }
    }

    /// Where a reader stands that is done with so many events.
    fn after(&self, count: usize) -> Option<Position> {
        if count == self.positions.len() {
            return self.end.or(self.positions.last().copied());
        }
        self.positions.get(count.wrapping_sub(1)).copied()
    }

    fn cannot(&mut self, poison: Poison, reason: DeadLetterReason) {
        if self.at_hand().len() == 1 {
            self.then = Then::GiveUp(poison, reason);
        } else {
            self.one_by_one = true;
            self.begin_again();
        }
    }

    fn go_on(&mut self, first: usize) {
        self.first = first;
        self.begin_again();
    }

    fn begin_again(&mut self) {
        self.delivery = Delivery::new(&self.policy, MessageKind::Event, None);
        self.outages = 0;
        self.then = Then::Handle;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(0);

    fn three(retries: u32, poison: Poison) -> Work {
        let policy = RetryPolicy {
            jitter: 0.0,
            ..RetryPolicy::retries(retries)
        };
        Work::new([3, 5, 7].map(Position), Some(Position(9)), &policy, poison)
    }

    fn fail(work: &mut Work) {
        work.failed(&["ValueError".to_owned()], Vec::new(), NOW, 0.5);
    }

    fn handle(range: Range<usize>, position: u64) -> Step {
        Step::Handle {
            events: range,
            position: Some(Position(position)),
        }
    }

    #[test]
    fn a_batch_that_succeeds_ends_where_it_was_read_to() {
        let mut work = three(3, Poison::Park);

        assert_eq!(work.step(), handle(0..3, 9));
        work.succeeded();

        assert_eq!(work.step(), Step::Done);
    }

    #[test]
    fn it_is_retried_then_taken_apart_and_the_poison_is_given_up() {
        let mut work = three(1, Poison::Park);
        fail(&mut work);
        let after = Duration::from_millis(100);
        assert_eq!(work.step(), Step::Wait { after });
        work.waited();
        assert_eq!((work.step(), work.attempt()), (handle(0..3, 9), 2));
        fail(&mut work);

        assert_eq!((work.step(), work.attempt()), (handle(0..1, 3), 1));
        work.succeeded();
        assert_eq!(work.step(), handle(1..2, 5));
        fail(&mut work);
        assert_eq!(work.step(), Step::Wait { after });
        work.waited();
        fail(&mut work);

        let given_up = Step::GiveUp {
            event: 1,
            poison: Poison::Park,
            reason: DeadLetterReason::RetriesExhausted,
            position: Some(Position(5)),
        };
        assert_eq!(work.step(), given_up);
        work.given_up();
        assert_eq!(work.step(), handle(2..3, 9));
        work.succeeded();
        assert_eq!(work.step(), Step::Done);
    }

    #[test]
    fn what_is_away_uses_up_no_retry_and_is_waited_for_longer_and_longer() {
        let mut work = three(0, Poison::Park);
        let mut waits = Vec::new();

        for _ in 0..20 {
            work.failed(&["ECONNREFUSED".to_owned()], Vec::new(), NOW, 0.0);
            let Step::Wait { after } = work.step() else {
                panic!("{:?}", work.step());
            };
            waits.push(after.as_millis());
            work.waited();
            assert_eq!(work.step(), handle(0..3, 9));
        }

        assert_eq!(waits[..3], [100, 200, 400]);
        assert_eq!(waits[19], 30_000);
        fail(&mut work);
        assert_eq!(work.step(), handle(0..1, 3));
    }

    #[test]
    fn a_refusal_is_skipped_without_a_retry() {
        let mut work = three(5, Poison::Stop);
        work.rejected();
        assert_eq!(work.step(), handle(0..1, 3));
        work.rejected();

        let Step::GiveUp { event, poison, .. } = work.step() else {
            panic!("{:?}", work.step());
        };
        assert_eq!((event, poison), (0, Poison::Skip));
    }

    #[test]
    fn an_empty_batch_is_done() {
        let work = Work::new([], Some(Position(3)), &RetryPolicy::default(), Poison::Park);

        assert_eq!(work.step(), Step::Done);
    }
}
