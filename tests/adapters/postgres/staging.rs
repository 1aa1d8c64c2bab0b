//! What users' transactions have left is found at once, however much was recorded while some transaction was open, and nothing of it is ever
//! passed over.

use orkestra::{
    ports::{EventStore, ExpectedRevision, ReadStream},
    testing::{
        block_on,
        samples::{orders, stream},
    },
};
use tokio_postgres::{Client, SimpleQueryMessage};

use super::transactions::{Desk, append, desk};

/// More calls than are recorded without looking whether all before them are.
const MANY: u32 = 3_000;

/// Looks for what is left. `true` instead of the generation would look at everything.
const LOOK: &str = "SELECT orkestra.any_staged(orkestra.generation())";
const LOOK_AT_ALL: &str = "SELECT orkestra.any_staged(NULL)";

/// Appends `MANY` events, a call for each.
fn append_many(desk: &Desk, session: &Client) {
    let sql = format!(
        "SELECT count(orkestra.append('order-' || n % 10, jsonb_build_array(jsonb_build_object(
            'type', 'Shop.Noted', 'data', jsonb_build_object('n', n))))) FROM generate_series(1, {MANY}) AS n"
    );
    desk.run(session, &sql).unwrap();
}

/// How many pages the statement looks at.
fn pages(desk: &Desk, session: &Client, sql: &str) -> u64 {
    let explain = format!("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql}");
    let rows = desk.runtime.block_on(session.simple_query(&explain));
    let plan = rows.unwrap().into_iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    let plan: serde_json::Value = serde_json::from_str(&plan.unwrap()).unwrap();
    let count = |kind: &str| plan[0]["Plan"][kind].as_u64().unwrap();
    count("Shared Hit Blocks") + count("Shared Read Blocks")
}

/// Has a plan made as our sessions have them.
fn planner(desk: &Desk, session: &Client) {
    desk.run(session, "SET enable_seqscan = off; SET jit = off")
        .unwrap();
    // The first calls of a session read the catalogue.
    for _ in 0..2 {
        desk.run(session, LOOK).unwrap();
        desk.run(session, LOOK_AT_ALL).unwrap();
    }
}

#[test]
fn what_was_recorded_is_not_passed_over_again_while_a_transaction_is_open() {
    let Some(mut desk) = desk() else { return };
    let (open, busy) = (desk.session(), desk.session());
    desk.run(&open, "BEGIN").unwrap();
    desk.run(&open, &append("order-0", 5_000, "any")).unwrap();
    for round in 1..=2 {
        append_many(&desk, &busy);
        desk.see(round * MANY as usize);
    }

    planner(&desk, &busy);
    let all = pages(&desk, &busy, LOOK_AT_ALL);
    assert!(all > 100, "the rows are still there: {all} pages");
    for look in [LOOK, "SELECT * FROM orkestra.staged(orkestra.generation())"] {
        let new = pages(&desk, &busy, look);
        assert!(new < all / 4, "{look}: {new} of {all} pages");
    }
    // So does a commit that checks an expectation; the first one of a session reads the catalogue.
    let mut own = u64::MAX;
    for _ in 0..2 {
        let staged = append("new", 5_001, "no_stream");
        desk.run(&busy, &format!("BEGIN; {staged}")).unwrap();
        own = pages(&desk, &busy, "SELECT orkestra.record_staged(true, false)");
        desk.run(&busy, "ROLLBACK").unwrap();
    }
    assert!(own < all / 2, "{own} of {all} pages");

    // And what is recorded of many that wait.
    block_on(desk.shop.store.close()).unwrap();
    append_many(&desk, &busy);
    let hundred = pages(&desk, &busy, "SELECT orkestra.record_staged(false, false)");
    assert!(
        hundred < 100 * all / 2,
        "{hundred}, {all} for one look at all"
    );
    desk.shop.store = super::open(&desk.shop.url, &desk.shop.clock);
    desk.see(3 * MANY as usize);

    // The one that was open all the time is no later than it is committed.
    desk.run(&open, "COMMIT").unwrap();
    assert_eq!(desk.see(3 * MANY as usize + 1).pop(), Some(5_000));
}

#[test]
fn an_append_finds_what_an_older_transaction_has_left_before_it() {
    let Some(mut desk) = desk() else { return };
    let (open, busy) = (desk.session(), desk.session());
    // It has its number before all is seen, and appends later.
    desk.run(&open, "BEGIN; SELECT pg_current_xact_id()")
        .unwrap();
    append_many(&desk, &busy);
    desk.see(MANY as usize);
    desk.run(&open, &append("order-0", 5_000, "any")).unwrap();
    desk.run(&open, "COMMIT").unwrap();

    let store = desk.shop.store.clone();
    let appended = store.append(stream("order-0"), orders([1]), ExpectedRevision::Any);
    let appended = block_on(appended).unwrap();

    let last = u64::from(MANY) / 10;
    assert_eq!(appended.revision, Some(last + 1));
    let wanted = ReadStream::from(last);
    let page = block_on(store.read_stream(stream("order-0"), wanted)).unwrap();
    assert_eq!(*page.events[0].data, *br#"{"n": 5000}"#);
    assert_eq!(page.events.len(), 2);
}

/// The way of an append that comes alone is told what was seen: it leaves to the other way whatever it must not overtake.
#[test]
fn the_short_way_does_not_overtake_an_older_transaction() {
    let Some(mut desk) = desk() else { return };
    let (open, busy) = (desk.session(), desk.session());
    desk.run(&open, "BEGIN; SELECT pg_current_xact_id()")
        .unwrap();
    append_many(&desk, &busy);
    desk.see(MANY as usize);
    block_on(desk.shop.store.close()).unwrap();
    let appended = |unfinished: &str| {
        let sql = format!(
            "SELECT orkestra.write_one(orkestra.generation(), 'order-0', 0, -4, gen_random_uuid(), types.id, 1, now(), '{{}}', '{{}}', NULL, \
             horizon, {unfinished}) IS NOT NULL FROM orkestra.types, orkestra.staging_seen"
        );
        desk.run(&busy, "BEGIN").unwrap();
        let row = desk.runtime.block_on(busy.query_one(&sql, &[])).unwrap();
        desk.run(&busy, "ROLLBACK").unwrap();
        row.get::<_, bool>(0)
    };

    assert!(appended("unfinished"));
    desk.run(&open, &append("order-0", 5_000, "any")).unwrap();
    assert!(appended("unfinished"));
    desk.run(&open, "COMMIT").unwrap();

    assert!(!appended("unfinished"));
    assert!(appended("'{}'"), "its number alone says nothing");
    desk.shop.store = super::open(&desk.shop.url, &desk.shop.clock);
    desk.see(MANY as usize + 1);
}

#[test]
fn what_was_refused_is_tried_again_when_its_reason_is_taken_away() {
    let Some(mut desk) = desk() else { return };
    let (open, busy) = (desk.session(), desk.session());
    desk.run(&open, "BEGIN").unwrap();
    desk.run(&open, &append("order-1", 5_000, "any")).unwrap();
    desk.run(&busy, &append("order-2", 5_000, "any")).unwrap();
    desk.see(1);
    // Its id is taken by now.
    desk.run(&open, "COMMIT").unwrap();
    append_many(&desk, &busy);
    desk.see(1 + MANY as usize);

    desk.run(
        &busy,
        "UPDATE orkestra.staging SET event_id = gen_random_uuid(), refused = NULL WHERE refused IS NOT NULL",
    )
    .unwrap();

    assert_eq!(desk.see(2 + MANY as usize).pop(), Some(5_000));
}

/// A restore brings rows and transactions that this server's numbers say nothing about.
#[test]
fn what_was_seen_is_not_believed_of_other_tables() {
    let Some(mut desk) = desk() else { return };
    let busy = desk.session();
    let far = "UPDATE orkestra.staging_seen SET horizon = '4611686018427387904'";

    desk.run(&busy, &format!("{far}, generation = 7")).unwrap();
    desk.run(&busy, &append("order-0", 1, "any")).unwrap();
    desk.see(1);
    desk.run(&busy, "DELETE FROM orkestra.staging_seen")
        .unwrap();
    desk.run(&busy, &append("order-0", 2, "any")).unwrap();
    desk.see(2);
    desk.run(&busy, "TRUNCATE orkestra.staging_seen").unwrap();
    desk.run(&busy, &append("order-0", 3, "1")).unwrap();
    desk.see(3);
}

/// Rows that were copied in, with numbers that were passed long ago, are found by whoever starts next.
#[test]
fn whoever_starts_looks_at_everything() {
    let Some(mut desk) = desk() else { return };
    let busy = desk.session();
    desk.run(&busy, &append("order-0", 1, "any")).unwrap();
    desk.see(1);
    block_on(desk.shop.store.close()).unwrap();
    desk.run(&busy, &append("order-0", 2, "any")).unwrap();
    desk.run(
        &busy,
        "UPDATE orkestra.staging SET transaction = '3'; UPDATE orkestra.staging_seen SET generation = orkestra.generation(), \
         horizon = pg_snapshot_xmax(pg_current_snapshot()), unfinished = '{}'",
    )
    .unwrap();

    desk.shop.store = super::open(&desk.shop.url, &desk.shop.clock);
    desk.see(2);
}
