//! The handle: starts the thread, hands it work, and ends it.

use std::{
    fmt,
    future::Future,
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
};

use parking_lot::Mutex;
use tokio::{
    runtime::{Builder, Handle as Runtime},
    sync::oneshot,
    time::Instant,
};

use super::{
    PostgresConfig,
    connect::{Conn, Connector},
    error::Failure,
    hub::Hub,
    listener,
    migrate::migrate,
    names::Names,
    pool::{Lost, Pool, Within, connect_until},
    queue::Queue,
    read::Sizes,
    value::Moment,
    writer::{Writer, listen},
};
use crate::{
    adapters::shared::{
        reply::{Reply, reply},
        signal::Rung,
    },
    clock::Clock,
    ports::{Position, StoreError},
};

/// A store in one schema of a PostgreSQL database; it implements every store port. Clones share it.
///
/// # Examples
/// ```no_run
/// use orkestra::adapters::postgres::{PostgresConfig, PostgresStore};
///
/// # fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let config = PostgresConfig::parse("postgres://shop:secret@localhost/shop")?;
/// let store = PostgresStore::open(config, None)?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct PostgresStore(Arc<Handle>);

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresStore({})", self.0.core.connector.place)
    }
}

/// Shared by the clones. The thread holds only what it needs of it, so that it is dropped with the last clone.
struct Handle {
    core: Arc<Core>,
    runtime: Runtime,
    /// The process that opened the store: in a fork of it the thread does not exist, and nothing may be touched.
    process: u32,
    closed: AtomicBool,
    /// Ends the thread when it is dropped.
    end: Mutex<Option<oneshot::Sender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the tasks of a store share.
pub(super) struct Core {
    pub(super) connector: Arc<Connector>,
    pub(super) pool: Pool,
    /// What the writer is to do.
    pub(super) queue: Queue,
    /// Names by their numbers.
    pub(super) names: Names,
    /// How large events are.
    pub(super) sizes: Sizes,
    /// News of commits.
    pub(super) hub: Arc<Hub>,
    /// Tells the time in place of the database, in tests.
    pub(super) clock: Option<Arc<dyn Clock>>,
}

impl PostgresStore {
    /// Connects, and brings the tables up to date. Blocks while it does: as long as one connection may take, or as the URL's `startup_wait`
    /// says. The time is the database's own unless a `clock` is given.
    ///
    /// # Errors
    /// [`StoreError::AccessDenied`], [`StoreError::NoDatabase`], [`StoreError::PermissionDenied`], [`StoreError::NewerSchema`],
    /// [`StoreError::CannotOpen`]; [`StoreError::Unavailable`] and [`StoreError::Locked`] (transient) while the server is away or another
    /// process migrates.
    pub fn open(config: PostgresConfig, clock: Option<Arc<dyn Clock>>) -> Result<Self, StoreError> {
        let connector = Arc::new(Connector::new(config)?);
        let mut owner = [0; 8];
        getrandom::fill(&mut owner).map_err(StoreError::unavailable)?;
        let core = Arc::new(Core {
            pool: Pool::new(Arc::clone(&connector)),
            queue: Queue::default(),
            names: Names::default(),
            sizes: Sizes::default(),
            hub: Arc::new(Hub::new(owner)),
            clock,
            connector,
        });
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(StoreError::unavailable)?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        let (tell, told) = mpsc::channel();
        let starting = Arc::clone(&core);
        let thread = thread::Builder::new()
            .name("orkestra-postgres".into())
            .spawn(move || {
                runtime.block_on(work(starting, tell, ended));
            })
            .map_err(StoreError::unavailable)?;
        let store = Self(Arc::new(Handle {
            core,
            runtime: handle,
            process: process::id(),
            closed: AtomicBool::new(false),
            end: Mutex::new(Some(end)),
            thread: Mutex::new(Some(thread)),
        }));
        told.recv().map_err(StoreError::unavailable)??;
        Ok(store)
    }

    /// Does `work` on a connection of the pool. If the connection is lost meanwhile, it is done again on another one.
    pub(super) fn read<T, F, Fut>(&self, work: F) -> Result<Reply<T>, StoreError>
    where
        T: Send + 'static,
        F: Fn(Conn) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        self.run(Lost::Again, Within::Statements, work)
    }

    /// Does `work`, which changes something, on a connection of the pool. It goes on when the reply is dropped. Each statement commits.
    pub(super) fn execute<T, F, Fut>(&self, work: F) -> Result<Reply<T>, StoreError>
    where
        T: Send + 'static,
        F: Fn(Conn) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        self.run(Lost::Fail, Within::Statements, work)
    }

    /// Does `work` in one transaction on a connection of the pool. It is done again when it loses against other transactions.
    pub(super) fn transact<T, F, Fut>(&self, work: F) -> Result<Reply<T>, StoreError>
    where
        T: Send + 'static,
        F: Fn(Conn) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        self.run(Lost::Fail, Within::Transaction, work)
    }

    fn run<T, F, Fut>(&self, lost: Lost, within: Within, work: F) -> Result<Reply<T>, StoreError>
    where
        T: Send + 'static,
        F: Fn(Conn) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        self.usable()?;
        let (answer, reply) = reply();
        let core = Arc::clone(&self.0.core);
        self.0.runtime.spawn(async move {
            answer.give(core.pool.run(lost, within, work).await);
        });
        Ok(reply)
    }

    /// Ends with the next commit of events after this call.
    pub(super) fn stored(&self) -> Rung {
        let events = &self.0.core.hub.events;
        events.after(events.count())
    }

    /// How far the last of them told that the log reaches.
    pub(super) fn told(&self) -> Option<Position> {
        self.0.core.hub.told()
    }

    /// The same for checkpoints.
    pub(super) fn moved(&self) -> Rung {
        let checkpoints = &self.0.core.hub.checkpoints;
        checkpoints.after(checkpoints.count())
    }

    /// A checkpoint was moved here: tells those who wait in this process.
    pub(super) fn ring_checkpoints(&self) {
        self.0.core.hub.checkpoints.ring();
    }

    /// Ends with the next message in the outbox after this call.
    pub(super) fn enqueued(&self) -> Rung {
        let messages = &self.0.core.hub.messages;
        messages.after(messages.count())
    }

    /// A message was put into the outbox here: tells those who wait in this process.
    pub(super) fn ring_messages(&self) {
        self.0.core.hub.messages.ring();
    }

    /// The time that is told in place of the database's own, in tests.
    pub(super) fn told_time(&self) -> Option<Moment> {
        self.0.core.clock.as_ref().map(|clock| Moment(clock.now()))
    }

    /// The payload for `pg_notify('{schema}', …)` that tells others of `what`: `checkpoints`.
    pub(super) fn note(&self, what: &str) -> String {
        self.0.core.hub.note(what)
    }

    /// What the tasks share, while the store is open.
    pub(super) fn core(&self) -> Result<&Arc<Core>, StoreError> {
        self.usable()?;
        Ok(&self.0.core)
    }

    fn usable(&self) -> Result<(), StoreError> {
        if self.0.closed.load(Ordering::Acquire) || self.0.in_fork() {
            return Err(StoreError::Closed {});
        }
        Ok(())
    }

    /// Finishes what was accepted, then ends the thread.
    pub(super) async fn shut(&self) -> Result<(), StoreError> {
        let handle = &self.0;
        if handle.in_fork() {
            return Ok(());
        }
        handle.closed.store(true, Ordering::Release);
        let (answer, closed) = reply();
        let written = handle.core.queue.close();
        let core = Arc::clone(&handle.core);
        handle.runtime.spawn(async move {
            core.pool.close().await;
            answer.give(written.await);
        });
        // An error means that somebody else closed it before.
        let _ = closed.await;
        handle.core.hub.stored(None);
        handle.core.hub.checkpoints.ring();
        handle.core.hub.messages.ring();
        handle.end.lock().take();
        let thread = handle.thread.lock().take();
        if let Some(thread) = thread
            && thread.thread().id() != thread::current().id()
        {
            let _ = thread.join();
        }
        Ok(())
    }
}

/// The thread: opens the store, tells how that went, and works until the last handle is gone and all that was accepted is written.
async fn work(
    core: Arc<Core>,
    tell: mpsc::Sender<Result<(), StoreError>>,
    ended: oneshot::Receiver<()>,
) {
    let writer = match start(&core).await {
        Ok(conn) => tokio::spawn(Writer::new(Arc::clone(&core), conn).run()),
        Err(error) => {
            core.queue.end();
            let _ = tell.send(Err(error));
            return;
        }
    };
    if let Some(direct) = core.connector.config.direct() {
        tokio::spawn(listener::listen(Arc::clone(&core), direct));
    }
    let _ = tell.send(Ok(()));
    // Told, or the sender is gone: both are the end.
    let _ = ended.await;
    drop(core.queue.close());
    if let Err(error) = writer.await {
        tracing::error!(%error, "the writer ended badly");
        core.queue.end();
    }
}

/// The first connection, and the tables.
async fn start(core: &Core) -> Result<Conn, StoreError> {
    let connector = &core.connector;
    let limit = Instant::now() + connector.config.startup_wait;
    let hub = Arc::clone(&core.hub);
    let conn = connect_until(connector, limit, move |n| hub.hear(&n)).await?;
    migrate(&conn, connector).await?;
    let listening = listen(core, &conn).await;
    listening.map_err(|failure| failure.into_store_error(&connector.place))?;
    Ok(conn)
}

impl Handle {
    fn in_fork(&self) -> bool {
        process::id() != self.process
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.in_fork() {
            std::mem::forget(self.thread.get_mut().take());
        }
    }
}
