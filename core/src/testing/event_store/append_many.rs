use super::{Store, conflict, ids, revisions};
use crate::{
    ports::{
        Append, Appended,
        ExpectedRevision::{self, Any, Exact, NoStream},
        StoreError,
    },
    testing::{
        block_on,
        samples::{id, orders, stream},
        skip,
    },
};

fn batch(name: &str, numbers: impl IntoIterator<Item = u64>, expected: ExpectedRevision) -> Append {
    Append {
        stream: stream(name),
        events: orders(numbers),
        expected,
    }
}

/// `None`, and a printed skip, if the adapter cannot.
fn append_many(
    f: &Store,
    case: &str,
    appends: Vec<Append>,
) -> Option<Result<Vec<Appended>, StoreError>> {
    if f.store().capabilities().append_many {
        return Some(block_on(f.store().append_many(appends)));
    }
    skip(case, "appends to several streams are not one transaction");
    None
}

pub(super) fn append_many_appends_to_all_its_streams(f: &Store) {
    f.given("order-1", orders([1]));

    let appends = vec![
        batch("order-1", [2], Exact(0)),
        batch("order-2", [3, 4], NoStream),
    ];
    let Some(appended) = append_many(f, "append_many_appends_to_all_its_streams", appends) else {
        return;
    };

    let revisions_after: Vec<_> = appended.unwrap().iter().map(|a| a.revision).collect();
    assert_eq!(revisions_after, [Some(1), Some(1)]);
    assert_eq!(ids(&f.all()), [1, 2, 3, 4].map(id));
    assert!(block_on(f.store().append_many(vec![])).unwrap().is_empty());
}

pub(super) fn append_many_stores_nothing_when_one_conflicts(f: &Store) {
    f.given("order-1", orders([1]));
    let head = block_on(f.store().head()).unwrap();

    let appends = vec![
        batch("order-1", [2], Exact(0)),
        batch("order-2", [3], Exact(5)),
        batch("order-3", [4], Any),
    ];
    let case = "append_many_stores_nothing_when_one_conflicts";
    let Some(appended) = append_many(f, case, appends) else {
        return;
    };

    assert_eq!(conflict(appended), (Exact(5), None));
    assert_eq!(block_on(f.store().head()).unwrap(), head);
    assert_eq!(ids(&f.all()), [id(1)]);
    assert_eq!(revisions(&f.read("order-1")), [0]);
    assert_eq!(
        f.page("order-2", crate::ports::ReadStream::default())
            .last_revision,
        None
    );
    // The ids are free: nothing of the batch was remembered.
    assert!(!f.append("order-1", orders([2]), Exact(0)).unwrap().repeated);
}

pub(super) fn append_many_sees_its_own_appends(f: &Store) {
    let appends = vec![
        batch("order-1", [1], NoStream),
        batch("order-2", [2], NoStream),
        batch("order-1", [3], Exact(0)),
    ];
    let Some(appended) = append_many(f, "append_many_sees_its_own_appends", appends) else {
        return;
    };

    assert_eq!(appended.unwrap()[2].revision, Some(1));
    assert_eq!(ids(&f.read("order-1")), [id(1), id(3)]);
}
