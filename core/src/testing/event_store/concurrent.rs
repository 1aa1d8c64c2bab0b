use std::{
    collections::HashSet,
    sync::{Arc, Barrier},
    thread,
};

use futures_util::future::join_all;
use uuid::Uuid;

use super::{Store, conflict, ids};
use crate::{
    ports::{
        EventStore,
        ExpectedRevision::{Any, Exact, NoStream},
        ReadAll,
    },
    testing::{
        Started, block_on,
        samples::{id, orders, stream},
    },
};

pub(super) fn a12_one_of_sixteen_racing_writers_wins(f: &Store) {
    f.given("order-1", orders([100]));
    let start = Arc::new(Barrier::new(16));

    let results: Vec<_> = thread::scope(|scope| {
        let writers: Vec<_> = (0..16)
            .map(|n| {
                let (store, start) = (f.shared(), Arc::clone(&start));
                scope.spawn(move || {
                    start.wait();
                    block_on(store.append(stream("order-1"), orders([n]), Exact(0)))
                })
            })
            .collect();
        writers.into_iter().map(|w| w.join().unwrap()).collect()
    });

    let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 15));
    for result in lost {
        assert_eq!(conflict(result), (Exact(0), Some(1)));
    }
    assert_eq!(f.read("order-1").len(), 2);
}

pub(super) fn a13_a_conflict_fails_no_concurrent_append(f: &Store) {
    f.given("order-50", orders([1000]));

    // All of them are under way before the first is waited for, so they may share a transaction.
    let results = block_on(join_all((0..=100).map(|n| {
        f.store()
            .append(stream(&format!("order-{n}")), orders([n]), NoStream)
    })));

    for (n, result) in results.into_iter().enumerate() {
        if n == 50 {
            assert_eq!(conflict(result), (NoStream, Some(0)));
        } else {
            assert_eq!(result.unwrap().revision, Some(0), "order-{n}");
        }
    }
    assert_eq!(f.all().len(), 101);
}

const WRITERS: u64 = 10;
const BATCHES: u64 = 100;
const BATCH: u64 = 100;

pub(super) fn b09_readers_see_what_ten_threads_write_exactly_once(f: &Store) {
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let store = f.shared();
            scope.spawn(move || {
                for batch in 0..BATCHES {
                    let first = (writer * BATCHES + batch) * BATCH;
                    let events = orders(first..first + BATCH);
                    let name = stream(&format!("order-{writer}"));
                    block_on(store.append(name, events, Any)).unwrap();
                }
            });
        }
        for _ in 0..2 {
            let store = f.shared();
            scope.spawn(move || read_to_the_end(&*store));
        }
    });
}

fn read_to_the_end(store: &dyn EventStore) {
    let total = usize::try_from(WRITERS * BATCHES * BATCH).unwrap();
    let mut seen: HashSet<Uuid> = HashSet::new();
    let mut last = None;
    let mut after = None;
    while seen.len() < total {
        let page = block_on(store.read_all(ReadAll::after(after).limit(777))).unwrap();
        for event in &page.events {
            assert!(Some(event.position) > last, "positions increase");
            assert!(seen.insert(event.id), "{} came twice", event.id);
            last = Some(event.position);
        }
        after = page.position.or(after);
        if page.end && seen.len() < total {
            block_on(store.wait_for_events(after)).unwrap();
        }
    }
    let rest = block_on(store.read_all(ReadAll::after(after))).unwrap();
    assert!(rest.events.is_empty(), "more events than were written");
}

pub(super) fn appends_are_stored_in_the_order_they_were_accepted(f: &Store) {
    let store = f.store();
    let append = |n| Started::new(store.append(stream("order-1"), orders([n]), Any));

    let started: Vec<_> = (0..50).map(append).collect();
    // The last is waited for first: that must not change anything.
    for append in started.into_iter().rev() {
        append.finish().unwrap();
    }

    assert_eq!(ids(&f.all()), (0..50).map(id).collect::<Vec<_>>());
}

pub(super) fn dropping_an_accepted_append_does_not_take_it_back(f: &Store) {
    let store = f.store();

    drop(Started::new(store.append(
        stream("order-1"),
        orders([1]),
        Any,
    )));
    f.given("order-1", orders([2]));

    assert_eq!(ids(&f.read("order-1")), [id(1), id(2)]);
}
