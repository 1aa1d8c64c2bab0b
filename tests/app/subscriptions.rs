//! Where a named reader stands: E02, E04.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use orkestra::{
    Orkestra,
    ports::{
        Checkpoint, CheckpointStore, EventStore, Expected, ExpectedRevision, NewEvent, Position,
        SaveCheckpoint, StoreError, StreamName, TypeFilter,
    },
    subscription::{Start, Subscription, SubscriptionOptions},
};

use crate::{shop::Store, suite};

fn order(n: u128) -> NewEvent {
    NewEvent {
        id: uuid::Uuid::from_u128(n),
        type_name: "Shop.Orders.Events.OrderPlaced".into(),
        version: 1,
        data: "{}".into(),
        metadata: "{}".into(),
        occurred_at: orkestra::clock::Timestamp::from_micros(0),
    }
}

async fn append(events: &dyn EventStore, numbers: impl IntoIterator<Item = u128>) {
    let orders = numbers.into_iter().map(order).collect();
    let stream = StreamName::new("order-1").unwrap();
    events
        .append(stream, orders, ExpectedRevision::Any)
        .await
        .unwrap();
}

fn from_origin(app: &Orkestra) -> Subscription {
    let options = SubscriptionOptions::default().batch_size(2);
    app.subscribe(Some("board"), options).unwrap()
}

async fn place(app: &Orkestra) -> Option<Position> {
    let checkpoints = &app.services().checkpoints;
    let checkpoint = checkpoints.load("shop.board".into()).await.unwrap();
    checkpoint.and_then(|c| c.position)
}

async fn looking_for_more_acknowledges_nothing(store: Arc<Store>) {
    let app = store.app().start().await.unwrap();
    append(&**app.store().unwrap(), 1..=2).await;
    let mut first = from_origin(&app);
    let batch = first.next().await.unwrap();
    assert!(first.try_next().await.unwrap().is_none());
    assert_eq!(place(&app).await, None);
    first.release().await.unwrap();

    let again = from_origin(&app).next().await.unwrap();
    first.ack(batch.position).await.unwrap();

    assert_eq!(again.events, batch.events);
    let head = app.store().unwrap().head().await.unwrap();
    assert_eq!(place(&app).await, head);
    app.close().await.unwrap();
}

/// Another process starts the same subscription, and an event comes, between our look and our save.
#[derive(Debug)]
struct Raced {
    events: Arc<dyn EventStore>,
    checkpoints: Arc<dyn CheckpointStore>,
    over: AtomicBool,
}

#[async_trait]
impl CheckpointStore for Raced {
    async fn load(&self, name: String) -> Result<Option<Checkpoint>, StoreError> {
        let found = self.checkpoints.load(name.clone()).await?;
        if self.over.swap(true, Ordering::SeqCst) {
            return Ok(found);
        }
        let head = self.events.head().await?;
        let other = SaveCheckpoint::expected(Expected::At(None));
        self.checkpoints.save(name, head, other).await?;
        append(&*self.events, 2..=2).await;
        Ok(found)
    }

    async fn save(
        &self,
        name: String,
        position: Option<Position>,
        options: SaveCheckpoint,
    ) -> Result<(), StoreError> {
        self.checkpoints.save(name, position, options).await
    }

    async fn wait_until(&self, name: String, position: Position) -> Result<(), StoreError> {
        self.checkpoints.wait_until(name, position).await
    }
}

async fn of_two_first_starts_the_earlier_place_counts(store: Arc<Store>) {
    let app = store.app().start().await.unwrap();
    let events = Arc::clone(app.store().unwrap());
    append(&*events, 1..=1).await;
    let first = events.head().await.unwrap();
    let raced = Arc::new(Raced {
        events: Arc::clone(&events),
        checkpoints: Arc::clone(&app.services().checkpoints),
        over: AtomicBool::new(false),
    });
    let now = SubscriptionOptions::new(Start::Now, TypeFilter::default());
    let mut late = Subscription::durable(events, raced, "shop.board", now);

    late.open().await.unwrap();

    assert_eq!(place(&app).await, first);
    let next = tokio::time::timeout(Duration::from_secs(60), late.next()).await;
    assert_eq!(next.unwrap().unwrap().events.len(), 1);
    app.close().await.unwrap();
}

suite! {
    in_process {
        looking_for_more_acknowledges_nothing,
        of_two_first_starts_the_earlier_place_counts,
    }
}
