//! The handle: starts the threads, hands them work, and ends them.

use std::{
    fmt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use parking_lot::Mutex;

use super::{
    SqliteConfig,
    error::{Failure, file_error},
    gate::Gate,
    open::{self, Opened},
    queue::{Queue, Size},
    reader::{Reader, Readers},
    watch::{Owner, Watch},
    writer::{Tx, Writer},
};
use crate::{
    adapters::shared::{
        reply::Reply,
        signal::{Rung, Signal},
    },
    ports::StoreError,
};

/// A store in one SQLite file; it implements every store port. Clones share it.
///
/// # Examples
/// ```
/// # use std::{sync::Arc, path::Path};
/// use orkestra::{adapters::sqlite::{SqliteConfig, SqliteStore}, clock::SystemClock};
///
/// # fn run(path: &Path) -> Result<(), orkestra::ports::StoreError> {
/// let store = SqliteStore::open(SqliteConfig::new(path, Arc::new(SystemClock::default())))?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SqliteStore(Arc<Handle>);

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SqliteStore({})", self.0.path.display())
    }
}

/// Shared by the clones. The threads hold only what they need of it, so that it is dropped with the last clone.
struct Handle {
    path: Arc<Path>,
    /// The process that opened the store: in a fork of it the threads do not exist, and nothing may be touched.
    process: u32,
    gate: Arc<Gate>,
    queue: Arc<Queue>,
    readers: Arc<Readers>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    closed: AtomicBool,
    owner: Owner,
    events: Arc<Signal>,
    checkpoints: Arc<Signal>,
    messages: Arc<Signal>,
    watch: Watch,
}

impl SqliteStore {
    /// Opens the file, makes it if there is none, and brings its tables up to date. Blocks while it does.
    ///
    /// # Errors
    /// [`StoreError::CannotOpen`] (also in a fork of a process that had the file open), [`StoreError::ReadOnly`], [`StoreError::DiskFull`], [`StoreError::NotADatabase`] (also for a database of
    /// another application), [`StoreError::NewerSchema`]; [`StoreError::Locked`] (transient) while another program holds the file.
    pub fn open(config: SqliteConfig) -> Result<Self, StoreError> {
        let Opened {
            conn,
            path,
            gate,
            noted,
        } = open::open(&config)?;
        let noted = Arc::new(noted);
        let path: Arc<Path> = path.into();
        let failed = |e: std::io::Error| file_error(&path, &e);
        let mut owner = Owner::default();
        getrandom::fill(&mut owner).map_err(StoreError::unavailable)?;

        let handle = Handle {
            process: std::process::id(),
            gate: Arc::new(gate),
            queue: Arc::default(),
            readers: Arc::new(Readers::new(Arc::clone(&path), config.busy_timeout)),
            threads: Mutex::default(),
            closed: AtomicBool::new(false),
            owner,
            events: Arc::default(),
            checkpoints: Arc::default(),
            messages: Arc::default(),
            watch: Watch::default(),
            path: Arc::clone(&path),
        };
        let writer = Writer {
            path: Arc::clone(&path),
            gate: Arc::clone(&handle.gate),
            queue: Arc::clone(&handle.queue),
            clock: config.clock,
            busy_timeout: config.busy_timeout,
            owner,
            commits: AtomicU64::new(0),
            events: Arc::clone(&handle.events),
            checkpoints: Arc::clone(&handle.checkpoints),
            messages: Arc::clone(&handle.messages),
        };
        let mut threads = handle
            .readers
            .start(config.readers, &noted)
            .map_err(failed)?;
        threads.push(
            thread::Builder::new()
                .name("orkestra-write".into())
                .spawn(move || writer.run(conn, noted))
                .map_err(failed)?,
        );
        *handle.threads.lock() = threads;
        Ok(Self(Arc::new(handle)))
    }

    /// Queues `work` for the writer now; the reply comes after its commit.
    pub(super) fn write<T, F>(&self, size: Size, work: F) -> Result<Reply<T>, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T, Failure> + Send + 'static,
    {
        self.0.usable()?;
        Ok(self.0.queue.push(size, work))
    }

    /// Queues `read` for one of the readers.
    pub(super) fn read<T, F>(&self, read: F) -> Result<Reply<T>, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Reader<'_>) -> Result<T, Failure> + Send + 'static,
    {
        self.0.usable()?;
        Ok(self.0.readers.read(read))
    }

    /// Ends with the next commit of events after this call; in another process, if this one [watches](Self::watching) since before.
    pub(super) fn stored(&self) -> Rung {
        self.0.events.after(self.0.events.count())
    }

    /// The same for checkpoints.
    pub(super) fn moved(&self) -> Rung {
        self.0.checkpoints.after(self.0.checkpoints.count())
    }

    /// The same for messages in the outbox.
    pub(super) fn enqueued(&self) -> Rung {
        self.0.messages.after(self.0.messages.count())
    }

    /// Whether other processes were watched before this call; if not, they are from now on, and the caller looks once more.
    pub(super) fn watching(&self) -> bool {
        let handle = &self.0;
        if handle.usable().is_err() {
            return true;
        }
        let watched = handle.watch.start(
            handle.gate.lock_path(),
            handle.owner,
            [&handle.events, &handle.checkpoints, &handle.messages],
        );
        if !watched {
            // Others may have looked before the watch began, too, and will find it begun.
            handle.ring();
        }
        watched
    }

    /// Finishes what was accepted, then ends the threads.
    pub(super) async fn shut(&self) -> Result<(), StoreError> {
        let handle = &self.0;
        if handle.in_fork() {
            return Ok(());
        }
        handle.closed.store(true, Ordering::Release);
        // The readers first: the connection that closes last copies the log back, and only the writer's can.
        handle.readers.close().await?;
        handle.queue.close().await?;
        handle.watch.stop();
        handle.ring();
        let threads = std::mem::take(&mut *handle.threads.lock());
        for ended in threads {
            // A waker may have brought us onto the thread itself.
            if ended.thread().id() != thread::current().id() {
                let _ = ended.join();
            }
        }
        Ok(())
    }
}

impl Handle {
    fn in_fork(&self) -> bool {
        std::process::id() != self.process
    }

    /// Wakes all who wait, whatever for.
    fn ring(&self) {
        for signal in [&self.events, &self.checkpoints, &self.messages] {
            signal.ring();
        }
    }

    fn usable(&self) -> Result<(), StoreError> {
        if self.closed.load(Ordering::Acquire) || self.in_fork() {
            return Err(StoreError::Closed {});
        }
        Ok(())
    }
}

impl Drop for Handle {
    /// What was accepted is still written, by the threads, which nobody waits for.
    fn drop(&mut self) {
        if self.in_fork() {
            self.watch.forget();
            std::mem::forget(std::mem::take(self.threads.get_mut()));
            return;
        }
        drop(self.readers.close());
        drop(self.queue.close());
    }
}
