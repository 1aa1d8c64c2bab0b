use super::{Store, conflict, ids, revisions};
use crate::{
    ports::{
        DeleteMode,
        ExpectedRevision::{self, Any, Exact, NoStream, StreamExists},
        ReadStream, StoreError,
    },
    testing::{
        block_on,
        samples::{id, orders, stream},
        skip,
    },
};

fn delete(
    f: &Store,
    name: &str,
    expected: ExpectedRevision,
    mode: DeleteMode,
) -> Result<bool, StoreError> {
    block_on(f.store().delete_stream(stream(name), expected, mode))
}

pub(super) fn a19_a_soft_deleted_stream_reads_empty_and_goes_on(f: &Store) {
    f.given("order-1", orders([1, 2, 3]));
    f.given("order-2", orders([4]));

    assert!(delete(f, "order-1", Exact(2), DeleteMode::Soft).unwrap());

    for options in [
        ReadStream::default(),
        ReadStream::from(1),
        ReadStream::default().backwards(),
    ] {
        let page = f.page("order-1", options);
        assert_eq!((page.events.len(), page.last_revision), (0, Some(2)));
        assert!(page.end);
    }
    assert!(!delete(f, "order-1", Any, DeleteMode::Soft).unwrap());
    let refused = f.append("order-1", orders([5]), NoStream);
    assert_eq!(conflict(refused), (NoStream, Some(2)));

    let appended = f.append("order-1", orders([5]), StreamExists).unwrap();

    assert_eq!(appended.revision, Some(3));
    assert_eq!(revisions(&f.read("order-1")), [3]);
    let backwards = f.page("order-1", ReadStream::default().backwards());
    assert_eq!(revisions(&backwards.events), [3]);
    assert_eq!(ids(&f.all()), [1, 2, 3, 4, 5].map(id));
    assert!(
        f.append("order-1", orders([1, 2, 3]), Any)
            .unwrap()
            .repeated
    );
}

pub(super) fn a20_a_hard_deleted_stream_starts_again(f: &Store) {
    f.given("order-1", orders([1, 2]));
    f.given("order-2", orders([3]));
    let last = f.given("order-1", orders([4])).position;

    assert!(delete(f, "order-1", Any, DeleteMode::Hard).unwrap());

    let page = f.page("order-1", ReadStream::default());
    assert_eq!((page.events.len(), page.last_revision), (0, None));
    if !f.store().capabilities().hard_delete {
        assert!(!delete(f, "order-1", Any, DeleteMode::Hard).unwrap());
        for expected in [Any, NoStream] {
            let refused = f.append("order-1", orders([5]), expected);
            assert!(
                matches!(refused, Err(StoreError::StreamDeleted { .. })),
                "{refused:?}"
            );
        }
        return skip(
            "a20_a_hard_deleted_stream_starts_again",
            "a hard deleted stream is closed for good, and its events go when the server cleans up",
        );
    }
    assert_eq!(ids(&f.all()), [id(3)]);
    assert_eq!(block_on(f.store().find_event(id(1))).unwrap(), None);
    assert!(!delete(f, "order-1", Any, DeleteMode::Hard).unwrap());

    let appended = f.append("order-1", orders([5]), NoStream).unwrap();

    assert_eq!(appended.revision, Some(0));
    assert!(appended.position > last, "a position is used again");
    assert_eq!(ids(&f.all()), [id(3), id(5)]);
    assert_eq!(revisions(&f.read("order-1")), [0]);
}

pub(super) fn deleting_what_is_not_there_is_no_error(f: &Store) {
    for mode in [DeleteMode::Soft, DeleteMode::Hard] {
        assert!(!delete(f, "order-1", Any, mode).unwrap());
        assert!(!delete(f, "order-1", NoStream, mode).unwrap());
    }

    f.given("order-1", orders([1]));
    assert!(delete(f, "order-1", Any, DeleteMode::Soft).unwrap());
    assert!(delete(f, "order-1", Any, DeleteMode::Hard).unwrap());
    assert!(f.read("order-1").is_empty());
    assert!(f.all().is_empty() || !f.store().capabilities().hard_delete);
}

pub(super) fn deleting_at_another_revision_conflicts(f: &Store) {
    f.given("order-1", orders([1, 2]));

    for mode in [DeleteMode::Soft, DeleteMode::Hard] {
        for expected in [NoStream, Exact(0), Exact(2)] {
            let result = delete(f, "order-1", expected, mode);
            assert_eq!(conflict(result), (expected, Some(1)));
        }
        let result = delete(f, "order-2", Exact(0), mode);
        assert_eq!(conflict(result), (Exact(0), None));
    }

    assert_eq!(f.read("order-1").len(), 2);
}
