//! What the core warns of, for the app's logger.
//!
//! The core logs from threads of its own: lines wait for a JavaScript thread to ask for the next one.

use std::{
    collections::VecDeque,
    fmt::{self, Write as _},
    future::poll_fn,
    task::{Poll, Waker},
};

use napi_derive::napi;
use orkestra::ports::StoreError;
use parking_lot::Mutex;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
    subscriber::Interest,
};

use crate::bridge::{Bridge, Started};

/// Lines that wait to be taken; what comes when they are as many is dropped.
const WAITING: usize = 1024;

struct Lines {
    waiting: VecDeque<String>,
    /// Of the threads that wait for one.
    wakers: Vec<Waker>,
}

static LINES: Mutex<Lines> = Mutex::new(Lines {
    waiting: VecDeque::new(),
    wakers: Vec::new(),
});

fn push(line: String) {
    let wakers = {
        let mut lines = LINES.lock();
        if lines.waiting.len() < WAITING {
            lines.waiting.push_back(line);
        }
        std::mem::take(&mut lines.wakers)
    };
    for waker in wakers {
        waker.wake();
    }
}

#[napi]
impl Bridge {
    /// Waits for what the core warns of next, in whichever app of the process.
    #[napi]
    pub fn next_warning(&self) -> napi::Result<Started> {
        // Where the process has a subscriber already, that one hears it.
        let _ = tracing::subscriber::set_global_default(Core);
        self.spawner().start(poll_fn(|context| {
            let mut lines = LINES.lock();
            if let Some(line) = lines.waiting.pop_front() {
                return Poll::Ready(Ok::<_, StoreError>(Some(line)));
            }
            lines.wakers.push(context.waker().clone());
            Poll::Pending
        }))
    }
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
        let mut text = Text::default();
        event.record(&mut text);
        push(text.line());
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
