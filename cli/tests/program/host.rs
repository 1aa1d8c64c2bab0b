//! A host whose workers do what their target says: what `tests/worker.rs` starts.
//!
//! | target | the worker |
//! |---|---|
//! | `drain` | prints `ready PID`; on SIGTERM or SIGINT prints `drained PID` and is done |
//! | `starting` | prints `ready PID`, and does not listen to signals yet |
//! | `stubborn` | prints `ready PID`; on a signal prints `refused PID` and goes on |
//! | a number | ends at once with that exit code |
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program of the tests"
)]

use std::ffi::OsString;

use orkestra_cli::{Host, exit};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

#[derive(Debug)]
struct Scripted;

impl Host for Scripted {
    fn command(&self) -> Vec<OsString> {
        vec![std::env::current_exe().unwrap().into()]
    }

    fn run_worker(&self, target: &str) -> i32 {
        if let Ok(code) = target.parse() {
            return code;
        }
        if target == "starting" {
            println!("ready {}", std::process::id());
            loop {
                std::thread::park();
            }
        }
        let mut signals = Signals::new([SIGTERM, SIGINT]).unwrap();
        let pid = std::process::id();
        println!("ready {pid}");
        for _ in signals.forever() {
            if target == "drain" {
                println!("drained {pid}");
                return exit::DONE;
            }
            println!("refused {pid}");
        }
        exit::FAILED
    }
}

fn main() {
    std::process::exit(orkestra_cli::run(std::env::args_os().skip(1), &Scripted));
}
