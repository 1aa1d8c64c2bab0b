//! PostgreSQL: appends beside a bare loop, the way from a commit to a handler, the relay, and logs of many events.

mod bare;
mod latency;
mod relay;

use std::{env, error::Error};

use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, NoTls};

use crate::Outcome;

/// Runs the measurement that `words` name.
pub(crate) fn measure(words: &[&str]) -> Outcome {
    let runtime = runtime()?;
    match words {
        ["append"] => runtime.block_on(bare::append()),
        ["latency", place] => runtime.block_on(latency::measure(place)),
        ["relay", "publish", kind] => runtime.block_on(relay::publish(kind)),
        ["relay", "log", kind] => runtime.block_on(relay::relay(kind)),
        _ => Err(format!("no measurement is called `postgres {}`", words.join(" ")).into()),
    }
}

/// The empty database that run.py made for this process.
#[expect(
    clippy::disallowed_methods,
    reason = "run.py says where by the environment"
)]
pub(crate) fn url() -> Result<String, &'static str> {
    env::var("BENCH_POSTGRES").map_err(|_| "BENCH_POSTGRES is not set")
}

/// A connection of our own.
pub(crate) async fn connect() -> Result<Client, Box<dyn Error>> {
    let (client, connection) = tokio_postgres::connect(&url()?, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

pub(crate) fn runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
}
