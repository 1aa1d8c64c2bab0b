//! What the core warns of, in Python's `logging`.
//!
//! The core logs from threads of its own and in the middle of its work, where nobody may wait for the interpreter: a thread writes the lines.
//! It starts with the first one.

use std::{
    fmt::{self, Write as _},
    sync::{
        LazyLock,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use parking_lot::Mutex;
use pyo3::prelude::*;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
    subscriber::Interest,
};

/// Lines that wait to be written; what comes when they are as many is dropped.
const WAITING: usize = 1024;

/// The levels of `logging`.
const WARNING: u8 = 30;
const ERROR: u8 = 40;

struct Line {
    level: u8,
    text: String,
}

/// Whether lines are written: not while the interpreter ends, and not in a child of a fork whose parent wrote some, which has no thread for it.
static OPEN: AtomicBool = AtomicBool::new(true);

/// Held while a line is written.
static WRITING: Mutex<()> = Mutex::new(());

static LINES: LazyLock<Option<SyncSender<Line>>> = LazyLock::new(|| {
    let (lines, waiting) = sync_channel(WAITING);
    thread::Builder::new()
        .name("orkestra-logs".into())
        .spawn(move || write(&waiting))
        .ok()?;
    STARTED.store(true, Ordering::Release);
    Some(lines)
});

static STARTED: AtomicBool = AtomicBool::new(false);

/// Takes the core's warnings and errors from here on.
pub(crate) fn install(py: Python<'_>) -> PyResult<()> {
    if tracing::subscriber::set_global_default(Core).is_ok() {
        let end = wrap_pyfunction!(close, py)?;
        py.import("atexit")?.call_method1("register", (end,))?;
    }
    Ok(())
}

/// Ends the writing, before the interpreter does.
#[pyfunction(name = "_close_logs")]
fn close(py: Python<'_>) {
    if !OPEN.load(Ordering::Acquire) {
        // A child of a fork: who writes in the parent may have held the lock.
        return;
    }
    py.detach(|| {
        let _writing = WRITING.lock();
        OPEN.store(false, Ordering::Release);
    });
}

/// In the child of a fork.
pub(crate) fn forked() {
    if STARTED.load(Ordering::Acquire) {
        OPEN.store(false, Ordering::Release);
    }
}

fn write(waiting: &Receiver<Line>) {
    while let Ok(line) = waiting.recv() {
        let _writing = WRITING.lock();
        if !OPEN.load(Ordering::Acquire) {
            return;
        }
        Python::try_attach(|py| {
            if let Err(error) = log(py, &line) {
                error.write_unraisable(py, None);
            }
        });
    }
}

fn log(py: Python<'_>, line: &Line) -> PyResult<()> {
    py.import("logging")?
        .call_method1("getLogger", ("orkestra",))?
        .call_method1("log", (line.level, "%s", &line.text))?;
    Ok(())
}

/// The subscriber: warnings and errors of the core, no spans.
struct Core;

fn is_wanted(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    *metadata.level() <= Level::WARN
        && metadata.is_event()
        && (target == "orkestra" || target.starts_with("orkestra::"))
}

impl Subscriber for Core {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if is_wanted(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::WARN)
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        is_wanted(metadata)
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        if !OPEN.load(Ordering::Acquire) {
            return;
        }
        let mut text = Text::default();
        event.record(&mut text);
        let level = match *event.metadata().level() {
            Level::ERROR => ERROR,
            _ => WARNING,
        };
        let text = text.line();
        if let Some(lines) = &*LINES {
            // A full queue has lines enough.
            let _ = lines.try_send(Line { level, text });
        }
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

/// `the message (name=shop.board, position=7)`.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Text {
    fn line(self) -> String {
        if self.fields.is_empty() {
            return self.message;
        }
        format!("{} ({})", self.message, self.fields)
    }

    fn add(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        // Writing to a String does not fail.
        if field.name() == "message" {
            let _ = self.message.write_fmt(value);
            return;
        }
        if !self.fields.is_empty() {
            self.fields.push_str(", ");
        }
        let _ = write!(self.fields, "{}={value}", field.name());
    }
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format_args!("{value:?}"));
    }
}
