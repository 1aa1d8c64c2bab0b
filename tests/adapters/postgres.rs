#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod connection;
mod transactions;

use std::sync::Arc;

use orkestra::{
    adapters::postgres::{PostgresConfig, PostgresStore},
    clock::ManualClock,
    ports::{
        CheckpointStore, DeadLetterStore, EventStore, InboxStore, LeaseStore, OutboxStore,
        SnapshotStore,
    },
    testing::{Fixture, block_on, samples::NOON, subscription::Stores},
};
use orkestra_tests::postgres::{Server, shared};

/// A new database, and the store in it.
struct Shop {
    server: Server,
    url: String,
    clock: ManualClock,
    store: Arc<PostgresStore>,
}

fn shop() -> Option<Shop> {
    let server = shared()?;
    let url = server.database("adapters");
    let clock = ManualClock::new(NOON);
    Some(Shop {
        store: open(&url, &clock),
        server,
        url,
        clock,
    })
}

fn open(url: &str, clock: &ManualClock) -> Arc<PostgresStore> {
    let config = PostgresConfig::parse(url).unwrap();
    Arc::new(PostgresStore::open(config, Some(Arc::new(clock.clone()))).unwrap())
}

impl Shop {
    /// Closes the store and opens the database again.
    fn reopen(&self) -> impl Fn() -> Arc<PostgresStore> + 'static {
        let (store, url, clock) = (self.store.clone(), self.url.clone(), self.clock.clone());
        move || {
            block_on(store.close()).unwrap();
            open(&url, &clock)
        }
    }
}

orkestra::event_store_suite!(|| {
    let shop = shop()?;
    let reopen = shop.reopen();
    Some(Fixture::<dyn EventStore>::new(shop.store, shop.clock).reopened_by(move || reopen()))
});
orkestra::snapshot_store_suite!(|| {
    let shop = shop()?;
    let reopen = shop.reopen();
    let (server, url) = (shop.server, shop.url);
    let fixture = Fixture::<dyn SnapshotStore>::new(shop.store.clone(), shop.clock)
        .reopened_by(move || reopen())
        // jsonb is always JSON: what can be damaged is what it means.
        .damaged_by(move || {
            server.sql(
                &url,
                "UPDATE orkestra.snapshots SET state = '7', revision = -5",
            );
        })
        .with_events(shop.store);
    Some(fixture)
});
orkestra::checkpoint_store_suite!(|| {
    let shop = shop()?;
    let reopen = shop.reopen();
    Some(Fixture::<dyn CheckpointStore>::new(shop.store, shop.clock).reopened_by(move || reopen()))
});
orkestra::dead_letter_store_suite!(|| {
    let shop = shop()?;
    let reopen = shop.reopen();
    Some(Fixture::<dyn DeadLetterStore>::new(shop.store, shop.clock).reopened_by(move || reopen()))
});
orkestra::outbox_store_suite!(|| {
    let shop = shop()?;
    let reopen = shop.reopen();
    Some(Fixture::<dyn OutboxStore>::new(shop.store, shop.clock).reopened_by(move || reopen()))
});
orkestra::inbox_store_suite!(|| {
    let shop = shop()?;
    let reopen = shop.reopen();
    Some(Fixture::<dyn InboxStore>::new(shop.store, shop.clock).reopened_by(move || reopen()))
});
orkestra::lease_store_suite!(|| {
    let shop = shop()?;
    let reopen = shop.reopen();
    let fixture = Fixture::<dyn LeaseStore>::new(shop.store.clone(), shop.clock)
        .reopened_by(move || reopen())
        .with_checkpoints(shop.store);
    Some(fixture)
});
orkestra::subscription_suite!(|| {
    let shop = shop()?;
    let stores = Arc::new(Stores::of(&shop.store));
    Some(Fixture::<Stores>::new(stores, shop.clock))
});
