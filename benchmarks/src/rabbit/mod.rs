//! RabbitMQ: sending, consuming, waiting for one message, and coming back; the bare client, lapin used plainly and Orkestra.

mod bare;
mod lapin_plain;
mod latency;
mod ours;
mod recovery;
mod throughput;
mod wire;

use std::{env, error::Error, process};

use lapin::uri::AMQPUri;
use tokio::runtime::{Builder, Runtime};

use self::bare::Bare;
use crate::Outcome;

/// How many messages a measurement sends or consumes.
const COUNT: u64 = 20_000;

/// How many are in flight, and the prefetch of a consumer.
const WINDOW: u16 = 1_000;

/// Runs the measurement that `words` name.
pub(crate) fn measure(words: &[&str]) -> Outcome {
    let runtime = runtime()?;
    match words {
        ["send", "bare", kind] => runtime.block_on(throughput::send(kind)),
        ["send", "bare-envelopes", kind] => runtime.block_on(throughput::send_envelopes(kind)),
        ["consume", "bare-envelopes", kind] => {
            runtime.block_on(throughput::consume_envelopes(kind))
        }
        ["send", "lapin", kind] => runtime.block_on(lapin_plain::send(kind)),
        ["consume", "bare", kind] => runtime.block_on(throughput::consume(kind)),
        ["consume", "lapin", kind] => runtime.block_on(lapin_plain::consume(kind)),
        ["send", "orkestra", kind] => runtime.block_on(ours::send(kind)),
        ["consume", "orkestra", kind] => runtime.block_on(ours::consume(kind)),
        ["latency", "orkestra", kind] => runtime.block_on(ours::latency(kind)),
        ["recovery", event] => runtime.block_on(recovery::measure(event)),
        ["latency", "bare", kind] => runtime.block_on(latency::bare(kind)),
        _ => Err(format!("no measurement is called `rabbit {}`", words.join(" ")).into()),
    }
}

/// The private broker that run.py started.
#[expect(
    clippy::disallowed_methods,
    reason = "run.py says where by the environment"
)]
pub(crate) fn broker_url() -> String {
    env::var("BENCH_AMQP").unwrap_or_else(|_| "amqp://guest:guest@localhost:5672/%2F".to_owned())
}

fn uri() -> Result<AMQPUri, String> {
    broker_url().parse()
}

/// A queue of this process.
fn queue() -> String {
    format!("bench.{}", process::id())
}

/// A connection, and an empty durable queue of the type `kind`.
async fn with_queue(kind: &str) -> Result<(Bare, String), Box<dyn Error>> {
    let mut bare = Bare::connect(&uri()?).await?;
    let queue = queue();
    bare.declare(&queue, kind).await?;
    Ok((bare, queue))
}

/// An empty durable queue that gets whatever is published to `exchange`.
pub(crate) async fn bound_queue(exchange: &str, kind: &str) -> Result<BoundQueue, Box<dyn Error>> {
    let (mut bare, name) = with_queue(kind).await?;
    bare.bind(exchange, &name, "#").await?;
    Ok(BoundQueue { bare, name })
}

/// A queue of [`bound_queue`].
pub(crate) struct BoundQueue {
    bare: Bare,
    name: String,
}

impl BoundQueue {
    /// Deletes it with what is in it.
    pub(crate) async fn delete(mut self) -> Result<(), Box<dyn Error>> {
        self.bare.delete(&self.name).await
    }
}

/// The body that every peer sends.
fn body() -> Vec<u8> {
    crate::shop::payload(1).into_bytes()
}

fn runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
}
