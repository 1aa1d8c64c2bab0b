//! Of all that read under one name, one at a time. The leases' clock is the fixture's.

use std::thread;

use super::{Shop, ids, ids_of, next, there};
use crate::{
    ports::StoreError,
    subscription::LEASE,
    testing::{block_on, samples::orders},
};

pub(super) fn e06_one_of_two_reads(f: &Shop) {
    f.give("order-1", orders([1]));
    let (mut ann, mut bob) = (f.kept_by("ann"), f.kept_by("bob"));

    assert_eq!(there(&mut ann), ids([1]));

    assert!(there(&mut bob).is_empty());
    f.give("order-1", orders([2]));
    assert!(there(&mut bob).is_empty());
    assert_eq!(there(&mut ann), ids([2]));
}

pub(super) fn e06_the_other_follows_at_once_when_the_lease_is_given_back(f: &Shop) {
    f.give("order-1", orders([1]));
    let (mut ann, mut bob) = (f.kept_by("ann"), f.kept_by("bob"));
    let batch = next(&mut ann);
    block_on(ann.ack(batch.position)).unwrap();
    f.give("order-1", orders([2]));

    block_on(ann.release()).unwrap();

    assert_eq!(there(&mut bob), ids([2]));
    assert!(there(&mut ann).is_empty());
}

pub(super) fn e06_the_other_follows_within_the_lease_when_the_first_one_dies(f: &Shop) {
    f.give("order-1", orders([1]));
    let (mut ann, mut bob) = (f.kept_by("ann"), f.kept_by("bob"));
    next(&mut ann);
    // Nothing is given back.
    std::mem::forget(ann);
    let clock = f.clock();

    let (batch, waited) = thread::scope(|scope| {
        let waiting = scope.spawn(move || next(&mut bob));
        let mut waited = 0;
        while !waiting.is_finished() {
            // He looks ten times within a lease.
            if clock.next_wake().is_some() {
                clock.advance(LEASE / 10);
                waited += 1;
            }
            thread::yield_now();
        }
        (waiting.join().unwrap(), waited)
    });

    assert_eq!(ids_of(&batch), ids([1]), "it was not acknowledged");
    assert!((10..=11).contains(&waited), "{waited} looks");
}

pub(super) fn e07_a_late_acknowledgement_is_refused(f: &Shop) {
    f.give("order-1", orders(1..=2));
    let (mut ann, mut bob) = (f.kept_by("ann"), f.kept_by("bob"));
    let late = next(&mut ann);
    // Ann is stopped, past her lease.
    f.clock().advance(LEASE * 2);
    let batch = next(&mut bob);
    block_on(bob.ack(batch.position)).unwrap();

    let refused = block_on(ann.ack(late.position)).unwrap_err();

    assert!(
        matches!(refused, StoreError::StaleLease { .. }),
        "{refused:?}"
    );
    // Nor another one, now that she knows.
    let later = f.give("order-1", orders([3]));
    let refused = block_on(ann.ack(Some(later))).unwrap_err();
    assert!(
        matches!(refused, StoreError::StaleLease { .. }),
        "{refused:?}"
    );
    assert!(there(&mut ann).is_empty(), "she has to wait");
    assert_eq!(f.checkpoint(), batch.position);
}

pub(super) fn e07_no_checkpoint_moves_backwards(f: &Shop) {
    f.give("order-1", orders([1]));
    let (mut ann, mut bob) = (f.kept_by("ann"), f.kept_by("bob"));
    let late = next(&mut ann);
    f.clock().advance(LEASE * 2);
    let further = f.give("order-1", orders(2..=5));
    let batch = next(&mut bob);
    block_on(bob.ack(batch.position)).unwrap();
    assert_eq!(f.checkpoint(), Some(further));

    block_on(ann.ack(late.position)).unwrap_err();

    assert_eq!(f.checkpoint(), Some(further));
    // Ann follows when it is her turn, from there.
    block_on(bob.release()).unwrap();
    f.give("order-1", orders([6]));
    assert_eq!(there(&mut ann), ids([6]));
}

pub(super) fn an_owner_that_renews_keeps_it(f: &Shop) {
    let (mut ann, mut bob) = (f.kept_by("ann"), f.kept_by("bob"));

    for n in 1..=10 {
        f.give("order-1", orders([n]));
        assert_eq!(there(&mut ann), ids([n]));
        f.clock().advance(LEASE / 2);
        assert!(there(&mut bob).is_empty());
    }
}

pub(super) fn a_new_owner_begins_at_the_checkpoint(f: &Shop) {
    f.give("order-1", orders(1..=3));
    let (mut ann, mut bob) = (f.kept_by("ann"), f.kept_by("bob"));
    // Bob has looked, long ago.
    block_on(bob.open()).unwrap();
    let batch = next(&mut ann);
    let middle = batch.events[1].position;
    block_on(ann.ack(Some(middle))).unwrap();
    block_on(ann.release()).unwrap();

    assert_eq!(there(&mut bob), ids([3]));
}
