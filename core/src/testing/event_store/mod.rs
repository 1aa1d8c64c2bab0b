//! What every [`EventStore`] must do: `orkestra::event_store_suite!(factory)`.

mod append;
mod append_many;
mod concurrent;
mod delete;
mod idle;
mod payload;
mod read_all;
mod read_stream;
mod wait;

use super::{Fixture, block_on, samples::stream};
use crate::ports::{
    Appended, EventStore, ExpectedRevision, NewEvent, ReadAll, ReadStream, RecordedEvent,
    StoreError, StreamPage,
};

suite! {
    /// Makes one test per case of the event store suite. Takes a function that returns a `Fixture<dyn EventStore>`.
    event_store_suite(dyn EventStore) in event_store, $
    append: [
        a01_append_at_no_stream_and_then_at_each_revision_succeeds,
        a02_append_at_any_succeeds,
        a03_append_at_no_stream_to_an_existing_stream_conflicts,
        a04_append_at_stream_exists_succeeds,
        a05_append_at_stream_exists_without_one_conflicts,
        a06_append_at_a_revision_without_a_stream_conflicts,
        a07_append_at_another_revision_conflicts,
        a08_append_of_nothing_is_a_no_op,
        a09_a_batch_with_a_stored_id_is_refused_whole,
        a10_the_same_batch_again_gives_the_first_result,
        a10_a_batch_in_another_order_or_stream_is_no_repetition,
        a11_streams_have_their_own_revisions_and_share_positions,
        a18_stream_names_keep_their_rule,
        an_id_twice_in_a_batch_is_refused,
        a_batch_has_at_most_10000_events,
        find_event_says_where_an_event_is,
        what_was_acknowledged_survives_reopening,
    ]
    append_many: [
        append_many_appends_to_all_its_streams,
        append_many_stores_nothing_when_one_conflicts,
        append_many_sees_its_own_appends,
    ]
    concurrent: [
        a12_one_of_sixteen_racing_writers_wins,
        a13_a_conflict_fails_no_concurrent_append,
        b09_readers_see_what_ten_threads_write_exactly_once,
        appends_are_stored_in_the_order_they_were_accepted,
        dropping_an_accepted_append_does_not_take_it_back,
    ]
    payload: [
        a14_every_field_reads_back,
        a17_odd_payloads_read_back_unchanged,
    ]
    delete: [
        a19_a_soft_deleted_stream_reads_empty_and_goes_on,
        a20_a_hard_deleted_stream_starts_again,
        deleting_what_is_not_there_is_no_error,
        deleting_at_another_revision_conflicts,
    ]
    idle: [
        idle_streams_are_those_whose_last_event_is_old,
        idle_streams_come_in_pages_by_name,
        idle_streams_has_softly_deleted_ones_and_no_gone_ones,
    ]
    read_stream: [
        b01_an_unknown_stream_reads_empty,
        b02_reading_starts_at_the_revision_asked_for,
        b03_backwards_gives_the_last_first,
        b04_pages_join_without_a_seam,
        b04_pages_join_backwards_too,
    ]
    read_all: [
        b05_reading_goes_on_after_a_position,
        b06_patterns_choose_the_events,
        b07_an_empty_store_has_no_head,
        b08_a_hole_in_the_positions_hides_nothing,
        b10_a_large_log_comes_in_bounded_pages,
        a_page_of_unwanted_events_says_how_far_it_read,
        a_stream_prefix_is_taken_literally,
    ]
    wait: [
        waiting_ends_at_once_when_there_are_events,
        waiting_ends_when_an_event_is_appended,
        every_waiting_task_is_woken,
        closing_ends_a_wait,
        closing_finishes_what_was_accepted,
        a_closed_store_refuses_everything,
    ]
}

type Store = Fixture<dyn EventStore>;

impl Store {
    fn append(
        &self,
        name: &str,
        events: Vec<NewEvent>,
        expected: ExpectedRevision,
    ) -> Result<Appended, StoreError> {
        block_on(self.store().append(stream(name), events, expected))
    }

    /// Appends at any revision.
    fn given(&self, name: &str, events: Vec<NewEvent>) -> Appended {
        self.append(name, events, ExpectedRevision::Any).unwrap()
    }

    fn page(&self, name: &str, options: ReadStream) -> StreamPage {
        let page = block_on(self.store().read_stream(stream(name), options)).unwrap();
        assert!(page.events.len() <= options.limit, "a page over its limit");
        assert!(
            page.end || page.events.len() == options.limit,
            "a short page in the middle of a stream"
        );
        page
    }

    fn read(&self, name: &str) -> Vec<RecordedEvent> {
        self.page(name, ReadStream::default()).events
    }

    /// All that `options` finds, page by page, in strictly increasing position.
    fn drain(&self, options: &ReadAll) -> Vec<RecordedEvent> {
        let mut found: Vec<RecordedEvent> = Vec::new();
        let mut after = options.after;
        loop {
            let next = ReadAll {
                after,
                ..options.clone()
            };
            let page = block_on(self.store().read_all(next)).unwrap();
            if options.limit > 0 {
                assert!(page.events.len() <= options.limit, "a page over its limit");
            }
            for event in page.events {
                assert!(
                    Some(event.position) > found.last().map(|e| e.position).or(options.after),
                    "{} does not increase",
                    event.position
                );
                found.push(event);
            }
            if page.end {
                return found;
            }
            assert!(page.position > after, "the reader does not get on");
            after = page.position;
        }
    }

    fn all(&self) -> Vec<RecordedEvent> {
        self.drain(&ReadAll::default())
    }
}

/// What the conflict expected and found.
#[track_caller]
fn conflict<T: std::fmt::Debug>(result: Result<T, StoreError>) -> (ExpectedRevision, Option<u64>) {
    match result {
        Err(StoreError::RevisionConflict {
            expected, actual, ..
        }) => (expected, actual),
        other => panic!("expected a revision conflict, found {other:?}"),
    }
}

fn revisions(events: &[RecordedEvent]) -> Vec<u64> {
    events.iter().map(|event| event.revision).collect()
}

fn ids(events: &[RecordedEvent]) -> Vec<uuid::Uuid> {
    events.iter().map(|event| event.id).collect()
}
