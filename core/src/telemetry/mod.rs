//! What is traced, and where a trace goes. The call sites are here from the start; exporters come with a later release.

pub mod names;
mod warnings;

use std::{fmt, sync::Arc};

pub use warnings::Warnings;

/// An attribute of a span.
pub type Attribute = (&'static str, String);

/// Takes spans. Implementations must be quick: they are called on the hot path when anything listens at all.
pub trait SpanSink: Send + Sync + fmt::Debug {
    /// A span begins; the answer is handed to [`SpanSink::end`].
    fn start(&self, name: &'static str, attributes: Vec<Attribute>) -> u64;
    /// The span ends, with the error in one line if it failed.
    fn end(&self, span: u64, error: Option<String>);
}

/// One branch that asks whether anything listens.
#[derive(Debug, Clone, Default)]
pub struct Telemetry {
    sink: Option<Arc<dyn SpanSink>>,
}

impl Telemetry {
    /// Nobody listens: a span costs one branch.
    pub fn off() -> Self {
        Self::default()
    }

    /// Spans go to `sink`.
    pub fn to(sink: Arc<dyn SpanSink>) -> Self {
        Self { sink: Some(sink) }
    }

    /// Whether anything listens.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.sink.is_some()
    }

    /// Begins a span; `attributes` is called only when somebody listens. The span ends when the guard is dropped.
    #[inline]
    pub fn span(&self, name: &'static str, attributes: impl FnOnce() -> Vec<Attribute>) -> Span {
        Span(self.sink.as_ref().map(|sink| Open {
            span: sink.start(name, attributes()),
            sink: Arc::clone(sink),
            error: None,
        }))
    }
}

/// An open span.
#[derive(Debug)]
#[must_use = "the span ends when this is dropped"]
pub struct Span(Option<Open>);

#[derive(Debug)]
struct Open {
    span: u64,
    sink: Arc<dyn SpanSink>,
    error: Option<String>,
}

impl Span {
    /// Marks the span as failed.
    pub fn fail(&mut self, error: &dyn fmt::Display) {
        if let Some(open) = &mut self.0 {
            open.error = Some(error.to_string());
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.sink.end(self.span, self.error.take());
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    #[derive(Debug, Default)]
    struct Recorder(Mutex<Vec<String>>);

    impl SpanSink for Recorder {
        fn start(&self, name: &'static str, attributes: Vec<Attribute>) -> u64 {
            let mut lines = self.0.lock();
            lines.push(format!("start {name} {attributes:?}"));
            lines.len() as u64
        }
        fn end(&self, span: u64, error: Option<String>) {
            self.0.lock().push(format!("end {span} {error:?}"));
        }
    }

    #[test]
    fn attributes_are_made_only_when_somebody_listens() {
        let span = Telemetry::off().span(names::COMMAND_DISPATCH, || panic!("nobody listens"));
        drop(span);

        let sink = Arc::new(Recorder::default());
        let telemetry = Telemetry::to(sink.clone());
        let mut span = telemetry.span(names::COMMAND_DISPATCH, || {
            vec![(names::HANDLER, "h".into())]
        });
        span.fail(&"lost");
        drop(span);

        assert_eq!(
            *sink.0.lock(),
            [
                "start orkestra.command.dispatch [(\"orkestra.handler\", \"h\")]",
                "end 1 Some(\"lost\")"
            ]
        );
    }
}
