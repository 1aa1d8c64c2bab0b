//! The live view: what it reads, what it refuses, who keeps it.

use std::sync::{Arc, atomic::Ordering};

use super::{Away, BOARD, Shop, only_orders, poll, run, shop};
use crate::{
    ports::{
        DeleteMode, EventStore, Expected, ExpectedRevision, LeaseStore, Position, SaveCheckpoint,
        StoreError, StreamName,
    },
    projection::{Mode, Projection, ProjectionOptions, ViewCheckpoint},
    subscription::{Pauses, Start},
};

fn live(shop: &Shop, owner: &str) -> Projection {
    shop.projection(owner, Mode::Live)
}

#[test]
fn the_view_and_its_checkpoint_follow_the_log() {
    let shop = shop();
    shop.append("Orders", 2);
    shop.append("Mails", 1);
    let mut ann = live(&shop, "ann");

    assert_eq!(shop.step(&mut ann).unwrap(), [1, 2]);
    assert_eq!(shop.row(BOARD), [3], "read over the unwanted one");
    shop.append("Orders", 1);
    assert_eq!(shop.step(&mut ann).unwrap(), [4]);

    assert_eq!(shop.board(""), [1, 2, 4]);
    assert_eq!(shop.mirror(BOARD), Some(Position(4)));
    let progress = run(&shop, ann.progress()).unwrap();
    assert_eq!((progress.handled, progress.caught_up), (3, true));
    assert_eq!(progress.position, progress.head);
}

#[test]
fn e12_a_transaction_that_is_rolled_back_is_handed_over_again() {
    let shop = shop();
    shop.append("Orders", 2);
    let mut ann = live(&shop, "ann");
    let batch = run(&shop, ann.next()).unwrap();
    let tx = shop.view.unchecked_transaction().unwrap();
    let checkpoint = ann.checkpoint(batch.position);
    super::sqlite::save(&tx, &checkpoint).unwrap().unwrap();
    tx.rollback().unwrap();

    ann.rewind();

    assert_eq!(shop.step(&mut ann).unwrap(), [1, 2]);
    assert_eq!(shop.board(""), [1, 2]);
}

#[test]
fn a_view_that_committed_before_its_process_died_gets_nothing_twice() {
    let shop = shop();
    shop.append("Orders", 2);
    let mut ann = live(&shop, "ann");
    let batch = run(&shop, ann.next()).unwrap();
    shop.write(&batch, &ann.checkpoint(batch.position), "")
        .unwrap();
    // The mirror was not moved.
    run(&shop, ann.release()).unwrap();
    shop.append("Orders", 1);
    let mut bob = live(&shop, "bob");

    let refused = shop.step(&mut bob).unwrap_err();

    let mismatch = "checkpoint shop.board: expected none, found 2";
    assert_eq!(refused.to_string(), mismatch);
    assert_eq!(shop.step(&mut bob).unwrap(), [3]);
    assert_eq!(shop.board(""), [1, 2, 3]);
}

#[test]
fn a_view_that_was_restored_from_a_backup_is_brought_up_again() {
    let shop = shop();
    shop.append("Orders", 2);
    let mut ann = live(&shop, "ann");
    shop.step(&mut ann).unwrap();
    shop.append("Orders", 2);
    shop.step(&mut ann).unwrap();
    let restore =
        "DELETE FROM board WHERE position > 2; UPDATE orkestra_view_checkpoints SET position = 2";
    shop.view.execute_batch(restore).unwrap();
    shop.append("Orders", 1);

    shop.step(&mut ann).unwrap_err();

    assert_eq!(shop.mirror(BOARD), Some(Position(2)), "it went back too");
    assert_eq!(shop.step(&mut ann).unwrap(), [3, 4, 5]);
    assert_eq!(shop.board(""), [1, 2, 3, 4, 5]);
}

#[test]
fn a_view_that_is_gone_is_built_again_from_where_it_first_began() {
    let shop = shop();
    shop.append("Orders", 2);
    let mut options = only_orders();
    options.start = Start::Now;
    let mut ann = shop.projection_of("ann", Mode::Live, &options, Pauses::default());
    run(&shop, ann.open()).unwrap();
    shop.append("Orders", 2);
    assert_eq!(shop.step(&mut ann).unwrap(), [3, 4]);
    let lose = "DELETE FROM board; DELETE FROM orkestra_view_checkpoints";
    shop.view.execute_batch(lose).unwrap();
    shop.append("Orders", 1);

    shop.step(&mut ann).unwrap_err();

    assert!(ann.is_unprepared(), "the tables may be gone too");
    assert_eq!(shop.step(&mut ann).unwrap(), [3, 4, 5]);
}

#[test]
fn an_owner_that_slept_past_its_lease_cannot_save() {
    let shop = shop();
    shop.append("Orders", 1);
    let (mut ann, mut bob) = (live(&shop, "ann"), live(&shop, "bob"));
    let late = run(&shop, ann.next()).unwrap();
    shop.stop("ann");
    shop.advance(crate::subscription::LEASE * 2);
    shop.append("Orders", 1);
    assert_eq!(shop.step(&mut bob).unwrap(), [1, 2]);

    let refused = shop.handle(&mut ann, &late).unwrap_err();

    assert!(
        matches!(refused, StoreError::StaleLease { .. }),
        "{refused}"
    );
    assert!(run(&shop, ann.try_next()).unwrap().is_none());
    assert_eq!(shop.board(""), [1, 2]);
    shop.append("Orders", 1);
    assert_eq!(shop.step(&mut bob).unwrap(), [3]);
}

#[test]
fn a_state_store_that_forgot_its_leases_does_not_shut_the_owner_out() {
    let shop = shop();
    shop.append("Orders", 1);
    let mut ann = live(&shop, "ann");
    shop.step(&mut ann).unwrap();
    let other_life = "UPDATE orkestra_view_checkpoints SET token = 57";
    shop.view.execute_batch(other_life).unwrap();
    shop.append("Orders", 1);

    let refused = shop.step(&mut ann).unwrap_err();

    assert!(
        matches!(refused, StoreError::StaleLease { .. }),
        "{refused}"
    );
    assert_eq!(shop.step(&mut ann).unwrap(), [2]);
    assert_eq!(shop.board(""), [1, 2]);
}

#[test]
fn a_handler_that_never_saves_is_acknowledged_in_the_state_store() {
    let shop = shop();
    shop.append("Orders", 1);
    let mut ann = live(&shop, "ann");
    let batch = run(&shop, ann.next()).unwrap();
    run(&shop, ann.handled(batch.position)).unwrap();
    shop.append("Orders", 1);
    assert_eq!(shop.mirror(BOARD), Some(Position(1)));

    let batch = run(&shop, ann.next()).unwrap();

    assert_eq!(
        (batch.from, batch.position),
        (None, Some(Position(2))),
        "the view has none, if there is one"
    );
}

#[test]
fn unwanted_events_move_the_mirror_and_cost_the_next_owner_one_look() {
    let shop = shop();
    shop.append("Orders", 1);
    let mut ann = live(&shop, "ann");
    shop.step(&mut ann).unwrap();
    shop.append("Mails", 3);
    assert!(run(&shop, ann.try_next()).unwrap().is_none());
    assert_eq!(shop.mirror(BOARD), Some(Position(4)));
    shop.append("Orders", 1);
    // The same owner knows.
    assert_eq!(shop.step(&mut ann).unwrap(), [5]);
    shop.append("Mails", 1);
    assert!(run(&shop, ann.try_next()).unwrap().is_none());
    run(&shop, ann.release()).unwrap();
    shop.append("Orders", 1);
    let mut bob = live(&shop, "bob");

    shop.step(&mut bob).unwrap_err();

    assert_eq!(shop.step(&mut bob).unwrap(), [7]);
    assert_eq!(shop.board(""), [1, 5, 7]);
}

#[test]
fn what_was_there_before_the_first_start_is_replayed() {
    let shop = shop();
    shop.append("Orders", 2);
    let mut options = only_orders();
    options.batch_size = 1;
    let mut ann = shop.projection_of("ann", Mode::Live, &options, Pauses::default());
    run(&shop, ann.open()).unwrap();
    shop.append("Orders", 1);
    let mut replaying = Vec::new();
    for _ in 0..2 {
        let batch = run(&shop, ann.next()).unwrap();
        shop.handle(&mut ann, &batch).unwrap();
        replaying.push(batch.replaying);
        run(&shop, ann.release()).unwrap();
        // After a restart it is still known.
        ann = shop.projection_of("bob", Mode::Live, &options, Pauses::default());
    }
    let batch = run(&shop, ann.next()).unwrap();
    replaying.push(batch.replaying);

    assert_eq!(replaying, [true, true, false]);
}

#[test]
fn a_checkpoint_behind_the_end_of_the_log_does_not_get_stuck() {
    let shop = shop();
    shop.append("Orders", 3);
    let mut ann = live(&shop, "ann");
    shop.step(&mut ann).unwrap();
    run(&shop, ann.release()).unwrap();
    // A log that was restored gives out the same positions again: one that has less than the view was built from.
    let other = super::shop();
    other.append("Orders", 1);
    let save = SaveCheckpoint::expected(Expected::Reset);
    let saved =
        crate::ports::CheckpointStore::save(&*other.store, BOARD.into(), Some(Position(3)), save);
    run(&other, saved).unwrap();
    let other = Shop {
        view: shop.view,
        ..other
    };
    let mut bob = live(&other, "bob");
    assert!(run(&other, bob.try_next()).unwrap().is_none());
    assert_eq!(other.mirror(BOARD), Some(Position(1)));
    other.append("Orders", 1);

    assert_eq!(other.step(&mut bob).unwrap(), [2]);

    assert_eq!(other.row(BOARD), [2]);
}

#[test]
fn deleting_the_end_of_the_log_repeats_nothing() {
    let shop = shop();
    shop.append("Mails", 1);
    shop.append("Orders", 1);
    let mut ann = live(&shop, "ann");
    shop.step(&mut ann).unwrap();
    run(&shop, ann.release()).unwrap();
    let orders = StreamName::new("Orders").unwrap();
    let gone = shop
        .store
        .delete_stream(orders, ExpectedRevision::Any, DeleteMode::Hard);
    run(&shop, gone).unwrap();
    let mut bob = live(&shop, "bob");
    assert!(run(&shop, bob.try_next()).unwrap().is_none());
    shop.append("Orders", 1);

    assert_eq!(shop.step(&mut bob).unwrap(), [3]);

    assert_eq!(shop.board(""), [2, 3]);
}

#[test]
fn a_save_that_names_a_view_that_is_not_there_is_refused() {
    let shop = shop();
    let token = crate::ports::FencingToken(1);
    let save = |expected: Option<u64>, position| {
        let expected = expected.map(Position);
        let checkpoint = ViewCheckpoint::new("shop.x", expected, Some(Position(position)), token);
        super::sqlite::save(&shop.view, &checkpoint)
            .unwrap()
            .map_err(|refusal| refusal.error.to_string())
    };

    assert_eq!(
        save(Some(1), 2),
        Err("checkpoint shop.x: expected 1, found none".into())
    );
    assert_eq!(save(None, 2), Ok(()));
    assert_eq!(
        save(None, 3),
        Err("checkpoint shop.x: expected none, found 2".into())
    );
    assert_eq!(save(Some(2), 3), Ok(()));
    assert_eq!(shop.row("shop.x"), [3]);
}

#[test]
fn the_mirror_comes_to_the_end_of_the_log_though_it_was_moved_a_moment_ago() {
    let shop = shop();
    shop.append("Orders", 4);
    shop.append("Mails", 1);
    let two = ProjectionOptions {
        batch_size: 2,
        ..only_orders()
    };
    let mut ann = shop.projection_of("ann", Mode::Live, &two, Pauses::default());
    // The clock stands still: while there is more to read, the mirror follows at times.
    assert_eq!(shop.step(&mut ann).unwrap(), [1, 2]);
    assert_eq!(shop.step(&mut ann).unwrap(), [3, 4]);
    assert_eq!(shop.mirror(BOARD), Some(Position(2)));

    assert!(run(&shop, ann.try_next()).unwrap().is_none());

    assert_eq!(shop.mirror(BOARD), Some(Position(5)));
}

#[test]
fn a_view_that_stands_elsewhere_is_followed_though_the_mirror_cannot_be_moved() {
    let shop = shop();
    shop.append("Orders", 3);
    let flaky = Arc::new(Away::new(&shop));
    let mut ann = shop.projection_with(flaky.clone());
    shop.step(&mut ann).unwrap();
    // It is restored from a backup: the orders 2 and 3 are not in it.
    shop.view
        .execute_batch("DELETE FROM board WHERE position > 1; UPDATE orkestra_view_checkpoints SET position = 1")
        .unwrap();
    shop.append("Orders", 1);
    let batch = run(&shop, ann.next()).unwrap();
    let refusal = shop
        .write(&batch, &ann.checkpoint(batch.position), "")
        .unwrap_err();
    flaky.away.store(true, Ordering::SeqCst);

    run(&shop, ann.found(refusal.found)).unwrap_err();
    // As every host does after a failure.
    ann.rewind();
    flaky.away.store(false, Ordering::SeqCst);

    assert_eq!(shop.step(&mut ann).unwrap(), [2, 3, 4]);
    assert_eq!(shop.board(""), [1, 2, 3, 4]);
}

#[test]
fn waiting_for_an_event_ends_with_it() {
    let shop = shop();
    let mut ann = live(&shop, "ann");
    let mut next = Box::pin(ann.next());
    assert!(poll(&mut next).is_none());

    shop.append("Orders", 1);

    assert_eq!(poll(&mut next).unwrap().unwrap().events.len(), 1);
    drop(next);
    assert!(
        run(
            &shop,
            shop.store
                .acquire(BOARD.into(), "bob".into(), crate::subscription::LEASE)
        )
        .unwrap()
        .is_none()
    );
}
