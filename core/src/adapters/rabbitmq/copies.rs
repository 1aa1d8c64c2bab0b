//! What is published of a message that arrived: its retry, its dead letter, its answer.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    Core,
    consumer::Consumer,
    headers::{self, ATTEMPT, FAILURES, FIRST_FAILED, REST, RETURNS, TOPIC},
    ladder,
    publisher::{Content, Done, Item},
    session::Held,
    topology::{DEAD_LETTERS, DELAY_HEADER, RETRY},
};
use crate::{clock::Timestamp, ports::DeadLetter};

/// What is known of the attempts so far.
pub(super) struct Failed {
    pub(super) attempts: u32,
    pub(super) failures: u32,
    pub(super) first_failed_at: Timestamp,
}

/// Lets a message wait, and come back to the consumer's own queue. Without `failed` it only goes on waiting.
pub(super) fn retry(
    core: &Core,
    consumer: &Consumer,
    tag: u64,
    held: Held,
    after: Duration,
    failed: Option<Failed>,
) {
    let (properties, mut headers) = headers::copy(&held.properties);
    headers::put(&mut headers, TOPIC, &held.topic);
    if let Some(failed) = failed {
        // The header counts the attempt to come.
        let next = u64::from(failed.attempts) + 1;
        headers::put_number(&mut headers, ATTEMPT, next);
        headers::put_number(&mut headers, FAILURES, u64::from(failed.failures));
        headers::put(
            &mut headers,
            FIRST_FAILED,
            &failed.first_failed_at.to_string(),
        );
    }
    let step = ladder::step(after);
    if let Some(step) = step {
        headers::put(&mut headers, DELAY_HEADER, &step.rung.to_string());
        if step.rest > 0 {
            headers::put_number(&mut headers, REST, step.rest);
        }
    }
    core.publisher.push(Item {
        content: Content::Copy {
            exchange: step.map_or("", |_| RETRY),
            key: consumer.queue.clone(),
            properties: properties.with_headers(headers),
            body: held.body,
            mandatory: true,
            rung: step.map(|step| step.rung),
        },
        done: Done::Desk(Arc::clone(&consumer.desk), tag),
        deadline: None,
        tries: 0,
    });
}

/// Sends a message to the end of its queue, with a count of its returns that is its own.
pub(super) fn round(core: &Core, consumer: &Consumer, tag: u64, held: Held, more: u32) {
    let (properties, mut headers) = headers::copy(&held.properties);
    headers::put(&mut headers, TOPIC, &held.topic);
    let returns = held.returns.saturating_add(more);
    headers::put_number(&mut headers, RETURNS, u64::from(returns));
    core.publisher.push(Item {
        content: Content::Copy {
            exchange: "",
            key: consumer.queue.clone(),
            properties: properties.with_headers(headers),
            body: held.body,
            mandatory: true,
            rung: None,
        },
        done: Done::Desk(Arc::clone(&consumer.desk), tag),
        deadline: None,
        tries: 0,
    });
}

/// Gives a message up: to the dead letters, with what is known of it.
pub(super) fn bury(core: &Core, consumer: &Consumer, tag: u64, held: Held, letter: &DeadLetter) {
    let (properties, mut headers) = headers::copy(&held.properties);
    headers::put_letter(&mut headers, letter, &consumer.queue);
    core.publisher.push(Item {
        content: Content::Copy {
            exchange: DEAD_LETTERS,
            key: held.topic,
            properties: properties.with_headers(headers),
            body: held.body,
            mandatory: true,
            rung: None,
        },
        done: Done::Desk(Arc::clone(&consumer.desk), tag),
        deadline: None,
        tries: 0,
    });
}

/// Answers who asked. Nobody waits for the confirm: an answer that is lost is a time-out there. One that cannot be published for long is dropped, so
/// that answers do not pile up while the broker takes none.
pub(super) fn reply(core: &Core, held: &Held, body: Bytes) {
    let Some(queue) = held.properties.reply_to() else {
        return;
    };
    let id = held.properties.message_id().as_ref();
    core.publisher.push(Item {
        content: Content::Copy {
            exchange: "",
            key: queue.to_string(),
            properties: headers::reply(id, &core.app),
            body,
            mandatory: false,
            rung: None,
        },
        done: Done::Nobody,
        deadline: Some(Instant::now() + core.config.publish_timeout),
        tries: 0,
    });
}
