//! lapin as its examples use it: tasks that await their confirms, a stream of deliveries acknowledged one by one.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures_util::{StreamExt, future::try_join_all};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
        ConfirmSelectOptions,
    },
    types::FieldTable,
};

use super::{COUNT, WINDOW, body, broker_url, wire, with_queue};
use crate::{Figure, Outcome, timing::Stopwatch};

/// Messages sent and confirmed per second, each of many tasks waiting for one before its next.
pub(crate) async fn send(kind: &str) -> Outcome {
    let (mut bare, queue) = with_queue(kind).await?;
    let connection = Connection::connect(&broker_url(), ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    let left = Arc::new(AtomicU64::new(COUNT));
    let watch = Stopwatch::start();
    let tasks =
        (0..WINDOW).map(|_| tokio::spawn(sender(channel.clone(), queue.clone(), left.clone())));
    for outcome in try_join_all(tasks).await? {
        outcome?;
    }
    let rate = watch.per_second(COUNT);
    bare.delete(&queue).await?;
    Ok(Figure::messages(rate))
}

async fn sender(channel: Channel, queue: String, left: Arc<AtomicU64>) -> Result<(), lapin::Error> {
    let (body, properties) = (body(), BasicProperties::default().with_delivery_mode(2));
    while left
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
        .is_ok()
    {
        let options = BasicPublishOptions::default();
        let (exchange, queue) = ("".into(), queue.as_str().into());
        channel
            .basic_publish(exchange, queue, options, &body, properties.clone())
            .await?
            .await?;
    }
    Ok(())
}

/// Messages of a full queue received and acknowledged per second.
pub(crate) async fn consume(kind: &str) -> Outcome {
    let (mut bare, queue) = with_queue(kind).await?;
    bare.confirm().await?;
    let publication = wire::publication(1, &queue, &body());
    bare.publish(&publication, COUNT, WINDOW.into()).await?;
    let rate = consume_all(&queue).await?;
    bare.delete(&queue).await?;
    Ok(Figure::messages(rate))
}

async fn consume_all(queue: &str) -> Result<f64, Box<dyn Error>> {
    let connection = Connection::connect(&broker_url(), ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel
        .basic_qos(WINDOW, BasicQosOptions::default())
        .await?;
    let options = BasicConsumeOptions::default();
    let mut consumer = channel
        .basic_consume(queue.into(), "plain".into(), options, FieldTable::default())
        .await?;
    let mut watch = None;
    for _ in 0..COUNT {
        let delivery = consumer.next().await.ok_or("the consumer ended")??;
        watch.get_or_insert_with(Stopwatch::start);
        delivery.ack(BasicAckOptions::default()).await?;
    }
    Ok(watch.map_or(0.0, |watch| watch.per_second(COUNT - 1)))
}
