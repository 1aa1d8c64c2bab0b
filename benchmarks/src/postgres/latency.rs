//! How long an event takes to a handler when nothing else goes on. The append itself is in it.

use std::time::Duration;

use orkestra::{
    Context, Event, Message, Orkestra,
    ports::{ExpectedRevision, StreamName},
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::mpsc::unbounded_channel,
    time::{sleep, timeout},
};

use super::url;
use crate::{
    Outcome,
    ours::new_event,
    shop::{TYPE_NAME, orders},
    timing::{Stopwatch, quantiles},
};

const SAMPLES: usize = 300;
const WARM_UP: usize = 30;
/// How long nothing happens between two events.
const PAUSE: Duration = Duration::from_millis(4);
const PATIENCE: Duration = Duration::from_secs(30);

/// The event of [`orders`], typed.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct OrderPlaced {
    order_id: String,
    product_id: String,
    quantity: u32,
    notes: String,
}

impl Message for OrderPlaced {
    const TYPE_NAME: &'static str = TYPE_NAME;
}

impl Event for OrderPlaced {}

/// Microseconds from before an append to the handler: of the same app, or of one with connections of its own, as another process has.
pub(super) async fn measure(place: &str) -> Outcome {
    let (arrived, mut arrivals) = unbounded_channel();
    let reader = Orkestra::builder("bench")
        .bus("memory:")
        .store(url()?)
        .event_handler("watch", move |_: OrderPlaced, _: Context| {
            let _ = arrived.send(());
            async { Ok(()) }
        })
        .start()
        .await?;
    let writer = match place {
        "same" => reader.clone(),
        "other" => {
            let builder = Orkestra::builder("writer").bus("memory:");
            builder.store(url()?).start().await?
        }
        _ => return Err(format!("no place is called `{place}`").into()),
    };
    let mut taken = Vec::with_capacity(SAMPLES);
    let stream = StreamName::new("order-1")?;
    for (round, order) in orders(WARM_UP + SAMPLES).into_iter().enumerate() {
        let event = vec![new_event(order)];
        let watch = Stopwatch::start();
        let appending = writer
            .store()?
            .append(stream.clone(), event, ExpectedRevision::Any);
        let (appended, took) = futures_util::join!(appending, async {
            timeout(PATIENCE, arrivals.recv())
                .await
                .map(|_| watch.microseconds())
        });
        appended?;
        if round >= WARM_UP {
            taken.push(took?);
        }
        sleep(PAUSE).await;
    }
    writer.close().await?;
    reader.close().await?;
    quantiles(taken)
}

impl OrderPlaced {
    /// The order of `number`, as the other sides have it.
    pub(super) fn new(number: usize) -> serde_json::Result<Self> {
        serde_json::from_str(&crate::shop::payload(number))
    }
}
