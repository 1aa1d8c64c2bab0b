//! Appending inside the user's own transaction: `orkestra.append`, and BEHAVIOURS C.

use std::time::Duration;

use orkestra::{
    clock::{Clock, SystemClock},
    ports::{EventStore, Position, ReadAll, RecordedEvent},
    testing::block_on,
};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use super::{Shop, shop};

/// How long what has to come may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A shop, a runtime for its users' sessions, and a reader that remembers its position.
struct Desk {
    shop: Shop,
    runtime: Runtime,
    read_to: Option<Position>,
    seen: Vec<RecordedEvent>,
}

fn desk() -> Option<Desk> {
    Some(Desk {
        shop: shop()?,
        runtime: Runtime::new().unwrap(),
        read_to: None,
        seen: Vec::new(),
    })
}

impl Desk {
    fn session(&self) -> Client {
        self.runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&self.shop.url, NoTls)
                .await
                .unwrap();
            tokio::spawn(connection);
            client
        })
    }

    fn run(&self, client: &Client, sql: &str) -> Result<(), tokio_postgres::Error> {
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
    fn see(&mut self, count: usize) -> Vec<u64> {
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

fn append(stream: &str, n: u32, expected: &str) -> String {
    let id = Uuid::from_u128(u128::from(n) | 0x0198_0000_0000_7000_8000_0000_0000_0000);
    format!(
        r#"SELECT orkestra.append('{stream}', '[{{"type":"Shop.Noted","id":"{id}","data":{{"n":{n}}}}}]', '{expected}')"#
    )
}

fn code(error: &tokio_postgres::Error) -> String {
    error.as_db_error().unwrap().code().code().to_owned()
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
    let detail = refused.as_db_error().unwrap().detail().unwrap().to_owned();
    let detail: serde_json::Value = serde_json::from_str(&detail).unwrap();
    assert_eq!(
        detail,
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

#[test]
fn a_prepared_transaction_is_refused() {
    let Some(desk) = desk() else { return };
    let session = desk.session();
    desk.run(&session, "BEGIN").unwrap();
    desk.append(&session, "order-1", 1, "no_stream");

    // It would hold the log's lock until somebody finishes it.
    desk.run(&session, "PREPARE TRANSACTION 'later'")
        .unwrap_err();
}
