use std::time::Duration;

use super::Store;
use crate::{
    clock::Timestamp,
    ports::{DeleteMode, ExpectedRevision::Any, IdlePage, IdleStreams, NewEvent, StreamPattern},
    testing::{
        block_on,
        samples::{NOON, order_placed, stream},
        skip,
    },
};

fn minute(n: u64) -> Timestamp {
    NOON.plus(Duration::from_secs(60 * n))
}

/// The event `n`, which occurred in the minute `m`.
fn event(n: u64, m: u64) -> NewEvent {
    NewEvent {
        occurred_at: minute(m),
        ..order_placed(n)
    }
}

fn page(f: &Store, options: IdleStreams) -> IdlePage {
    block_on(f.store().idle_streams(options)).unwrap()
}

/// All that is found, page by page, as name, last revision and minute.
fn idle(f: &Store, pattern: &str, before: u64, limit: usize) -> Vec<(String, u64, u64)> {
    let options = IdleStreams::new(StreamPattern::new(pattern).unwrap(), minute(before));
    let mut options = options.limit(limit);
    let mut found = Vec::new();
    loop {
        let page = page(f, options.clone());
        assert!(page.streams.len() <= options.page_size());
        for stream in page.streams {
            let micros = stream.last_occurred_at.as_micros() - NOON.as_micros();
            let minute = u64::try_from(micros / 60_000_000).unwrap();
            found.push((stream.stream.to_string(), stream.last_revision, minute));
        }
        if page.after.is_none() {
            return found;
        }
        assert!(page.after > options.after, "the reader does not get on");
        options = options.after(page.after);
    }
}

/// False, and a printed skip, if the adapter does not.
fn lists_streams(f: &Store, case: &str) -> bool {
    let lists = f.store().capabilities().idle_streams;
    if !lists {
        skip(case, "it has no list of streams");
    }
    lists
}

pub(super) fn idle_streams_are_those_whose_last_event_is_old(f: &Store) {
    if !lists_streams(f, "idle_streams_are_those_whose_last_event_is_old") {
        return;
    }
    f.given("order-1", vec![event(1, 0), event(2, 5)]);
    f.given("order-2", vec![event(3, 9)]);
    f.given("cart-1", vec![event(4, 1)]);
    // What counts is the last event, not the latest time.
    f.given("order-10", vec![event(5, 9), event(6, 2)]);
    let row = |name: &str, revision, minute| (name.to_owned(), revision, minute);

    assert_eq!(idle(f, "*", 0, 0), []);
    assert_eq!(
        idle(f, "*", 6, 0),
        [
            row("cart-1", 0, 1),
            row("order-1", 1, 5),
            row("order-10", 1, 2)
        ]
    );
    assert_eq!(idle(f, "order-*", 5, 0), [row("order-10", 1, 2)]);
    assert_eq!(
        idle(f, "*-1", 10, 0),
        [row("cart-1", 0, 1), row("order-1", 1, 5)]
    );
    assert_eq!(idle(f, "order-2", 10, 0), [row("order-2", 0, 9)]);
}

pub(super) fn idle_streams_come_in_pages_by_name(f: &Store) {
    if !lists_streams(f, "idle_streams_come_in_pages_by_name") {
        return;
    }
    for n in 0..25 {
        // Names that no pattern language of a database may take for more than they are.
        f.given(&format!("a%_[{n}]?日"), vec![event(n, n % 2)]);
    }
    f.given("b", vec![event(100, 0)]);
    let mut expected: Vec<String> = (0..25)
        .filter(|n| n % 2 == 0)
        .map(|n| format!("a%_[{n}]?日"))
        .collect();
    expected.sort();

    for limit in [1, 5, 100] {
        let found = idle(f, "a%_[*]?日", 1, limit);
        let names: Vec<String> = found.into_iter().map(|(name, ..)| name).collect();
        assert_eq!(names, expected);
    }
}

pub(super) fn idle_streams_has_softly_deleted_ones_and_no_gone_ones(f: &Store) {
    if !lists_streams(f, "idle_streams_has_softly_deleted_ones_and_no_gone_ones") {
        return;
    }
    for (n, name) in (0..).zip(["order-1", "order-2", "order-3"]) {
        f.given(name, vec![event(2 * n, 1), event(2 * n + 1, 1)]);
    }
    let delete = |name, mode| block_on(f.store().delete_stream(stream(name), Any, mode)).unwrap();

    delete("order-1", DeleteMode::Soft);
    delete("order-2", DeleteMode::Hard);

    let row = |name: &str| (name.to_owned(), 1, 1);
    assert_eq!(idle(f, "*", 2, 0), [row("order-1"), row("order-3")]);
}
