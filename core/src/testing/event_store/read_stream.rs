use super::{Store, ids, revisions};
use crate::{
    ports::ReadStream,
    testing::samples::{id, orders},
};

pub(super) fn b01_an_unknown_stream_reads_empty(f: &Store) {
    f.given("order-1", orders([1]));

    for options in [
        ReadStream::default(),
        ReadStream::from(3),
        ReadStream::default().backwards(),
    ] {
        let page = f.page("order-2", options);
        assert!(page.events.is_empty());
        assert_eq!(page.last_revision, None);
        assert!(page.end);
    }
}

pub(super) fn b02_reading_starts_at_the_revision_asked_for(f: &Store) {
    f.given("order-1", orders([1, 2, 3, 4]));
    f.given("order-2", orders([5]));

    let from = |revision| revisions(&f.page("order-1", ReadStream::from(revision)).events);

    assert_eq!(from(2), [2, 3]);
    assert_eq!(from(0), [0, 1, 2, 3]);
    assert!(from(4).is_empty());
    assert!(from(u64::MAX).is_empty());
    assert_eq!(
        f.page("order-1", ReadStream::from(4)).last_revision,
        Some(3)
    );
}

pub(super) fn b03_backwards_gives_the_last_first(f: &Store) {
    f.given("order-1", orders([1, 2, 3]));
    let backwards = |options: ReadStream| revisions(&f.page("order-1", options.backwards()).events);

    assert_eq!(backwards(ReadStream::default().limit(1)), [2]);
    assert_eq!(backwards(ReadStream::default()), [2, 1, 0]);
    assert_eq!(backwards(ReadStream::from(1)), [1, 0]);
    assert_eq!(backwards(ReadStream::from(0)), [0]);
    assert_eq!(backwards(ReadStream::from(7)), [2, 1, 0]);
}

pub(super) fn b04_pages_join_without_a_seam(f: &Store) {
    f.given("order-1", orders(0..10));

    let mut read = Vec::new();
    loop {
        let from = ReadStream::from(read.len() as u64);
        let page = f.page("order-1", from.limit(2));
        assert_eq!(page.last_revision, Some(9));
        read.extend(page.events);
        if page.end {
            break;
        }
    }

    assert_eq!(read, f.read("order-1"));
    assert_eq!(ids(&read), (0..10).map(id).collect::<Vec<_>>());
}

pub(super) fn b04_pages_join_backwards_too(f: &Store) {
    f.given("order-1", orders(0..10));

    let mut read = Vec::new();
    let mut from = ReadStream::default().backwards().limit(3);
    loop {
        let page = f.page("order-1", from);
        let next = page.events.last().and_then(|e| e.revision.checked_sub(1));
        read.extend(page.events);
        if page.end {
            break;
        }
        from.from_revision = next;
    }

    assert_eq!(revisions(&read), (0..10).rev().collect::<Vec<_>>());
}
