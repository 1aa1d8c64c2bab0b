//! Several nodes: who is asked is not always who answers.

use orkestra::{
    ports::{EventStore, ExpectedRevision::Any, ReadAll},
    testing::{
        block_on,
        samples::{id, orders, stream},
    },
};
use orkestra_tests::kurrentdb::Server;

use super::{at, open};

fn append(store: &dyn EventStore, n: u64) {
    block_on(store.append(stream("order-1"), orders([n]), Any)).unwrap();
}

fn ids(store: &dyn EventStore) -> Vec<uuid::Uuid> {
    let page = block_on(store.read_all(ReadAll::default())).unwrap();
    page.events.iter().map(|event| event.id).collect()
}

fn stored(server: &Server) -> usize {
    server.log(|log| {
        let records = log.records().iter();
        records.filter(|r| r.stream.starts_with("order-")).count()
    })
}

#[test]
fn a_follower_sends_to_its_leader() {
    let (leader, follower) = (Server::new(), Server::new());
    follower.follow(&leader);
    let store = open(&follower, "");

    append(&*store, 1);
    append(&*store, 2);

    assert_eq!(ids(&*store), [id(1), id(2)]);
    assert_eq!((stored(&leader), stored(&follower)), (2, 0));
    assert_eq!(
        follower.calls("Append"),
        0,
        "the first read told where to go"
    );
}

#[test]
fn another_leader_is_followed_in_the_middle() {
    let (first, second) = (Server::new(), Server::new());
    let store = open(&first, "");
    append(&*store, 1);

    first.follow(&second);
    append(&*store, 2);

    assert_eq!((stored(&first), stored(&second)), (1, 1));
    assert_eq!(ids(&*store), [id(2)]);
}

#[test]
fn the_leader_is_chosen_among_the_members() {
    let (leader, follower) = (Server::new(), Server::new());
    follower.follow(&leader);

    let url = format!("kurrentdb+discover://{}?tls=false", follower.place());
    append(&*at(&url), 1);

    assert_eq!((stored(&leader), stored(&follower)), (1, 0));
    assert_eq!(follower.calls("Read") + follower.calls("Append"), 0);
}

#[test]
fn a_follower_is_read_from_where_the_url_says_so() {
    let (leader, follower) = (Server::new(), Server::new());
    follower.follow(&leader);
    let store = open(&follower, "&nodePreference=follower");

    assert!(ids(&*store).is_empty());

    assert!(follower.calls("Read") > 0);
    assert_eq!(leader.calls("Read"), 0);
}
