//! Where a reader goes on.

use super::{Shop, by, from, ids, ids_of, next, there};
use crate::{
    ports::{DeleteMode, ExpectedRevision, Position, StoreError},
    subscription::Start,
    testing::{
        block_on,
        samples::{orders, stream},
        skip,
    },
};

pub(super) fn e04_what_was_not_acknowledged_comes_again(f: &Shop) {
    f.give("order-1", orders(1..=3));
    let mut first = f.board(by(1));
    let batch = next(&mut first);
    block_on(first.ack(batch.position)).unwrap();
    assert_eq!(ids_of(&next(&mut first)), ids([2]));
    drop(first);

    let mut again = f.board(by(1));

    assert_eq!(ids_of(&next(&mut again)), ids([2]));
    assert_eq!(ids_of(&next(&mut again)), ids([3]));
}

pub(super) fn e05_what_was_acknowledged_does_not(f: &Shop) {
    f.give("order-1", orders(1..=2));
    let mut first = f.board(by(0));
    let batch = next(&mut first);
    block_on(first.ack(batch.position)).unwrap();
    drop(first);
    let mut again = f.board(by(0));

    assert!(there(&mut again).is_empty());
    f.give("order-1", orders([3]));

    assert_eq!(there(&mut again), ids([3]));
}

pub(super) fn e04_after_reopening(f: &mut Shop) {
    f.give("order-1", orders(1..=3));
    let mut first = f.board(by(1));
    let batch = next(&mut first);
    block_on(first.ack(batch.position)).unwrap();
    drop(first);

    if !f.reopen() {
        return skip("e04_after_reopening", "the adapter is not durable");
    }

    assert_eq!(there(&mut f.board(by(0))), ids([2, 3]));
}

pub(super) fn e12_a_batch_handled_in_part_is_read_again(f: &Shop) {
    f.give("order-1", orders(1..=4));
    let mut reader = f.board(by(3));
    let batch = next(&mut reader);
    let first = batch.events[0].position;

    block_on(reader.ack(Some(first))).unwrap();
    reader.rewind(Some(first));

    assert_eq!(ids_of(&next(&mut reader)), ids(2..=4));
}

pub(super) fn now_means_the_first_start(f: &Shop) {
    f.give("order-1", orders([1]));
    let mut first = f.board(from(Start::Now));
    block_on(first.open()).unwrap();
    drop(first);
    // While nobody reads.
    f.give("order-1", orders([2]));

    let mut again = f.board(from(Start::Now));

    assert_eq!(there(&mut again), ids([2]));
}

pub(super) fn an_earlier_acknowledgement_moves_nothing_back(f: &Shop) {
    f.give("order-1", orders(1..=2));
    let mut reader = f.board(by(1));
    let first = next(&mut reader);
    let second = next(&mut reader);
    block_on(reader.ack(second.position)).unwrap();

    block_on(reader.ack(first.position)).unwrap();

    assert_eq!(f.checkpoint(), second.position);
    assert!(there(&mut reader).is_empty());
}

pub(super) fn names_are_independent(f: &Shop) {
    f.give("order-1", orders([1]));
    let mut board = f.board(by(0));
    let batch = next(&mut board);
    block_on(board.ack(batch.position)).unwrap();

    assert_eq!(there(&mut f.named("shop.mail", by(0))), ids([1]));
}

pub(super) fn a_checkpoint_behind_the_end_of_the_log_is_not_waited_for(f: &Shop) {
    let head = f.give("order-1", orders(1..=2));
    let beyond = Position(head.0 + 1000);
    f.reset(Some(beyond)).unwrap();

    let mut reader = f.board(by(0));

    assert!(there(&mut reader).is_empty(), "what is there is not new");
    assert_eq!(f.checkpoint(), Some(head));
    f.give("order-1", orders([3]));
    assert_eq!(there(&mut reader), ids([3]));
    // On an empty log too, and without a name.
    let mut transient = f.transient(from(Start::After(beyond)));
    assert!(there(&mut transient).is_empty());
    f.give("order-1", orders([4]));
    assert_eq!(there(&mut transient), ids([4]));
}

pub(super) fn deleting_the_end_of_the_log_repeats_nothing(f: &Shop) {
    f.give("order-1", orders([1]));
    f.give("order-2", orders([2]));
    let mut first = f.board(by(0));
    let batch = next(&mut first);
    block_on(first.ack(batch.position)).unwrap();
    drop(first);
    match remove(f, "order-2") {
        Ok(_) => {}
        Err(error) => {
            let reason = error.to_string();
            return skip("deleting_the_end_of_the_log_repeats_nothing", &reason);
        }
    }

    let mut again = f.board(by(0));

    assert!(there(&mut again).is_empty());
    f.give("order-1", orders([3]));
    assert_eq!(there(&mut again), ids([3]));
}

pub(super) fn events_that_were_deleted_are_passed_over(f: &Shop) {
    f.give("order-1", orders([1]));
    f.give("order-2", orders(2..=9));
    f.give("order-1", orders([10]));
    let mut reader = f.board(by(2));
    assert_eq!(ids_of(&next(&mut reader)), ids([1, 2]));
    if let Err(error) = remove(f, "order-2") {
        let reason = error.to_string();
        return skip("events_that_were_deleted_are_passed_over", &reason);
    }

    let mut seen = Vec::new();
    while let Some(batch) = block_on(reader.try_next()).unwrap() {
        seen.extend(ids_of(&batch));
    }

    assert_eq!(seen.last(), ids([10]).last());
    assert_eq!(seen.iter().filter(|id| ids([10]).contains(id)).count(), 1);
}

fn remove(f: &Shop, name: &str) -> Result<bool, StoreError> {
    let delete = f
        .log()
        .delete_stream(stream(name), ExpectedRevision::Any, DeleteMode::Hard);
    block_on(delete)
}
