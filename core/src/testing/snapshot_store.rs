//! What every [`SnapshotStore`] must do: `orkestra::snapshot_store_suite!(factory)`.

use super::Fixture;
use crate::ports::SnapshotStore;

suite! {
    /// Makes one test per case of the snapshot store suite. Takes a function that returns a `Fixture<dyn SnapshotStore>`.
    snapshot_store_suite(dyn SnapshotStore) in snapshot_store, $
    cases: [
        d01_the_latest_snapshot_is_read_back,
        d02_no_snapshot_is_no_error,
        d03_a_newer_snapshot_replaces_an_older_one,
        d03_an_older_snapshot_does_not_replace_a_newer_one,
        d04_another_schema_version_always_replaces,
        d06_a_damaged_snapshot_is_reported_as_corrupt,
        deleting_a_stream_deletes_its_snapshot,
        a_deleted_stream_has_snapshots_again,
        snapshots_survive_reopening,
    ]
}

mod cases {
    use super::{Fixture, SnapshotStore};
    use crate::{
        ports::{DeleteMode, ExpectedRevision::Any, Snapshot, StoreError},
        testing::{
            block_on,
            samples::{NOON, orders, stream},
            skip,
        },
    };

    type Store = Fixture<dyn SnapshotStore>;

    fn snapshot(name: &str, revision: u64, schema_version: u32) -> Snapshot {
        Snapshot {
            stream: stream(name),
            revision,
            schema_version,
            state: format!(r#"{{"placed":{revision},"note":"日本 🛒"}}"#).into(),
            taken_at: NOON,
        }
    }

    fn save(f: &Store, snapshot: Snapshot) {
        block_on(f.store().save(snapshot)).unwrap();
    }

    fn load(f: &Store, name: &str) -> Option<Snapshot> {
        block_on(f.store().load(stream(name))).unwrap()
    }

    pub(super) fn d01_the_latest_snapshot_is_read_back(f: &Store) {
        save(f, snapshot("order-1", 9, 1));
        save(f, snapshot("order-2", 4, 2));

        assert_eq!(load(f, "order-1"), Some(snapshot("order-1", 9, 1)));
        assert_eq!(load(f, "order-2"), Some(snapshot("order-2", 4, 2)));
    }

    pub(super) fn d02_no_snapshot_is_no_error(f: &Store) {
        assert_eq!(load(f, "order-1"), None);
    }

    pub(super) fn d03_a_newer_snapshot_replaces_an_older_one(f: &Store) {
        save(f, snapshot("order-1", 9, 1));
        save(f, snapshot("order-1", 19, 1));
        assert_eq!(load(f, "order-1"), Some(snapshot("order-1", 19, 1)));

        let again = Snapshot {
            state: "{}".into(),
            ..snapshot("order-1", 19, 1)
        };
        save(f, again.clone());
        assert_eq!(load(f, "order-1"), Some(again));
    }

    pub(super) fn d03_an_older_snapshot_does_not_replace_a_newer_one(f: &Store) {
        save(f, snapshot("order-1", 19, 1));
        save(f, snapshot("order-1", 9, 1));

        assert_eq!(load(f, "order-1"), Some(snapshot("order-1", 19, 1)));
    }

    pub(super) fn d04_another_schema_version_always_replaces(f: &Store) {
        save(f, snapshot("order-1", 19, 1));
        save(f, snapshot("order-1", 9, 2));
        assert_eq!(load(f, "order-1"), Some(snapshot("order-1", 9, 2)));

        // A release that is taken back takes its snapshots back too.
        save(f, snapshot("order-1", 4, 1));
        assert_eq!(load(f, "order-1"), Some(snapshot("order-1", 4, 1)));
    }

    pub(super) fn d06_a_damaged_snapshot_is_reported_as_corrupt(f: &Store) {
        save(f, snapshot("order-1", 9, 1));
        if !f.damage() {
            return skip(
                "d06_a_damaged_snapshot_is_reported_as_corrupt",
                "nothing can be damaged",
            );
        }

        let result = block_on(f.store().load(stream("order-1")));

        assert!(
            matches!(result, Err(StoreError::Corrupt { .. })),
            "{result:?}"
        );
        save(f, snapshot("order-1", 10, 1));
        assert_eq!(load(f, "order-1"), Some(snapshot("order-1", 10, 1)));
    }

    pub(super) fn deleting_a_stream_deletes_its_snapshot(f: &Store) {
        let Some(events) = f.events() else {
            return skip(
                "deleting_a_stream_deletes_its_snapshot",
                "the adapter stores no events",
            );
        };
        for mode in [DeleteMode::Soft, DeleteMode::Hard] {
            block_on(events.append(stream("order-1"), orders([1]), Any)).unwrap();
            save(f, snapshot("order-1", 0, 1));

            block_on(events.delete_stream(stream("order-1"), Any, mode)).unwrap();

            assert_eq!(load(f, "order-1"), None, "{mode:?}");
        }
    }

    pub(super) fn a_deleted_stream_has_snapshots_again(f: &Store) {
        let Some(events) = f.events() else {
            return skip(
                "a_deleted_stream_has_snapshots_again",
                "the adapter stores no events",
            );
        };
        for revision in 0..3 {
            block_on(events.append(stream("order-1"), orders([revision]), Any)).unwrap();
            for schema_version in [1, 2] {
                save(f, snapshot("order-1", revision, schema_version));
                let found = load(f, "order-1");
                assert_eq!(found, Some(snapshot("order-1", revision, schema_version)));
            }

            let deleted = events.delete_stream(stream("order-1"), Any, DeleteMode::Soft);
            assert!(block_on(deleted).unwrap());
        }
    }

    pub(super) fn snapshots_survive_reopening(f: &mut Store) {
        save(f, snapshot("order-1", 9, 1));

        if !f.reopen() {
            return skip("snapshots_survive_reopening", "the adapter is not durable");
        }

        assert_eq!(load(f, "order-1"), Some(snapshot("order-1", 9, 1)));
    }
}
