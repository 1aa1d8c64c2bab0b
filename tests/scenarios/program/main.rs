//! The processes of the scenarios: `worker URL`, a host of `orkestra worker`; `reader URL`, a subscription; `projector URL VIEW PLACE` and
//! `rebuilder URL VIEW PLACE`, which keep a view; `relay BUS STORE` and
//! `consumer BUS STORE`, parts of a service; `clock`, the time. They print reports, one JSON line each.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program of the tests"
)]

mod board;
mod halt;
mod projector;
mod reader;
mod service;
#[path = "../work.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod work;
mod worker;

use std::{ffi::OsString, process};

use orkestra::{
    Error,
    clock::{Clock, SystemClock},
};
use orkestra_cli::{Host, exit};

use work::Report;

#[derive(Debug)]
struct Scenario;

impl Host for Scenario {
    fn command(&self) -> Vec<OsString> {
        vec![std::env::current_exe().unwrap().into()]
    }

    fn run_worker(&self, target: &str) -> i32 {
        run(worker::work(target))
    }
}

fn run(program: impl Future<Output = Result<(), Error>>) -> i32 {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let ended = runtime.block_on(program);
    // A thread may be reading standard input, which does not end.
    runtime.shutdown_background();
    match ended {
        Ok(()) => exit::DONE,
        Err(error) => {
            eprintln!("{error}");
            exit::FAILED
        }
    }
}

fn report(report: &Report) {
    println!("{}", serde_json::to_string(report).unwrap());
}

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    process::exit(match words[..] {
        ["projector", url, view, place] => run(projector::project(url, view, place)),
        ["rebuilder", url, view, place] => run(projector::rebuild(url, view, place)),
        ["reader", url] => run(reader::read(url)),
        ["relay", bus, store] => run(service::serve(service::builder(bus, store))),
        ["consumer", bus, store] => run(service::serve(service::handling(service::builder(
            bus, store,
        )))),
        ["clock"] => {
            let micros = SystemClock::default().now().as_micros();
            report(&Report::Clock { micros });
            exit::DONE
        }
        _ => orkestra_cli::run(arguments, &Scenario),
    });
}
