//! A database that does not let us in, is not there, or is not what it should be: each a typed error that names what is wrong, and no
//! password in it.

use std::collections::BTreeSet;

use orkestra::{Error, Orkestra, code::Coded, ports::Position};
use orkestra_tests::postgres::{Server, shared};

use crate::{log::Log, process::Worker, session::Session, until, work::Report};

/// What starting an app on this store says.
fn refusal(store: &str) -> (&'static str, String) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let started = Orkestra::builder("scenario").store(store).start();
    let error: Error = runtime.block_on(started).expect_err("a refusal");
    let text = error.to_string();
    assert!(!text.contains("secret"), "{text}");
    (error.code(), text)
}

/// The URL as another user.
fn login(url: &str, user: &str) -> String {
    let (_, address) = url.split_once('@').unwrap();
    format!("postgres://{user}:secret@{address}")
}

/// A role that may log in and nothing else: its name, and the URL as it.
fn role(server: &Server, url: &str) -> (String, String) {
    let (_, database) = url.rsplit_once('/').unwrap();
    let name = format!("user_of_{database}");
    let create = format!("CREATE ROLE {name} LOGIN PASSWORD 'secret'");
    server.sql(url, &create);
    let url = login(url, &name);
    (name, url)
}

#[test]
fn a_wrong_password() {
    let Some(server) = shared() else { return };
    let url = server.database("password");

    let (code, text) = refusal(&login(&url, "orkestra"));

    assert_eq!(code, "ORK_STORE_ACCESS_DENIED");
    assert!(text.contains("orkestra"), "{text}");
}

#[test]
fn an_unknown_user() {
    let Some(server) = shared() else { return };
    let url = server.database("user");

    let (code, text) = refusal(&login(&url, "nobody_of_that_name"));

    assert_eq!(code, "ORK_STORE_ACCESS_DENIED");
    assert!(text.contains("nobody_of_that_name"), "{text}");
}

#[test]
fn no_such_database() {
    let Some(server) = shared() else { return };
    let url = server.database("missing") + "_not";

    let (code, text) = refusal(&url);

    assert_eq!(code, "ORK_STORE_NO_DATABASE");
    assert!(text.contains(url.rsplit('/').next().unwrap()), "{text}");
}

#[test]
fn a_user_who_may_not_make_the_schema() {
    let Some(server) = shared() else { return };
    let url = server.database("create");
    let (_, stranger) = role(&server, &url);

    let (code, text) = refusal(&stranger);

    assert_eq!(code, "ORK_STORE_PERMISSION_DENIED", "{text}");
}

#[test]
fn a_user_who_may_not_read_the_tables() {
    let Some(server) = shared() else { return };
    let url = server.database("read");
    Log::open(&url).append(0..3);
    let (name, stranger) = role(&server, &url);
    server.sql(&url, &format!("GRANT USAGE ON SCHEMA orkestra TO {name}"));

    let (code, text) = refusal(&stranger);

    assert_eq!(code, "ORK_STORE_PERMISSION_DENIED", "{text}");
}

/// Rights taken away under a running app.
#[test]
fn a_user_who_may_not_append_any_more_is_told_so_and_goes_on_when_he_may() {
    let Some(server) = shared() else { return };
    let url = server.database("revoked");
    let (name, user) = role(&server, &url);
    let (_, database) = url.rsplit_once('/').unwrap();
    let grant = format!("GRANT CREATE ON DATABASE \"{database}\" TO {name}");
    server.sql(&url, &grant);
    let log = Log::open(&user);
    log.append(0..3);

    server.sql(&url, "ALTER TABLE orkestra.events OWNER TO orkestra");
    let error = log.try_append(3).unwrap_err();
    assert_eq!(error.code(), "ORK_STORE_PERMISSION_DENIED", "{error}");
    assert!(error.to_string().contains("events"), "{error}");
    server.sql(&url, &format!("GRANT ALL ON orkestra.events TO {name}"));
    log.append(3..6);

    assert_eq!(log.check_numbers().len(), 6);
}

#[test]
fn a_schema_of_a_newer_version() {
    let Some(server) = shared() else { return };
    let url = server.database("newer");
    drop(Log::open(&url));
    let session = Session::open(&url);
    session.run("INSERT INTO orkestra.migrations (version) VALUES (1000)");

    let (code, text) = refusal(&url);

    assert_eq!(code, "ORK_STORE_NEWER_SCHEMA", "{text}");
}

#[test]
fn addresses_with_a_typo() {
    let cases = [
        ("postgres:/localhost/shop", "postgres://"),
        ("postgresq://localhost/shop", "postgresq"),
        ("postgres://localhost:54x2/shop", "54x2"),
        ("postgres://localhost:5432/shop?sslmod=require", "sslmod"),
        ("postgres://localhost:5432/shop?sslmode=requir", "requir"),
        ("postgres://localhost:5432/shop?pool=many", "many"),
        ("postgres://localhost:5432/shop?pool=4&pool=5", "pool"),
        (
            "postgres://me:secret@localhost:5432/shop?connect_timeout=soon",
            "soon",
        ),
        ("postgres://me:secret@localhost:5432/shop?schema=", "schema"),
        ("postgres://me:secret%@localhost:5432/shop", "password"),
    ];
    for (url, named) in cases {
        let (code, text) = refusal(url);

        assert_eq!(code, "ORK_APP_INVALID_URL", "{url}: {text}");
        assert!(text.contains(named), "{url}: {text}");
    }
}

#[test]
fn a_host_that_nobody_knows() {
    let (code, text) = refusal("postgres://me:secret@no-such-host.invalid/shop?connect_timeout=1");

    assert_eq!(code, "ORK_STORE_UNAVAILABLE");
    assert!(text.contains("no-such-host.invalid"), "{text}");
}

/// As after the log was restored from an older backup than the checkpoints: what is appended from then on has positions that were given out
/// before.
#[test]
fn a_checkpoint_ahead_of_the_log_passes_nothing_over_that_comes() {
    let Some(server) = shared() else { return };
    let url = server.database("ahead");
    let log = Log::open(&url);
    log.append(0..10);
    log.save_checkpoint(Position(1000));

    let reader = Worker::reader(&url);
    let end = log.all().last().map(|(position, _)| *position);
    until("it goes on at the end", || {
        log.checkpoint().map(|position| position.0) == end
    });
    log.append(10..40);
    let reports = reader.wait(|report| matches!(report, Report::Got { number: 39, .. }));

    let got = reports.iter().filter_map(|report| match report {
        Report::Got { number, .. } => Some(*number),
        _ => None,
    });
    let got: BTreeSet<_> = got.collect();
    assert!((10..40).all(|number| got.contains(&number)), "{got:?}");
}
