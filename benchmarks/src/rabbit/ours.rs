//! Orkestra on RabbitMQ: commands that are sent, and a handler that counts them.

use std::{
    error::Error,
    future::IntoFuture,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures_util::future::try_join_all;
use orkestra::{Builder, Command, Context, Message, Orkestra};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::{
    COUNT, WINDOW,
    bare::Bare,
    broker_url,
    latency::{PAUSE, SAMPLES, WARM_UP},
    uri,
};
use crate::{
    Figure, Outcome,
    timing::{Stopwatch, quantiles},
};

pub(super) const QUEUE: &str = "orkestra.cmd.place_order";

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct PlaceOrder {
    order_id: String,
    product_id: String,
    quantity: u32,
    notes: String,
}

impl Message for PlaceOrder {
    const TYPE_NAME: &'static str = "Bench.PlaceOrder";
}

impl Command for PlaceOrder {
    type Output = ();
}

/// Messages sent and confirmed per second, each of many tasks waiting for one before its next.
pub(crate) async fn send(kind: &str) -> Outcome {
    declare(kind).await?;
    let app = builder(kind).start().await?;
    send_all(&app, WINDOW.into()).await?;
    let watch = Stopwatch::start();
    send_all(&app, COUNT).await?;
    let rate = watch.per_second(COUNT);
    app.close().await?;
    delete().await?;
    Ok(Figure::messages(rate))
}

/// Messages of a full queue handled and acknowledged per second.
pub(crate) async fn consume(kind: &str) -> Outcome {
    declare(kind).await?;
    let sender = builder(kind).start().await?;
    send_all(&sender, COUNT).await?;
    sender.close().await?;
    let (done, mut ended) = unbounded_channel();
    let seen = Arc::new(AtomicU64::new(0));
    let app = builder(kind)
        .command_handler(move |_: PlaceOrder, _: Context| {
            // The clock is read at the first message and at the last.
            let number = seen.fetch_add(1, Ordering::Relaxed);
            if number == 0 || number == COUNT - 1 {
                let _ = done.send(Stopwatch::start());
            }
            async { Ok(()) }
        })
        .start()
        .await?;
    let first = ended.recv().await.ok_or("the app ended")?;
    ended.recv().await.ok_or("the app ended")?;
    let rate = first.per_second(COUNT - 1);
    app.close().await?;
    delete().await?;
    Ok(Figure::messages(rate))
}

/// From just before a command is sent to its handler, one command at a time.
pub(crate) async fn latency(kind: &str) -> Outcome {
    declare(kind).await?;
    let (arrived, mut arrivals) = unbounded_channel();
    let app = builder_with(kind, arrived).start().await?;
    let mut taken = Vec::with_capacity(SAMPLES);
    for round in 0..WARM_UP + SAMPLES {
        let command = order(round);
        let watch = Stopwatch::start();
        let sending = app.send(command);
        let (sent, took) = futures_util::join!(sending.into_future(), async {
            arrivals.recv().await;
            watch.microseconds()
        });
        sent?;
        if round >= WARM_UP {
            taken.push(took);
        }
        tokio::time::sleep(PAUSE).await;
    }
    app.close().await?;
    delete().await?;
    quantiles(taken)
}

/// An app with the handler, which says when it was called.
pub(super) fn builder_with(kind: &str, arrived: UnboundedSender<()>) -> Builder {
    builder(kind).command_handler(move |_: PlaceOrder, _: Context| {
        let _ = arrived.send(());
        async { Ok(()) }
    })
}

pub(super) fn order(number: usize) -> PlaceOrder {
    PlaceOrder {
        order_id: format!("order-{number:08}-{:06}", number * 7919 % 999_983),
        product_id: "sku_42".into(),
        quantity: 3,
        notes: "leave it with the neighbour on the left, ring twice; ".repeat(2),
    }
}

/// The command's queue, empty: declared by an app that has its handler.
pub(super) async fn declare(kind: &str) -> Result<(), Box<dyn Error>> {
    delete().await?;
    let (arrived, _) = unbounded_channel();
    Ok(builder_with(kind, arrived).start().await?.close().await?)
}

pub(super) async fn delete() -> Result<(), Box<dyn Error>> {
    Bare::connect(&uri()?).await?.delete(QUEUE).await
}

fn builder(kind: &str) -> Builder {
    let bus = format!("{}?queue_type={kind}&prefetch={WINDOW}", broker_url());
    Orkestra::builder("bench").bus(bus).store("memory:")
}

async fn send_all(app: &Orkestra, count: u64) -> Result<(), Box<dyn Error>> {
    let left = Arc::new(AtomicU64::new(count));
    let tasks = (0..WINDOW).map(|_| tokio::spawn(sender(app.clone(), left.clone())));
    for outcome in try_join_all(tasks).await? {
        outcome?;
    }
    Ok(())
}

async fn sender(app: Orkestra, left: Arc<AtomicU64>) -> Result<(), orkestra::Error> {
    let command = order(1);
    while left
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
        .is_ok()
    {
        app.send(command.clone()).await?;
    }
    Ok(())
}
