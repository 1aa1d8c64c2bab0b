//! Noticing what other processes commit, by watching the lock file, which they write after each commit.

use std::{fs::File, path::Path, sync::Arc, time::Duration};

use notify::{Config, EventHandler, EventKind, PollWatcher, RecursiveMode, Watcher};
use parking_lot::Mutex;

use super::gate::{Marks, read_marks};
use crate::adapters::shared::signal::Signal;

/// How often the file is looked at where the system has no way to announce changes.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// What tells the stores apart that are open on a file: the first half of their marks.
pub(super) type Owner = [u8; 8];

/// Watches once somebody has to wait.
#[derive(Default)]
pub(super) struct Watch(Mutex<Option<Box<dyn Watcher + Send>>>);

impl Watch {
    /// Watches `lock` from now on: each of `signals` rings for what other stores than `own` commit, in the order of [`Marks`]. Returns whether it was watched before.
    pub(super) fn start(&self, lock: &Path, own: Owner, signals: [&Arc<Signal>; 3]) -> bool {
        let mut watcher = self.0.lock();
        if watcher.is_some() {
            return true;
        }
        let seen = || Seen::new(lock, own, signals.map(Arc::clone));
        if let Ok(mut native) = notify::recommended_watcher(seen())
            && native.watch(lock, RecursiveMode::NonRecursive).is_ok()
        {
            *watcher = Some(Box::new(native));
            return false;
        }
        let config = Config::default()
            .with_poll_interval(POLL_INTERVAL)
            .with_compare_contents(true);
        let polling = PollWatcher::new(seen(), config).and_then(|mut polling| {
            polling.watch(lock, RecursiveMode::NonRecursive)?;
            Ok(polling)
        });
        match polling {
            Ok(polling) => {
                *watcher = Some(Box::new(polling));
                false
            }
            Err(error) => {
                tracing::warn!(%error, "what other processes append is not noticed while waiting");
                true
            }
        }
    }

    /// Watches no more.
    pub(super) fn stop(&self) {
        let watcher = self.0.lock().take();
        drop(watcher);
    }

    /// Forgets the watcher, in a fork of its process, where its thread does not exist.
    pub(super) fn forget(&mut self) {
        std::mem::forget(self.0.get_mut().take());
    }
}

/// What a watcher saw last.
struct Seen {
    /// Opened once: opening is an event too.
    lock: Option<File>,
    marks: Option<Marks>,
    own: Owner,
    signals: [Arc<Signal>; 3],
}

impl Seen {
    fn new(lock: &Path, own: Owner, signals: [Arc<Signal>; 3]) -> Self {
        let lock = File::open(lock).ok();
        Self {
            marks: lock.as_ref().and_then(read_marks),
            lock,
            own,
            signals,
        }
    }
}

impl EventHandler for Seen {
    fn handle_event(&mut self, event: notify::Result<notify::Event>) {
        if let Ok(event) = &event
            && !event.need_rescan()
            && matches!(event.kind, EventKind::Access(_))
        {
            return;
        }
        let before = self.marks;
        self.marks = self.lock.as_ref().and_then(read_marks);
        for (n, signal) in self.signals.iter().enumerate() {
            let news = match (&before, &self.marks) {
                // Our own commits ring by themselves, after their mark.
                (Some(before), Some(now)) => before[n] != now[n] && !now[n].starts_with(&self.own),
                _ => true,
            };
            if news {
                signal.ring();
            }
        }
    }
}
