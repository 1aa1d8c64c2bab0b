//! What every [`InboxStore`] must do: `orkestra::inbox_store_suite!(factory)`.

use super::Fixture;
use crate::ports::InboxStore;

suite! {
    /// Makes one test per case of the inbox store suite. Takes a function that returns a `Fixture<dyn InboxStore>`.
    inbox_store_suite(dyn InboxStore) in inbox_store, $
    cases: [
        what_was_recorded_is_found,
        a_second_record_changes_nothing,
        handlers_have_their_own_inbox,
        one_of_sixteen_that_record_at_once_is_the_first,
        old_records_are_purged_in_bounded_batches,
        records_survive_reopening,
    ]
}

mod cases {
    use std::{thread, time::Duration};

    use super::{Fixture, InboxStore};
    use crate::{
        ports::InboxEntry,
        testing::{
            block_on,
            samples::{NOON, id},
            skip,
        },
    };

    type Store = Fixture<dyn InboxStore>;

    const PLACE: &str = "shop.place_order";
    const MAIL: &str = "shop.send_confirmation";

    fn record(f: &Store, handler: &str, n: u64, result: Option<&'static str>) -> bool {
        let result = result.map(Into::into);
        block_on(f.store().record(handler.into(), id(n), result)).unwrap()
    }

    fn find(f: &Store, handler: &str, n: u64) -> Option<InboxEntry> {
        block_on(f.store().find(handler.into(), id(n))).unwrap()
    }

    pub(super) fn what_was_recorded_is_found(f: &Store) {
        assert_eq!(find(f, PLACE, 1), None);

        assert!(record(f, PLACE, 1, Some(r#"{"order_id":"日本"}"#)));
        assert!(record(f, PLACE, 2, None));

        let entry = |result: Option<&'static str>| InboxEntry {
            handled_at: NOON,
            result: result.map(Into::into),
        };
        assert_eq!(
            find(f, PLACE, 1),
            Some(entry(Some(r#"{"order_id":"日本"}"#)))
        );
        assert_eq!(find(f, PLACE, 2), Some(entry(None)));
        assert_eq!(find(f, PLACE, 3), None);
    }

    pub(super) fn a_second_record_changes_nothing(f: &Store) {
        assert!(record(f, PLACE, 1, Some("1")));
        f.clock().advance(Duration::from_secs(1));

        assert!(!record(f, PLACE, 1, Some("2")));

        let entry = find(f, PLACE, 1).unwrap();
        assert_eq!((entry.handled_at, entry.result), (NOON, Some("1".into())));
    }

    pub(super) fn handlers_have_their_own_inbox(f: &Store) {
        assert!(record(f, PLACE, 1, None));

        assert_eq!(find(f, MAIL, 1), None);
        assert!(record(f, MAIL, 1, None));
    }

    pub(super) fn one_of_sixteen_that_record_at_once_is_the_first(f: &Store) {
        let firsts = thread::scope(|scope| {
            let racing: Vec<_> = (0..16)
                .map(|_| {
                    let store = f.shared();
                    scope.spawn(move || block_on(store.record(PLACE.into(), id(1), None)).unwrap())
                })
                .collect();
            let ended = racing.into_iter().map(|thread| thread.join().unwrap());
            ended.filter(|first| *first).count()
        });

        assert_eq!(firsts, 1);
    }

    pub(super) fn old_records_are_purged_in_bounded_batches(f: &Store) {
        for n in 0..5 {
            record(f, PLACE, n, None);
        }
        f.clock().advance(Duration::from_secs(60));
        record(f, PLACE, 5, None);
        let purge = |before, limit| block_on(f.store().purge(before, limit)).unwrap();
        let left = || (0..6).filter(|n| find(f, PLACE, *n).is_some()).count();
        let minute = NOON.plus(Duration::from_secs(60));

        assert_eq!(purge(NOON, 10), 0);
        assert_eq!(purge(minute, 2), 2);
        assert_eq!(left(), 4);
        assert_eq!(purge(minute, 100), 3);
        assert_eq!(purge(minute, 100), 0);
        assert_eq!(left(), 1);
        assert!(find(f, PLACE, 5).is_some());
        assert!(record(f, PLACE, 0, None), "forgotten, so it is new again");
    }

    pub(super) fn records_survive_reopening(f: &mut Store) {
        record(f, PLACE, 1, Some("7"));
        let before = find(f, PLACE, 1);

        if !f.reopen() {
            return skip("records_survive_reopening", "the adapter is not durable");
        }

        assert_eq!(find(f, PLACE, 1), before);
    }
}
