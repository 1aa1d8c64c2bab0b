//! Lost races, sessions that end, and what is asked of the server although it cannot be.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Waker},
    thread,
};

use futures_util::future::{Either, join, join_all, select};
use orkestra::{
    adapters::postgres::{PostgresConfig, PostgresStore},
    clock::{Clock, SystemClock, Timestamp},
    code::Coded,
    ports::{
        CheckpointStore, DeadLetterStore, EventStore, ExpectedRevision, NewEvent, Position,
        ReadAll, SaveCheckpoint, StoreError,
    },
    testing::{
        block_on,
        samples::{NOON, dead_letter, event, order_placed, orders, stream},
    },
};
use orkestra_tests::postgres::{Node, shared};
use tokio::time::timeout;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::{
    shop,
    transactions::{Desk, PATIENCE, desk},
};

const ANY: ExpectedRevision = ExpectedRevision::Any;

/// The number of the schema's lock, while somebody holds it.
const LOCK: &str = "SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 \
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

fn connect(url: &str) -> PostgresStore {
    PostgresStore::open(PostgresConfig::parse(url).unwrap(), None).unwrap()
}

impl Desk {
    /// The first value that a statement gives.
    fn value(&self, client: &Client, sql: &str) -> Option<String> {
        let rows = self.runtime.block_on(client.simple_query(sql)).unwrap();
        rows.into_iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        })
    }

    /// Looks until a statement gives a value.
    fn until(&self, client: &Client, sql: &str) -> String {
        let clock = SystemClock::default();
        loop {
            if let Some(value) = self.value(client, sql) {
                return value;
            }
            assert!(clock.monotonic() < PATIENCE, "{sql}");
            thread::yield_now();
        }
    }
}

/// The session of this database that waits for a lock in such a statement.
fn waiting(what: &str) -> String {
    format!(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%{what}%'"
    )
}

#[test]
fn an_append_that_is_the_victim_of_a_deadlock_is_done_again() {
    let Some(desk) = desk() else { return };
    let (user, eye) = (desk.session(), desk.session());
    let store = Arc::clone(&desk.shop.store);
    block_on(store.append(stream("order-1"), orders(1..2), ANY)).unwrap();
    // The user's session never gives in: the writer does, after the server's deadlock_timeout.
    let begin = "SET deadlock_timeout = '1h'; BEGIN; INSERT INTO orkestra.streams (name) VALUES ('order-9')";
    desk.run(&user, begin).unwrap();

    let appended = thread::scope(|scope| {
        let appending =
            scope.spawn(|| block_on(store.append(stream("order-9"), orders(2..3), ANY)));
        desk.until(&eye, &waiting("write_"));
        let lock = desk.until(&eye, LOCK);
        // Granted when the writer's transaction is undone.
        desk.run(&user, &format!("SELECT pg_advisory_xact_lock({lock})"))
            .unwrap();
        desk.run(&user, "ROLLBACK").unwrap();
        appending.join().unwrap()
    });

    assert_eq!(appended.unwrap().revision, Some(0));
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database() AND deadlocks > 0";
    assert_eq!(desk.until(&eye, deadlocks), "1");
}

#[test]
fn processes_that_add_the_same_types_do_not_wait_for_each_other() {
    let Some(desk) = desk() else { return };
    let (user, eye) = (desk.session(), desk.session());
    let store = Arc::clone(&desk.shop.store);
    desk.run(
        &user,
        "BEGIN; INSERT INTO orkestra.types (name) VALUES ('Shop.A')",
    )
    .unwrap();

    let appended = thread::scope(|scope| {
        let events = vec![event(1, "Shop.B"), event(2, "Shop.A")];
        let appending = scope.spawn(|| block_on(store.append(stream("order-1"), events, ANY)));
        desk.until(&eye, &waiting("type_ids"));
        // In another order this one would be the other's by now, and both would wait.
        let second =
            "SET LOCAL lock_timeout = '5s'; INSERT INTO orkestra.types (name) VALUES ('Shop.B')";
        desk.run(&user, second).unwrap();
        desk.run(&user, "COMMIT").unwrap();
        appending.join().unwrap()
    });

    assert_eq!(appended.unwrap().revision, Some(1));
}

#[test]
fn a_statement_that_cannot_be_serialized_is_done_again() {
    let Some(desk) = desk() else { return };
    let Some(url) = desk.shop.server.through_pooler(&desk.shop.url) else {
        return;
    };
    // Behind a pooler a single statement runs as the database has it.
    let (user, eye) = (desk.session(), desk.session());
    let database = desk.value(&eye, "SELECT current_database()").unwrap();
    let set =
        format!("ALTER DATABASE {database} SET default_transaction_isolation = 'repeatable read'");
    desk.run(&user, &set).unwrap();
    let store = connect(&format!("{url}?pooler=transaction"));
    let letter = block_on(store.record(dead_letter(1, "mail", NOON))).unwrap();
    desk.run(
        &user,
        "BEGIN; UPDATE orkestra.dead_letters SET attempts = 9",
    )
    .unwrap();

    let marked = thread::scope(|scope| {
        let marking = scope.spawn(|| block_on(store.requeue(letter.id, None)));
        desk.until(&eye, &waiting("dead_letters SET status"));
        desk.run(&user, "COMMIT").unwrap();
        marking.join().unwrap()
    });

    assert_eq!(marked.unwrap().attempts, 9);
    block_on(store.close()).unwrap();
}

#[test]
fn an_append_that_cannot_be_serialized_is_done_again_a_few_times() {
    let Some(shop) = shop() else { return };
    // Nothing that the writer meets fails so by itself, in its isolation level: a trigger stands in for what others may have added.
    let trigger = |times: u32| {
        format!(
            "DROP TRIGGER IF EXISTS racy ON orkestra.events; CREATE SEQUENCE IF NOT EXISTS public.races; SELECT setval('public.races', 1, false); \
             CREATE OR REPLACE FUNCTION public.race() RETURNS trigger LANGUAGE plpgsql AS $do$ BEGIN \
                 IF nextval('public.races') <= {times} THEN RAISE EXCEPTION 'a race' USING ERRCODE = '40001'; END IF; RETURN NULL; \
             END $do$; \
             CREATE TRIGGER racy AFTER INSERT ON orkestra.events FOR EACH STATEMENT EXECUTE FUNCTION public.race();"
        )
    };
    let append = || block_on(shop.store.append(stream("order-1"), orders(1..2), ANY));

    shop.server.sql(&shop.url, &trigger(100));
    let error = append().unwrap_err();
    assert!(error.is_transient(), "{error}");
    shop.server.sql(&shop.url, &trigger(4));

    assert_eq!(append().unwrap().revision, Some(0));
}

#[test]
fn a_batch_whose_session_is_ended_in_the_middle_is_stored_once() {
    let Some(desk) = desk() else { return };
    let (user, eye) = (desk.session(), desk.session());
    let store = Arc::clone(&desk.shop.store);
    block_on(store.append(stream("order-0"), orders(0..1), ANY)).unwrap();
    desk.run(
        &user,
        "BEGIN; LOCK TABLE orkestra.events IN SHARE ROW EXCLUSIVE MODE",
    )
    .unwrap();

    let results = thread::scope(|scope| {
        let appending = scope.spawn(|| {
            let appends =
                (1..=20).map(|n| store.append(stream(&format!("order-{n}")), orders([n]), ANY));
            block_on(join_all(appends))
        });
        let pid = desk.until(&eye, &waiting("write_"));
        desk.value(&eye, &format!("SELECT pg_terminate_backend({pid}, 10000)"));
        desk.run(&user, "COMMIT").unwrap();
        appending.join().unwrap()
    });

    for result in results {
        assert_eq!(result.unwrap().revision, Some(0));
    }
    let page = block_on(store.read_all(ReadAll::default())).unwrap();
    assert_eq!(page.events.len(), 21);
}

#[test]
fn whoever_has_always_something_to_write_hears_of_others_behind_a_pooler() {
    let Some(shop) = shop() else { return };
    let Some(url) = shop.server.through_pooler(&shop.url) else {
        return;
    };
    let store = connect(&format!("{url}?pooler=transaction&poll_interval=0.05"));
    // All wait in the queue at once, and take longer than looking around.
    let appends = (0..40_000).map(|n| store.append(stream("order-1"), orders([n]), ANY));
    let heard = async {
        for position in (1..=3).map(Position) {
            let save = SaveCheckpoint::default();
            let moved = CheckpointStore::save(&*shop.store, "board".into(), Some(position), save);
            let (reached, moved) = join(store.wait_until("board".into(), position), moved).await;
            moved.unwrap();
            reached.unwrap();
        }
    };

    let (heard, appended) = (pin!(heard), pin!(join_all(appends)));
    let first = block_on(select(heard, appended));

    assert!(
        matches!(first, Either::Left(_)),
        "it heard when all was written"
    );
    block_on(store.close()).unwrap();
}

#[test]
fn past_a_pooler_somebody_listens_where_the_url_says_so() {
    if shared().is_none() {
        return;
    }
    let node = Node::started();
    node.start_pooler();
    let direct = node.server().database("listen");
    let url = node.server().through_pooler(&direct).unwrap();
    // Nobody looks in the time of this test.
    let parameters = "pooler=transaction&poll_interval=3600";
    let url = format!("{url}?{parameters}&listen=127.0.0.1:{}", node.port);
    let (store, other) = (connect(&url), connect(&direct));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut n = 0;
    let mut hears = || {
        n += 1;
        let head = block_on(store.head()).unwrap();
        let both = join(
            store.wait_for_events(head),
            other.append(stream("order-1"), orders([n]), ANY),
        );
        let (heard, stored) = runtime.block_on(async { timeout(PATIENCE, both).await.unwrap() });
        heard.unwrap();
        stored.unwrap();
    };

    hears();
    node.server().terminate(&direct, "LISTEN %");
    hears();
    node.stop();
    node.start();
    hears();
    block_on(store.close()).unwrap();
}

#[test]
fn closing_again_after_a_close_that_was_given_up_ends() {
    let Some(shop) = shop() else { return };
    block_on(shop.store.append(stream("order-1"), orders(1..2), ANY)).unwrap();
    {
        let mut first = pin!(shop.store.close());
        let mut cx = Context::from_waker(Waker::noop());
        let _ = first.as_mut().poll(&mut cx);
    }
    let (told, closed) = std::sync::mpsc::channel();
    let store = Arc::clone(&shop.store);

    // Whatever the first has left undone by now.
    thread::spawn(move || {
        block_on(store.close()).unwrap();
        block_on(store.close()).unwrap();
        told.send(()).unwrap();
    });

    closed.recv_timeout(PATIENCE).unwrap();
    let late = block_on(shop.store.head());
    assert!(matches!(late, Err(StoreError::Closed {})));
}

#[test]
fn what_the_server_cannot_hold_is_no_passing_trouble() {
    let Some(shop) = shop() else { return };
    let append = |events| block_on(shop.store.append(stream("order-1"), events, ANY)).unwrap_err();
    let never = NewEvent {
        occurred_at: Timestamp::from_micros(i64::MIN / 2),
        ..order_placed(1)
    };
    let version = NewEvent {
        version: u32::MAX,
        ..order_placed(1)
    };
    let huge = NewEvent {
        data: format!("{{\"s\":\"{}\"}}", "a".repeat(1 << 20)).into(),
        ..order_placed(0)
    };
    let large = orders(0..300)
        .into_iter()
        .map(|order| NewEvent {
            data: huge.data.clone(),
            ..order
        })
        .collect();

    for error in [append(vec![never]), append(vec![version]), append(large)] {
        assert!(
            matches!(error, StoreError::InvalidArgument { .. }),
            "{error}"
        );
        assert!(!error.is_transient());
    }
    block_on(shop.store.append(stream("order-1"), orders(1..2), ANY)).unwrap();
}

/// What docs/adapters/postgres.md says that a user needs.
#[test]
fn the_permissions_that_are_named_suffice() {
    let Some(desk) = desk() else { return };
    let admin = desk.session();
    let role = format!("clerk_{}", std::process::id());
    desk.run(
        &admin,
        &format!(
            "DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN PASSWORD 'clerk'; GRANT USAGE ON SCHEMA orkestra TO {role}; \
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA orkestra TO {role}; \
             GRANT USAGE, UPDATE ON ALL SEQUENCES IN SCHEMA orkestra TO {role}; \
             GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA orkestra TO {role}"
        ),
    )
    .unwrap();
    let (_, rest) = desk.shop.url.split_once('@').unwrap();
    let store = connect(&format!("postgres://{role}:clerk@{rest}?migrate=never"));

    let appends = (0..20).map(|n| store.append(stream("order-1"), orders([n]), ANY));
    for appended in block_on(join_all(appends)) {
        appended.unwrap();
    }
    block_on(store.record(dead_letter(1, "mail", NOON))).unwrap();
    block_on(CheckpointStore::save(
        &store,
        "board".into(),
        Some(Position(5)),
        SaveCheckpoint::default(),
    ))
    .unwrap();
    let deleted = store.delete_stream(stream("order-1"), ANY, orkestra::ports::DeleteMode::Hard);
    assert!(block_on(deleted).unwrap());

    block_on(store.close()).unwrap();
    desk.run(&admin, &format!("DROP OWNED BY {role}; DROP ROLE {role}"))
        .unwrap();
}
