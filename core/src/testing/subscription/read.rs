//! What is read, in which order, and how much of it at once.

use std::{sync::atomic::Ordering, thread};

use super::{Shop, by, from, ids, ids_of, next, of, there};
use crate::{
    ports::ExpectedRevision::Any,
    subscription::{Start, Subscription},
    testing::{
        Started, block_on,
        samples::{event, id, orders, stream},
    },
};

pub(super) fn e01_a_transient_reader_from_now_gets_what_is_appended_after(f: &Shop) {
    f.give("order-1", orders([1]));
    let mut reader = f.transient(from(Start::Now));
    block_on(reader.open()).unwrap();
    f.give("order-1", orders([2]));

    assert_eq!(ids_of(&next(&mut reader)), ids([2]));
    let mut waiting = Started::new(reader.next());
    assert!(!waiting.is_done(), "nothing more is there");
    f.give("order-2", orders([3]));

    assert_eq!(ids_of(&waiting.finish().unwrap()), ids([3]));
    assert_eq!(f.checkpoint(), None);
}

pub(super) fn e01_a_reader_of_one_stream(f: &Shop) {
    f.give("order-1", orders([1]));
    f.give("cart-1", orders([2]));
    f.give("order-2", orders([3]));
    let mut reader = f.transient(by(0).stream_prefix("order-2"));

    assert_eq!(there(&mut reader), ids([3]));
    f.give("order-1", orders([4]));
    f.give("order-2", orders([5]));
    assert_eq!(ids_of(&next(&mut reader)), ids([5]));
}

pub(super) fn e02_history_first_then_what_comes(f: &Shop) {
    f.give("order-1", orders(1..=5));
    let mut reader = f.board(by(2));

    let mut history = Vec::new();
    while let Some(batch) = block_on(reader.try_next()).unwrap() {
        assert!(batch.events.len() <= 2);
        assert_eq!(batch.position, batch.events.last().map(|e| e.position));
        block_on(reader.ack(batch.position)).unwrap();
        history.extend(ids_of(&batch));
    }
    assert_eq!(history, ids(1..=5));
    let waiting = Started::new(reader.next());
    f.give("order-1", orders([6]));

    assert_eq!(ids_of(&waiting.finish().unwrap()), ids([6]));
}

pub(super) fn e02_no_gap_and_no_repeat_at_the_seam(f: &Shop) {
    const ALL: u64 = 400;
    f.give("order-0", orders(1..=ALL / 4));
    let mut reader = f.board(by(7));

    let stores = f.shared();
    let seen = thread::scope(|scope| {
        scope.spawn(move || {
            for n in ALL / 4 + 1..=ALL {
                let name = stream(&format!("order-{}", n % 5));
                let append = stores.events.append(name, orders([n]), Any);
                block_on(append).unwrap();
            }
        });
        let mut seen = Vec::new();
        while seen.len() < usize::try_from(ALL).unwrap() {
            let batch = next(&mut reader);
            block_on(reader.ack(batch.position)).unwrap();
            seen.extend(batch.events);
        }
        seen
    });

    let positions: Vec<_> = seen.iter().map(|event| event.position).collect();
    assert!(positions.is_sorted_by(|a, b| a < b), "{positions:?}");
    let mut found: Vec<_> = seen.iter().map(|event| event.id).collect();
    found.sort();
    assert_eq!(found, ids(1..=ALL));
    assert!(there(&mut reader).is_empty());
    assert_eq!(f.checkpoint(), positions.last().copied());
}

pub(super) fn e03_only_what_is_wanted_and_the_checkpoint_moves_over_the_rest(f: &Shop) {
    f.give("cart-1", vec![event(1, "Shop.Carts.Events.ItemAdded")]);
    f.give("order-1", orders([2]));
    let mut reader = f.board(of("orders.#"));

    let batch = next(&mut reader);
    assert_eq!(ids_of(&batch), ids([2]));
    block_on(reader.ack(batch.position)).unwrap();
    let last = f.give("cart-1", vec![event(3, "Shop.Carts.Events.ItemAdded")]);
    assert!(there(&mut reader).is_empty());

    assert_eq!(f.checkpoint(), Some(last));
}

pub(super) fn e03_what_is_handed_out_is_not_passed_over(f: &Shop) {
    let first = f.give("order-1", orders([1]));
    let mut reader = f.board(of("orders.#"));
    let batch = next(&mut reader);
    f.give("cart-1", vec![event(2, "Shop.Carts.Events.ItemAdded")]);

    assert!(there(&mut reader).is_empty());
    assert_eq!(f.checkpoint(), None, "the order is not handled yet");
    block_on(reader.ack(batch.position)).unwrap();

    assert!(f.checkpoint() >= Some(first));
}

pub(super) fn e08_what_is_not_asked_for_is_not_read(f: &Shop) {
    f.give("order-1", orders(1..=100));
    let flaky = f.flaky();
    let mut reader = Subscription::transient(flaky.clone(), by(10));

    let batch = next(&mut reader);

    assert_eq!(batch.events.len(), 10);
    // One batch may be read ahead.
    assert!(flaky.seen.load(Ordering::SeqCst) <= 20);
}

pub(super) fn e08_a_slow_handler_loses_nothing(f: &Shop) {
    let mut reader = f.board(by(3));
    let mut seen = Vec::new();

    for n in 0..10 {
        // Five come for every three that are handled.
        f.give("order-1", orders(5 * n + 1..=5 * n + 5));
        let batch = next(&mut reader);
        block_on(reader.ack(batch.position)).unwrap();
        seen.extend(ids_of(&batch));
    }
    while let Some(batch) = block_on(reader.try_next()).unwrap() {
        block_on(reader.ack(batch.position)).unwrap();
        seen.extend(ids_of(&batch));
    }

    assert_eq!(seen, ids(1..=50));
}

pub(super) fn after_a_position(f: &Shop) {
    let first = f.give("order-1", orders([1]));
    f.give("order-1", orders([2]));

    let mut reader = f.board(from(Start::After(first)));

    assert_eq!(there(&mut reader), ids([2]));
}

pub(super) fn dropping_the_wait_loses_nothing(f: &Shop) {
    let mut reader = f.board(by(0));
    for n in 1..=20 {
        drop(Started::new(reader.next()));
        f.give("order-1", orders([n]));
        let mut waiting = Started::new(reader.next());
        // A store that answers from another thread is asked, and nobody is there to hear it.
        let batch = if waiting.is_done() {
            waiting.finish().unwrap()
        } else {
            drop(waiting);
            next(&mut reader)
        };
        assert_eq!(batch.events.last().map(|e| e.id), Some(id(n)));
        block_on(reader.ack(batch.position)).unwrap();
    }
}
