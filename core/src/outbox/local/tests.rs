use std::sync::mpsc;

use super::*;
use crate::{
    adapters::memory::MemoryStore,
    background::Background,
    clock::{ManualClock, ManualIds},
    ports::{DeadLetterFilter, DeadLetterStore, HandlerAddress, OutboxStore},
    telemetry::Telemetry,
    testing::{Started, block_on, samples::outgoing},
    topic::Pattern,
};

#[test]
fn what_is_read_while_it_stops_stays_in_the_outbox() {
    let clock = Arc::new(ManualClock::default());
    let store = Arc::new(MemoryStore::new(clock.clone()));
    let (background, ids) = (Background::default(), Arc::new(ManualIds::default()));
    let desk = Desk {
        dead_letters: Some(store.clone()),
        handled: None,
        clock: clock.clone(),
        ids: ids.clone(),
        background: background.clone(),
        telemetry: Telemetry::off(),
    };
    let (tell, told) = mpsc::channel();
    let (go_on, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let parking = Parking {
        clock: clock.clone(),
        ids,
        dead_letters: store.clone(),
        listener: Some(Arc::new(move |_| {
            tell.send(()).unwrap();
            gate.lock().recv().unwrap();
        })),
    };
    let reader = OutboxReader::new(store.clone(), store.clone(), "ann", clock, background);
    let outbox = LocalOutbox::new(desk, reader, parking);
    let consumer = outbox.consume(ConsumerSpec {
        address: HandlerAddress {
            kind: MessageKind::Event,
            handler: "shop.mail".into(),
            topic: String::new(),
        },
        patterns: vec![Pattern::new("#").unwrap()],
        concurrency: 1,
        prefetch: None,
        inbox: false,
    });
    let nobodys = |n| Outgoing {
        kind: MessageKind::Command,
        ..outgoing(n)
    };
    block_on(store.enqueue(vec![nobodys(1), outgoing(2), nobodys(3)])).unwrap();
    outbox.start();
    // The first one is being parked, with the others to come after it.
    told.recv().unwrap();

    let stopping = Started::new(outbox.stop(Duration::from_secs(5)));
    go_on.send(()).unwrap();
    stopping.finish();

    assert!(consumer.try_take().is_none());
    let left = block_on(store.pending(None, 10)).unwrap();
    let left: Vec<_> = left.into_iter().map(|row| row.message).collect();
    assert_eq!(left, [outgoing(2), nobodys(3)]);
    let letters = block_on(store.list(DeadLetterFilter::default())).unwrap();
    assert_eq!(letters.total, 1);
}
