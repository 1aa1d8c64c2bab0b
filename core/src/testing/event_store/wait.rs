use std::thread;

use super::{Store, ids};
use crate::{
    ports::{
        DeleteMode, ExpectedRevision::Any, IdleStreams, ReadAll, ReadStream, StoreError,
        StreamPattern,
    },
    testing::{
        Started, block_on,
        samples::{NOON, id, orders, stream},
        skip,
    },
};

pub(super) fn waiting_ends_at_once_when_there_are_events(f: &Store) {
    f.given("order-1", orders([1, 2]));
    let first = f.all()[0].position;

    block_on(f.store().wait_for_events(None)).unwrap();
    block_on(f.store().wait_for_events(Some(first))).unwrap();
}

pub(super) fn waiting_ends_when_an_event_is_appended(f: &Store) {
    // Waits may end early, so each is followed by a look; what may not happen is that none ends.
    for n in 0..20 {
        let head = block_on(f.store().head()).unwrap();
        let wait = Started::new(f.store().wait_for_events(head));

        f.given("order-1", orders([n]));

        wait.finish().unwrap();
        assert!(block_on(f.store().head()).unwrap() > head);
    }
}

pub(super) fn every_waiting_task_is_woken(f: &Store) {
    thread::scope(|scope| {
        let waiting: Vec<_> = (0..8)
            .map(|_| {
                let store = f.shared();
                scope.spawn(move || {
                    while block_on(store.head()).unwrap().is_none() {
                        block_on(store.wait_for_events(None)).unwrap();
                    }
                })
            })
            .collect();
        let dropped = Started::new(f.store().wait_for_events(None));
        drop(dropped);

        f.given("order-1", orders([1]));

        for thread in waiting {
            thread.join().unwrap();
        }
    });
}

pub(super) fn closing_ends_a_wait(f: &Store) {
    let wait = Started::new(f.store().wait_for_events(None));

    block_on(f.store().close()).unwrap();

    // It may have ended early; asked again it says that the store is closed.
    let result = wait
        .finish()
        .and_then(|()| block_on(f.store().wait_for_events(None)));
    assert!(matches!(result, Err(StoreError::Closed {})), "{result:?}");
}

pub(super) fn closing_finishes_what_was_accepted(f: &mut Store) {
    let store = f.shared();
    let append = |n| Started::new(store.append(stream("order-1"), orders([n]), Any));
    let accepted: Vec<_> = (0..20).map(append).collect();

    block_on(store.close()).unwrap();

    for append in accepted {
        append.finish().unwrap();
    }
    drop(store);
    if f.reopen() {
        assert_eq!(ids(&f.all()), (0..20).map(id).collect::<Vec<_>>());
    } else {
        skip(
            "closing_finishes_what_was_accepted",
            "it cannot be reopened",
        );
    }
}

pub(super) fn a_closed_store_refuses_everything(f: &Store) {
    f.given("order-1", orders([1]));
    let (s, name) = (f.store(), || stream("order-1"));

    block_on(s.close()).unwrap();
    block_on(s.close()).unwrap();

    let results = [
        f.append("order-1", orders([2]), Any).map(drop),
        block_on(s.append_many(vec![])).map(drop),
        block_on(s.read_stream(name(), ReadStream::default())).map(drop),
        block_on(s.read_all(ReadAll::default())).map(drop),
        block_on(s.head()).map(drop),
        block_on(s.find_event(id(1))).map(drop),
        block_on(s.delete_stream(name(), Any, DeleteMode::Soft)).map(drop),
        block_on(s.idle_streams(IdleStreams::new(StreamPattern::all(), NOON))).map(drop),
        block_on(s.wait_for_events(None)),
    ];
    for (n, result) in results.into_iter().enumerate() {
        assert!(
            matches!(result, Err(StoreError::Closed {})),
            "call {n}: {result:?}"
        );
    }
}
