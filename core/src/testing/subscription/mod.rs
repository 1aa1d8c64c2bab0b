//! What a subscription must do on every store: `orkestra::subscription_suite!(factory)`.
//!
//! The fixture's store is [`Stores`]: the events, and where checkpoints and leases are kept, which may be another place.

mod flaky;
mod late;
mod ownership;
mod read;
mod resume;
mod trouble;

use std::sync::Arc;

use uuid::Uuid;

use super::{
    Fixture, block_on,
    samples::{id, stream},
};
use crate::{
    ports::{
        CheckpointStore, EventStore, Expected, ExpectedRevision, LeaseStore, NewEvent, Position,
        SaveCheckpoint, StoreError,
    },
    subscription::{Batch, Start, Subscription, SubscriptionOptions},
    topic::Pattern,
};

/// What subscriptions read from and keep their place in.
#[derive(Debug, Clone)]
pub struct Stores {
    /// The log.
    pub events: Arc<dyn EventStore>,
    /// Where readers stand.
    pub checkpoints: Arc<dyn CheckpointStore>,
    /// Who reads.
    pub leases: Arc<dyn LeaseStore>,
}

impl Stores {
    /// All of it in one store.
    pub fn of<S>(store: &Arc<S>) -> Self
    where
        S: EventStore + CheckpointStore + LeaseStore + 'static,
    {
        Self {
            events: store.clone(),
            checkpoints: store.clone(),
            leases: store.clone(),
        }
    }
}

suite! {
    /// Makes one test per case of the subscription suite. Takes a function that returns a `Fixture<Stores>`.
    subscription_suite(crate::testing::subscription::Stores) in subscription, $
    read: [
        e01_a_transient_reader_from_now_gets_what_is_appended_after,
        e01_a_reader_of_one_stream,
        e02_history_first_then_what_comes,
        e02_no_gap_and_no_repeat_at_the_seam,
        e03_only_what_is_wanted_and_the_checkpoint_moves_over_the_rest,
        e03_what_is_handed_out_is_not_passed_over,
        e08_what_is_not_asked_for_is_not_read,
        e08_a_slow_handler_loses_nothing,
        after_a_position,
        dropping_the_wait_loses_nothing,
    ]
    resume: [
        e04_what_was_not_acknowledged_comes_again,
        e05_what_was_acknowledged_does_not,
        e04_after_reopening,
        e12_a_batch_handled_in_part_is_read_again,
        now_means_the_first_start,
        an_earlier_acknowledgement_moves_nothing_back,
        names_are_independent,
        a_checkpoint_behind_the_end_of_the_log_is_not_waited_for,
        deleting_the_end_of_the_log_repeats_nothing,
        events_that_were_deleted_are_passed_over,
    ]
    ownership: [
        e06_one_of_two_reads,
        e06_the_other_follows_at_once_when_the_lease_is_given_back,
        e06_the_other_follows_within_the_lease_when_the_first_one_dies,
        e07_a_late_acknowledgement_is_refused,
        e07_no_checkpoint_moves_backwards,
        an_owner_that_renews_keeps_it,
        a_new_owner_begins_at_the_checkpoint,
    ]
    late: [
        a_lease_that_nobody_waited_for_is_given_back,
        a_lease_that_nobody_waited_for_is_given_back_when_its_reader_is_dropped,
        a_question_that_was_dropped_is_not_asked_twice,
        a_lease_that_is_renewed_behind_is_given_back_after_that,
        a_lease_whose_grant_was_not_heard_of_is_given_back,
    ]
    trouble: [
        e10_waits_that_end_early_deliver_everything,
        e10_a_wait_that_fails_is_followed_by_everything_missed,
        e11_a_read_that_fails_is_tried_again_and_nothing_is_skipped,
        e11_an_acknowledgement_that_fails_is_covered_by_the_next,
        e11_an_acknowledgement_whose_answer_is_lost_is_covered_by_the_next,
        a_batch_that_reached_nobody_is_read_again,
        closing_the_store_ends_the_wait,
    ]
}

type Shop = Fixture<Stores>;

const BOARD: &str = "shop.board";

impl Shop {
    fn log(&self) -> &dyn EventStore {
        &*self.store().events
    }

    fn give(&self, name: &str, events: Vec<NewEvent>) -> Position {
        let append = self
            .log()
            .append(stream(name), events, ExpectedRevision::Any);
        block_on(append).unwrap().position.unwrap()
    }

    fn named(&self, name: &str, options: SubscriptionOptions) -> Subscription {
        let Stores {
            events,
            checkpoints,
            ..
        } = self.store();
        Subscription::durable(events.clone(), checkpoints.clone(), name, options)
    }

    fn board(&self, options: SubscriptionOptions) -> Subscription {
        self.named(BOARD, options)
    }

    /// The board, kept by one of all processes.
    fn kept_by(&self, owner: &str) -> Subscription {
        let (leases, clock) = (self.store().leases.clone(), Arc::new(self.clock().clone()));
        self.board(SubscriptionOptions::default())
            .owned(leases, owner, clock)
    }

    fn transient(&self, options: SubscriptionOptions) -> Subscription {
        Subscription::transient(self.store().events.clone(), options)
    }

    fn checkpoint(&self) -> Option<Position> {
        let checkpoint = block_on(self.store().checkpoints.load(BOARD.into())).unwrap();
        checkpoint.and_then(|checkpoint| checkpoint.position)
    }

    fn reset(&self, position: Option<Position>) -> Result<(), StoreError> {
        let save = SaveCheckpoint::expected(Expected::Reset);
        block_on(self.store().checkpoints.save(BOARD.into(), position, save))
    }
}

/// The next batch of `reader`.
fn next(reader: &mut Subscription) -> Batch {
    block_on(reader.next()).unwrap()
}

/// What is there to read now.
fn there(reader: &mut Subscription) -> Vec<Uuid> {
    let batch = block_on(reader.try_next()).unwrap();
    batch.map_or_else(Vec::new, |batch| ids_of(&batch))
}

fn ids_of(batch: &Batch) -> Vec<Uuid> {
    batch.events.iter().map(|event| event.id).collect()
}

fn ids(numbers: impl IntoIterator<Item = u64>) -> Vec<Uuid> {
    numbers.into_iter().map(id).collect()
}

/// From the origin, so many events at a time.
fn by(batch_size: usize) -> SubscriptionOptions {
    SubscriptionOptions::default().batch_size(batch_size)
}

fn from(start: Start) -> SubscriptionOptions {
    SubscriptionOptions::new(start, crate::ports::TypeFilter::default())
}

fn of(pattern: &str) -> SubscriptionOptions {
    let patterns = [Pattern::new(pattern).unwrap()];
    SubscriptionOptions::new(
        Start::Origin,
        crate::ports::TypeFilter::new(patterns, "Shop"),
    )
}
