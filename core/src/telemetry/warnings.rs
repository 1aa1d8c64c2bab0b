//! What the core warns of, for hosts whose language has a logger of its own.

use std::fmt::{self, Write as _};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
    subscriber::Interest,
};

/// A subscriber of `tracing` that hands over the core's warnings and errors, a line each, and nothing else. The host says where they go; a
/// program in Rust has its own subscriber.
pub struct Warnings<F>(F);

impl<F: Fn(Level, String) + Send + Sync + 'static> Warnings<F> {
    /// Lines go to `write`, on whichever thread the core is: it must not wait.
    pub fn to(write: F) -> Self {
        Self(write)
    }

    /// Takes the process's lines from here on.
    ///
    /// # Errors
    /// The process has a subscriber already, which hears them.
    pub fn install(self) -> Result<(), tracing::dispatcher::SetGlobalDefaultError> {
        tracing::subscriber::set_global_default(self)
    }
}

impl<F> fmt::Debug for Warnings<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Warnings").finish_non_exhaustive()
    }
}

fn is_wanted(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    *metadata.level() <= Level::WARN
        && metadata.is_event()
        && (target == "orkestra" || target.starts_with("orkestra::"))
}

impl<F: Fn(Level, String) + Send + Sync + 'static> Subscriber for Warnings<F> {
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
        (self.0)(*event.metadata().level(), text.line());
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn warnings_of_the_core_are_a_line_each_and_nothing_else_is() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&lines);
        let warnings = Warnings::to(move |level, line| {
            heard.lock().unwrap().push((level, line));
        });

        tracing::subscriber::with_default(warnings, || {
            tracing::warn!(target: "orkestra::subscription", name = "shop.board", position = 7, "it stands behind the end");
            tracing::error!(target: "orkestra", error = %"away", "no lease");
            tracing::warn!(target: "orkestra_shop", "another crate's");
            tracing::info!(target: "orkestra", "no warning");
            let _span = tracing::error_span!(target: "orkestra", "span").entered();
        });

        assert_eq!(
            *lines.lock().unwrap(),
            [
                (
                    Level::WARN,
                    "it stands behind the end (name=shop.board, position=7)".to_owned()
                ),
                (Level::ERROR, "no lease (error=away)".to_owned()),
            ]
        );
    }
}
