//! The payload that every side carries: about 200 bytes as JSON, the one of `python/_shop.py`.

use orkestra::clock::{Clock, IdSource, SystemClock, SystemIds, Timestamp};
use uuid::Uuid;

/// The event's type name.
pub(crate) const TYPE_NAME: &str = "Bench.OrderPlaced";

/// What one event is made of, encoded.
#[derive(Clone)]
pub(crate) struct Order {
    pub(crate) id: Uuid,
    pub(crate) data: String,
    pub(crate) metadata: String,
    pub(crate) occurred_at: Timestamp,
}

/// Makes `count` orders with ids and times of now.
pub(crate) fn orders(count: usize) -> Vec<Order> {
    let (clock, ids) = (SystemClock::default(), SystemIds::default());
    (0..count)
        .map(|number| {
            let now = clock.now();
            let id = ids.next_id(now);
            Order {
                id,
                data: payload(number),
                metadata: metadata(id, now),
                occurred_at: now,
            }
        })
        .collect()
}

/// The fields of order `number` as JSON.
pub(crate) fn payload(number: usize) -> String {
    let notes = "leave it with the neighbour on the left, ring twice; ".repeat(2);
    let tail = number * 7919 % 999_983;
    format!(
        r#"{{"order_id":"order-{number:08}-{tail:06}","product_id":"sku_42","quantity":3,"notes":"{notes}"}}"#
    )
}

fn metadata(id: Uuid, now: Timestamp) -> String {
    format!(
        r#"{{"correlation_id":"{id}","causation_id":null,"actor_id":null,"actor_type":"system","source":null,"issued_at":"{now}"}}"#
    )
}
