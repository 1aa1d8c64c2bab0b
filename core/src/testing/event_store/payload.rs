use bytes::Bytes;
use serde_json::{Value, json};

use super::Store;
use crate::{
    message::Event,
    ports::NewEvent,
    testing::samples::{full_event, order_placed},
};

fn value(json: &[u8]) -> Value {
    serde_json::from_slice(json).unwrap()
}

pub(super) fn a14_every_field_reads_back(f: &Store) {
    let events: [Event; 4] = [10, 20, 30, 40].map(full_event);

    f.given("order-1", events.clone().map(NewEvent::from).into());

    let read = f.read("order-1");
    assert_eq!(read, f.all());
    for (revision, (recorded, event)) in read.iter().zip(&events).enumerate() {
        let back = recorded.event().unwrap();
        assert_eq!(value(&back.data), value(&event.data));
        let back = Event {
            data: event.data.clone(),
            ..back
        };
        assert_eq!(&back, event);
        assert_eq!(&*recorded.stream, "order-1");
        assert_eq!(recorded.revision, revision as u64);
    }
}

pub(super) fn a17_odd_payloads_read_back_unchanged(f: &Store) {
    let payloads = [
        json!({}),
        json!({ "text": "x".repeat(1024 * 1024 - 11) }),
        json!({ "emoji": "🛒👩‍🚀", "日本": "語", "escaped": "\" \\ \n \t \u{1} \u{2028}" }),
        json!({ "as_text": "9007199254740993", "digits": "123456789012345678901234567890" }),
        json!({ "n": [0, -1, 1.5, 1e300, 9_007_199_254_740_991_i64, true, null, []] }),
        json!({ "id": 1, "type": 2, "metadata": { "id": 3 }, "stream": 4, "position": 5 }),
    ];
    let events = (1..).zip(&payloads).map(|(n, payload)| NewEvent {
        data: Bytes::from(payload.to_string()),
        ..order_placed(n)
    });

    f.given("order-1", events.collect());

    let read = f.read("order-1");
    assert_eq!(read.len(), payloads.len());
    for (recorded, payload) in read.iter().zip(&payloads) {
        assert!(
            value(&recorded.data) == *payload,
            "revision {}",
            recorded.revision
        );
    }
}
