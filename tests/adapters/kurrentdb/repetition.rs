//! Repeated batches, as far as they can be known: among the last events of their stream.

use orkestra::{
    ports::{
        EventStore,
        ExpectedRevision::{Any, Exact, NoStream, StreamExists},
        ReadStream, StoreError,
    },
    testing::{
        block_on,
        samples::{id, orders, stream},
    },
};
use orkestra_tests::kurrentdb::Server;

use super::open;

#[test]
fn another_process_knows_a_repetition_whatever_is_expected() {
    let server = Server::new();
    let first = open(&server, "");
    let stored = block_on(first.append(stream("order-1"), orders([1, 2]), NoStream)).unwrap();

    for expected in [Any, NoStream, StreamExists, Exact(1), Exact(7)] {
        let other = open(&server, "");
        let again = block_on(other.append(stream("order-1"), orders([1, 2]), expected)).unwrap();
        assert!(again.repeated, "{expected:?}");
        assert_eq!(
            (again.revision, again.position),
            (stored.revision, stored.position)
        );
    }
}

#[test]
fn what_another_process_stored_meanwhile_is_found() {
    let server = Server::new();
    let (one, two) = (open(&server, ""), open(&server, ""));
    let append = |store: &dyn EventStore, n, expected| {
        block_on(store.append(stream("order-1"), orders([n]), expected))
    };
    append(&*one, 1, NoStream).unwrap();
    append(&*two, 2, Any).unwrap();

    // Told or not, it is stored once: whether the server took it now or before it does not say.
    let repeated = append(&*one, 2, Any).unwrap();
    let stale = append(&*one, 3, Exact(0)).unwrap_err();
    let next = append(&*one, 3, Any).unwrap();

    assert_eq!(repeated.revision, Some(1));
    assert!(
        matches!(
            stale,
            StoreError::RevisionConflict {
                actual: Some(1),
                ..
            }
        ),
        "{stale:?}"
    );
    assert_eq!((next.revision, next.repeated), (Some(2), false));
}

#[test]
fn a_long_batch_that_began_before_the_window_is_known() {
    let server = Server::new();
    let store = open(&server, "&repeat_window=10");
    block_on(store.append(stream("order-1"), orders(0..40), NoStream)).unwrap();
    block_on(store.append(stream("order-1"), orders(40..45), Any)).unwrap();

    for store in [store, open(&server, "&repeat_window=10")] {
        let again = block_on(store.append(stream("order-1"), orders(0..40), Any)).unwrap();
        assert_eq!((again.revision, again.repeated), (Some(39), true));
    }
}

#[test]
fn past_the_window_only_the_expected_revision_tells() {
    let server = Server::new();
    let store = open(&server, "&repeat_window=10");
    for n in 0..40 {
        block_on(store.append(stream("order-1"), orders([n]), Any)).unwrap();
    }

    let by_the_server = block_on(store.append(stream("order-1"), orders([0]), NoStream)).unwrap();
    let not_known = block_on(store.append(stream("order-1"), orders([1]), Any)).unwrap();

    assert_eq!(
        (by_the_server.revision, by_the_server.repeated),
        (Some(0), true)
    );
    assert!(
        not_known.repeated || not_known.revision == Some(40),
        "as the page says"
    );
}

#[test]
fn an_event_is_found_in_its_stream_without_reading_the_store() {
    let server = Server::new();
    let store = open(&server, "");
    for n in 0..5 {
        block_on(store.append(
            stream(&format!("order-{n}")),
            orders([n * 10, n * 10 + 1]),
            NoStream,
        ))
        .unwrap();
    }
    let find = |store: &dyn EventStore, name: &str, n| {
        block_on(store.find_in_stream(stream(name), id(n))).unwrap()
    };
    let cold = open(&server, "");

    for store in [&*store, &*cold] {
        assert_eq!(find(store, "order-2", 21).unwrap().revision, 1);
        assert_eq!(find(store, "order-2", 31), None);
        assert_eq!(find(store, "order-9", 1), None);
    }
    let before = server.calls("Read");
    assert_eq!(find(&*store, "order-2", 99), None);
    assert_eq!(
        server.calls("Read"),
        before + 1,
        "only for what is new since"
    );
}

#[test]
fn an_append_to_a_stream_that_was_read_needs_no_other_call() {
    let server = Server::new();
    block_on(open(&server, "").append(stream("order-1"), orders([1, 2]), NoStream)).unwrap();
    let store = open(&server, "");
    block_on(store.read_stream(stream("order-1"), ReadStream::default())).unwrap();
    let (reads, appends) = (server.calls("Read"), server.calls("Append"));

    for n in 3..10 {
        block_on(store.append(stream("order-1"), orders([n]), Exact(n - 2))).unwrap();
    }

    assert_eq!(server.calls("Read"), reads);
    assert_eq!(server.calls("Append"), appends + 7);
}
