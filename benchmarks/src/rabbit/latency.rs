//! From just before a message is sent to its handler, one message at a time on a quiet broker.

use std::time::Duration;

use super::{bare::Bare, body, uri, wire, with_queue};
use crate::{
    Outcome,
    timing::{Stopwatch, quantiles},
};

/// How many messages are timed, after as many as `WARM_UP`.
pub(super) const SAMPLES: usize = 1_000;
pub(super) const WARM_UP: usize = 100;
/// How long nothing happens between two messages.
pub(super) const PAUSE: Duration = Duration::from_millis(1);

/// The bare client: two connections, one that sends and one that consumes.
pub(crate) async fn bare(kind: &str) -> Outcome {
    let (mut sender, queue) = with_queue(kind).await?;
    sender.confirm().await?;
    let mut consumer = Bare::connect(&uri()?).await?;
    consumer.consume(&queue, 100).await?;
    let publication = wire::publication(1, &queue, &body());
    let mut taken = Vec::with_capacity(SAMPLES);
    for round in 0..WARM_UP + SAMPLES {
        let watch = Stopwatch::start();
        sender.write(&publication).await?;
        consumer.delivered().await?;
        let took = watch.microseconds();
        consumer.ack_last().await?;
        sender.confirmed().await?;
        if round >= WARM_UP {
            taken.push(took);
        }
        tokio::time::sleep(PAUSE).await;
    }
    sender.delete(&queue).await?;
    quantiles(taken)
}
