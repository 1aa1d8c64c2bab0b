//! Appending inside the user's own transaction: `orkestra.append`, and BEHAVIOURS C.

use std::{thread, time::Duration};

use orkestra::{
    clock::{Clock, SystemClock},
    ports::{
        CheckpointStore, DeleteMode, EventStore, ExpectedRevision, Position, ReadAll,
        RecordedEvent, SaveCheckpoint,
    },
    testing::{
        block_on,
        samples::{orders, stream},
    },
};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use super::{Shop, shop};

/// How long what has to come may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A shop, a runtime for its users' sessions, and a reader that remembers its position.
pub(super) struct Desk {
    pub(super) shop: Shop,
    pub(super) runtime: Runtime,
    read_to: Option<Position>,
    pub(super) seen: Vec<RecordedEvent>,
}

pub(super) fn desk() -> Option<Desk> {
    Some(Desk {
        shop: shop()?,
        runtime: Runtime::new().unwrap(),
        read_to: None,
        seen: Vec::new(),
    })
}

impl Desk {
    pub(super) fn session(&self) -> Client {
        self.runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&self.shop.url, NoTls)
                .await
                .unwrap();
            tokio::spawn(connection);
            client
        })
    }

    pub(super) fn run(&self, client: &Client, sql: &str) -> Result<(), tokio_postgres::Error> {
        self.runtime.block_on(client.batch_execute(sql))
    }

    /// Appends `n` to `stream` in the transaction that `client` is in.
    fn append(&self, client: &Client, stream: &str, n: u32, expected: &str) {
        let sql = append(stream, n, expected);
        self.run(client, &sql).unwrap();
    }

    /// Reads on; every position is greater than any before.
    fn poll(&mut self) {
        let options = ReadAll::after(self.read_to);
        let page = block_on(self.shop.store.read_all(options)).unwrap();
        for event in page.events {
            assert!(Some(event.position) > self.seen.last().map(|e| e.position));
            self.seen.push(event);
        }
        self.read_to = page.position.or(self.read_to);
    }

    /// Reads on until `count` events were seen.
    pub(super) fn see(&mut self, count: usize) -> Vec<u64> {
        let clock = SystemClock::default();
        loop {
            self.poll();
            if self.seen.len() >= count {
                break;
            }
            assert!(clock.monotonic() < PATIENCE, "{} events", self.seen.len());
            let read_to = self.read_to;
            let store = self.shop.store.clone();
            // The store tells, or a second is over: what is tested is reading.
            let _ = self.runtime.block_on(async move {
                tokio::time::timeout(Duration::from_secs(1), store.wait_for_events(read_to)).await
            });
        }
        assert_eq!(self.seen.len(), count);
        self.numbers()
    }

    fn numbers(&self) -> Vec<u64> {
        let number = |event: &RecordedEvent| {
            let data: serde_json::Value = serde_json::from_slice(&event.data).unwrap();
            data["n"].as_u64().unwrap()
        };
        self.seen.iter().map(number).collect()
    }
}

pub(super) fn append(stream: &str, n: u32, expected: &str) -> String {
    let id = Uuid::from_u128(u128::from(n) | 0x0198_0000_0000_7000_8000_0000_0000_0000);
    format!(
        r#"SELECT orkestra.append('{stream}', '[{{"type":"Shop.Noted","id":"{id}","data":{{"n":{n}}}}}]', '{expected}')"#
    )
}

pub(super) fn code(error: &tokio_postgres::Error) -> String {
    error.as_db_error().unwrap().code().code().to_owned()
}

pub(super) fn detail(error: &tokio_postgres::Error) -> serde_json::Value {
    serde_json::from_str(error.as_db_error().unwrap().detail().unwrap()).unwrap()
}

#[test]
fn c01_c02_a_transaction_that_commits_later_is_never_passed_over() {
    let Some(mut desk) = desk() else { return };
    let (first, second) = (desk.session(), desk.session());
    desk.run(&first, "BEGIN").unwrap();
    desk.append(&first, "order-1", 1, "any");
    desk.run(&second, "BEGIN").unwrap();
    desk.append(&second, "order-1", 2, "any");
    desk.poll();

    desk.run(&second, "COMMIT").unwrap();
    assert_eq!(desk.see(1), [2]);
    desk.run(&first, "COMMIT").unwrap();

    assert_eq!(desk.see(2), [2, 1]);
    let revisions: Vec<u64> = desk.seen.iter().map(|e| e.revision).collect();
    assert_eq!(revisions, [0, 1]);
}

#[test]
fn c03_several_slow_transactions_hold_up_nobody() {
    let Some(mut desk) = desk() else { return };
    let slow: Vec<Client> = (0..4).map(|_| desk.session()).collect();
    for (client, n) in slow.iter().zip(1..) {
        desk.run(client, "BEGIN").unwrap();
        // Those that expect something, too.
        let expected = if n % 2 == 0 { "no_stream" } else { "any" };
        desk.append(client, &format!("slow-{n}"), n, expected);
    }
    let fast = desk.session();

    desk.run(&fast, &append("fast", 9, "any")).unwrap();
    assert_eq!(desk.see(1), [9]);
    for client in &slow {
        desk.run(client, "COMMIT").unwrap();
    }

    let mut all = desk.see(5);
    all.sort_unstable();
    assert_eq!(all, [1, 2, 3, 4, 9]);
}

#[test]
fn c04_a_transaction_that_rolls_back_leaves_nothing_to_wait_for() {
    let Some(mut desk) = desk() else { return };
    let (gone, stays) = (desk.session(), desk.session());
    desk.run(&gone, "BEGIN").unwrap();
    desk.append(&gone, "order-1", 1, "no_stream");
    desk.run(&stays, "BEGIN").unwrap();
    desk.append(&stays, "order-1", 2, "any");

    desk.run(&gone, "ROLLBACK").unwrap();
    desk.run(&stays, "COMMIT").unwrap();

    assert_eq!(desk.see(1), [2]);
}

#[test]
fn c05_a_session_that_sits_in_a_transaction_of_its_own_holds_up_nobody() {
    let Some(mut desk) = desk() else { return };
    let (idle, busy) = (desk.session(), desk.session());
    desk.run(
        &idle,
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM orkestra.log; CREATE TEMP TABLE mine (n int)",
    )
    .unwrap();

    desk.run(&busy, &append("order-1", 1, "any")).unwrap();
    assert_eq!(desk.see(1), [1]);
    desk.run(&busy, &append("order-1", 3, "0")).unwrap();

    assert_eq!(desk.see(2), [1, 3]);
    desk.run(&idle, "COMMIT").unwrap();
}

#[test]
fn c06_positions_that_were_lost_are_passed_over() {
    let Some(mut desk) = desk() else { return };
    let session = desk.session();
    desk.run(&session, &append("order-1", 1, "any")).unwrap();
    desk.see(1);

    desk.run(
        &session,
        "SELECT nextval('orkestra.positions') FROM generate_series(1, 40)",
    )
    .unwrap();
    desk.run(&session, &append("order-1", 2, "any")).unwrap();

    assert_eq!(desk.see(2), [1, 2]);
    assert!(desk.seen[1].position.0 > 40);
}

#[test]
fn an_expectation_is_checked_by_the_commit() {
    let Some(mut desk) = desk() else { return };
    let (late, early) = (desk.session(), desk.session());
    desk.run(&late, "CREATE TABLE public.rows (n int)").unwrap();
    desk.run(&late, "BEGIN; INSERT INTO public.rows VALUES (1)")
        .unwrap();
    desk.append(&late, "order-1", 1, "no_stream");
    desk.run(&early, &append("order-1", 2, "no_stream"))
        .unwrap();

    let refused = desk.run(&late, "COMMIT").unwrap_err();

    assert_eq!(code(&refused), "ORK01");
    assert_eq!(
        detail(&refused),
        serde_json::json!({"stream": "order-1", "expected": "no_stream", "actual": 0})
    );
    assert_eq!(desk.see(1), [2]);
    // The user's own rows went with it.
    let rows = "SELECT 1 / (SELECT 1 - count(*) FROM public.rows)";
    desk.run(&late, rows).unwrap();
}

#[test]
fn several_appends_of_one_transaction_are_recorded_in_their_order() {
    let Some(mut desk) = desk() else { return };
    let session = desk.session();
    desk.run(&session, "BEGIN").unwrap();
    desk.append(&session, "order-1", 1, "any");
    desk.append(&session, "order-1", 2, "0");
    desk.append(&session, "order-1", 3, "stream_exists");
    desk.run(&session, "COMMIT").unwrap();

    assert_eq!(desk.see(3), [1, 2, 3]);
}

#[test]
fn an_expectation_counts_what_was_committed_before() {
    let Some(mut desk) = desk() else { return };
    let session = desk.session();
    // Nobody is there who could give it its place.
    block_on(desk.shop.store.close()).unwrap();
    desk.run(&session, &append("order-1", 1, "any")).unwrap();

    desk.run(&session, &append("order-1", 2, "0")).unwrap();
    let refused = desk.run(&session, &append("order-1", 3, "0")).unwrap_err();

    assert_eq!(detail(&refused)["actual"], 1);
    desk.shop.store = super::open(&desk.shop.url, &desk.shop.clock);
    assert_eq!(desk.see(2), [1, 2]);
}

#[test]
fn a_repeatable_read_that_others_have_overtaken_fails_as_a_lost_race() {
    let Some(mut desk) = desk() else { return };
    let (old, new) = (desk.session(), desk.session());
    desk.run(&new, &append("order-1", 1, "no_stream")).unwrap();
    desk.run(&old, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        .unwrap();
    desk.append(&old, "order-1", 2, "0");
    desk.run(&new, &append("order-1", 3, "0")).unwrap();

    let refused = desk.run(&old, "COMMIT").unwrap_err();

    assert_eq!(code(&refused), "40001");
    assert_eq!(desk.see(2), [1, 3]);
}

#[test]
fn the_same_append_again_is_recorded_once() {
    let Some(mut desk) = desk() else { return };
    let session = desk.session();
    for _ in 0..2 {
        desk.run(&session, &append("order-1", 1, "any")).unwrap();
    }
    desk.see(1);
    desk.run(&session, &append("order-1", 1, "no_stream"))
        .unwrap();
    let elsewhere = desk
        .run(&session, &append("order-2", 1, "any"))
        .unwrap_err();
    desk.run(&session, &append("order-1", 2, "0")).unwrap();

    assert_eq!(code(&elsewhere), "ORK02");
    assert_eq!(desk.see(2), [1, 2]);
}

#[test]
fn wrong_arguments_are_refused_by_name() {
    let Some(desk) = desk() else { return };
    let session = desk.session();
    for (arguments, expected) in [
        ("'order-1', '{}'", "ORK03"),
        ("'order-1', '[]'", "ORK03"),
        ("'order-1', '[7]'", "ORK03"),
        (r#"'order-1', '[{"type":"Shop.A"}]'"#, "ORK03"),
        (r#"'order-1', '[{"type":"","data":{}}]'"#, "ORK03"),
        (
            r#"'order-1', '[{"type":"Shop.A","data":{},"id":"x"}]'"#,
            "ORK03",
        ),
        (
            r#"'order-1', '[{"type":"Shop.A","data":{},"version":0}]'"#,
            "ORK03",
        ),
        (r#"'order-1', '[{"type":"shop.1","data":{}}]'"#, "ORK03"),
        (r#"'order-1', '[{"type":"Shop..A","data":{}}]'"#, "ORK03"),
        (
            r#"'order-1', '[{"type":"Shop.A","data":{},"occurred_at":"infinity"}]'"#,
            "ORK03",
        ),
        (
            r#"'order-1', '[{"type":"Shop.A","data":{},"occurred_at":"2026-11-22T09:30:00"}]'"#,
            "ORK03",
        ),
        ("'a\u{a0}', '[]'", "ORK04"),
        ("E'a\\u0085b', '[]'", "ORK04"),
        (
            r#"'order-1', '[{"type":"Shop.A","data":{},"occurred_at":"never"}]'"#,
            "ORK03",
        ),
        (
            r#"'order-1', '[{"type":"Shop.A","data":{},"meta":{}}]'"#,
            "ORK03",
        ),
        (
            r#"'order-1', '[{"type":"Shop.A","data":{}}]', 'soon'"#,
            "ORK03",
        ),
        (r#"'$all', '[{"type":"Shop.A","data":{}}]'"#, "ORK04"),
        (r#"'', '[{"type":"Shop.A","data":{}}]'"#, "ORK04"),
        (r#"NULL, '[{"type":"Shop.A","data":{}}]'"#, "ORK04"),
        (
            r#"'order-1', '[{"type":"Shop.A","data":{"s":"\u0000"}}]'"#,
            "22P05",
        ),
    ] {
        let refused = desk.run(&session, &format!("SELECT orkestra.append({arguments})"));
        assert_eq!(code(&refused.unwrap_err()), expected, "{arguments}");
    }
    assert_eq!(block_on(desk.shop.store.head()).unwrap(), None);
}

/// Many events, made by the database.
fn many(stream: &str, count: u32, expected: &str) -> String {
    format!(
        "SELECT orkestra.append('{stream}', (SELECT jsonb_agg(jsonb_build_object('type', 'Shop.Noted', 'data', jsonb_build_object('n', n)) \
         ORDER BY n) FROM generate_series(1, {count}) AS n), '{expected}')"
    )
}

#[test]
fn thousands_of_events_in_a_call_are_recorded_in_their_order() {
    let Some(mut desk) = desk() else { return };
    let session = desk.session();

    desk.run(&session, &many("order-1", 10_000, "no_stream"))
        .unwrap();
    desk.run(&session, &many("order-1", 10_000, "any")).unwrap();

    let numbers = desk.see(20_000);
    let expected: Vec<u64> = (1..=10_000).chain(1..=10_000).collect();
    assert_eq!(numbers, expected);
    assert!(desk.seen.iter().zip(0..).all(|(e, n)| e.revision == n));
}

#[test]
fn what_is_wrong_in_one_of_thousands_is_named() {
    let Some(desk) = desk() else { return };
    let session = desk.session();
    for (change, place) in [
        (r#"{"type": "7"}"#, "events[4321].type"),
        (r#"{"data": []}"#, "events[4321].data"),
        (r#"{"version": 1.5}"#, "events[4321].version"),
        (
            r#"{"occurred_at": "2026-02-30T00:00:00Z"}"#,
            "events[4321].occurred_at",
        ),
        (r#"{"id": "no-uuid"}"#, "events[4321].id"),
        (r#"{"colour": "red"}"#, "events[4321]"),
    ] {
        let sql = format!(
            "SELECT orkestra.append('order-1', (SELECT jsonb_agg(jsonb_build_object('type', 'Shop.Noted', 'data', jsonb_build_object('n', n)) \
             || CASE n WHEN 4322 THEN '{change}'::jsonb ELSE '{{}}' END ORDER BY n) FROM generate_series(1, 5000) AS n))"
        );
        let refused = desk.run(&session, &sql).unwrap_err();
        assert_eq!(code(&refused), "ORK03", "{refused:?}");
        assert_eq!(detail(&refused)["argument"], place, "{change}");
    }
    desk.run(&session, "SELECT 1 / (1 - count(*)) FROM orkestra.staging")
        .unwrap();
}

#[test]
fn a_prepared_transaction_is_refused_and_holds_nothing() {
    let Some(mut desk) = desk() else { return };
    let session = desk.session();
    for expected in ["any", "no_stream"] {
        desk.run(&session, "BEGIN").unwrap();
        desk.append(&session, "order-1", 1, expected);

        // It would hold the log's lock until somebody finishes it.
        let refused = desk
            .run(&session, "PREPARE TRANSACTION 'later'")
            .unwrap_err();

        assert_eq!(code(&refused), "0A000");
        let message = refused.as_db_error().unwrap().message().to_owned();
        assert!(
            message.contains("cannot PREPARE a transaction"),
            "{message}"
        );
    }
    desk.run(&session, &append("order-1", 2, "no_stream"))
        .unwrap();
    assert_eq!(desk.see(1), [2]);
    desk.run(
        &session,
        "SELECT 1 / (1 - count(*)) FROM pg_prepared_xacts WHERE database = current_database()",
    )
    .unwrap();
}

#[test]
fn a_repeatable_read_whose_stream_was_deleted_since_fails_as_a_lost_race() {
    let Some(mut desk) = desk() else { return };
    let (old, new) = (desk.session(), desk.session());
    desk.run(&new, &append("order-1", 1, "no_stream")).unwrap();
    desk.run(&old, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        .unwrap();
    desk.append(&old, "order-1", 2, "0");
    let name = stream("order-1");
    let deleted = desk
        .shop
        .store
        .delete_stream(name, ExpectedRevision::Any, DeleteMode::Hard);
    assert!(block_on(deleted).unwrap());

    let refused = desk.run(&old, "COMMIT").unwrap_err();

    assert_eq!(code(&refused), "40001");
    assert!(desk.see(0).is_empty());
}

#[test]
fn a_checkpoint_that_may_not_be_saved_fails_with_what_stands_there() {
    let Some(desk) = desk() else { return };
    let session = desk.session();
    let save = |arguments: &str| {
        desk.run(
            &session,
            &format!("SELECT orkestra.save_checkpoint('board', {arguments})"),
        )
    };
    save("NULL, 10, 3").unwrap();
    save("10, 20, 3").unwrap();

    let elsewhere = save("10, 30, 3").unwrap_err();
    let anew = save("NULL, 30, 3").unwrap_err();
    let late = save("20, 30, 2").unwrap_err();

    assert_eq!(code(&elsewhere), "ORK07");
    assert_eq!(
        detail(&elsewhere),
        serde_json::json!({"name": "board", "expected": 10, "actual": 20})
    );
    assert_eq!(
        (code(&anew), &detail(&anew)["expected"]),
        ("ORK07".into(), &serde_json::Value::Null)
    );
    assert_eq!(code(&late), "ORK08");
    assert_eq!(
        detail(&late),
        serde_json::json!({"name": "board", "token": 2, "current": 3})
    );
    save("20, 30, 4").unwrap();
}

/// What a million waiting events must not do is make every append of every process take as long as they do.
#[test]
fn waiting_appends_are_recorded_a_bounded_number_at_a_time() {
    let Some(mut desk) = desk() else { return };
    block_on(desk.shop.store.close()).unwrap();
    let session = desk.session();
    for n in 1..=10 {
        desk.run(&session, &many(&format!("order-{n}"), 2_000, "any"))
            .unwrap();
    }

    let recorded = desk.shop.server.sql(
        &desk.shop.url,
        "SELECT recorded, refusals, more FROM orkestra.record_staged(false, false)",
    );

    assert_eq!(recorded.trim(), "3\t0\tt");
    desk.shop.store = super::open(&desk.shop.url, &desk.shop.clock);
    desk.see(20_000);
}

#[test]
fn a_transaction_that_is_left_open_holds_up_nobody() {
    let Some(desk) = desk() else { return };
    let open = desk.session();
    desk.run(
        &open,
        "CREATE TABLE public.rows (n int); BEGIN; INSERT INTO public.rows VALUES (1)",
    )
    .unwrap();
    desk.append(&open, "order-1", 1, "any");
    desk.append(&open, "order-1", 2, "no_stream");
    desk.append(&open, "gone", 3, "any");
    desk.run(
        &open,
        "SELECT orkestra.inbox_claim('mail', gen_random_uuid())",
    )
    .unwrap();

    // Everybody else goes on: the app in the same streams, other users, another process that starts.
    let store = desk.shop.store.clone();
    let write = |name: &str, n: u64, expected| {
        block_on(store.append(stream(name), orders([n]), expected)).unwrap()
    };
    write("order-1", 1, ExpectedRevision::NoStream);
    write("order-1", 2, ExpectedRevision::Exact(0));
    write("gone", 3, ExpectedRevision::Any);
    assert!(
        block_on(store.delete_stream(stream("gone"), ExpectedRevision::Any, DeleteMode::Hard))
            .unwrap()
    );
    block_on(CheckpointStore::save(
        &*store,
        "board".into(),
        Some(Position(1)),
        SaveCheckpoint::default(),
    ))
    .unwrap();
    let other = super::open(&desk.shop.url, &desk.shop.clock);
    block_on(other.append(stream("order-2"), orders(4..5), ExpectedRevision::Any)).unwrap();
    block_on(other.close()).unwrap();
    let busy = desk.session();
    desk.run(&busy, &append("order-3", 5, "any")).unwrap();
    desk.run(&busy, &append("order-3", 6, "0")).unwrap();
    let until = SystemClock::default();
    while block_on(store.read_all(ReadAll::default()))
        .unwrap()
        .events
        .len()
        < 5
    {
        assert!(until.monotonic() < PATIENCE);
        thread::yield_now();
    }

    let refused = desk.run(&open, "COMMIT").unwrap_err();

    assert_eq!(code(&refused), "ORK01");
    // Two of the app, and its own first.
    assert_eq!(detail(&refused)["actual"], 2);
}
