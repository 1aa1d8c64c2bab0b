//! Events and snapshots in KurrentDB (`EventStoreDB`), through its official client.
//!
//! It holds events and snapshots only: checkpoints, leases and dead letters need another store. What it can and cannot do, and how events are
//! mapped, is said in `docs/adapters/kurrentdb.md`.
//!
//! The client and its connections run on threads of the store's own, `orkestra-kurrentdb`; callers wait for wakers, so the port's futures
//! need no runtime. Time limits of the network are in real time.
//!
//! ```no_run
//! use std::sync::Arc;
//! use orkestra::{adapters::kurrentdb::{KurrentdbConfig, KurrentdbStore}, ports::EventStore};
//!
//! # fn open() -> Result<(), Box<dyn std::error::Error>> {
//! let config = KurrentdbConfig::parse("kurrentdb://admin:changeit@localhost:2113?tls=false")?;
//! let store: Arc<dyn EventStore> = Arc::new(KurrentdbStore::open(config)?);
//! assert!(!store.capabilities().append_many);
//! # Ok(()) }
//! ```

mod append;
mod config;
mod delete;
mod error;
mod event;
mod event_store;
mod link;
mod probe;
mod read;
mod read_all;
mod recent;
mod snapshot_store;
mod wake;

use std::{
    fmt, process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

pub use config::KurrentdbConfig;
use kurrentdb::Credentials;
use parking_lot::Mutex;
use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::Notify,
};

use self::{
    append::Queues, error::unavailable, link::Link, read_all::Wading, recent::Recent, wake::Watch,
};
use crate::ports::StoreError;

/// Events and snapshots in KurrentDB.
pub struct KurrentdbStore {
    core: Arc<Core>,
}

/// What the tasks of a store share.
struct Core {
    link: Link,
    runtime: Mutex<Option<Started>>,
    queues: Queues,
    recent: Mutex<Recent>,
    wading: Wading,
    watch: Watch,
    /// Told whenever a stream's queue is worked off.
    idle: Notify,
    closed: AtomicBool,
}

/// The store's thread, and the process that started it.
struct Started {
    runtime: Runtime,
    process: u32,
}

impl fmt::Debug for KurrentdbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KurrentdbStore({:?})", self.core.link.config())
    }
}

impl KurrentdbStore {
    /// A store on the server or cluster of `config`. It connects when it is first needed.
    ///
    /// # Errors
    /// [`StoreError::CannotOpen`] names a certificate file that cannot be used.
    pub fn open(config: KurrentdbConfig) -> Result<Self, StoreError> {
        // Another crate in the process may have brought a second provider, and rustls does not choose. An earlier choice stays.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        probe::check_files(&config)
            .map_err(|(path, reason)| StoreError::CannotOpen { path, reason })?;
        Ok(Self {
            core: Arc::new(Core {
                link: Link::new(Arc::new(config)),
                runtime: Mutex::default(),
                queues: Queues::default(),
                recent: Mutex::default(),
                wading: Wading::default(),
                watch: Watch::default(),
                idle: Notify::new(),
                closed: AtomicBool::new(false),
            }),
        })
    }

    /// Runs `task` on the store's thread. Dropping the future does not stop it.
    async fn run<T, Fut>(&self, task: impl FnOnce(Arc<Core>) -> Fut + Send) -> Result<T, StoreError>
    where
        T: Send + 'static,
        Fut: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let handle = self.core.handle()?;
        let done = handle.spawn(task(Arc::clone(&self.core))).await;
        let done = done.unwrap_or_else(|error| {
            if error.is_panic() {
                // The client takes some parts of an answer for granted.
                return Err(StoreError::Corrupt {
                    what: "an answer of the server".into(),
                    reason: "the client cannot read it".into(),
                });
            }
            Err(StoreError::Closed {})
        });
        match done {
            // What was under way when the store was closed.
            Err(StoreError::Unavailable { .. }) if self.core.is_closed() => {
                Err(StoreError::Closed {})
            }
            done => done,
        }
    }

    async fn stop(&self) -> Result<(), StoreError> {
        if self.core.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.core.watch.signal.ring();
        loop {
            let idle = self.core.idle.notified();
            let mut idle = std::pin::pin!(idle);
            idle.as_mut().enable();
            if self.core.queues.close() {
                break;
            }
            idle.await;
        }
        self.core.link.close();
        self.core.stop_thread();
        Ok(())
    }
}

impl Drop for KurrentdbStore {
    fn drop(&mut self) {
        self.core.closed.store(true, Ordering::Release);
        self.core.watch.signal.ring();
        self.core.link.close();
        self.core.stop_thread();
    }
}

impl Core {
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// The store's own runtime, started when it is first needed: so a store that was made before a fork works in the child.
    fn handle(&self) -> Result<Handle, StoreError> {
        if self.is_closed() {
            return Err(StoreError::Closed {});
        }
        let mut runtime = self.runtime.lock();
        if let Some(started) = &*runtime {
            if started.process != process::id() {
                return Err(unavailable(
                    "it was used before this process was forked: open it after the fork",
                ));
            }
            return Ok(started.runtime.handle().clone());
        }
        let started = Builder::new_multi_thread()
            // The second one is for the day that a subscription holds the first one: see `wake`.
            .worker_threads(2)
            .thread_name("orkestra-kurrentdb")
            .enable_all()
            .build()
            .map_err(|error| unavailable(&format!("no thread: {error}")))?;
        let handle = started.handle().clone();
        *runtime = Some(Started {
            runtime: started,
            process: process::id(),
        });
        Ok(handle)
    }

    fn stop_thread(&self) {
        let Some(started) = self.runtime.lock().take() else {
            return;
        };
        if started.process == process::id() {
            started.runtime.shutdown_background();
        } else {
            // The thread is the parent's; here it was never there.
            std::mem::forget(started);
        }
    }

    fn login(&self) -> Option<Credentials> {
        let login = self.link.config().login.clone();
        login.map(|(user, password)| Credentials::new(user, password))
    }
}
