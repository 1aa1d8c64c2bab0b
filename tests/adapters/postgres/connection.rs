//! What stands in the URL: encryption, certificates and the pooler; and what one bad append does to others.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use futures_util::future::join_all;
use orkestra::{
    adapters::postgres::{PostgresConfig, PostgresStore},
    ports::{
        Append, DeleteMode, EventStore, ExpectedRevision, NewEvent, ReadAll, ReadStream, StoreError,
    },
    testing::{
        block_on,
        samples::{order_placed, orders, stream},
    },
};

use super::{Shop, shop};

const ANY: ExpectedRevision = ExpectedRevision::Any;

fn connect(url: &str) -> Result<PostgresStore, StoreError> {
    PostgresStore::open(PostgresConfig::parse(url).unwrap(), None)
}

/// The shop's database as another user, at another host.
fn at(shop: &Shop, user: &str, host: &str, parameters: &str) -> String {
    let (_, rest) = shop.url.split_once('@').unwrap();
    let (_, rest) = rest.split_once(':').unwrap();
    format!("postgres://{user}@{host}:{rest}?{parameters}")
}

/// Appends, reads, and closes.
fn works(url: &str) {
    let store = connect(url).unwrap_or_else(|error| panic!("{url}: {error}"));
    let name = stream("order-1");
    let events = vec![new_event()];
    block_on(store.append(name.clone(), events, ANY)).unwrap();
    let page = block_on(store.read_stream(name, ReadStream::default())).unwrap();
    assert!(!page.events.is_empty());
    block_on(store.close()).unwrap();
}

/// An event that nobody has stored yet.
fn new_event() -> NewEvent {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    order_placed(1_000_000 + NEXT.fetch_add(1, Ordering::Relaxed))
}

#[test]
fn every_sslmode_means_what_it_means_to_libpq() {
    let Some(shop) = shop() else { return };
    let tls = shop.server.tls();
    let root = tls.join("ca.pem");
    // A certificate that signed nothing here.
    let stranger = tls.join("client.pem");
    let must_be_encrypted = |host: &str, mode: &str, root: Option<&Path>| {
        let root = root.map_or(String::new(), |path| {
            format!("&sslrootcert={}", path.display())
        });
        at(
            &shop,
            "orkestra-tls:orkestra",
            host,
            &format!("sslmode={mode}{root}"),
        )
    };

    for mode in ["prefer", "require"] {
        works(&must_be_encrypted("127.0.0.1", mode, None));
    }
    for mode in ["require", "verify-ca", "verify-full"] {
        works(&must_be_encrypted("localhost", mode, Some(&root)));
    }
    let refused = connect(&must_be_encrypted("127.0.0.1", "disable", None));
    assert!(
        matches!(refused, Err(StoreError::AccessDenied { .. })),
        "{refused:?}"
    );
    for mode in ["require", "verify-ca", "verify-full"] {
        let refused = connect(&must_be_encrypted("localhost", mode, Some(&stranger)));
        assert!(
            matches!(refused, Err(StoreError::UntrustedServer { .. })),
            "{mode}: {refused:?}"
        );
    }
    // The system trusts nobody who signed this.
    for mode in ["verify-ca", "verify-full"] {
        let refused = connect(&must_be_encrypted("localhost", mode, None));
        assert!(
            matches!(refused, Err(StoreError::UntrustedServer { .. })),
            "{mode}: {refused:?}"
        );
    }
    let missing = must_be_encrypted("localhost", "verify-full", Some(&tls.join("none.pem")));
    let said = connect(&missing).unwrap_err().to_string();
    assert!(said.contains("none.pem"), "{said}");
}

#[test]
fn a_password_that_was_not_given_is_no_outage() {
    let Some(shop) = shop() else { return };

    let refused = connect(&at(&shop, "orkestra", "127.0.0.1", "connect_timeout=5"));

    assert!(
        matches!(refused, Err(StoreError::AccessDenied { .. })),
        "{refused:?}"
    );
}

#[test]
fn a_client_shows_its_certificate() {
    let Some(shop) = shop() else { return };
    let tls = shop.server.tls();
    let shown = format!(
        "sslmode=verify-full&sslrootcert={0}/ca.pem&sslcert={0}/client.pem&sslkey={0}/client.key",
        tls.display()
    );

    works(&at(&shop, "orkestra-client", "localhost", &shown));
    let hidden = connect(&at(
        &shop,
        "orkestra-client",
        "localhost",
        "sslmode=require",
    ));

    assert!(
        matches!(hidden, Err(StoreError::AccessDenied { .. })),
        "{hidden:?}"
    );
}

#[test]
fn behind_a_pooler_of_transactions_everything_works() {
    let Some(shop) = shop() else { return };
    let Some(url) = shop.server.through_pooler(&shop.url) else {
        return;
    };
    let store = Arc::new(connect(&format!("{url}?pooler=transaction&poll_interval=0.05")).unwrap());
    let name = |n: u64| stream(&format!("order-{n}"));

    let appends = (0..50).map(|n| store.append(name(n % 5), vec![order_placed(n)], ANY));
    let done = block_on(join_all(appends));
    assert!(done.iter().all(Result::is_ok));
    let conflict = store.append(name(1), vec![order_placed(99)], ExpectedRevision::NoStream);
    let conflict = block_on(conflict);
    assert!(matches!(
        conflict,
        Err(StoreError::RevisionConflict {
            actual: Some(9),
            ..
        })
    ));
    assert_eq!(
        block_on(store.read_all(ReadAll::default()))
            .unwrap()
            .events
            .len(),
        50
    );
    assert!(block_on(store.delete_stream(name(0), ANY, DeleteMode::Hard)).unwrap());
    let head = block_on(store.head()).unwrap();

    // Somebody else's commit is found by looking.
    block_on(async {
        let waiting = store.wait_for_events(head);
        let other = shop.store.append(name(7), vec![order_placed(100)], ANY);
        let (found, stored) = futures_util::future::join(waiting, other).await;
        found.unwrap();
        stored.unwrap();
    });
    block_on(store.close()).unwrap();
}

#[test]
fn a16_recorded_events_are_not_changed_by_hand() {
    let Some(shop) = shop() else { return };
    block_on(shop.store.append(stream("order-1"), orders(1..4), ANY)).unwrap();

    for sql in [
        "UPDATE orkestra.events SET version = 2",
        "DELETE FROM orkestra.events",
        "TRUNCATE orkestra.events",
        // Their names are theirs, too.
        "UPDATE orkestra.streams SET name = 'another'",
        "DELETE FROM orkestra.streams",
        "TRUNCATE orkestra.streams",
        "UPDATE orkestra.types SET name = 'Another'",
        "DELETE FROM orkestra.types",
        "TRUNCATE orkestra.types",
    ] {
        let attempt = format!(
            "DO $do$ BEGIN {sql}; RAISE EXCEPTION 'it was done'; \
             EXCEPTION WHEN SQLSTATE 'ORK05' THEN NULL; END $do$"
        );
        shop.server.sql(&shop.url, &attempt);
    }

    let page = block_on(shop.store.read_all(ReadAll::default())).unwrap();
    assert_eq!(page.events.len(), 3);
}

#[test]
fn what_cannot_be_stored_is_named_and_hurts_no_other() {
    let Some(shop) = shop() else { return };
    let with = |n: u64, data: String| NewEvent {
        data: data.into(),
        ..order_placed(n)
    };
    let zero = with(1, r#"{"lines":[{"note":"a\u0000b"}]}"#.into());
    // What only the database knows that it cannot hold.
    let huge = with(2, format!(r#"{{"n":1{}}}"#, "0".repeat(200_000)));
    let append = |n: u64, event: NewEvent| {
        shop.store
            .append(stream(&format!("order-{n}")), vec![event], ANY)
    };

    let results = block_on(join_all(
        [append(1, zero), append(2, huge)]
            .into_iter()
            .chain((3..60).map(|n| append(n, order_placed(n)))),
    ));

    let refusal = |n: usize| match &results[n] {
        Err(StoreError::UnsupportedPayload { event_id, path, .. }) => {
            assert_eq!(*event_id, order_placed(n as u64 + 1).id.to_string());
            path.clone()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(refusal(0), "$.data.lines[0].note");
    assert_eq!(refusal(1), "");
    assert!(results[2..].iter().all(Result::is_ok));
}

#[test]
fn a15_an_append_goes_on_when_its_session_is_ended() {
    let Some(shop) = shop() else { return };
    let store = Arc::clone(&shop.store);

    for n in 0..5 {
        let appends = (0..20).map(|m| {
            store.append(
                stream(&format!("order-{m}")),
                vec![order_placed(100 * n + m)],
                ANY,
            )
        });
        let stored = thread::scope(|scope| {
            scope.spawn(|| shop.server.terminate(&shop.url, "orkestra"));
            block_on(join_all(appends))
        });
        for (m, done) in (0..).zip(stored) {
            // Lost twice in a row: the same again is stored once.
            if done.is_err() {
                let again = vec![order_placed(100 * n + m)];
                block_on(store.append(stream(&format!("order-{m}")), again, ANY)).unwrap();
            }
        }
    }

    assert_eq!(
        block_on(store.read_all(ReadAll::default()))
            .unwrap()
            .events
            .len(),
        100
    );
}

#[test]
fn a_repetition_beside_others_is_told_from_a_duplicate() {
    let Some(shop) = shop() else { return };
    let store = &shop.store;
    let first = block_on(store.append(stream("order-1"), orders(1..3), ANY)).unwrap();

    let results = block_on(join_all([
        store.append(stream("order-2"), orders(3..4), ANY),
        store.append(stream("order-1"), orders(1..3), ExpectedRevision::NoStream),
        store.append(stream("order-3"), orders([4, 1]), ANY),
        store.append(stream("order-2"), orders(3..4), ANY),
        store.append(stream("order-2"), orders(5..6), ExpectedRevision::Exact(0)),
    ]));

    assert_eq!(results[0].as_ref().unwrap().revision, Some(0));
    let again = results[1].as_ref().unwrap();
    assert!(again.repeated && again.position == first.position);
    assert!(
        matches!(&results[2], Err(StoreError::DuplicateEvent { stream, .. }) if stream == "order-1")
    );
    assert!(results[3].as_ref().unwrap().repeated);
    assert_eq!(results[4].as_ref().unwrap().revision, Some(1));
    let many = block_on(store.append_many(vec![
        Append {
            stream: stream("order-4"),
            events: orders(6..7),
            expected: ANY,
        },
        Append {
            stream: stream("order-4"),
            events: orders(6..7),
            expected: ANY,
        },
    ]))
    .unwrap();
    assert!(!many[0].repeated && many[1].repeated);
}

/// What several processes have: a writer each, which knows nothing of the others'.
#[test]
fn b09_what_four_writers_commit_at_once_is_read_once_and_in_order() {
    const EVENTS: u64 = 400;
    let Some(shop) = shop() else { return };
    let writers: Vec<_> = (0..4).map(|_| connect(&shop.url).unwrap()).collect();
    let reader = connect(&shop.url).unwrap();
    let done = AtomicU64::new(0);

    let seen = thread::scope(|scope| {
        for (number, writer) in (0..).zip(&writers) {
            let done = &done;
            scope.spawn(move || {
                for n in 0..EVENTS / 4 {
                    // Alone, and in a batch with others.
                    let appends = (0..=n % 3).map(|m| {
                        let name = stream(&format!("order-{number}-{m}"));
                        writer.append(name, vec![order_placed(number * 10_000 + n * 10 + m)], ANY)
                    });
                    for appended in block_on(join_all(appends)) {
                        appended.unwrap();
                        done.fetch_add(1, Ordering::SeqCst);
                    }
                }
                done.fetch_add(1_000_000, Ordering::SeqCst);
            });
        }
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let stored = done.load(Ordering::SeqCst);
            let page = block_on(reader.read_all(ReadAll::after(after).limit(7))).unwrap();
            after = page.position.or(after);
            seen.extend(page.events.iter().map(|event| (event.position, event.id)));
            if stored / 1_000_000 == 4 && page.end {
                return seen;
            }
        }
    });

    assert_eq!(seen.len() as u64, done.load(Ordering::SeqCst) % 1_000_000);
    assert!(seen.is_sorted_by(|a, b| a.0 < b.0));
    let ids: std::collections::HashSet<_> = seen.iter().map(|(_, id)| id).collect();
    assert_eq!(ids.len(), seen.len());
    for store in writers.iter().chain([&reader]) {
        block_on(store.close()).unwrap();
    }
}
