//! A rebuild beside the live view, and the switch, with a crash at each point.

use super::{BOARD, Shop, poll, run, shop, sqlite};
use crate::{
    ports::{LeaseStore, Position},
    projection::{Mode, Projection, ProjectionError, ReadError, ViewSwitch},
    subscription::LEASE,
};

const ANEW: Mode = Mode::Rebuild { resume: false };
const RESUMED: Mode = Mode::Rebuild { resume: true };
const BESIDE: &str = "shop.board_rebuild";

fn live(shop: &Shop) -> Projection {
    shop.projection("live", Mode::Live)
}

/// The user's switch: the tables and the row in one transaction.
fn rename(shop: &Shop, switch: &ViewSwitch) {
    let tx = shop.view.unchecked_transaction().unwrap();
    let rename = "DROP TABLE board; ALTER TABLE board_rebuild RENAME TO board";
    tx.execute_batch(rename).unwrap();
    sqlite::switch(&tx, switch).unwrap().unwrap();
    tx.commit().unwrap();
}

fn catch_up(shop: &Shop, rebuild: &mut Projection) {
    run(shop, rebuild.open()).unwrap();
    if rebuild.is_unprepared() {
        shop.view.execute("DELETE FROM board_rebuild", []).unwrap();
        rebuild.prepared();
    }
    while let Some(batch) = run(shop, rebuild.try_next()).unwrap() {
        assert!(batch.replaying);
        shop.handle(rebuild, &batch).unwrap();
    }
}

/// A live view of three events whose handler wrote nonsense, and nothing else.
fn wrong() -> (Shop, Projection) {
    let shop = shop();
    shop.append("Orders", 3);
    let mut live = live(&shop);
    shop.step(&mut live).unwrap();
    shop.view
        .execute("UPDATE board SET position = 1000 + position", [])
        .unwrap();
    (shop, live)
}

#[test]
fn a_rebuild_takes_the_place_of_the_live_view() {
    let (shop, mut live) = wrong();
    let mut rebuild = shop.projection("rebuild", ANEW);
    catch_up(&shop, &mut rebuild);
    assert_eq!(
        shop.board(""),
        [1001, 1002, 1003],
        "the live one is as it was"
    );
    shop.append("Orders", 1);
    assert_eq!(shop.step(&mut live).unwrap(), [4], "and goes on");

    let mut asking = Box::pin(rebuild.pause_live());
    assert!(poll(&mut asking).is_none(), "the live one has the lease");
    assert!(
        run(&shop, live.try_next()).unwrap().is_none(),
        "it steps back"
    );
    run(&shop, asking).unwrap();
    shop.append("Orders", 1);
    assert!(run(&shop, live.try_next()).unwrap().is_none(), "and waits");
    catch_up(&shop, &mut rebuild);
    let switch = run(&shop, rebuild.switch()).unwrap();
    rename(&shop, &switch);
    run(&shop, rebuild.switched()).unwrap();

    assert_eq!(shop.board(""), [1, 2, 3, 4, 5]);
    assert_eq!((shop.row(BOARD), shop.row(BESIDE)), (vec![5], vec![]));
    assert_eq!(shop.mirror(BOARD), Some(Position(5)));
    assert_eq!(shop.mirror(BESIDE), None);
    shop.append("Orders", 1);
    assert_eq!(shop.step(&mut live).unwrap(), [6], "with no refusal");
    assert_eq!(shop.board(""), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn the_live_one_steps_back_in_another_process_too() {
    let (shop, mut live) = wrong();
    let mut rebuild = shop.elsewhere("rebuild", ANEW);
    catch_up(&shop, &mut rebuild);
    let mut asking = Box::pin(rebuild.pause_live());
    assert!(poll(&mut asking).is_none());
    // It looks when it renews its lease, whatever it waits for.
    let mut waiting = Box::pin(live.next());
    assert!(poll(&mut waiting).is_none());
    shop.advance(LEASE / 3);

    assert!(poll(&mut waiting).is_none());
    run(&shop, asking).unwrap();
    shop.append("Orders", 1);
    shop.advance(LEASE / 10);
    assert!(poll(&mut waiting).is_none(), "it does not come back yet");
    drop(waiting);
    catch_up(&shop, &mut rebuild);
    let switch = run(&shop, rebuild.switch()).unwrap();
    rename(&shop, &switch);
    run(&shop, rebuild.switched()).unwrap();
    shop.append("Orders", 1);

    assert_eq!(shop.step(&mut live).unwrap(), [5]);
    assert_eq!(shop.board(""), [1, 2, 3, 4, 5]);
}

#[test]
fn a_crash_while_it_is_built_leaves_the_live_view_and_it_can_be_resumed() {
    let (shop, mut live) = wrong();
    let mut rebuild = shop.projection("rebuild", ANEW);
    catch_up(&shop, &mut rebuild);
    drop(rebuild);
    run(&shop, shop.store.release(BESIDE.into(), "rebuild".into())).unwrap();
    shop.append("Orders", 1);
    assert_eq!(shop.step(&mut live).unwrap(), [4]);

    let mut resumed = shop.projection("again", RESUMED);
    run(&shop, resumed.open()).unwrap();

    assert!(!resumed.is_unprepared(), "its tables are not emptied");
    assert_eq!(shop.step(&mut resumed).unwrap(), [4]);
    assert_eq!(shop.board("_rebuild"), [1, 2, 3, 4]);
}

#[test]
fn begun_again_it_forgets_what_was_there() {
    let (shop, _live) = wrong();
    let mut rebuild = shop.projection("rebuild", ANEW);
    catch_up(&shop, &mut rebuild);
    run(&shop, rebuild.release()).unwrap();

    let mut again = shop.projection("again", ANEW);
    catch_up(&shop, &mut again);

    assert_eq!(shop.board("_rebuild"), [1, 2, 3]);
    assert_eq!(shop.row(BESIDE), [3]);
}

#[test]
fn resumed_before_its_first_mirror_it_begins_again() {
    let (shop, _live) = wrong();
    let mut rebuild = shop.projection("rebuild", ANEW);
    let batch = run(&shop, rebuild.next()).unwrap();
    // Committed, and then the process ends.
    let checkpoint = rebuild.checkpoint(batch.position);
    shop.write(&batch, &checkpoint, "_rebuild").unwrap();
    drop(rebuild);
    run(&shop, shop.store.release(BESIDE.into(), "rebuild".into())).unwrap();

    let mut resumed = shop.projection("again", RESUMED);
    catch_up(&shop, &mut resumed);

    assert_eq!(shop.board("_rebuild"), [1, 2, 3]);
}

#[test]
fn a_crash_before_the_switch_commits_leaves_the_old_view_live() {
    let (shop, mut live) = wrong();
    let mut rebuild = shop.elsewhere("rebuild", ANEW);
    catch_up(&shop, &mut rebuild);
    run(&shop, live.release()).unwrap();
    run(&shop, rebuild.pause_live()).unwrap();
    run(&shop, rebuild.switch()).unwrap();
    // As a process ends: nothing is given back.
    shop.stop("rebuild");
    std::mem::forget(rebuild);
    shop.append("Orders", 1);

    // The leases of the dead one end, and its request with them.
    assert_eq!(shop.step(&mut live).unwrap(), [4]);

    assert_eq!(shop.board(""), [1001, 1002, 1003, 4]);
    let mut again = shop.projection("again", RESUMED);
    run(&shop, again.open()).unwrap();
    assert!(again.is_unprepared(), "it begins again");
}

#[test]
fn a_crash_after_the_switch_commits_leaves_the_new_view_live() {
    let (shop, mut live) = wrong();
    let mut rebuild = shop.elsewhere("rebuild", ANEW);
    catch_up(&shop, &mut rebuild);
    run(&shop, live.release()).unwrap();
    run(&shop, rebuild.pause_live()).unwrap();
    shop.append("Orders", 1);
    catch_up(&shop, &mut rebuild);
    let switch = run(&shop, rebuild.switch()).unwrap();
    rename(&shop, &switch);
    shop.stop("rebuild");
    std::mem::forget(rebuild);
    shop.append("Orders", 1);

    // The mirror is an old one, which the first save finds out.
    shop.step(&mut live).unwrap_err();

    assert_eq!(shop.step(&mut live).unwrap(), [5]);
    assert_eq!(shop.board(""), [1, 2, 3, 4, 5]);
}

#[test]
fn a_switch_that_is_rolled_back_can_be_tried_again() {
    let (shop, mut live) = wrong();
    let mut rebuild = shop.projection("rebuild", ANEW);
    catch_up(&shop, &mut rebuild);
    run(&shop, live.release()).unwrap();
    run(&shop, rebuild.pause_live()).unwrap();
    run(&shop, rebuild.switch()).unwrap();

    run(&shop, rebuild.not_switched()).unwrap();

    assert_eq!(shop.mirror(BESIDE), Some(Position(3)));
    shop.append("Orders", 1);
    assert_eq!(shop.step(&mut live).unwrap(), [4]);
    run(&shop, rebuild.release()).unwrap();
    let mut resumed = shop.projection("again", RESUMED);
    catch_up(&shop, &mut resumed);
    run(&shop, live.release()).unwrap();
    run(&shop, resumed.pause_live()).unwrap();
    let switch = run(&shop, resumed.switch()).unwrap();
    rename(&shop, &switch);
    run(&shop, resumed.switched()).unwrap();
    assert_eq!(shop.board(""), [1, 2, 3, 4]);
}

#[test]
fn an_old_owner_of_the_live_view_cannot_write_into_the_new_one() {
    let (shop, mut live) = wrong();
    shop.append("Orders", 1);
    let late = run(&shop, live.next()).unwrap();
    shop.stop("live");
    shop.advance(LEASE * 2);
    let mut rebuild = shop.elsewhere("rebuild", ANEW);
    catch_up(&shop, &mut rebuild);
    run(&shop, rebuild.pause_live()).unwrap();
    let switch = run(&shop, rebuild.switch()).unwrap();
    rename(&shop, &switch);
    run(&shop, rebuild.switched()).unwrap();

    shop.handle(&mut live, &late).unwrap_err();

    assert_eq!(shop.board(""), [1, 2, 3, 4]);
    shop.append("Orders", 1);
    assert_eq!(shop.step(&mut live).unwrap(), [5]);
}

#[test]
fn a_second_rebuild_is_refused_while_one_runs() {
    let (shop, _live) = wrong();
    let mut rebuild = shop.projection("rebuild", ANEW);
    run(&shop, rebuild.open()).unwrap();
    let mut second = shop.projection("second", ANEW);
    let mut opening = Box::pin(second.open());

    let refused = loop {
        // The first one goes on, and so keeps its lease.
        run(&shop, rebuild.try_next()).unwrap();
        shop.advance(LEASE / 10);
        if let Some(result) = poll(&mut opening) {
            break result.unwrap_err();
        }
    };

    assert!(
        matches!(
            refused,
            ReadError::Projection(ProjectionError::RebuildRunning { .. })
        ),
        "{refused}"
    );
}

#[test]
fn a_view_of_no_events_can_be_rebuilt() {
    let shop = shop();
    let mut rebuild = shop.projection("rebuild", ANEW);
    catch_up(&shop, &mut rebuild);
    run(&shop, rebuild.pause_live()).unwrap();
    let switch = run(&shop, rebuild.switch()).unwrap();

    rename(&shop, &switch);
    run(&shop, rebuild.switched()).unwrap();

    shop.append("Orders", 1);
    assert_eq!(shop.step(&mut live(&shop)).unwrap(), [1]);
}
