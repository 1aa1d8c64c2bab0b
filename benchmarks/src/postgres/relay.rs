//! The relay from the log to RabbitMQ, beside publishing to it straight away. Every event goes into one bound queue.

use std::{
    error::Error,
    future::IntoFuture,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::try_join_all;
use orkestra::{
    Builder, Orkestra, Plan, Settings,
    ports::{ExpectedRevision, Position, RELAY, StreamName},
};

use super::{latency::OrderPlaced, url};
use crate::{
    Figure, Outcome,
    ours::new_event,
    rabbit::{bound_queue, broker_url},
    shop::orders,
    timing::Stopwatch,
};

const COUNT: usize = 20_000;
const STREAMS: usize = 200;
/// How many are published at once without a relay: as many as the relay has under way.
const WINDOW: usize = 256;
const PATIENCE: Duration = Duration::from_secs(60);
const EVENTS: &str = "orkestra.events";

/// Events per second that tasks publish, each waiting for one to be confirmed before its next.
pub(super) async fn publish(kind: &str) -> Outcome {
    let app = builder(kind).store("memory:").start().await?;
    let queue = bound_queue(EVENTS, kind).await?;
    publish_all(&app, COUNT / 10).await?;
    let watch = Stopwatch::start();
    publish_all(&app, COUNT).await?;
    let rate = watch.per_second(COUNT as u64);
    app.close().await?;
    queue.delete().await?;
    Ok(Figure::per_second(rate))
}

/// Events per second that the relay publishes of a log that has them all, the checkpoint included.
pub(super) async fn relay(kind: &str) -> Outcome {
    // The relay begins where the log ends when it is started for the first time.
    builder(kind).store(url()?).start().await?.close().await?;
    let head = fill().await?;
    let queue = bound_queue(EVENTS, kind).await?;
    let app = builder(kind).store(url()?).start().await?;
    let watch = Stopwatch::start();
    let before = app.services().relay_health().and_then(|h| h.position);
    app.caught_up(RELAY, head, PATIENCE).await?;
    let published = head.0 - before.map_or(0, |position| position.0);
    let rate = watch.per_second(published);
    app.close().await?;
    queue.delete().await?;
    Ok(Figure::per_second(rate))
}

/// Appends the events by an app that has no broker, and returns where the log ends.
async fn fill() -> Result<Position, Box<dyn Error>> {
    let mut settings = Settings::default();
    settings.store = Some(url()?);
    let services = Plan::new(settings)?.open("fill")?;
    for (number, batch) in orders(COUNT).chunks(COUNT / STREAMS).enumerate() {
        let stream = StreamName::new(&format!("order-{number}"))?;
        let events = batch.iter().cloned().map(new_event).collect();
        let expected = ExpectedRevision::NoStream;
        services.events.append(stream, events, expected).await?;
    }
    let head = services.events.head().await?.ok_or("the log is empty")?;
    services.close().await?;
    Ok(head)
}

async fn publish_all(app: &Orkestra, count: usize) -> Result<(), Box<dyn Error>> {
    let next = Arc::new(AtomicUsize::new(0));
    let tasks = (0..WINDOW).map(|_| tokio::spawn(publisher(app.clone(), next.clone(), count)));
    for outcome in try_join_all(tasks).await? {
        outcome.map_err(|error| error as Box<dyn Error>)?;
    }
    Ok(())
}

async fn publisher(
    app: Orkestra,
    next: Arc<AtomicUsize>,
    count: usize,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= count {
            return Ok(());
        }
        app.publish(OrderPlaced::new(number)?).into_future().await?;
    }
}

fn builder(kind: &str) -> Builder {
    let bus = format!("{}?queue_type={kind}", broker_url());
    Orkestra::builder("bench").bus(bus)
}
