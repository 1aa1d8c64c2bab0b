//! Who may connect, and whom we trust.

use std::time::Duration;

use orkestra::{
    adapters::kurrentdb::{KurrentdbConfig, KurrentdbStore},
    ports::{EventStore, ExpectedRevision::Any, StoreError},
    testing::{
        block_on,
        samples::{orders, stream},
    },
};
use orkestra_tests::kurrentdb::{Server, certificates};

use super::{at, open};

fn head_of(url: &str) -> Result<(), StoreError> {
    block_on(at(url).head()).map(drop)
}

fn append(store: &dyn EventStore) -> Result<(), StoreError> {
    block_on(store.append(stream("order-1"), orders([1]), Any)).map(drop)
}

#[test]
fn a_login_with_odd_characters_is_let_in() {
    let server = Server::with_login("shop", "p@ss:w%r/d ü");
    let url = format!(
        "kurrentdb://shop:p%40ss:w%25r%2Fd%20%C3%BC@{}?tls=false",
        server.place()
    );

    append(&*at(&url)).unwrap();

    assert_eq!(
        server.log(|log| log
            .records()
            .iter()
            .filter(|r| &*r.stream == "order-1")
            .count()),
        1
    );
}

#[test]
fn a_wrong_password_and_none_are_told_as_access_denied_and_never_shown() {
    let server = Server::with_login("shop", "right");

    for login in ["shop:wrong@", "shop:%77rong@", ""] {
        let store = at(&format!("kurrentdb://{login}{}?tls=false", server.place()));
        for error in [
            append(&*store).unwrap_err(),
            block_on(store.head()).unwrap_err(),
            block_on(store.delete_stream(
                stream("order-1"),
                Any,
                orkestra::ports::DeleteMode::Soft,
            ))
            .unwrap_err(),
        ] {
            assert!(
                matches!(error, StoreError::AccessDenied { .. }),
                "{error:?}"
            );
            assert!(!error.to_string().contains("wrong@"), "{error}");
        }
        assert!(!format!("{store:?}").contains("wrong"));
    }
}

#[test]
fn a_stream_that_the_user_may_not_use_is_named() {
    let server = Server::new();
    let store = open(&server, "");
    append(&*store).unwrap();

    let error = block_on(store.append(stream("secret-1"), orders([1]), Any)).unwrap_err();

    assert!(
        matches!(&error, StoreError::PermissionDenied { reason, .. } if reason.contains("secret-1")),
        "{error:?}"
    );
}

#[test]
fn tls_trusts_the_authority_that_the_url_names_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    if !certificates::make(folder.path()) {
        return;
    }
    let file = |name: &str| folder.path().join(name).display().to_string();
    let server = Server::with_tls(folder.path(), "server");
    let elsewhere = Server::with_tls(folder.path(), "elsewhere");

    append(&*open(&server, &format!("&tlsCaFile={}", file("ca.pem")))).unwrap();
    append(&*open(&elsewhere, "&tlsVerifyCert=false")).unwrap();
    for (server, more) in [
        (&server, format!("&tlsCaFile={}", file("other.pem"))),
        (&elsewhere, format!("&tlsCaFile={}", file("ca.pem"))),
    ] {
        let error = append(&*open(server, &more)).unwrap_err();
        assert!(
            matches!(&error, StoreError::UntrustedServer { server: place, .. } if *place == server.place()),
            "{more}: {error:?}"
        );
    }
}

#[test]
fn a_certificate_file_that_cannot_be_used_is_named_when_the_store_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();

    for file in [empty, folder.path().join("missing.pem")] {
        let url = format!("kurrentdb://localhost?tlsCaFile={}", file.display());
        let config = KurrentdbConfig::parse(&url).unwrap();
        let error = KurrentdbStore::open(config).unwrap_err();
        assert!(
            matches!(&error, StoreError::CannotOpen { path, .. } if *path == file.display().to_string()),
            "{error:?}"
        );
    }
}

#[test]
fn what_is_not_there_is_unavailable_and_says_why() {
    let server = Server::new();
    let url = server.url();
    server.stop();
    let refused = head_of(&url).unwrap_err();
    let unknown = head_of("kurrentdb://no-such-host.invalid?tls=false").unwrap_err();

    assert!(refused.to_string().contains("refused"), "{refused}");
    assert!(
        unknown
            .to_string()
            .contains("no-such-host.invalid is unknown"),
        "{unknown}"
    );
    for error in [refused, unknown] {
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    }
}

#[test]
fn tls_to_a_server_without_it_is_unavailable() {
    let server = Server::new();

    let error = head_of(&format!(
        "kurrentdb://{}?tlsVerifyCert=false",
        server.place()
    ))
    .unwrap_err();

    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
}

#[test]
fn the_first_connection_waits_for_a_server_that_starts_later() {
    let server = Server::new();
    server.stop();
    let store = open(&server, "&startup_wait=60");
    let head = orkestra::testing::Started::new(store.head());

    server.resume();

    assert_eq!(head.finish().unwrap(), None);
}

#[test]
fn a_server_that_does_not_answer_is_unavailable_after_the_deadline() {
    let server = Server::new();
    let store = open(&server, "&defaultDeadline=2000");
    append(&*store).unwrap();

    server.delay(Duration::from_secs(60));
    let error = block_on(store.head()).unwrap_err();

    assert!(
        error.to_string().contains("no answer within 2 s"),
        "{error}"
    );
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
}

#[test]
fn a_cluster_is_found_by_gossip() {
    let server = Server::new();
    for url in [
        format!("kurrentdb+discover://{}?tls=false", server.place()),
        format!("esdb://127.0.0.1:1,{}?tls=false", server.place()),
    ] {
        head_of(&url).unwrap();
    }
    assert!(server.calls("Gossip") >= 2);
}
