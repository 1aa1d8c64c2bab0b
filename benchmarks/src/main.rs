//! Measures Orkestra's Rust core beside bare loops; `benchmarks/run.py` runs it.
//!
//! `orkestra-benchmarks JOB SIDE` prints one line of JSON: a value, its unit and facts beside it.

mod bare;
mod dispatch;
mod large;
mod ours;
mod postgres;
mod rabbit;
mod shop;
mod telemetry;
mod timing;
mod topics;

use std::{collections::BTreeMap, env, error::Error, process::ExitCode};

/// What a measurement ends with.
type Outcome = Result<Figure, Box<dyn Error>>;

/// A measured value and its unit, and others by name.
struct Figure {
    value: f64,
    unit: &'static str,
    beside: BTreeMap<&'static str, f64>,
}

impl Figure {
    fn new(value: f64, unit: &'static str) -> Self {
        let beside = BTreeMap::new();
        Self {
            value,
            unit,
            beside,
        }
    }

    fn per_second(value: f64) -> Self {
        Self::new(value, "events/s")
    }

    fn messages(value: f64) -> Self {
        Self::new(value, "msg/s")
    }

    fn microseconds(value: f64) -> Self {
        Self::new(value, "µs")
    }

    /// Adds another value, by name.
    fn beside(mut self, name: &'static str, value: f64) -> Self {
        self.beside.insert(name, value);
        self
    }

    /// What a call takes when `rate` of them were made in a second.
    fn nanoseconds(rate: f64) -> Self {
        Self::new(1e9 / rate, "ns/call")
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match measure(&words) {
        Ok(Figure {
            value,
            unit,
            beside,
        }) => {
            let line = serde_json::json!({ "value": value, "unit": unit, "details": beside });
            #[expect(clippy::print_stdout, reason = "the line that run.py reads")]
            {
                println!("{line}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(words: &[&str]) -> Outcome {
    match words {
        ["append", "bare"] => bare::append(),
        ["read-log", "bare"] => bare::read_log(),
        ["append", store] => ours::append(store),
        ["read-log", store] => ours::read_log(store),
        ["dispatch", "command"] => dispatch::command(),
        ["dispatch", "event"] => dispatch::event(),
        ["telemetry", "span"] => telemetry::span(),
        ["telemetry", "empty"] => telemetry::empty(),
        ["topics", "topic"] => topics::topic(),
        ["topics", "pattern"] => topics::pattern(),
        ["large", store] => large::measure(store),
        ["postgres", words @ ..] => postgres::measure(words),
        ["rabbit", words @ ..] => rabbit::measure(words),
        _ => Err(format!("no measurement is called `{}`", words.join(" ")).into()),
    }
}
