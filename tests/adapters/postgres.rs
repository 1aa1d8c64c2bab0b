#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod connection;
mod numbers;
mod staging;
mod transactions;
mod trouble;

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

/// A place of its own, and the store in it.
struct Shop {
    server: Server,
    url: String,
    clock: ManualClock,
    store: Arc<PostgresStore>,
}

/// One in a database of its own.
fn shop() -> Option<Shop> {
    let server = shared()?;
    let url = server.database("adapters");
    Some(shop_at(server, url))
}

/// One in a schema of its own: enough for the suites.
fn shop_among_others() -> Option<Shop> {
    let server = shared()?;
    let url = server.schema("adapters");
    Some(shop_at(server, url))
}

fn shop_at(server: Server, url: String) -> Shop {
    let clock = ManualClock::new(NOON);
    Shop {
        store: open(&url, &clock),
        server,
        url,
        clock,
    }
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
    let shop = shop_among_others()?;
    let reopen = shop.reopen();
    Some(Fixture::<dyn EventStore>::new(shop.store, shop.clock).reopened_by(move || reopen()))
});
orkestra::snapshot_store_suite!(|| {
    let shop = shop_among_others()?;
    let reopen = shop.reopen();
    let (server, url) = (shop.server, shop.url);
    let (_, schema) = url.split_once("?schema=").unwrap();
    let schema = schema.to_owned();
    let fixture = Fixture::<dyn SnapshotStore>::new(shop.store.clone(), shop.clock)
        .reopened_by(move || reopen())
        // jsonb is always JSON: what can be damaged is what it means.
        .damaged_by(move || {
            server.sql(
                &url,
                &format!("UPDATE {schema}.snapshots SET state = '7', revision = -5"),
            );
        })
        .with_events(shop.store);
    Some(fixture)
});
orkestra::checkpoint_store_suite!(|| {
    let shop = shop_among_others()?;
    let reopen = shop.reopen();
    Some(Fixture::<dyn CheckpointStore>::new(shop.store, shop.clock).reopened_by(move || reopen()))
});
orkestra::dead_letter_store_suite!(|| {
    let shop = shop_among_others()?;
    let reopen = shop.reopen();
    Some(Fixture::<dyn DeadLetterStore>::new(shop.store, shop.clock).reopened_by(move || reopen()))
});
orkestra::outbox_store_suite!(|| {
    let shop = shop_among_others()?;
    let reopen = shop.reopen();
    Some(Fixture::<dyn OutboxStore>::new(shop.store, shop.clock).reopened_by(move || reopen()))
});
orkestra::inbox_store_suite!(|| {
    let shop = shop_among_others()?;
    let reopen = shop.reopen();
    Some(Fixture::<dyn InboxStore>::new(shop.store, shop.clock).reopened_by(move || reopen()))
});
orkestra::lease_store_suite!(|| {
    let shop = shop_among_others()?;
    let reopen = shop.reopen();
    let fixture = Fixture::<dyn LeaseStore>::new(shop.store.clone(), shop.clock)
        .reopened_by(move || reopen())
        .with_checkpoints(shop.store);
    Some(fixture)
});
orkestra::subscription_suite!(|| {
    let shop = shop_among_others()?;
    let reopen = shop.reopen();
    let stores = Arc::new(Stores::of(&shop.store));
    let fixture = Fixture::<Stores>::new(stores, shop.clock)
        .reopened_by(move || Arc::new(Stores::of(&reopen())));
    Some(fixture)
});
