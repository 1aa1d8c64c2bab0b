//! Streams and types have numbers in the tables, which processes remember: tables that are made anew or restored have others.

use std::process::Command;

use orkestra::{
    adapters::postgres::{PostgresConfig, PostgresStore},
    ports::{EventStore, ExpectedRevision, NewEvent, ReadAll, ReadStream, StoreError, TypeFilter},
    testing::{
        block_on,
        samples::{event, stream},
    },
    topic::Pattern,
};
use orkestra_tests::postgres::{Node, shared};

use super::{Shop, shop};

const ANY: ExpectedRevision = ExpectedRevision::Any;

fn connect(url: &str) -> PostgresStore {
    PostgresStore::open(PostgresConfig::parse(url).unwrap(), None).unwrap()
}

/// An event of the type `Shop.<name>`.
fn of(n: u64, name: &str) -> NewEvent {
    event(n, &format!("Shop.{name}"))
}

fn append(store: &PostgresStore, name: &str, events: Vec<NewEvent>) {
    block_on(store.append(stream(name), events, ANY)).unwrap();
}

/// Stream, revision and type of all events.
fn log(store: &PostgresStore) -> Vec<String> {
    let page = block_on(store.read_all(ReadAll::default())).unwrap();
    page.events
        .iter()
        .map(|e| format!("{} {} {}", e.stream, e.revision, e.type_name))
        .collect()
}

/// The same of the events of one type, as a reader with a filter sees them.
fn filtered(store: &PostgresStore, name: &str) -> Vec<String> {
    let pattern = Pattern::new(&format!("shop.{}", name.to_lowercase())).unwrap();
    let read = ReadAll::default().types(TypeFilter::new([pattern], ""));
    let page = block_on(store.read_all(read)).unwrap();
    page.events
        .iter()
        .map(|e| format!("{} {}", e.stream, e.type_name))
        .collect()
}

/// Makes the schema anew beside the store that lives, with the same names under other numbers.
fn made_anew(shop: &Shop, live: &PostgresStore) {
    append(live, "a", vec![of(1, "A"), of(2, "B")]);
    append(live, "b", vec![of(3, "B")]);
    assert_eq!(filtered(live, "A"), ["a Shop.A"]);
    assert_eq!(log(live), ["a 0 Shop.A", "a 1 Shop.B", "b 0 Shop.B"]);

    shop.server.sql(&shop.url, "DROP SCHEMA orkestra CASCADE");
    let other = connect(&shop.url);
    append(&other, "c", vec![of(1, "C")]);
    append(&other, "b", vec![of(2, "B"), of(3, "A")]);
    block_on(other.close()).unwrap();

    // What it remembers would hide this one, or name it wrongly.
    assert_eq!(filtered(live, "A"), ["b Shop.A"]);
    assert_eq!(log(live), ["c 0 Shop.C", "b 0 Shop.B", "b 1 Shop.A"]);
    append(live, "a", vec![of(4, "A")]);
    append(live, "b", vec![of(5, "B")]);
    assert_eq!(
        log(live)[3..],
        ["a 0 Shop.A".to_owned(), "b 2 Shop.B".to_owned()]
    );
    let last = ReadStream::default().backwards().limit(1);
    let page = block_on(live.read_stream(stream("b"), last)).unwrap();
    assert_eq!(&*page.events[0].type_name, "Shop.B");
}

#[test]
fn a_schema_that_is_made_anew_has_numbers_of_its_own() {
    let Some(shop) = shop() else { return };
    let live = connect(&shop.url);

    made_anew(&shop, &live);
}

#[test]
fn a_schema_that_is_made_anew_behind_a_pooler_has_numbers_of_its_own() {
    let Some(shop) = shop() else { return };
    let Some(url) = shop.server.through_pooler(&shop.url) else {
        return;
    };
    let live = connect(&format!("{url}?pooler=transaction"));

    made_anew(&shop, &live);
}

/// As after a restore: the connections to the pooler never end, and the tables are those of before.
#[test]
fn a_database_that_is_restored_behind_a_pooler_has_numbers_of_its_own() {
    if shared().is_none() {
        return;
    }
    let node = Node::started();
    node.start_pooler();
    let direct = node.server().database("restored");
    let url = node.server().through_pooler(&direct).unwrap();
    let live = connect(&format!("{url}?pooler=transaction"));
    append(&live, "a", vec![of(1, "A")]);
    node.stop();
    copy(&node, "data", "backup");
    node.start();
    append(&live, "b", vec![of(2, "B")]);
    assert_eq!(log(&live), ["a 0 Shop.A", "b 0 Shop.B"]);

    node.stop();
    copy(&node, "backup", "data");
    node.start();
    let other = connect(&direct);
    append(&other, "c", vec![of(3, "C")]);
    append(&live, "b", vec![of(4, "B")]);

    assert_eq!(log(&live), ["a 0 Shop.A", "c 0 Shop.C", "b 0 Shop.B"]);
    assert_eq!(log(&other), log(&live));
}

/// Replaces the folder `to` of the server by `from`.
fn copy(node: &Node, from: &str, to: &str) {
    let tls = node.server().tls();
    let folder = tls.parent().unwrap();
    let script = format!("rm -rf {to} && cp -a {from} {to} && rm -f {to}/postmaster.pid");
    let status = Command::new("sh")
        .args(["-c", &script])
        .current_dir(folder)
        .status();
    assert!(status.unwrap().success());
}

#[test]
fn a_stream_that_was_deleted_for_good_begins_again_under_its_name() {
    let Some(shop) = shop() else { return };
    append(&shop.store, "a", vec![of(1, "A")]);
    append(&shop.store, "b", vec![of(2, "B")]);
    let other = connect(&shop.url);

    let hard = orkestra::ports::DeleteMode::Hard;
    assert!(block_on(other.delete_stream(stream("a"), ANY, hard)).unwrap());
    append(&other, "c", vec![of(3, "C")]);
    append(&shop.store, "a", vec![of(4, "A")]);

    assert_eq!(log(&shop.store), ["b 0 Shop.B", "c 0 Shop.C", "a 0 Shop.A"]);
}

#[test]
fn types_beyond_those_that_are_remembered_keep_their_names() {
    let Some(shop) = shop() else { return };
    let many = |from: u64, to: u64| (from..to).map(|n| of(n, &format!("T{n}"))).collect();
    append(&shop.store, "a", many(0, 10_000));
    append(&shop.store, "a", many(10_000, 10_001));

    // One that is known, beside one that is not.
    append(&shop.store, "b", vec![of(20_000, "T7"), of(20_001, "New")]);

    let page = block_on(shop.store.read_stream(stream("b"), ReadStream::default())).unwrap();
    let types: Vec<&str> = page.events.iter().map(|e| &*e.type_name).collect();
    assert_eq!(types, ["Shop.T7", "Shop.New"]);
}

/// As after a restore that leaves the sequence out: a position below the end would be passed over by readers.
#[test]
fn a_sequence_that_was_left_behind_gives_no_position_twice_and_none_below_the_end() {
    let Some(shop) = shop() else { return };
    append(&shop.store, "a", vec![of(1, "A")]);
    let skip = "SELECT setval('orkestra.positions', 20); ";
    shop.server.sql(&shop.url, skip);
    append(&shop.store, "a", vec![of(2, "A")]);
    let head = block_on(shop.store.head()).unwrap();

    for (n, events) in [(3, 1), (10, 5)] {
        shop.server
            .sql(&shop.url, "SELECT setval('orkestra.positions', 2)");
        let restored = connect(&shop.url);
        let events = (n..n + events).map(|n| of(n, "A")).collect();
        append(&restored, "a", events);
        block_on(restored.close()).unwrap();
    }
    // Where it meets what is there, it is seen by a process that was there before, too.
    shop.server
        .sql(&shop.url, "SELECT setval('orkestra.positions', 20)");
    append(&shop.store, "b", vec![of(20, "A")]);

    let page = block_on(shop.store.read_all(ReadAll::after(head))).unwrap();
    assert_eq!(page.events.len(), 7);
    let twice = block_on(shop.store.append(stream("b"), vec![of(1, "A")], ANY));
    assert!(matches!(twice, Err(StoreError::DuplicateEvent { .. })));
}
