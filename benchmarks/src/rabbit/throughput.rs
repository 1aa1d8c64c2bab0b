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

/// As [`send`], with messages as Orkestra sends them: what its contract on the wire costs the broker.
pub(crate) async fn send_envelopes(kind: &str) -> Outcome {
    let (mut bare, queue, publication) = envelopes(kind).await?;
    let watch = Stopwatch::start();
    bare.publish(&publication, COUNT, WINDOW.into()).await?;
    let rate = watch.per_second(COUNT);
    bare.delete(&queue).await?;
    Ok(Figure::messages(rate))
}

/// As [`consume`], with messages as Orkestra sends them.
pub(crate) async fn consume_envelopes(kind: &str) -> Outcome {
    let (mut bare, queue, publication) = envelopes(kind).await?;
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

async fn envelopes(kind: &str) -> Result<(Bare, String, Vec<u8>), Box<dyn Error>> {
    let (mut bare, queue) = with_queue(kind).await?;
    bare.bind("bench.commands", &queue, &queue).await?;
    bare.confirm().await?;
    let body = envelope();
    let publication = wire::orkestra_publication(1, "bench.commands", &queue, body.as_bytes());
    Ok((bare, queue, publication))
}

/// The JSON of a command around the payload that every peer sends.
fn envelope() -> String {
    let id = "019506b8-9d2a-7c3e-8f00-0123456789ab";
    format!(
        r#"{{"__type__":"command_envelope","command_type":"Bench.PlaceOrder","command_id":"{id}","params":{},"metadata":{{"correlation_id":"{id}","causation_id":null,"actor_id":null,"actor_type":"system","source":null,"issued_at":"2026-03-27T12:00:00.000000Z"}},"status":"dispatched","attempts":1}}"#,
        String::from_utf8_lossy(&body())
    )
}

async fn receive(bare: &mut Bare) -> Result<u64, Box<dyn Error>> {
    let count = bare.delivered().await?;
    bare.ack_last().await?;
    Ok(count)
}
