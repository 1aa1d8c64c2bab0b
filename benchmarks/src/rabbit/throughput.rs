//! What one connection of the bare client sends and consumes.

use std::error::Error;

use super::{COUNT, WINDOW, bare::Bare, body, wire, with_queue};
use crate::{Figure, Outcome, timing::Stopwatch};

/// Messages sent and confirmed per second.
pub(crate) async fn send(kind: &str) -> Outcome {
    let (mut bare, queue) = with_queue(kind).await?;
    bare.confirm().await?;
    let publication = wire::publication(1, &queue, &body());
    let watch = Stopwatch::start();
    bare.publish(&publication, COUNT, WINDOW.into()).await?;
    let rate = watch.per_second(COUNT);
    bare.delete(&queue).await?;
    Ok(Figure::messages(rate))
}

/// Messages of a full queue received and acknowledged per second.
pub(crate) async fn consume(kind: &str) -> Outcome {
    let (mut bare, queue) = with_queue(kind).await?;
    bare.confirm().await?;
    let publication = wire::publication(1, &queue, &body());
    bare.publish(&publication, COUNT, WINDOW.into()).await?;
    bare.consume(&queue, WINDOW).await?;
    let mut seen = receive(&mut bare).await?;
    let watch = Stopwatch::start();
    let left = COUNT - seen;
    while seen < COUNT {
        seen += receive(&mut bare).await?;
    }
    let rate = watch.per_second(left);
    bare.delete(&queue).await?;
    Ok(Figure::messages(rate))
}

async fn receive(bare: &mut Bare) -> Result<u64, Box<dyn Error>> {
    let count = bare.delivered().await?;
    bare.ack_last().await?;
    Ok(count)
}
