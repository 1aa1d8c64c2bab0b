//! A15, E10 and E11 at the store's port: lost answers, dropped connections and subscriptions, a server that restarts.

use std::{sync::Arc, thread, time::Duration};

use orkestra::{
    ports::{
        Appended, EventStore,
        ExpectedRevision::{Any, Exact, NoStream},
        ReadAll, ReadStream, StoreError,
    },
    testing::{
        Started, block_on,
        samples::{id, orders, stream},
    },
};
use orkestra_tests::kurrentdb::{DEFAULT_MAX_APPEND_SIZE, Server};

use super::open;

fn count(store: &dyn EventStore) -> usize {
    block_on(store.read_all(ReadAll::default()))
        .unwrap()
        .events
        .len()
}

/// Tries again while the store is away, as callers do.
fn patiently<T>(mut call: impl FnMut() -> Result<T, StoreError>) -> T {
    loop {
        match call() {
            Ok(result) => return result,
            Err(StoreError::Unavailable { .. }) => thread::yield_now(),
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn a15_an_append_whose_answer_is_lost_is_repeated_without_storing_twice() {
    for expected in [Any, NoStream] {
        let server = Server::new();
        let store = open(&server, "");
        let append = || block_on(store.append(stream("order-1"), orders([1, 2]), expected));
        server.lose_answers(1);

        let lost = append().unwrap_err();
        let again = append().unwrap();

        assert!(matches!(lost, StoreError::Unavailable { .. }), "{lost:?}");
        assert_eq!((again.revision, again.repeated), (Some(1), true));
        assert_eq!(count(&*store), 2);
    }
}

#[test]
fn e11_a_restarted_server_is_found_again() {
    let server = Server::new();
    let store = open(&server, "");
    let append = |n| block_on(store.append(stream("order-1"), orders([n]), Any));
    append(1).unwrap();

    server.stop();
    let away = append(2).unwrap_err();
    server.resume();
    let stored: Appended = patiently(|| append(2));

    assert!(matches!(away, StoreError::Unavailable { .. }), "{away:?}");
    assert_eq!(stored.revision, Some(1));
    assert_eq!(count(&*store), 2);
}

#[test]
fn connections_that_break_under_appends_lose_and_double_nothing() {
    let server = Arc::new(Server::new());
    let store = open(&server, "");
    thread::scope(|scope| {
        for writer in 0..4_u64 {
            let store = Arc::clone(&store);
            scope.spawn(move || {
                for n in 0..50 {
                    let events = || orders([writer * 100 + n]);
                    let name = || stream(&format!("order-{writer}"));
                    patiently(|| block_on(store.append(name(), events(), Any)));
                }
            });
        }
        for _ in 0..3 {
            let before = server.calls("Append");
            while server.calls("Append") < before + 20 && count_quietly(&server) < 200 {
                thread::yield_now();
            }
            server.stop();
            server.resume();
        }
    });

    assert_eq!(count(&*store), 200);
    for writer in 0..4 {
        let name = stream(&format!("order-{writer}"));
        let page = block_on(store.read_stream(name, ReadStream::default())).unwrap();
        let ids: Vec<_> = page.events.iter().map(|event| event.id).collect();
        assert_eq!(
            ids,
            (0..50).map(|n| id(writer * 100 + n)).collect::<Vec<_>>()
        );
    }
}

fn count_quietly(server: &Server) -> usize {
    server.log(|log| {
        let records = log.records().iter();
        records
            .filter(|record| record.stream.starts_with("order-"))
            .count()
    })
}

/// Waits until somebody else's event after the head is told of. Waits may end early.
fn wait_for_another(store: &Arc<impl EventStore + 'static>, other: &dyn EventStore, n: u64) {
    let head = block_on(store.head()).unwrap();
    let mut wait = Started::new(store.wait_for_events(head));
    block_on(other.append(stream("order-1"), orders([n]), Any)).unwrap();
    loop {
        wait.finish().unwrap();
        if block_on(store.head()).unwrap() > head {
            return;
        }
        wait = Started::new(store.wait_for_events(head));
    }
}

#[test]
fn another_process_is_heard_by_the_subscription_without_polling() {
    let server = Server::new();
    // Nothing is polled for within the time of this test.
    let store = open(&server, "&poll_interval=3600");
    let other = open(&server, "");

    for n in 0..20 {
        wait_for_another(&store, &*other, n);
    }
}

#[test]
fn e10_a_dropped_subscription_begins_again_and_what_was_missed_is_told() {
    let server = Server::new();
    let store = open(&server, "&poll_interval=3600");
    let other = open(&server, "");
    wait_for_another(&store, &*other, 0);

    for n in 1..5 {
        let head = block_on(store.head()).unwrap();
        let wait = Started::new(store.wait_for_events(head));
        server.drop_subscriptions();
        block_on(other.append(stream("order-1"), orders([n]), Any)).unwrap();
        wait.finish().unwrap();
        while block_on(store.head()).unwrap() == head {
            block_on(store.wait_for_events(head)).unwrap();
        }
    }
}

#[test]
fn polling_covers_for_a_server_that_restarts_while_somebody_waits() {
    let server = Server::new();
    let store = open(&server, "&poll_interval=0.05");
    block_on(store.append(stream("order-1"), orders([1]), Any)).unwrap();
    let head = block_on(store.head()).unwrap();
    let wait = Started::new(store.wait_for_events(head));

    server.stop();
    server.resume();
    let other = open(&server, "");
    block_on(other.append(stream("order-1"), orders([2]), Any)).unwrap();

    wait.finish().unwrap();
    while patiently(|| block_on(store.head())) == head {
        block_on(store.wait_for_events(head)).unwrap();
    }
}

#[test]
fn a_batch_over_the_servers_limit_is_a_typed_error_and_nothing_is_stored() {
    let server = Server::new();
    server.set_max_append_size(DEFAULT_MAX_APPEND_SIZE);
    let store = open(&server, "");

    let error = block_on(store.append(stream("order-1"), orders(0..10_000), Any)).unwrap_err();

    assert!(
        matches!(error, StoreError::InvalidArgument { .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("Maximum Append Size"), "{error}");
    assert_eq!(count(&*store), 0);
    block_on(store.append(stream("order-1"), orders([1]), NoStream)).unwrap();
}

#[test]
fn a_server_without_positions_in_streams_is_told_of() {
    let server = Server::new();
    server.tell_no_positions();
    let store = open(&server, "");
    block_on(store.append(stream("order-1"), orders([1]), NoStream)).unwrap();

    let error = block_on(store.read_stream(stream("order-1"), ReadStream::default())).unwrap_err();

    assert!(matches!(error, StoreError::Unsupported { .. }), "{error:?}");
    // What needs no position goes on.
    block_on(store.append(stream("order-1"), orders([2]), Exact(0))).unwrap();
    assert_eq!(count(&*store), 2);
}

#[test]
fn closing_does_not_wait_for_every_append_that_stands_in_line() {
    let server = Server::new();
    let store = open(&server, "&defaultDeadline=1000");
    block_on(store.append(stream("order-1"), orders([0]), NoStream)).unwrap();
    server.delay(Duration::from_secs(60));
    let append = |n| Started::new(store.append(stream("order-1"), orders([n]), Any));
    let in_line: Vec<_> = (1..100).map(append).collect();

    block_on(store.close()).unwrap();

    for append in in_line {
        let error = append.finish().unwrap_err();
        let said = matches!(
            error,
            StoreError::Unavailable { .. } | StoreError::Closed {}
        );
        assert!(said, "{error:?}");
    }
}
