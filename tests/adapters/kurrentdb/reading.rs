//! How far is read, and what is made of reads that the server ends elsewhere.

use std::sync::Arc;

use orkestra::{
    adapters::{kurrentdb::KurrentdbStore, memory::MemoryStore},
    clock::ManualClock,
    ports::{
        EventStore,
        ExpectedRevision::{Any, NoStream, StreamExists},
        Position, ReadAll, ReadStream, StoreError,
    },
    subscription::{Subscription, SubscriptionOptions},
    testing::{
        block_on,
        samples::{NOON, id, orders, stream},
    },
};
use orkestra_tests::kurrentdb::{Server, log::NewRecord};
use serde_json::json;
use uuid::Uuid;

use super::open;

/// So many events of the server's own.
fn system(server: &Server, count: usize) {
    for _ in 0..count {
        let event = NewRecord::json("$statsCollected", &json!({}));
        server.foreign("$stats-1", event);
    }
}

fn given(store: &KurrentdbStore, name: &str, numbers: std::ops::Range<u64>) {
    block_on(store.append(stream(name), orders(numbers), Any)).unwrap();
}

fn ids(numbers: impl IntoIterator<Item = u64>) -> Vec<Uuid> {
    numbers.into_iter().map(id).collect()
}

/// All events, `limit` at a time.
fn all(store: &KurrentdbStore, limit: usize) -> Vec<Uuid> {
    let (mut seen, mut after) = (Vec::new(), None);
    for _ in 0..1_000 {
        let page = block_on(store.read_all(ReadAll::after(after).limit(limit))).unwrap();
        after = page.position.or(after);
        seen.extend(page.events.iter().map(|event| event.id));
        if page.end {
            return seen;
        }
    }
    panic!("the reader goes round in circles after {after:?}");
}

#[test]
fn what_lies_behind_the_events_that_were_asked_for_is_not_searched() {
    let server = Server::new();
    let store = open(&server, "&defaultDeadline=2000");
    system(&server, 50);
    given(&store, "order-1", 0..3);
    system(&server, 50);
    given(&store, "order-1", 3..6);
    server.slow_search(20);
    let reads = server.calls("Read");

    let head = block_on(store.head()).unwrap();
    let page = block_on(store.read_all(ReadAll::default().limit(2)));

    assert!(head.is_some());
    assert_eq!(server.calls("Read"), reads + 2);
    assert_eq!(page.unwrap().events.len(), 2);
}

#[test]
fn a_long_stretch_of_the_servers_own_events_is_passed() {
    let server = Server::new();
    let store = open(&server, "&defaultDeadline=600");
    given(&store, "order-1", 0..3);
    // Longer than a page passes over.
    system(&server, 12_000);
    given(&store, "order-1", 3..6);
    system(&server, 100);
    server.slow_search(20);

    assert_eq!(all(&store, 500), ids(0..6));
    assert_eq!(all(&store, 2), ids(0..6));
    let head = block_on(store.head()).unwrap();
    let page = block_on(store.read_all(ReadAll::default())).unwrap();
    let last = page.events.last().map(|event| event.position);
    assert!(head >= last && head.is_some());
}

#[test]
fn a_prefix_that_few_streams_have_is_found() {
    let server = Server::new();
    let store = open(&server, "&defaultDeadline=600");
    for n in 0..40 {
        given(&store, &format!("order-{n}"), n * 10..n * 10 + 10);
    }
    given(&store, "cart-1", 900..901);
    server.slow_search(20);

    let mut read = ReadAll::default();
    read.stream_prefix = Some("cart-".into());
    let page = block_on(store.read_all(read)).unwrap();

    assert_eq!(page.events.len(), 1);
}

#[test]
fn a_transaction_longer_than_a_page_is_read_once() {
    let server = Server::new();
    let store = open(&server, "");
    given(&store, "order-1", 0..2);
    let event = |n| NewRecord {
        id: id(n),
        ..NewRecord::json("order-placed", &json!({ "n": n }))
    };
    server.transaction("theirs-1", (10..25).map(event).collect());
    given(&store, "order-1", 2..4);
    let wanted: Vec<_> = ids((0..2).chain(10..25).chain(2..4));

    for limit in [1, 2, 3, 7, 100] {
        assert_eq!(all(&store, limit), wanted, "{limit}");
    }
}

#[test]
fn a_read_that_the_server_cuts_short_is_not_taken_for_the_whole_stream() {
    let server = Server::new();
    given(&open(&server, ""), "order-1", 0..5);
    let read = |store: &KurrentdbStore| {
        block_on(store.read_stream(stream("order-1"), ReadStream::default()))
    };
    let store = open(&server, "");
    server.cut_reads(1);

    let cut = read(&store).unwrap_err();
    let whole = read(&store).unwrap();

    assert!(matches!(cut, StoreError::Unavailable { .. }), "{cut:?}");
    assert_eq!((whole.events.len(), whole.last_revision), (5, Some(4)));
}

#[test]
fn a_stream_whose_events_have_gone_still_has_its_last_revision() {
    for (n, metadata) in [json!({ "$maxCount": 0 }), json!({ "$tb": 7 })]
        .iter()
        .enumerate()
    {
        let server = Server::new();
        given(&open(&server, ""), "order-1", 0..3);
        server.foreign("$$order-1", NewRecord::json("$metadata", metadata));
        let store = open(&server, "");

        let page = block_on(store.read_stream(stream("order-1"), ReadStream::default())).unwrap();
        assert_eq!((page.events.len(), page.last_revision), (0, Some(2)));
        let refused = block_on(store.append(stream("order-1"), orders([8]), NoStream));
        assert!(
            matches!(
                refused,
                Err(StoreError::RevisionConflict {
                    actual: Some(2),
                    ..
                })
            ),
            "{refused:?}"
        );
        for (number, expected) in [(8, StreamExists), (9, Any)] {
            let calls = server.calls("Append");
            let appended = block_on(store.append(stream("order-1"), orders([number]), expected));
            assert_eq!(appended.unwrap().revision, Some(number - 5), "{n}");
            assert_eq!(server.calls("Append"), calls + 1);
        }
    }
}

#[test]
fn a_position_where_no_record_begins_is_named() {
    let server = Server::new();
    let store = open(&server, "");
    given(&store, "order-1", 0..3);
    let page = block_on(store.read_all(ReadAll::default())).unwrap();
    let position = page.events[1].position;

    let nowhere = ReadAll::after(Some(Position(position.0 + 1)));
    let error = block_on(store.read_all(nowhere)).unwrap_err();
    let ahead = ReadAll::after(Some(Position(1 << 40)));
    let page = block_on(store.read_all(ahead)).unwrap();

    assert!(
        matches!(error, StoreError::InvalidArgument { .. }),
        "{error:?}"
    );
    assert!(page.end && page.events.is_empty());
}

#[test]
fn e11_a_server_that_restarts_during_a_catch_up_loses_and_doubles_nothing() {
    let server = Server::new();
    let store = open(&server, "");
    for n in 0..50 {
        given(&store, &format!("order-{n}"), n * 40..n * 40 + 40);
    }
    let state = Arc::new(MemoryStore::new(Arc::new(ManualClock::new(NOON))));
    let options = SubscriptionOptions::default().batch_size(30);
    let mut reader = Subscription::durable(store.clone(), state, "shop.board", options);
    let (mut seen, mut failed) = (Vec::new(), 0);

    while seen.len() < 2_000 {
        if seen.len() % 600 == 300 && failed < 3 {
            server.stop();
            failed += usize::from(block_on(reader.next()).is_err());
            server.resume();
        }
        if let Ok(batch) = block_on(reader.next()) {
            seen.extend(batch.events.iter().map(|event| event.id));
            block_on(reader.ack(batch.position)).unwrap();
        }
    }

    assert!(failed > 0, "the server was never missed");
    assert_eq!(seen, ids(0..2_000));
}
