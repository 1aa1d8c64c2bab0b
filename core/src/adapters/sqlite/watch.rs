//! Noticing what other processes commit, by watching the lock file, which they write after each commit.

use std::{fs::File, path::Path, sync::Arc, time::Duration};

use notify::{Config, EventKind, PollWatcher, RecursiveMode, Watcher};
use parking_lot::Mutex;

use super::{
    gate::{Mark, read_mark},
    signal::Signal,
};

/// How often the file is looked at where the system has no way to announce changes.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Watches once somebody has to wait.
#[derive(Default)]
pub(super) struct Watch(Mutex<Option<Box<dyn Watcher + Send>>>);

impl Watch {
    /// Watches `lock` from now on and rings `signals` for each mark that is not `own`. Returns whether it was watched before.
    pub(super) fn start(&self, lock: &Path, own: Mark, signals: &[Arc<Signal>]) -> bool {
        let mut watcher = self.0.lock();
        if watcher.is_some() {
            return true;
        }
        let announced = handler(lock, own, signals.to_vec());
        if let Ok(mut native) = notify::recommended_watcher(announced)
            && native.watch(lock, RecursiveMode::NonRecursive).is_ok()
        {
            *watcher = Some(Box::new(native));
            return false;
        }
        let config = Config::default()
            .with_poll_interval(POLL_INTERVAL)
            .with_compare_contents(true);
        match PollWatcher::new(handler(lock, own, signals.to_vec()), config).and_then(
            |mut polling| {
                polling.watch(lock, RecursiveMode::NonRecursive)?;
                Ok(polling)
            },
        ) {
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
}

fn handler(
    lock: &Path,
    own: Mark,
    signals: Vec<Arc<Signal>>,
) -> impl FnMut(notify::Result<notify::Event>) + Send + 'static {
    // Opened once: opening is an event too.
    let file = File::open(lock).ok();
    move |event| {
        if let Ok(event) = &event
            && !event.need_rescan()
            && matches!(event.kind, EventKind::Access(_))
        {
            return;
        }
        if file.as_ref().and_then(read_mark) == Some(own) {
            // Our own commits ring by themselves, after this mark.
            return;
        }
        for signal in &signals {
            signal.ring();
        }
    }
}
