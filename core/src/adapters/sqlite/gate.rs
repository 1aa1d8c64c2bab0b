//! A fair queue of processes that want to write the same file.
//!
//! SQLite's own busy handler sleeps and tries again, so that a busy writer starves the others. Here a writer locks the gate file, then
//! the lock file, and lets go of the gate: whoever comes back after writing finds the gate taken by the next one and has to line up.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};

/// What a commit leaves in the lock file: the store that wrote, and a number that it never uses again.
pub(super) type Mark = [u8; 16];

/// The content of the lock file: the marks of the last commit of events, of checkpoints, and of messages in the outbox.
pub(super) type Marks = [Mark; 3];

/// The two files, opened by one store.
pub(super) struct Gate {
    files: Arc<Files>,
    lock_path: PathBuf,
}

struct Files {
    gate: File,
    lock: File,
    helper: Mutex<Helper>,
    changed: Condvar,
}

/// What the thread that waits for the locks is up to. Only waiting is its task: a free lock is taken without it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Helper {
    /// There is no thread yet.
    None,
    Idle,
    /// It is to take the turn.
    Asked,
    /// It has taken the turn, which now belongs to the writer.
    Granted,
    /// Nobody wants the turn any more; it gives it back when it gets it.
    Abandoned,
    /// It is to end.
    Closed,
}

/// The right to write, or the knowledge that it did not come in time: then SQLite's own locks have to do. Ends when dropped.
pub(super) struct Turn<'a> {
    files: &'a Files,
    pub(super) held: bool,
}

impl Gate {
    /// Opens `<database>-gate` and `<database>-lock`, and makes them if there are none.
    pub(super) fn open(database: &Path) -> io::Result<Self> {
        let open = |suffix: &str| -> io::Result<(File, PathBuf)> {
            let path = beside(database, suffix);
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)?;
            Ok((file, path))
        };
        let (gate, _) = open("-gate")?;
        let (lock, lock_path) = open("-lock")?;
        let marks = Marks::default();
        let length = usize::try_from(lock.metadata()?.len()).unwrap_or(usize::MAX);
        if let Some(missing) = marks.as_flattened().get(length..) {
            // Its block is taken now, so that a mark can be left on a full disk.
            (&lock).seek(SeekFrom::Start(length as u64))?;
            (&lock).write_all(missing)?;
        }
        Ok(Self {
            files: Arc::new(Files {
                gate,
                lock,
                helper: Mutex::new(Helper::None),
                changed: Condvar::new(),
            }),
            lock_path,
        })
    }

    /// The lock file, which changes with every commit.
    pub(super) fn lock_path(&self) -> &Path {
        &self.lock_path
    }

    /// Waits for this store's turn, at most for `patience`. Only one thread of a store may ask.
    pub(super) fn turn(&self, patience: Duration) -> Turn<'_> {
        let held = self.files.take_at_once() || self.wait(patience);
        Turn {
            files: &self.files,
            held,
        }
    }

    fn wait(&self, patience: Duration) -> bool {
        let mut helper = self.files.helper.lock();
        match *helper {
            Helper::Abandoned | Helper::Closed => return false,
            Helper::None => {
                let files = Arc::clone(&self.files);
                let started = thread::Builder::new()
                    .name("orkestra-gate".into())
                    .spawn(move || files.help());
                if started.is_err() {
                    let _ = self.files.gate.unlock();
                    return false;
                }
            }
            _ => {}
        }
        *helper = Helper::Asked;
        self.files.changed.notify_all();
        while *helper == Helper::Asked {
            if self
                .files
                .changed
                .wait_for(&mut helper, patience)
                .timed_out()
                && *helper == Helper::Asked
            {
                *helper = Helper::Abandoned;
                return false;
            }
        }
        *helper = Helper::Idle;
        true
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        *self.files.helper.lock() = Helper::Closed;
        self.files.changed.notify_all();
    }
}

impl Files {
    /// Takes the turn if nobody has it and nobody waits for it.
    fn take_at_once(&self) -> bool {
        // A lock belongs to the open file, which the helper shares: while it waits, nobody else of this store may lock.
        if *self.helper.lock() == Helper::Abandoned || self.gate.try_lock().is_err() {
            return false;
        }
        let taken = self.lock.try_lock().is_ok();
        if taken {
            let _ = self.gate.unlock();
        }
        // Otherwise the gate stays ours, and the helper waits for the lock alone.
        taken
    }

    fn help(&self) {
        loop {
            {
                let mut helper = self.helper.lock();
                while !matches!(*helper, Helper::Asked | Helper::Closed) {
                    self.changed.wait(&mut helper);
                }
                if *helper == Helper::Closed {
                    return;
                }
            }
            let taken = self.gate.lock().and_then(|()| self.lock.lock());
            let _ = self.gate.unlock();
            let mut helper = self.helper.lock();
            match *helper {
                Helper::Asked if taken.is_ok() => *helper = Helper::Granted,
                Helper::Asked => *helper = Helper::Abandoned,
                Helper::Closed => return,
                _ => {
                    let _ = self.lock.unlock();
                    *helper = Helper::Idle;
                }
            }
            self.changed.notify_all();
            while matches!(*helper, Helper::Granted) {
                self.changed.wait(&mut helper);
            }
        }
    }
}

impl Turn<'_> {
    /// Tells the watchers of other stores that something was committed; `place` is its place in [`Marks`].
    pub(super) fn leave_mark(&self, place: u64, mark: &Mark) {
        let mut lock = &self.files.lock;
        let start = place * size_of::<Mark>() as u64;
        let _ = lock
            .seek(SeekFrom::Start(start))
            .and_then(|_| lock.write_all(mark));
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.held {
            let _ = self.files.lock.unlock();
        }
    }
}

/// The marks in an open lock file, `None` if they cannot be read.
pub(super) fn read_marks(mut lock: &File) -> Option<Marks> {
    let mut marks = Marks::default();
    lock.seek(SeekFrom::Start(0)).ok()?;
    lock.read_exact(marks.as_flattened_mut()).ok()?;
    Some(marks)
}

/// The file beside `database` whose name ends with `suffix`.
pub(super) fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
