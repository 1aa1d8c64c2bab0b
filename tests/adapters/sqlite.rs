#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{path::PathBuf, sync::Arc};

use orkestra::{
    adapters::sqlite::{SqliteConfig, SqliteStore},
    clock::ManualClock,
    ports::{
        CheckpointStore, DeadLetterStore, EventStore, InboxStore, LeaseStore, OutboxStore,
        SnapshotStore,
    },
    testing::{Fixture, block_on, samples::NOON, subscription::Stores},
};

/// A new file, the store in it, and the folder that holds it.
struct Shop {
    folder: tempfile::TempDir,
    file: PathBuf,
    clock: ManualClock,
    store: Arc<SqliteStore>,
}

fn shop() -> Shop {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.db");
    let clock = ManualClock::new(NOON);
    Shop {
        store: open(&file, &clock),
        folder,
        file,
        clock,
    }
}

fn open(file: &PathBuf, clock: &ManualClock) -> Arc<SqliteStore> {
    let config = SqliteConfig::new(file, Arc::new(clock.clone()));
    Arc::new(SqliteStore::open(config).unwrap())
}

impl Shop {
    /// Closes the store and opens the file again.
    fn reopen(&self) -> impl Fn() -> Arc<SqliteStore> + 'static {
        let (store, file, clock) = (self.store.clone(), self.file.clone(), self.clock.clone());
        move || {
            block_on(store.close()).unwrap();
            open(&file, &clock)
        }
    }
}

orkestra::event_store_suite!(|| {
    let shop = shop();
    let reopen = shop.reopen();
    Fixture::<dyn EventStore>::new(shop.store, shop.clock)
        .reopened_by(move || reopen())
        .keeping(shop.folder)
});
orkestra::snapshot_store_suite!(|| {
    let shop = shop();
    let (reopen, file) = (shop.reopen(), shop.file);
    Fixture::<dyn SnapshotStore>::new(shop.store.clone(), shop.clock)
        .reopened_by(move || reopen())
        .damaged_by(move || {
            rusqlite::Connection::open(&file)
                .unwrap()
                .execute("UPDATE orkestra_snapshots SET state = '{\"n\":'", [])
                .unwrap();
        })
        .with_events(shop.store)
        .keeping(shop.folder)
});
orkestra::checkpoint_store_suite!(|| {
    let shop = shop();
    let reopen = shop.reopen();
    Fixture::<dyn CheckpointStore>::new(shop.store, shop.clock)
        .reopened_by(move || reopen())
        .keeping(shop.folder)
});
orkestra::lease_store_suite!(|| {
    let shop = shop();
    let reopen = shop.reopen();
    Fixture::<dyn LeaseStore>::new(shop.store.clone(), shop.clock)
        .reopened_by(move || reopen())
        .with_checkpoints(shop.store)
        .keeping(shop.folder)
});
orkestra::dead_letter_store_suite!(|| {
    let shop = shop();
    let reopen = shop.reopen();
    Fixture::<dyn DeadLetterStore>::new(shop.store, shop.clock)
        .reopened_by(move || reopen())
        .keeping(shop.folder)
});
orkestra::outbox_store_suite!(|| {
    let shop = shop();
    let reopen = shop.reopen();
    Fixture::<dyn OutboxStore>::new(shop.store, shop.clock)
        .reopened_by(move || reopen())
        .keeping(shop.folder)
});
orkestra::inbox_store_suite!(|| {
    let shop = shop();
    let reopen = shop.reopen();
    Fixture::<dyn InboxStore>::new(shop.store, shop.clock)
        .reopened_by(move || reopen())
        .keeping(shop.folder)
});
orkestra::subscription_suite!(|| {
    let shop = shop();
    let reopen = shop.reopen();
    Fixture::<Stores>::new(Arc::new(Stores::of(&shop.store)), shop.clock)
        .reopened_by(move || Arc::new(Stores::of(&reopen())))
        .keeping(shop.folder)
});
