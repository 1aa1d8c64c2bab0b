//! How long after broken connections, or after the broker is back, a handler is called again.

use std::{env, error::Error, process::Stdio, time::Duration};

use orkestra::clock::{Clock, IdSource, SystemClock, SystemIds};
use tokio::{
    process::{Child, Command},
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::{sleep, timeout},
};

use super::{
    bare::Bare,
    ours::{self, QUEUE},
    uri, wire,
};
use crate::{Figure, Outcome, shop::payload, timing::Stopwatch};

/// How often the bare client tries whether the broker is there.
const PROBE: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(60);

/// Milliseconds until a command is handled: after all connections are closed, or after a stopped broker is back.
pub(crate) async fn measure(event: &str) -> Outcome {
    let (erlang, repeats) = match event {
        "connections" => (
            "rabbit_networking:close_connections(rabbit_networking:connections(), \"bench\").",
            5,
        ),
        "broker" => ("rabbit:stop(), rabbit:start().", 1),
        _ => return Err(format!("nothing called `{event}` happens to a broker").into()),
    };
    ours::declare("quorum").await?;
    let (arrived, mut arrivals) = unbounded_channel();
    let app = ours::builder_with("quorum", arrived).start().await?;
    let mut taken = Vec::with_capacity(repeats);
    for _ in 0..repeats {
        let mut witness = Bare::connect(&uri()?).await?;
        publish(&mut witness).await?;
        handled(&mut arrivals).await?;
        let mut closing = evaluate(erlang)?;
        // Whoever waits for a message hears of the end at once.
        let ended = timeout(PATIENCE, witness.delivered()).await?;
        let closed = Stopwatch::start();
        if ended.is_ok() {
            return Err("the connections were not closed".into());
        }
        back().await?;
        let watch = if event == "broker" {
            Stopwatch::start()
        } else {
            closed
        };
        handled(&mut arrivals).await?;
        taken.push(watch.microseconds() / 1e3);
        closing.wait().await?;
    }
    app.close().await?;
    ours::delete().await?;
    taken.sort_by(f64::total_cmp);
    let (median, most) = (taken[repeats / 2], taken[repeats - 1]);
    Ok(Figure::new(median, "ms").beside("most", most))
}

/// Returns when the broker has confirmed a command of a new connection.
async fn back() -> Result<(), Box<dyn Error>> {
    let watch = Stopwatch::start();
    loop {
        let tried = async {
            let mut probe = Bare::connect(&uri()?).await?;
            publish(&mut probe).await
        };
        match tried.await {
            Ok(()) => return Ok(()),
            Err(error) if watch.microseconds() > PATIENCE.as_secs_f64() * 1e6 => return Err(error),
            Err(_) => sleep(PROBE).await,
        }
    }
}

async fn handled(arrivals: &mut UnboundedReceiver<()>) -> Result<(), Box<dyn Error>> {
    let arrived = timeout(PATIENCE, arrivals.recv()).await?;
    arrived.ok_or_else(|| "the app ended".into())
}

/// Puts a command into the queue, as another service would, and waits for the confirm.
async fn publish(bare: &mut Bare) -> Result<(), Box<dyn Error>> {
    let id = SystemIds::default().next_id(SystemClock::default().now());
    let body = format!(
        r#"{{"__type__":"command_envelope","command_type":"Bench.PlaceOrder","command_id":"{id}","params":{}}}"#,
        payload(1)
    );
    bare.confirm().await?;
    bare.write(&wire::publication(1, QUEUE, body.as_bytes()))
        .await?;
    bare.confirmed().await
}

/// Evaluates Erlang in the broker's node, by the command that run.py gives.
#[expect(
    clippy::disallowed_methods,
    reason = "run.py says how by the environment"
)]
fn evaluate(erlang: &str) -> Result<Child, Box<dyn Error>> {
    let words = env::var("BENCH_BROKER").map_err(|_| "BENCH_BROKER is not set")?;
    let mut words = words.split_whitespace();
    let program = words.next().ok_or("BENCH_BROKER is empty")?;
    let mut command = Command::new(program);
    command.args(words).arg(erlang).stdout(Stdio::null());
    Ok(command.spawn()?)
}
