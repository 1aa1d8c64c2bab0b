//! What lies in the server, and what others put there.

use orkestra::{
    ports::{
        Append, DeleteMode, EventStore,
        ExpectedRevision::{Any, Exact, NoStream},
        ReadAll, ReadStream, Snapshot, SnapshotStore, StoreError,
    },
    testing::{
        block_on,
        samples::{NOON, full_event, id, orders, stream},
    },
};
use orkestra_tests::kurrentdb::{
    Server,
    log::NewRecord,
    messages::{Empty, Expected},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::open;

fn foreign(n: u128, type_name: &str, data: &[u8], metadata: &[u8]) -> NewRecord {
    NewRecord {
        id: Uuid::from_u128(n),
        data: data.to_vec().into(),
        metadata: metadata.to_vec().into(),
        ..NewRecord::json(type_name, &Value::Null)
    }
}

fn snapshot(name: &str, revision: u64) -> Snapshot {
    Snapshot {
        stream: stream(name),
        revision,
        schema_version: 1,
        state: "{\"n\":1}".into(),
        taken_at: NOON,
    }
}

#[test]
fn an_event_lies_there_as_json_with_its_type_and_the_names_that_projections_use() {
    let server = Server::new();
    let store = open(&server, "");
    let event = full_event(10);

    block_on(store.append(stream("order-1"), vec![event.clone().into()], NoStream)).unwrap();

    let record = server.log(|log| log.event("order-1", 0).unwrap().clone());
    assert_eq!(record.id, event.id);
    assert_eq!(record.type_name(), &*event.type_name);
    assert_eq!(record.system["content-type"], "application/json");
    let parse = |json: &[u8]| serde_json::from_slice::<Value>(json).unwrap();
    assert_eq!(parse(&record.data), parse(&event.data));
    let metadata = parse(&record.metadata);
    assert_eq!(metadata["$correlationId"], metadata["correlation_id"]);
    assert_eq!(metadata["$causationId"], metadata["causation_id"]);
    assert_eq!(metadata["orkestra"]["version"], 3);
}

#[test]
fn snapshots_lie_in_streams_of_their_own_that_keep_the_last_one_and_readers_do_not_see() {
    let server = Server::new();
    let store = open(&server, "");
    block_on(store.append(stream("order-1"), orders([1]), NoStream)).unwrap();
    let head = block_on(store.head()).unwrap();

    for revision in [0, 1, 2] {
        block_on(store.save(snapshot("order-1", revision))).unwrap();
    }

    let metadata = server.log(|log| log.event("$$snapshot-order-1", 0).unwrap().data.clone());
    assert_eq!(
        serde_json::from_slice::<Value>(&metadata).unwrap(),
        json!({ "$maxCount": 1 })
    );
    let page = block_on(store.read_all(ReadAll::default())).unwrap();
    assert_eq!(page.events.len(), 1);
    assert_eq!(block_on(store.head()).unwrap(), head);
    for (error, what) in [
        (
            block_on(store.append(stream("snapshot-order-1"), orders([2]), Any)).map(drop),
            "append",
        ),
        (
            block_on(store.read_stream(stream("snapshot-order-1"), ReadStream::default()))
                .map(drop),
            "read",
        ),
        (block_on(store.save(snapshot("snapshot-x", 1))), "save"),
    ] {
        assert!(
            matches!(error, Err(StoreError::InvalidStreamName { .. })),
            "{what}: {error:?}"
        );
    }
}

#[test]
fn what_others_wrote_is_read_and_the_servers_own_is_not() {
    let server = Server::new();
    let store = open(&server, "");
    server.foreign("theirs-1", foreign(1, "order-placed", b"{\"a\":1}", b""));
    server.foreign("theirs-1", foreign(2, "blob", b"\xff\x00", b"\xff"));
    server.foreign(
        "theirs-1",
        foreign(3, "list", b"[1]", b"{\"$correlationId\":\"c-1\"}"),
    );
    server.foreign("theirs-1", foreign(4, "$>", b"0@theirs-1", b""));
    server.foreign("$stats-1", foreign(5, "$statsCollected", b"{}", b""));

    let page = block_on(store.read_all(ReadAll::default())).unwrap();

    let data: Vec<_> = page.events.iter().map(|e| e.data.clone()).collect();
    assert_eq!(data, ["{\"a\":1}", "{\"hex\":\"ff00\"}", "{\"value\":[1]}"]);
    let correlation = page.events[2].metadata().unwrap().correlation_id;
    assert_eq!(correlation.to_string(), "c-1");
    let stream = block_on(store.read_stream(stream("theirs-1"), ReadStream::default())).unwrap();
    assert_eq!(stream.events, page.events);
    assert_eq!(
        block_on(store.head()).unwrap(),
        page.events.last().map(|e| e.position)
    );
}

#[test]
fn a_stream_that_others_deleted_softly_goes_on() {
    let server = Server::new();
    let store = open(&server, "");
    block_on(store.append(stream("order-1"), orders([1, 2]), NoStream)).unwrap();
    // As other clients do, without our knowledge.
    server.delete_by_hand("order-1");
    let again = open(&server, "");

    let page = block_on(again.read_stream(stream("order-1"), ReadStream::default())).unwrap();
    assert_eq!((page.events.len(), page.last_revision), (0, None));
    let appended = block_on(again.append(stream("order-1"), orders([3]), Any)).unwrap();

    assert_eq!((appended.revision, appended.repeated), (Some(2), false));
    let page = block_on(again.read_stream(stream("order-1"), ReadStream::default())).unwrap();
    assert_eq!(
        page.events.iter().map(|e| e.id).collect::<Vec<_>>(),
        [id(3)]
    );
}

#[test]
fn a_soft_deletion_leaves_the_other_metadata_of_a_stream_alone() {
    let server = Server::new();
    let store = open(&server, "");
    block_on(store.append(stream("order-1"), orders([1, 2]), NoStream)).unwrap();
    let kept = NewRecord::json(
        "$metadata",
        &json!({ "$acl": { "$r": "shop" }, "owner": "x" }),
    );
    server.foreign("$$order-1", kept);

    assert!(block_on(store.delete_stream(stream("order-1"), Exact(1), DeleteMode::Soft)).unwrap());

    let metadata = server.log(|log| log.event("$$order-1", 1).unwrap().data.clone());
    assert_eq!(
        serde_json::from_slice::<Value>(&metadata).unwrap(),
        json!({ "$acl": { "$r": "shop" }, "owner": "x", "$tb": 2 })
    );
}

#[test]
fn one_append_of_append_many_is_done_and_several_are_refused() {
    let server = Server::new();
    let store = open(&server, "");
    let append = |name: &str, n| Append {
        stream: stream(name),
        events: orders([n]),
        expected: NoStream,
    };

    let one = block_on(store.append_many(vec![append("order-1", 1)])).unwrap();
    let two = block_on(store.append_many(vec![append("order-2", 2), append("order-3", 3)]));

    assert_eq!(one[0].revision, Some(0));
    assert!(
        matches!(two, Err(StoreError::Unsupported { .. })),
        "{two:?}"
    );
    assert_eq!(
        block_on(store.read_all(ReadAll::default()))
            .unwrap()
            .events
            .len(),
        1
    );
}

#[test]
fn the_stand_in_keeps_the_rule_of_expected_revisions() {
    // What the adapter relies on: the server's own judgement of a repetition at an expected revision.
    let server = Server::new();
    let record = |n| foreign(n, "x", b"{}", b"");
    server.foreign("order-1", record(1));
    server.foreign("order-1", record(2));
    server
        .append_by_hand("order-1", Expected::NoStream(Empty {}), vec![record(1)])
        .unwrap();
    server
        .append_by_hand("order-1", Expected::Revision(0), vec![record(2)])
        .unwrap();
    assert!(
        server
            .append_by_hand("order-1", Expected::Revision(0), vec![record(3)])
            .is_err()
    );
    server
        .append_by_hand("order-1", Expected::Revision(1), vec![record(2)])
        .unwrap();
    assert!(
        server.log(|log| log.event("order-1", 2).is_some()),
        "at the right revision nothing is looked for"
    );
}

#[test]
fn of_two_soft_deletions_the_one_that_cuts_more_stays() {
    let server = Server::new();
    let store = open(&server, "");
    block_on(store.append(stream("order-1"), orders([1, 2]), NoStream)).unwrap();
    // Another process appends and deletes while ours is about to.
    server.before_next_append(|log| {
        let any = || Expected::Any(Empty {});
        let event = |n| foreign(n, "x", b"{}", b"");
        log.append("order-1", any(), vec![event(8), event(9)])
            .unwrap();
        let cut = NewRecord::json("$metadata", &json!({ "$tb": 4 }));
        log.append("$$order-1", any(), vec![cut]).unwrap();
    });

    assert!(block_on(store.delete_stream(stream("order-1"), Any, DeleteMode::Soft)).unwrap());

    let page = block_on(store.read_stream(stream("order-1"), ReadStream::default())).unwrap();
    assert_eq!((page.events.len(), page.last_revision), (0, Some(3)));
}

#[test]
fn snapshots_go_on_after_others_deleted_them() {
    let server = Server::new();
    let store = open(&server, "");
    block_on(store.save(snapshot("order-1", 4))).unwrap();
    server.delete_by_hand("snapshot-order-1");
    assert_eq!(block_on(store.load(stream("order-1"))).unwrap(), None);

    for revision in [2, 3] {
        block_on(store.save(snapshot("order-1", revision))).unwrap();

        let found = block_on(store.load(stream("order-1"))).unwrap();
        assert_eq!(found, Some(snapshot("order-1", revision)));
    }
    let metadata = server.log(|log| {
        let of = |r: &&orkestra_tests::kurrentdb::log::Record| &*r.stream == "$$snapshot-order-1";
        log.records().iter().rfind(of).unwrap().data.clone()
    });
    let metadata: Value = serde_json::from_slice(&metadata).unwrap();
    assert_eq!(metadata["$maxCount"], 1);
}

#[test]
fn a_type_that_readers_would_not_see_is_refused() {
    let server = Server::new();
    let store = open(&server, "");
    let mut event = orders([1]);
    event[0].type_name = "$placed".into();

    let error = block_on(store.append(stream("order-1"), event, Any)).unwrap_err();

    assert!(
        matches!(&error, StoreError::InvalidArgument { reason, .. } if reason.contains("$placed")),
        "{error:?}"
    );
}
