//! Stores that fail in the middle.

use std::sync::{Arc, atomic::Ordering};

use super::{BOARD, Shop, by, flaky::Flaky, ids, ids_of, next};
use crate::{
    ports::StoreError,
    subscription::Subscription,
    testing::{Started, block_on, samples::orders},
};

fn reader(flaky: &Arc<Flaky>) -> Subscription {
    Subscription::durable(flaky.clone(), flaky.clone(), BOARD, by(2))
}

pub(super) fn e10_waits_that_end_early_deliver_everything(f: &Shop) {
    let flaky = f.flaky();
    let mut reader = reader(&flaky);
    for n in 1..=20 {
        flaky.early.store(5, Ordering::SeqCst);
        let waiting = Started::new(reader.next());
        f.give("order-1", orders([n]));

        assert_eq!(ids_of(&waiting.finish().unwrap()), ids([n]));
    }
}

pub(super) fn e10_a_wait_that_fails_is_followed_by_everything_missed(f: &Shop) {
    let flaky = f.flaky();
    let mut reader = reader(&flaky);
    flaky.waits.store(1, Ordering::SeqCst);

    let error = block_on(reader.next()).unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    f.give("order-1", orders(1..=2));

    assert_eq!(ids_of(&next(&mut reader)), ids(1..=2));
}

pub(super) fn e11_a_read_that_fails_is_tried_again_and_nothing_is_skipped(f: &Shop) {
    f.give("order-1", orders(1..=10));
    let flaky = f.flaky();
    let mut reader = reader(&flaky);
    let mut seen = Vec::new();
    let mut failed = 0;

    while seen.len() < 10 {
        flaky.reads.store(1, Ordering::SeqCst);
        match block_on(reader.next()) {
            Ok(batch) => {
                block_on(reader.ack(batch.position)).unwrap();
                seen.extend(ids_of(&batch));
            }
            Err(error) => {
                assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
                failed += 1;
            }
        }
        flaky.reads.store(0, Ordering::SeqCst);
        if let Some(batch) = block_on(reader.try_next()).unwrap() {
            block_on(reader.ack(batch.position)).unwrap();
            seen.extend(ids_of(&batch));
        }
    }

    assert!(failed > 0, "nothing was in the way");
    assert_eq!(seen, ids(1..=10));
}

pub(super) fn e11_an_acknowledgement_that_fails_is_covered_by_the_next(f: &Shop) {
    f.give("order-1", orders(1..=4));
    let flaky = f.flaky();
    let mut reader = reader(&flaky);
    let first = next(&mut reader);
    flaky.saves.store(1, Ordering::SeqCst);
    block_on(reader.ack(first.position)).unwrap_err();
    assert_eq!(f.checkpoint(), None);

    let second = next(&mut reader);
    assert_eq!(ids_of(&second), ids(3..=4), "it is not read again");
    block_on(reader.ack(second.position)).unwrap();

    assert_eq!(f.checkpoint(), second.position);
}

pub(super) fn e11_an_acknowledgement_whose_answer_is_lost_is_covered_by_the_next(f: &Shop) {
    f.give("order-1", orders(1..=8));
    let flaky = f.flaky();
    let mut reader = reader(&flaky);
    let first = next(&mut reader);
    flaky.unheard.store(1, Ordering::SeqCst);
    block_on(reader.ack(first.position)).unwrap_err();
    assert_eq!(f.checkpoint(), first.position);
    block_on(reader.ack(first.position)).unwrap();

    // One that went through unheard, and one after it that did not arrive at all.
    let second = next(&mut reader);
    flaky.unheard.store(1, Ordering::SeqCst);
    block_on(reader.ack(second.position)).unwrap_err();
    let third = next(&mut reader);
    flaky.saves.store(1, Ordering::SeqCst);
    block_on(reader.ack(third.position)).unwrap_err();
    let fourth = next(&mut reader);
    assert_eq!(ids_of(&fourth), ids(7..=8), "nothing is read again");
    block_on(reader.ack(fourth.position)).unwrap();

    assert_eq!(f.checkpoint(), fourth.position);
}

pub(super) fn a_batch_that_reached_nobody_is_read_again(f: &Shop) {
    f.give("order-1", orders(1..=6));
    let mut reader = f.board(by(2));
    let first = next(&mut reader);
    drop(next(&mut reader));
    reader.give_back();
    block_on(reader.ack(first.position)).unwrap();

    let second = next(&mut reader);
    assert_eq!(ids_of(&second), ids(3..=4));
    reader.give_back();
    assert_eq!(ids_of(&next(&mut reader)), ids(3..=4), "and once more");
    assert_eq!(f.checkpoint(), first.position);
}

pub(super) fn closing_the_store_ends_the_wait(f: &Shop) {
    let mut reader = f.board(by(0));
    let mut waiting = Started::new(reader.next());
    assert!(!waiting.is_done());

    block_on(f.log().close()).unwrap();

    let ended = waiting.finish().unwrap_err();
    assert!(matches!(ended, StoreError::Closed {}), "{ended:?}");
}
