//! KurrentDB's adapter, against the stand-in for its server: see `orkestra_tests::kurrentdb` for what that shows and what not.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster;
mod faults;
mod login;
mod mapping;
mod reading;
mod repetition;

use std::sync::Arc;

use orkestra::{
    adapters::{
        kurrentdb::{KurrentdbConfig, KurrentdbStore},
        memory::MemoryStore,
    },
    clock::ManualClock,
    ports::{EventStore, SnapshotStore},
    testing::{Fixture, block_on, samples::NOON, subscription::Stores},
};
use orkestra_tests::kurrentdb::Server;

/// A store on `server`, with more in its URL.
fn open(server: &Server, more: &str) -> Arc<KurrentdbStore> {
    at(&format!("{}{more}", server.url()))
}

fn at(url: &str) -> Arc<KurrentdbStore> {
    let config = KurrentdbConfig::parse(url).unwrap();
    Arc::new(KurrentdbStore::open(config).unwrap())
}

/// A new server, a store on it, and how to open that again.
fn shop() -> (
    Arc<Server>,
    Arc<KurrentdbStore>,
    impl Fn() -> Arc<KurrentdbStore> + 'static,
) {
    let server = Arc::new(Server::new());
    let store = open(&server, "");
    let again = (Arc::clone(&server), Arc::clone(&store));
    let reopen = move || {
        let (server, store) = &again;
        block_on(store.close()).unwrap();
        open(server, "")
    };
    (server, store, reopen)
}

orkestra::event_store_suite!(|| {
    let (server, store, reopen) = shop();
    Fixture::<dyn EventStore>::new(store, ManualClock::new(NOON))
        .reopened_by(move || reopen())
        .keeping(server)
});
orkestra::snapshot_store_suite!(|| {
    let (server, store, reopen) = shop();
    let disk = Arc::clone(&server);
    Fixture::<dyn SnapshotStore>::new(store.clone(), ManualClock::new(NOON))
        .reopened_by(move || reopen())
        .damaged_by(move || disk.damage("snapshot-"))
        .with_events(store)
        .keeping(server)
});
// The state lives elsewhere: in memory here.
orkestra::subscription_suite!(|| {
    let (server, store, reopen) = shop();
    let clock = ManualClock::new(NOON);
    let state = Arc::new(MemoryStore::new(Arc::new(clock.clone())));
    let stores = move |events| Stores {
        events,
        ..Stores::of(&state)
    };
    let first = Arc::new(stores(store));
    Fixture::<Stores>::new(first, clock)
        .reopened_by(move || Arc::new(stores(reopen())))
        .keeping(server)
});
