//! The reader against the memory store, a clock by hand, and views in SQLite.
#![cfg(feature = "sqlite")]

mod live;
mod rebuild;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use async_trait::async_trait;
use rusqlite::Connection;

use super::{
    Mode, Ports, Projection, ProjectionBatch, ProjectionOptions, Refusal, ViewCheckpoint, sqlite,
};
use crate::{
    adapters::memory::MemoryStore,
    background::Background,
    clock::{ManualClock, Timestamp},
    ports::{
        Append, Checkpoint, CheckpointStore, EventStore, ExpectedRevision, NewEvent, Position,
        SaveCheckpoint, StoreError, StreamName, TypeFilter,
    },
    subscription::Pauses,
    topic::Pattern,
};

pub(super) const BOARD: &str = "shop.board";

/// Runs `future`, which waits for nothing but the memory store, the background and the clock; the clock moves on when nothing else does.
pub(super) fn run<T>(shop: &Shop, future: impl Future<Output = T>) -> T {
    let mut future = Box::pin(future);
    for _ in 0..10_000 {
        shop.rest();
        if let Some(output) = poll(&mut future) {
            return output;
        }
        shop.rest();
        // What went on meanwhile may have been what was waited for.
        if let Some(output) = poll(&mut future) {
            return output;
        }
        if let Some(wait) = shop.clock.next_wake() {
            shop.clock.advance(wait);
        }
    }
    panic!("it waits for something else");
}

pub(super) fn poll<T>(future: &mut Pin<Box<impl Future<Output = T>>>) -> Option<T> {
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// A log, a clock and a database for views.
pub(super) struct Shop {
    pub(super) store: Arc<MemoryStore>,
    pub(super) clock: ManualClock,
    pub(super) view: Connection,
    pauses: Pauses,
    next: Cell<u128>,
    /// What goes on beside the readers, of each owner.
    backgrounds: RefCell<HashMap<String, Background>>,
}

pub(super) fn shop() -> Shop {
    let clock = ManualClock::new(Timestamp::from_micros(1_774_612_800_000_000));
    let view = Connection::open_in_memory().unwrap();
    for suffix in ["", "_rebuild"] {
        view.execute_batch(&format!("CREATE TABLE board{suffix} (position INTEGER)"))
            .unwrap();
    }
    Shop {
        store: Arc::new(MemoryStore::new(Arc::new(clock.clone()))),
        clock,
        view,
        pauses: Pauses::default(),
        next: Cell::new(1),
        backgrounds: RefCell::default(),
    }
}

/// Checkpoints that cannot be saved now and then.
#[derive(Debug)]
pub(super) struct Away {
    checkpoints: Arc<dyn CheckpointStore>,
    pub(super) away: AtomicBool,
}

impl Away {
    pub(super) fn new(shop: &Shop) -> Self {
        Self {
            checkpoints: shop.store.clone(),
            away: AtomicBool::new(false),
        }
    }
}

#[async_trait]
impl CheckpointStore for Away {
    async fn load(&self, name: String) -> Result<Option<Checkpoint>, StoreError> {
        self.checkpoints.load(name).await
    }

    async fn save(
        &self,
        name: String,
        position: Option<Position>,
        options: SaveCheckpoint,
    ) -> Result<(), StoreError> {
        if self.away.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable {
                reason: "connection refused".into(),
            });
        }
        self.checkpoints.save(name, position, options).await
    }

    async fn wait_until(&self, name: String, position: Position) -> Result<(), StoreError> {
        self.checkpoints.wait_until(name, position).await
    }
}

pub(super) fn only_orders() -> ProjectionOptions {
    let orders = Pattern::new("orders.#").unwrap();
    ProjectionOptions::new(TypeFilter::new([orders], "Shop"))
}

impl Shop {
    pub(super) fn projection(&self, owner: &str, mode: Mode) -> Projection {
        self.projection_of(owner, mode, &only_orders(), self.pauses.clone())
    }

    /// As in another process: it hears nothing but what is in the store.
    pub(super) fn elsewhere(&self, owner: &str, mode: Mode) -> Projection {
        self.projection_of(owner, mode, &only_orders(), Pauses::default())
    }

    pub(super) fn projection_of(
        &self,
        owner: &str,
        mode: Mode,
        options: &ProjectionOptions,
        pauses: Pauses,
    ) -> Projection {
        let ports = Ports {
            pauses,
            owner: owner.to_owned(),
            background: self.background(owner),
            ..self.ports(self.store.clone())
        };
        Projection::new(ports, BOARD.into(), mode, options)
    }

    /// Ann's live view, whose mirror is kept in `checkpoints`.
    pub(super) fn projection_with(&self, checkpoints: Arc<dyn CheckpointStore>) -> Projection {
        let ports = self.ports(checkpoints);
        Projection::new(ports, BOARD.into(), Mode::Live, &only_orders())
    }

    fn ports(&self, checkpoints: Arc<dyn CheckpointStore>) -> Ports {
        Ports {
            events: self.store.clone(),
            checkpoints,
            leases: self.store.clone(),
            clock: Arc::new(self.clock.clone()),
            background: self.background("ann"),
            pauses: Pauses::default(),
            owner: "ann".into(),
        }
    }

    fn background(&self, owner: &str) -> Background {
        let mut backgrounds = self.backgrounds.borrow_mut();
        backgrounds.entry(owner.to_owned()).or_default().clone()
    }

    /// Returns when all that goes on beside the readers waits for the clock or for them.
    pub(super) fn rest(&self) {
        self.backgrounds
            .borrow()
            .values()
            .for_each(Background::rest);
    }

    /// Moves the clock on, for all who wait for it by then.
    pub(super) fn advance(&self, by: Duration) {
        self.rest();
        self.clock.advance(by);
        self.rest();
    }

    /// As its process dies, or sleeps: nothing of this owner goes on beside its readers.
    pub(super) fn stop(&self, owner: &str) {
        self.background(owner).stop();
    }

    pub(super) fn append(&self, kind: &str, count: usize) {
        let events = (0..count)
            .map(|_| {
                let id = self.next.replace(self.next.get() + 1);
                NewEvent {
                    id: uuid::Uuid::from_u128(id),
                    type_name: format!("Shop.{kind}.Happened").into(),
                    version: 1,
                    data: "{}".into(),
                    metadata: "{}".into(),
                    occurred_at: Timestamp::from_micros(0),
                }
            })
            .collect();
        let append = Append {
            stream: StreamName::new(kind).unwrap(),
            events,
            expected: ExpectedRevision::Any,
        };
        run(self, self.store.append_many(vec![append])).unwrap();
    }

    /// The user's handler: the events of the batch and the checkpoint in one transaction.
    pub(super) fn write(
        &self,
        batch: &ProjectionBatch,
        checkpoint: &ViewCheckpoint,
        suffix: &str,
    ) -> Result<(), Refusal> {
        let tx = self.view.unchecked_transaction().unwrap();
        for position in batch.positions() {
            let sql = format!("INSERT INTO board{suffix} VALUES (?1)");
            tx.execute(&sql, [i64::try_from(position.0).unwrap()])
                .unwrap();
        }
        sqlite::save(&tx, checkpoint).unwrap()?;
        tx.commit().unwrap();
        Ok(())
    }

    /// One batch of `projection` into its view, as a host does it. Returns the positions, or what the view refused.
    pub(super) fn step(&self, projection: &mut Projection) -> Result<Vec<u64>, StoreError> {
        let batch = run(self, projection.next()).unwrap();
        self.handle(projection, &batch)
    }

    pub(super) fn handle(
        &self,
        projection: &mut Projection,
        batch: &ProjectionBatch,
    ) -> Result<Vec<u64>, StoreError> {
        if projection.is_unprepared() {
            if !projection.suffix().is_empty() {
                self.view.execute("DELETE FROM board_rebuild", []).unwrap();
            }
            projection.prepared();
        }
        let checkpoint = projection.checkpoint(batch.position);
        match self.write(batch, &checkpoint, projection.suffix()) {
            Ok(()) => {
                run(self, projection.saved(batch.position))?;
                Ok(batch.positions().map(|p| p.0).collect())
            }
            Err(refusal) => {
                run(self, projection.found(refusal.found)).unwrap();
                Err(refusal.error)
            }
        }
    }

    /// What is in the view.
    pub(super) fn board(&self, suffix: &str) -> Vec<u64> {
        self.numbers(&format!(
            "SELECT position FROM board{suffix} ORDER BY rowid"
        ))
    }

    /// Where the view stands.
    pub(super) fn row(&self, name: &str) -> Vec<u64> {
        self.numbers(&format!(
            "SELECT position FROM orkestra_view_checkpoints WHERE name = '{name}'"
        ))
    }

    fn numbers(&self, sql: &str) -> Vec<u64> {
        let mut statement = self.view.prepare(sql).unwrap();
        let numbers = statement.query_map([], |row| row.get::<_, i64>(0)).unwrap();
        numbers
            .map(|n| u64::try_from(n.unwrap()).unwrap())
            .collect()
    }

    /// Where the state store thinks that it stands.
    pub(super) fn mirror(&self, name: &str) -> Option<Position> {
        run(self, self.store.load(name.into()))
            .unwrap()
            .and_then(|checkpoint| checkpoint.position)
    }
}
