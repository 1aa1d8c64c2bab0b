#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod transactions;

use std::sync::Arc;

use orkestra::{
    adapters::postgres::{PostgresConfig, PostgresStore},
    clock::ManualClock,
    ports::{EventStore, SnapshotStore},
    testing::{Fixture, block_on, samples::NOON},
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
