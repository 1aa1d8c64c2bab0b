//! Several stores on one file, in one process.

use std::{fs::File, sync::Arc, thread, time::Duration};

use super::{block_on, config, events, name, open, within_a_while};
use crate::{
    adapters::sqlite::SqliteStore,
    ports::{
        CheckpointStore, EventStore, ExpectedRevision, Position, ReadAll, ReadStream,
        SaveCheckpoint, StoreError,
    },
};

#[test]
fn a_new_file_is_opened_by_many_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = Arc::new(folder.path().join("shop.db"));

    let opening: Vec<_> = (0..8)
        .map(|_| {
            let file = Arc::clone(&file);
            thread::spawn(move || open(&file))
        })
        .collect();
    let stores: Vec<_> = opening.into_iter().map(|t| t.join().unwrap()).collect();

    for store in &stores {
        block_on(store.append(name("a"), events(1), ExpectedRevision::Any)).unwrap();
    }
    assert_eq!(block_on(stores[0].head()).unwrap(), Some(Position(8)));
}

#[test]
fn two_stores_see_what_the_other_wrote_to_the_same_stream() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    let stores = [open(&file), open(&file)];

    for revision in 0..40_u64 {
        let store = &stores[usize::from(revision % 3 == 0)];
        let expected = match revision.checked_sub(1) {
            Some(last) => ExpectedRevision::Exact(last),
            None => ExpectedRevision::NoStream,
        };
        block_on(store.append(name("a"), events(1), expected)).unwrap();
    }

    let page = block_on(stores[0].read_stream(name("a"), ReadStream::default())).unwrap();
    assert_eq!(page.last_revision, Some(39));
}

#[test]
fn two_busy_stores_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    let writers: Vec<_> = (0..4)
        .map(|n| {
            let store = open(&file);
            thread::spawn(move || {
                for event in events(100) {
                    let stream = name(&format!("cart-{}", n % 2));
                    block_on(store.append(stream, vec![event], ExpectedRevision::Any)).unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.join().unwrap();
    }

    let all = block_on(open(&file).read_all(ReadAll::default())).unwrap();

    assert_eq!(all.events.len(), 400);
    for stream in ["cart-0", "cart-1"] {
        let revisions: Vec<u64> = all
            .events
            .iter()
            .filter(|e| &*e.stream == stream)
            .map(|e| e.revision)
            .collect();
        assert_eq!(revisions, (0..200).collect::<Vec<_>>());
    }
}

#[test]
fn a_wait_ends_when_another_store_appends_or_saves_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    let (here, there) = (open(&file), open(&file));
    let (a, b) = (here.clone(), here.clone());
    let appended = within_a_while(async move { a.wait_for_events(Some(Position(1))).await });
    let saved = within_a_while(async move { b.wait_until("board".into(), Position(2)).await });

    block_on(there.append(name("a"), events(2), ExpectedRevision::Any)).unwrap();
    let options = SaveCheckpoint::default();
    block_on(there.save("board".into(), Some(Position(2)), options)).unwrap();

    appended().unwrap();
    saved().unwrap();
}

#[test]
fn who_looked_before_somebody_else_began_to_watch_looks_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    let (here, there) = (open(&file), open(&file));
    let moved = here.moved();
    let found = CheckpointStore::load(&here, "board".into());
    assert_eq!(block_on(found).unwrap(), None);
    let options = SaveCheckpoint::default();
    block_on(there.save("board".into(), Some(Position(2)), options)).unwrap();

    assert!(!here.watching(), "another wait begins to watch");

    within_a_while(moved)();
}

#[test]
fn a_writer_that_keeps_the_turn_for_ever_delays_the_others_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    let store = SqliteStore::open(config(&file).busy_timeout(Duration::from_millis(50))).unwrap();
    let stuck = File::open(folder.path().join("shop.db-lock")).unwrap();
    stuck.lock().unwrap();

    for _ in 0..5 {
        block_on(store.append(name("a"), events(1), ExpectedRevision::Any)).unwrap();
    }
    drop(stuck);
    block_on(store.append(name("a"), events(1), ExpectedRevision::Any)).unwrap();

    assert_eq!(block_on(store.head()).unwrap(), Some(Position(6)));
}

#[test]
fn a_file_locked_by_another_program_is_a_transient_error() {
    use crate::code::Coded;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    let hasty = |path| SqliteStore::open(config(path).busy_timeout(Duration::from_millis(50)));
    let store = hasty(&file).unwrap();
    let other = rusqlite::Connection::open(&file).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();

    let append = || block_on(store.append(name("a"), events(1), ExpectedRevision::Any));
    let error = append().unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error:?}");
    assert!(error.is_transient());
    assert_eq!(block_on(store.head()).unwrap(), None);
    other.execute_batch("COMMIT").unwrap();

    append().unwrap();
}

#[test]
fn a_file_that_another_program_keeps_for_itself_cannot_be_opened_for_now() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    block_on(open(&file).close()).unwrap();
    let other = rusqlite::Connection::open(&file).unwrap();
    other
        .execute_batch(
            "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE; CREATE TABLE x (y); COMMIT",
        )
        .unwrap();

    let error =
        SqliteStore::open(config(&file).busy_timeout(Duration::from_millis(50))).unwrap_err();

    assert!(matches!(error, StoreError::Locked { .. }), "{error:?}");
}
