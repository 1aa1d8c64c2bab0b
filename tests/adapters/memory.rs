use std::sync::Arc;

use orkestra::{
    adapters::memory::MemoryStore,
    clock::ManualClock,
    ports::{
        CheckpointStore, DeadLetterStore, EventStore, InboxStore, LeaseStore, OutboxStore,
        SnapshotStore,
    },
    testing::{Fixture, samples::NOON, subscription::Stores},
};

fn memory() -> (Arc<MemoryStore>, ManualClock) {
    let clock = ManualClock::new(NOON);
    (Arc::new(MemoryStore::new(Arc::new(clock.clone()))), clock)
}

orkestra::event_store_suite!(|| {
    let (store, clock) = memory();
    Fixture::<dyn EventStore>::new(store, clock)
});
orkestra::snapshot_store_suite!(|| {
    let (store, clock) = memory();
    Fixture::<dyn SnapshotStore>::new(store.clone(), clock).with_events(store)
});
orkestra::checkpoint_store_suite!(|| {
    let (store, clock) = memory();
    Fixture::<dyn CheckpointStore>::new(store, clock)
});
orkestra::lease_store_suite!(|| {
    let (store, clock) = memory();
    Fixture::<dyn LeaseStore>::new(store.clone(), clock).with_checkpoints(store)
});
orkestra::dead_letter_store_suite!(|| {
    let (store, clock) = memory();
    Fixture::<dyn DeadLetterStore>::new(store, clock)
});
orkestra::outbox_store_suite!(|| {
    let (store, clock) = memory();
    Fixture::<dyn OutboxStore>::new(store, clock)
});
orkestra::inbox_store_suite!(|| {
    let (store, clock) = memory();
    Fixture::<dyn InboxStore>::new(store, clock)
});
orkestra::subscription_suite!(|| {
    let (store, clock) = memory();
    Fixture::<Stores>::new(Arc::new(Stores::of(&store)), clock)
});
