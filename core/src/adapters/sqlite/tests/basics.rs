//! The file: its tables, its order, its memory.

use super::{block_on, event_of, events, name, open};
use crate::ports::{
    Append, DeleteMode, EventStore, ExpectedRevision, Position, ReadAll, ReadStream, StoreError,
};

#[test]
fn what_was_appended_is_there_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    let store = open(&file);
    let batch = events(3);
    block_on(store.append(name("cart-7"), batch.clone(), ExpectedRevision::NoStream)).unwrap();
    block_on(store.close()).unwrap();

    let store = open(&file);
    let page = block_on(store.read_stream(name("cart-7"), ReadStream::default())).unwrap();

    assert_eq!(page.last_revision, Some(2));
    assert!(page.end);
    for (recorded, event) in page.events.iter().zip(&batch) {
        assert_eq!(recorded.id, event.id);
        assert_eq!(recorded.data, event.data);
        assert_eq!(recorded.metadata, event.metadata);
        assert_eq!(recorded.occurred_at, event.occurred_at);
        assert_eq!(recorded.type_name, event.type_name);
    }
}

#[test]
fn a_batch_with_a_stored_id_leaves_nothing_of_itself_or_of_its_transaction() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("shop.db"));
    let stored = events(1);
    block_on(store.append(name("a"), stored.clone(), ExpectedRevision::Any)).unwrap();
    let mut mixed = events(2);
    mixed.push(stored[0].clone());

    let alone = block_on(store.append(name("b"), mixed.clone(), ExpectedRevision::Any));
    let many = block_on(store.append_many(vec![
        Append {
            stream: name("c"),
            events: events(2),
            expected: ExpectedRevision::Any,
        },
        Append {
            stream: name("b"),
            events: mixed,
            expected: ExpectedRevision::Any,
        },
    ]));

    assert!(matches!(alone, Err(StoreError::DuplicateEvent { .. })));
    assert!(matches!(many, Err(StoreError::DuplicateEvent { .. })));
    let all = block_on(store.read_all(ReadAll::default())).unwrap();
    assert_eq!(all.events.len(), 1);
    let next = block_on(store.append(name("c"), events(1), ExpectedRevision::NoStream)).unwrap();
    assert_eq!(next.position, Some(Position(2)));
}

#[test]
fn the_same_batch_again_gives_the_first_result_whatever_is_expected() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("shop.db"));
    let batch = events(3);
    let first =
        block_on(store.append(name("a"), batch.clone(), ExpectedRevision::NoStream)).unwrap();
    block_on(store.append(name("a"), events(1), ExpectedRevision::Any)).unwrap();

    for expected in [
        ExpectedRevision::Any,
        ExpectedRevision::NoStream,
        ExpectedRevision::Exact(3),
    ] {
        let again = block_on(store.append(name("a"), batch.clone(), expected)).unwrap();
        assert!(again.repeated);
        assert_eq!(
            (again.revision, again.position),
            (first.revision, first.position)
        );
    }
}

#[test]
fn positions_grow_even_after_the_newest_events_were_deleted_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    let store = open(&file);
    block_on(store.append(name("a"), events(3), ExpectedRevision::Any)).unwrap();
    assert!(
        block_on(store.delete_stream(name("a"), ExpectedRevision::Any, DeleteMode::Hard)).unwrap()
    );
    assert_eq!(block_on(store.head()).unwrap(), None);
    block_on(store.close()).unwrap();

    let store = open(&file);
    let appended =
        block_on(store.append(name("a"), events(1), ExpectedRevision::NoStream)).unwrap();

    assert_eq!(appended.position, Some(Position(4)));
    assert_eq!(appended.revision, Some(0));
}

#[test]
fn a_softly_deleted_stream_reads_empty_and_its_revisions_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("shop.db"));
    block_on(store.append(name("a"), events(3), ExpectedRevision::Any)).unwrap();
    let delete =
        || block_on(store.delete_stream(name("a"), ExpectedRevision::Any, DeleteMode::Soft));
    assert!(delete().unwrap());
    assert!(!delete().unwrap());

    let page = block_on(store.read_stream(name("a"), ReadStream::default())).unwrap();
    assert!(page.events.is_empty());
    assert_eq!(page.last_revision, Some(2));
    let next = block_on(store.append(name("a"), events(1), ExpectedRevision::Exact(2))).unwrap();

    assert_eq!(next.revision, Some(3));
    let page = block_on(store.read_stream(name("a"), ReadStream::default().backwards())).unwrap();
    assert_eq!(page.events.len(), 1);
    let all = block_on(store.read_all(ReadAll::default())).unwrap();
    assert_eq!(all.events.len(), 4);
}

#[test]
fn a16_events_are_not_changed_or_deleted_by_hand() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    let store = open(&file);
    block_on(store.append(name("a"), events(3), ExpectedRevision::Any)).unwrap();

    let by_hand = rusqlite::Connection::open(&file).unwrap();
    for sql in [
        "UPDATE orkestra_events SET data = '{}'",
        "DELETE FROM orkestra_events",
        "DELETE FROM orkestra_events WHERE revision = 2",
    ] {
        assert!(by_hand.execute_batch(sql).is_err(), "{sql}");
    }

    let all = block_on(store.read_all(ReadAll::default())).unwrap();
    assert_eq!(all.events.len(), 3);
}

#[test]
fn a20_a_deletion_is_recorded_and_leaves_no_row() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    let store = open(&file);
    for (stream, mode) in [("a", DeleteMode::Soft), ("b", DeleteMode::Hard)] {
        block_on(store.append(name(stream), events(3), ExpectedRevision::Any)).unwrap();
        let expected = ExpectedRevision::Exact(2);
        assert!(block_on(store.delete_stream(name(stream), expected, mode)).unwrap());
    }

    let by_hand = rusqlite::Connection::open(&file).unwrap();
    let recorded: Vec<(String, String, u64, u64)> = by_hand
        .prepare("SELECT stream, mode, last_revision, head FROM orkestra_deletions ORDER BY id")
        .unwrap()
        .query_map([], |r| {
            Ok((
                r.get(0)?,
                r.get(1)?,
                r.get::<_, u32>(2)?.into(),
                r.get::<_, u32>(3)?.into(),
            ))
        })
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let rows: u32 = by_hand
        .query_row("SELECT count(*) FROM orkestra_events", [], |r| r.get(0))
        .unwrap();

    assert_eq!(
        recorded,
        [
            ("a".into(), "soft".into(), 2, 3),
            ("b".into(), "hard".into(), 2, 6)
        ]
    );
    assert_eq!(rows, 3);
}

#[test]
fn people_can_query_the_log_with_json_functions() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    let store = open(&file);
    let id = uuid::Uuid::parse_str("019506b8-9d2a-7c3e-8f00-0123456789ab").unwrap();
    let event = event_of(id, r#"{"product_id":"sku_42","quantity":3}"#);
    block_on(store.append(name("cart-7"), vec![event], ExpectedRevision::Any)).unwrap();

    let row: (String, String, i64, String, String, String) = rusqlite::Connection::open(&file)
        .unwrap()
        .query_row(
            "SELECT stream, type, data ->> 'quantity', metadata ->> 'correlation_id', event_id, occurred_at \
             FROM orkestra_log",
            [],
            |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?, r.get(5)?)),
        )
        .unwrap();

    assert_eq!(
        row,
        (
            "cart-7".into(),
            "Shop.Orders.OrderPlaced".into(),
            3,
            "c-1".into(),
            id.to_string(),
            "2023-11-14T22:13:20.123456Z".into()
        )
    );
}

#[test]
fn a_long_page_is_cut_by_its_bytes_and_the_rest_follows() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("shop.db"));
    let big = format!(r#"{{"text":"{}"}}"#, "x".repeat(1024 * 1024));
    let batch: Vec<_> = events(20)
        .into_iter()
        .map(|e| event_of(e.id, &big))
        .collect();
    block_on(store.append(name("a"), batch, ExpectedRevision::Any)).unwrap();

    let first = block_on(store.read_all(ReadAll::default())).unwrap();
    assert!(!first.end);
    assert!(first.events.len() < 20);
    let rest = block_on(store.read_all(ReadAll::after(first.position))).unwrap();

    assert!(rest.end);
    assert_eq!(first.events.len() + rest.events.len(), 20);
    assert!(rest.events.iter().all(|e| e.data == big.as_bytes()));
}

#[test]
fn a_closed_store_refuses_everything_and_closes_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("shop.db"));
    let waiting = {
        let store = store.clone();
        std::thread::spawn(move || block_on(store.wait_for_events(None)))
    };
    block_on(store.close()).unwrap();
    block_on(store.close()).unwrap();

    let closed = |e| matches!(e, StoreError::Closed {});
    assert!(closed(waiting.join().unwrap().unwrap_err()));
    assert!(closed(block_on(store.head()).unwrap_err()));
    assert!(closed(
        block_on(store.append(name("a"), events(1), ExpectedRevision::Any)).unwrap_err()
    ));
    assert!(!folder.path().join("shop.db-wal").exists());
}

#[test]
fn what_was_accepted_is_written_though_the_store_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    let store = open(&file);
    {
        let append = store.append(name("a"), events(2), ExpectedRevision::Any);
        let mut append = std::pin::pin!(append);
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let _ = append.as_mut().poll(&mut cx);
    }
    drop(store);

    let store = open(&file);
    // Behind the accepted one in the queue at the gate, or after it.
    while block_on(store.head()).unwrap() != Some(Position(2)) {
        std::thread::yield_now();
    }
}
