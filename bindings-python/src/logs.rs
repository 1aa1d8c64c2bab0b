//! What the core warns of, in Python's `logging`.
//!
//! The core logs from threads of its own and in the middle of its work, where nobody may wait for the interpreter: a thread writes the lines.
//! It starts with the first one.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use orkestra::telemetry::Warnings;
use parking_lot::Mutex;
use pyo3::prelude::*;
use tracing::Level;

/// Lines that wait to be written; what comes when they are as many is dropped.
const WAITING: usize = 1024;

/// The levels of `logging`.
const WARNING: u8 = 30;
const ERROR: u8 = 40;

/// How long the end of the interpreter waits for what is written to it.
const PATIENCE: Duration = Duration::from_secs(2);

enum Entry {
    Line {
        level: u8,
        text: String,
    },
    /// Nothing comes after this.
    End(SyncSender<()>),
}

/// Whether lines are taken: not while the interpreter ends, and not in a child of a fork whose parent wrote some, which has no thread for it.
static OPEN: AtomicBool = AtomicBool::new(true);

/// Whether no line is written any more.
static ENDED: AtomicBool = AtomicBool::new(false);

static LINES: LazyLock<Option<SyncSender<Entry>>> = LazyLock::new(|| {
    let (lines, waiting) = sync_channel(WAITING);
    thread::Builder::new()
        .name("orkestra-logs".into())
        .spawn(move || write(&Mutex::new(waiting)))
        .ok()?;
    Some(lines)
});

/// Whether there is a thread, or there is about to be one.
static STARTED: AtomicBool = AtomicBool::new(false);

/// Takes the core's warnings and errors from here on.
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    if Warnings::to(push).install().is_ok() {
        let end = wrap_pyfunction!(close, py)?;
        py.import("atexit")?.call_method1("register", (end,))?;
    }
    Ok(())
}

/// Ends the writing before the interpreter does, once what waits is written.
#[pyfunction(name = "_close_logs")]
fn close(py: Python<'_>) {
    // Not in a child of a fork, which has no thread for it.
    if !OPEN.swap(false, Ordering::AcqRel) || !STARTED.load(Ordering::Acquire) {
        return;
    }
    py.detach(|| {
        let (end, ended) = sync_channel(1);
        if let Some(lines) = &*LINES
            && lines.try_send(Entry::End(end)).is_ok()
        {
            let _ = ended.recv_timeout(PATIENCE);
        }
        ENDED.store(true, Ordering::Release);
    });
}

/// In the child of a fork.
pub(crate) fn forked() {
    if STARTED.load(Ordering::Acquire) {
        OPEN.store(false, Ordering::Release);
    }
}

fn write(waiting: &Mutex<Receiver<Entry>>) {
    // Attached once: in a child of a fork that happens while a thread attaches, the interpreter (3.11) waits for that thread.
    Python::try_attach(|py| {
        while let Ok(entry) = py.detach(|| waiting.lock().recv()) {
            match entry {
                Entry::Line { level, text } => {
                    if ENDED.load(Ordering::Acquire) {
                        return;
                    }
                    if let Err(error) = log(py, level, &text) {
                        error.write_unraisable(py, None);
                    }
                }
                Entry::End(heard) => {
                    let _ = heard.try_send(());
                    return;
                }
            }
        }
    });
}

fn log(py: Python<'_>, level: u8, text: &str) -> PyResult<()> {
    py.import("logging")?
        .call_method1("getLogger", ("orkestra",))?
        .call_method1("log", (level, "%s", text))?;
    Ok(())
}

/// Has a line written, if there is room for it.
fn push(level: Level, text: String) {
    if !OPEN.load(Ordering::Acquire) {
        return;
    }
    let level = match level {
        Level::ERROR => ERROR,
        _ => WARNING,
    };
    // First: a child of a fork that happens now does not wait for a thread that it has not.
    STARTED.store(true, Ordering::Release);
    if let Some(lines) = &*LINES {
        // A full queue has lines enough.
        let _ = lines.try_send(Entry::Line { level, text });
    }
}
