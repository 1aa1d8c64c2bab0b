//! Messages of the example shop.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    message::{Event, MessageKind, Metadata},
    ports::{
        DeadLetter, DeadLetterReason, DeadLetterStatus, ErrorRecord, NewEvent, Outgoing,
        StreamName, TraceContext,
    },
};

/// 2026-03-27T12:00:00 UTC.
pub const NOON: Timestamp = Timestamp::from_micros(1_774_612_800_000_000);

/// The type of [`order_placed`].
pub const ORDER_PLACED: &str = "Shop.Orders.Events.OrderPlaced";

/// The `n`-th id: different for each `n`, the same every time, increasing with `n`.
pub fn id(n: u64) -> Uuid {
    Uuid::from_u128(0x019d_2f2e_a000_7000_8000_0000_0000_0000 | u128::from(n))
}

/// A checked stream name.
///
/// # Panics
/// If it is not one.
pub fn stream(name: &str) -> StreamName {
    StreamName::new(name).unwrap()
}

/// The event `n` of the type `type_name`.
pub fn event(n: u64, type_name: &str) -> NewEvent {
    Event {
        id: id(n),
        type_name: type_name.into(),
        version: 1,
        data: json!({ "order_id": format!("order-{n}"), "quantity": n })
            .to_string()
            .into(),
        metadata: Metadata::root(id(n), NOON),
        occurred_at: NOON,
    }
    .into()
}

/// The `n`-th order.
pub fn order_placed(n: u64) -> NewEvent {
    event(n, ORDER_PLACED)
}

/// Orders `numbers`, in that order.
pub fn orders(numbers: impl IntoIterator<Item = u64>) -> Vec<NewEvent> {
    numbers.into_iter().map(order_placed).collect()
}

/// An event with every field of the metadata set.
pub fn full_event(n: u64) -> Event {
    let metadata = Metadata {
        actor_id: Some(Arc::from("user_123")),
        actor_type: crate::message::ActorType::User,
        source: Some(Arc::from("web")),
        ..Metadata::root(id(n + 1), NOON).derive(id(n + 2), Timestamp::from_micros(1))
    };
    Event {
        id: id(n),
        type_name: "Shop.Orders.Events.OrderShipped".into(),
        version: 3,
        data: Bytes::from_static(br#"{"order_id":"order-1","parcels":[{"weight":1.5},null]}"#),
        metadata,
        occurred_at: Timestamp::from_micros(1_774_612_800_123_456),
    }
}

/// The command `n`, given up on by `handler` after three attempts within the minute before `at`.
pub fn dead_letter(n: u64, handler: &str, at: Timestamp) -> DeadLetter {
    DeadLetter {
        id: id(1_000_000 + n),
        handler: handler.into(),
        kind: MessageKind::Command,
        message_id: id(n),
        type_name: "Shop.Orders.Commands.PlaceOrder".into(),
        topic: "orders.commands.place_order".into(),
        body: json!({ "__type__": "command_envelope", "command_id": id(n) })
            .to_string()
            .into(),
        requeueable: true,
        reason: DeadLetterReason::RetriesExhausted,
        errors: vec![
            ErrorRecord {
                error_type: "shop.OutOfStock".into(),
                message: format!("no sku_{n} left"),
                trace: "line 1\nline 2".into(),
            },
            ErrorRecord {
                error_type: "TimeoutError".into(),
                message: "the warehouse does not answer".into(),
                trace: String::new(),
            },
        ],
        attempts: 3,
        first_failed_at: Timestamp::from_micros(at.as_micros() - 60_000_000),
        last_failed_at: at,
        correlation_id: id(n).to_string(),
        trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736".into()),
        status: DeadLetterStatus::Dead,
        history: Vec::new(),
    }
}

/// The `n`-th order as a message on its way.
pub fn outgoing(n: u64) -> Outgoing {
    Outgoing {
        kind: MessageKind::Event,
        id: id(n),
        topic: "orders.events.order_placed".into(),
        correlation_id: id(n).to_string().into(),
        body: json!({ "__type__": "event_envelope", "event_id": id(n) })
            .to_string()
            .into(),
        issued_at: NOON,
        max_retries: None,
        trace: TraceContext::default(),
    }
}
