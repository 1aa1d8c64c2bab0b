//! Letting go of what is old, while the system runs.

use std::{collections::HashSet, path::Path, sync::Arc, time::Duration};

use futures_util::TryStreamExt;
use orkestra::{
    Orkestra,
    clock::Clock,
    ports::{
        Append, DeadLetterFilter, DeleteMode, ExpectedRevision, NewEvent, ReadAll, ReadStream,
        StreamName, StreamPattern, all_events,
    },
    retention::PurgeStreams,
    testing::samples::{dead_letter, id, order_placed, outgoing},
};
use serde_json::Value;

use crate::{shop::Store, suite};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn name(stream: &str) -> StreamName {
    StreamName::new(stream).unwrap()
}

/// The event `n`, which occurs now.
fn event(store: &Store, n: u64) -> NewEvent {
    NewEvent {
        occurred_at: store.clock.now(),
        ..order_placed(n)
    }
}

async fn append(store: &Store, app: &Orkestra, stream: &str, n: u64) {
    let (stream, events) = (name(stream), vec![event(store, n)]);
    let events_of = app.store().unwrap();
    let appended = events_of.append(stream, events, ExpectedRevision::Any);
    appended.await.unwrap();
}

/// Names of the streams of all events in the store, in order.
async fn streams(app: &Orkestra) -> Vec<String> {
    let page = app.store().unwrap().read_all(ReadAll::default());
    let events = page.await.unwrap().events;
    events.iter().map(|e| e.stream.to_string()).collect()
}

/// KurrentDB has no list of streams, and says so.
fn lists_streams(app: &Orkestra) -> bool {
    let lists = app.store().unwrap().capabilities().idle_streams;
    if !lists {
        eprintln!("skipped: the store has no list of streams");
    }
    lists
}

fn lines(archive: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(archive).unwrap();
    let lines = text.lines();
    lines.map(|l| serde_json::from_str(l).unwrap()).collect()
}

fn orders(older_than: Duration) -> PurgeStreams {
    PurgeStreams::new(older_than).streams(StreamPattern::new("order-*").unwrap())
}

async fn old_streams_are_archived_whole_and_gone(store: Arc<Store>) {
    let app = store.app().start().await.unwrap();
    if !lists_streams(&app) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("old.jsonl");
    for (stream, n) in [
        ("order-1", 1),
        ("order-2", 2),
        ("order-1", 3),
        ("cart-1", 4),
    ] {
        append(&store, &app, stream, n).await;
    }
    store.clock.advance(DAY * 2);
    append(&store, &app, "order-2", 5).await;
    // A line that was not finished, as after a power cut.
    std::fs::write(&archive, "{\"position\":1}\n{\"positi").unwrap();

    let retention = app.retention();
    let purge = || retention.purge_streams(orders(DAY).archive(&archive));
    let purged = purge().await.unwrap();

    assert_eq!((purged.streams, purged.events), (1, 2));
    assert_eq!((purged.went_on, purged.hidden), (0, 0));
    assert_eq!(streams(&app).await, ["order-2", "cart-1", "order-2"]);
    let kept = lines(&archive);
    assert_eq!(kept.len(), 3);
    let ids: Vec<_> = kept[1..]
        .iter()
        .map(|line| line["event_id"].clone())
        .collect();
    assert_eq!(ids, [id(1), id(3)].map(|id| Value::from(id.to_string())));
    assert_eq!(kept[2]["stream"], "order-1");
    assert_eq!(kept[2]["revision"], 1);
    assert_eq!(kept[2]["data"]["order_id"], "order-3");
    assert_eq!(kept[2]["type"], "Shop.Orders.Events.OrderPlaced");
    assert_eq!(purge().await.unwrap().streams, 0);
    assert_eq!(lines(&archive).len(), 3);
    app.close().await.unwrap();
}

async fn nothing_is_lost_while_streams_go_on(store: Arc<Store>) {
    let app = store.app().start().await.unwrap();
    if !lists_streams(&app) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("old.jsonl");
    for n in 0..60 {
        append(&store, &app, &format!("order-{n}"), n).await;
    }
    store.clock.advance(DAY * 2);

    let (going, purging) = (app.clone(), app.retention());
    let writing = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            for n in 0..60 {
                append(&store, &going, &format!("order-{n}"), 100 + n).await;
            }
        }
    });
    let purged = purging.purge_streams(orders(DAY).archive(&archive)).await;
    writing.await.unwrap();

    let purged = purged.unwrap();
    let events = all_events(Arc::clone(app.store().unwrap()), ReadAll::default(), None);
    let stored: Vec<_> = events.try_collect().await.unwrap();
    let ids: HashSet<String> = stored.iter().map(|e| e.id.to_string()).collect();
    assert_eq!(ids.len(), stored.len());
    assert_eq!(stored.len() as u64, 120 - purged.streams);
    let kept: HashSet<String> = lines(&archive)
        .iter()
        .map(|line| line["event_id"].as_str().unwrap().to_owned())
        .collect();
    for n in 0..60 {
        let (old, new) = (id(n).to_string(), id(100 + n).to_string());
        assert!(ids.contains(&new), "{n}: what came meanwhile");
        assert!(ids.contains(&old) || kept.contains(&old), "{n}");
    }
    app.close().await.unwrap();
}

async fn softly_deleted_events_are_not_archived_and_so_stay(store: Arc<Store>) {
    let app = store.app().start().await.unwrap();
    if !lists_streams(&app) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("old.jsonl");
    for (stream, n) in [("order-1", 1), ("order-2", 2)] {
        append(&store, &app, stream, n).await;
    }
    let events = app.store().unwrap();
    let soft = events.delete_stream(name("order-1"), ExpectedRevision::Any, DeleteMode::Soft);
    soft.await.unwrap();
    append(&store, &app, "order-1", 3).await;
    store.clock.advance(DAY * 2);

    let retention = app.retention();
    let kept = retention.purge_streams(orders(DAY).archive(&archive));
    let kept = kept.await.unwrap();
    assert_eq!((kept.streams, kept.hidden), (1, 1));
    assert_eq!(streams(&app).await, ["order-1", "order-1"]);
    let purged = retention.purge_streams(orders(DAY)).await.unwrap();
    assert_eq!((purged.streams, purged.events), (1, 2));
    assert_eq!(streams(&app).await, [""; 0]);
    let page = events.read_stream(name("order-1"), ReadStream::default());
    assert_eq!(page.await.unwrap().last_revision, None);
    app.close().await.unwrap();
}

/// The names `order-1` to `order-250`: streams of three pages.
async fn many(store: &Store, app: &Orkestra) {
    let appends = (1..=250).map(|n| Append {
        stream: name(&format!("order-{n}")),
        events: vec![event(store, n)],
        expected: ExpectedRevision::NoStream,
    });
    let appends: Vec<_> = appends.collect();
    for some in appends.chunks(50) {
        app.store()
            .unwrap()
            .append_many(some.to_vec())
            .await
            .unwrap();
    }
    store.clock.advance(DAY * 2);
}

async fn streams_are_purged_page_by_page(store: Arc<Store>) {
    let app = store.app().start().await.unwrap();
    if !lists_streams(&app) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("old.jsonl");
    many(&store, &app).await;
    append(&store, &app, "order-77", 300).await;

    let retention = app.retention();
    let purged = retention.purge_streams(orders(DAY).archive(&archive));
    let purged = purged.await.unwrap();

    assert_eq!((purged.streams, purged.events), (249, 249));
    assert_eq!(streams(&app).await, ["order-77", "order-77"]);
    assert_eq!(lines(&archive).len(), 249);
    app.close().await.unwrap();
}

/// As if the process had ended: some of a page's streams are deleted, the others only archived.
async fn a_purge_that_ends_in_the_middle_loses_nothing(store: Arc<Store>) {
    let Some(by_hand) = store.by_hand() else {
        return;
    };
    let app = store.app().start().await.unwrap();
    if !lists_streams(&app) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("old.jsonl");
    many(&store, &app).await;
    by_hand.busy_timeout(DAY).unwrap();
    let stuck = "CREATE TRIGGER stuck BEFORE INSERT ON orkestra_deletions \
                 WHEN NEW.stream = 'order-222' BEGIN SELECT RAISE(ABORT, 'stuck'); END";
    by_hand.execute_batch(stuck).unwrap();

    let retention = app.retention();
    let purge = || retention.purge_streams(orders(DAY).archive(&archive));
    purge().await.unwrap_err();
    let archived = |n: u64| {
        let id = Value::from(id(n).to_string());
        lines(&archive)
            .iter()
            .filter(|l| l["event_id"] == id)
            .count()
    };
    let left: HashSet<String> = streams(&app).await.into_iter().collect();
    assert!((1..250).contains(&left.len()), "{}", left.len());
    for n in 1..=250 {
        assert!(
            left.contains(&format!("order-{n}")) || archived(n) == 1,
            "{n}"
        );
    }
    by_hand.execute_batch("DROP TRIGGER stuck").unwrap();
    let purged = purge().await.unwrap();

    assert_eq!(purged.streams, left.len() as u64);
    assert_eq!(streams(&app).await, [""; 0]);
    // What was archived and not deleted is there twice, under its id, and nothing else is.
    for n in 1..=250 {
        let most = 1 + usize::from(left.contains(&format!("order-{n}")));
        assert!((1..=most).contains(&archived(n)), "{n}");
    }
    app.close().await.unwrap();
}

async fn an_archive_that_cannot_be_written_deletes_nothing(store: Arc<Store>) {
    let app = store.app().start().await.unwrap();
    if !lists_streams(&app) {
        return;
    }
    append(&store, &app, "order-1", 1).await;
    store.clock.advance(DAY * 2);

    let nowhere = orders(DAY).archive("/nowhere/old.jsonl");
    let error = app.retention().purge_streams(nowhere).await.unwrap_err();

    assert_eq!(orkestra::code::Coded::code(&error), "ORK_STORE_CANNOT_OPEN");
    assert_eq!(streams(&app).await, ["order-1"]);
    app.close().await.unwrap();
}

async fn an_archive_is_written_by_one_at_a_time(store: Arc<Store>) {
    let app = store.app().start().await.unwrap();
    if !lists_streams(&app) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("old.jsonl");
    append(&store, &app, "order-1", 1).await;
    store.clock.advance(DAY * 2);
    // Another process is in the middle of a line.
    std::fs::write(&archive, "{\"positi").unwrap();
    let other = std::fs::File::open(&archive).unwrap();
    other.lock().unwrap();

    let retention = app.retention();
    let purge = || retention.purge_streams(orders(DAY).archive(&archive));
    let error = purge().await.unwrap_err();

    assert_eq!(orkestra::code::Coded::code(&error), "ORK_STORE_LOCKED");
    assert_eq!(std::fs::read_to_string(&archive).unwrap(), "{\"positi");
    assert_eq!(streams(&app).await, ["order-1"]);
    drop(other);
    assert_eq!(purge().await.unwrap().streams, 1);
    assert_eq!(lines(&archive).len(), 1);
    app.close().await.unwrap();
}

async fn old_rows_are_purged_in_many_steps(store: Arc<Store>) {
    let app = store.app().start().await.unwrap();
    let services = app.services();
    let clock = &store.clock;
    for n in 0..5 {
        let letter = dead_letter(n, if n == 0 { "shop.a" } else { "shop.b" }, clock.now());
        services.dead_letters.record(letter).await.unwrap();
    }
    for n in 0..2_500 {
        let recording = services.inbox.record("shop.a".into(), id(n), None);
        if n < 20 || !store.is_durable() {
            recording.await.unwrap();
        }
    }
    // Nobody takes them meanwhile: their handler is away.
    let rows = if store.is_durable() { 20 } else { 2_500 };
    clock.advance(DAY * 2);
    let fresh = dead_letter(9, "shop.a", clock.now());
    services.dead_letters.record(fresh).await.unwrap();
    services
        .inbox
        .record("shop.a".into(), id(9_999), None)
        .await
        .unwrap();

    let retention = app.retention();
    assert_eq!(
        retention
            .purge_dead_letters(DAY, Some("shop.a"))
            .await
            .unwrap(),
        1
    );
    assert_eq!(retention.purge_dead_letters(DAY, None).await.unwrap(), 4);
    assert_eq!(retention.purge_inbox(DAY).await.unwrap(), rows);
    assert_eq!(retention.purge_inbox(DAY).await.unwrap(), 0);
    let left = services.dead_letters.list(DeadLetterFilter::default());
    assert_eq!(left.await.unwrap().total, 1);
    let found = services.inbox.find("shop.a".into(), id(9_999));
    assert!(found.await.unwrap().is_some());
    app.close().await.unwrap();
}

async fn old_messages_of_the_outbox_are_purged(store: Arc<Store>) {
    let app = store.app().start().await.unwrap();
    let services = app.services();
    // Somebody else takes messages out, and is not there.
    let away = services
        .leases
        .acquire("orkestra.outbox".into(), "away".into(), DAY * 10);
    assert!(away.await.unwrap().is_some());
    // More than two steps take out.
    services
        .outbox
        .enqueue((100..2_600).map(outgoing).collect())
        .await
        .unwrap();
    store.clock.advance(DAY * 2);
    services.outbox.enqueue(vec![outgoing(7)]).await.unwrap();

    assert_eq!(app.retention().purge_outbox(DAY).await.unwrap(), 2_500);

    assert_eq!(app.outbox().pending().await.unwrap().messages, 1);
    app.close().await.unwrap();
}

suite! {
    in_process {
        old_streams_are_archived_whole_and_gone,
        nothing_is_lost_while_streams_go_on,
        softly_deleted_events_are_not_archived_and_so_stay,
        streams_are_purged_page_by_page,
        a_purge_that_ends_in_the_middle_loses_nothing,
        an_archive_that_cannot_be_written_deletes_nothing,
        an_archive_is_written_by_one_at_a_time,
        old_rows_are_purged_in_many_steps,
        old_messages_of_the_outbox_are_purged,
    }
}
