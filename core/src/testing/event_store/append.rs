use super::{Store, conflict, ids, revisions};
use crate::{
    ports::{
        Appended, EventRef,
        ExpectedRevision::{Any, Exact, NoStream, StreamExists},
        MAX_BATCH, StoreError, StreamName,
    },
    testing::{
        block_on,
        samples::{id, order_placed, orders},
        skip,
    },
};

pub(super) fn a01_append_at_no_stream_and_then_at_each_revision_succeeds(f: &Store) {
    let revisions_after = [
        f.append("order-1", orders([1]), NoStream),
        f.append("order-1", orders([2, 3]), Exact(0)),
        f.append("order-1", orders([4, 5, 6]), Exact(2)),
    ]
    .map(|appended| appended.unwrap().revision);

    assert_eq!(revisions_after, [Some(0), Some(2), Some(5)]);
    assert_eq!(revisions(&f.read("order-1")), [0, 1, 2, 3, 4, 5]);
}

pub(super) fn a02_append_at_any_succeeds(f: &Store) {
    for events in [orders([1, 2, 3]), orders([4, 5]), orders([6])] {
        f.append("order-1", events, Any).unwrap();
    }

    assert_eq!(ids(&f.read("order-1")), [1, 2, 3, 4, 5, 6].map(id));
}

pub(super) fn a03_append_at_no_stream_to_an_existing_stream_conflicts(f: &Store) {
    f.given("order-1", orders([1, 2]));

    let result = f.append("order-1", orders([3]), NoStream);

    assert_eq!(conflict(result), (NoStream, Some(1)));
    assert_eq!(f.read("order-1").len(), 2);
}

pub(super) fn a04_append_at_stream_exists_succeeds(f: &Store) {
    f.given("order-1", orders([1, 2]));

    let appended = f.append("order-1", orders([3]), StreamExists).unwrap();

    assert_eq!(appended.revision, Some(2));
}

pub(super) fn a05_append_at_stream_exists_without_one_conflicts(f: &Store) {
    let result = f.append("order-1", orders([1]), StreamExists);

    assert_eq!(conflict(result), (StreamExists, None));
    assert!(f.all().is_empty());
}

pub(super) fn a06_append_at_a_revision_without_a_stream_conflicts(f: &Store) {
    let result = f.append("order-1", orders([1]), Exact(1));

    assert_eq!(conflict(result), (Exact(1), None));
    assert!(f.all().is_empty());
}

pub(super) fn a07_append_at_another_revision_conflicts(f: &Store) {
    f.given("order-1", orders([1, 2, 3]));

    for wrong in [0, 1, 3, u64::MAX] {
        let result = f.append("order-1", orders([4]), Exact(wrong));
        assert_eq!(conflict(result), (Exact(wrong), Some(2)));
    }
    let appended = f.append("order-1", orders([4]), Exact(2)).unwrap();

    assert_eq!(appended.revision, Some(3));
}

pub(super) fn a08_append_of_nothing_is_a_no_op(f: &Store) {
    let nothing = |revision| Appended {
        revision,
        position: None,
        repeated: false,
    };

    assert_eq!(f.append("order-1", vec![], Any).unwrap(), nothing(None));
    f.given("order-1", orders([1]));
    let head = block_on(f.store().head()).unwrap();
    for expected in [Any, NoStream, StreamExists, Exact(0), Exact(7)] {
        let appended = f.append("order-1", vec![], expected).unwrap();
        assert_eq!(appended, nothing(Some(0)), "{expected:?}");
    }

    assert_eq!(block_on(f.store().head()).unwrap(), head);
    assert_eq!(f.all().len(), 1);
}

pub(super) fn a09_a_batch_with_a_stored_id_is_refused_whole(f: &Store) {
    f.given("order-1", orders([1]));

    let case = "a09_a_batch_with_a_stored_id_is_refused_whole in another stream";
    for (stream, batch) in [
        ("order-1", [2, 1]),
        ("order-1", [1, 2]),
        ("order-2", [2, 1]),
    ] {
        if stream == "order-2" && !knows_ids_of_other_streams(f, case) {
            continue;
        }
        let error = f.append(stream, orders(batch), Any).unwrap_err();
        let StoreError::DuplicateEvent { event_id, stream } = error else {
            panic!("expected a duplicate event, found {error:?}");
        };
        assert_eq!((event_id, &*stream), (id(1).to_string(), "order-1"));
    }

    assert_eq!(ids(&f.all()), [id(1)]);
    assert!(f.read("order-2").is_empty());
}

/// False, and a printed skip, if the adapter does not.
fn knows_ids_of_other_streams(f: &Store, case: &str) -> bool {
    let knows = f.store().capabilities().unique_ids;
    if !knows {
        skip(case, "ids are looked for in their own stream only");
    }
    knows
}

pub(super) fn a10_the_same_batch_again_gives_the_first_result(f: &Store) {
    f.given("order-1", orders([1]));
    let first = f.append("order-1", orders([2, 3]), Exact(0)).unwrap();
    f.given("order-1", orders([4]));

    for expected in [Exact(0), Any, NoStream, Exact(9)] {
        let again = f.append("order-1", orders([2, 3]), expected).unwrap();
        let repeated = Appended {
            repeated: true,
            ..first
        };
        assert_eq!(again, repeated, "{expected:?}");
    }

    assert!(!first.repeated);
    assert_eq!(ids(&f.all()), [1, 2, 3, 4].map(id));
}

pub(super) fn a10_a_batch_in_another_order_or_stream_is_no_repetition(f: &Store) {
    f.given("order-1", orders([1, 2, 3]));

    let case = "a10_a_batch_in_another_order_or_stream_is_no_repetition in another stream";
    for (stream, batch) in [
        ("order-1", vec![2, 1]),
        ("order-1", vec![1, 3]),
        ("order-2", vec![1, 2, 3]),
    ] {
        if stream == "order-2" && !knows_ids_of_other_streams(f, case) {
            continue;
        }
        let error = f.append(stream, orders(batch.clone()), Any).unwrap_err();
        assert!(
            matches!(error, StoreError::DuplicateEvent { .. }),
            "{batch:?} to {stream}: {error:?}"
        );
    }

    assert_eq!(f.all().len(), 3);
}

pub(super) fn a11_streams_have_their_own_revisions_and_share_positions(f: &Store) {
    let appended = [
        f.given("order-1", orders([1])),
        f.given("order-2", orders([2])),
        f.given("order-1", orders([3])),
        f.given("order-2", orders([4])),
    ];

    assert_eq!(
        appended.map(|a| a.revision),
        [Some(0), Some(0), Some(1), Some(1)]
    );
    let positions = appended.map(|a| a.position.unwrap());
    assert!(positions.is_sorted_by(|a, b| a < b), "{positions:?}");
    assert!(positions[0].0 >= 1);
    let all = f.all();
    assert_eq!(ids(&all), [1, 2, 3, 4].map(id));
    assert_eq!(
        all.iter().map(|e| e.position).collect::<Vec<_>>(),
        positions
    );
}

pub(super) fn a18_stream_names_keep_their_rule(f: &Store) {
    let long = "x".repeat(1000);
    let quoted = "it's \"quoted\" %_\\ 100%";
    for (n, name) in ["with space", "日本-🛒", quoted, &long, "a", "A"]
        .into_iter()
        .enumerate()
    {
        f.append(name, orders([n as u64 + 1]), NoStream).unwrap();
        let read = f.read(name);
        assert_eq!(read.len(), 1, "{name}");
        assert_eq!(&*read[0].stream, name);
    }

    for name in ["", "$all", " a", "a ", "a\nb", "a\0b", &"x".repeat(1001)] {
        assert!(
            matches!(
                StreamName::new(name),
                Err(StoreError::InvalidStreamName { .. })
            ),
            "{name:?}"
        );
    }
}

pub(super) fn an_id_twice_in_a_batch_is_refused(f: &Store) {
    let error = f.append("order-1", orders([1, 2, 1]), Any).unwrap_err();

    assert!(
        matches!(error, StoreError::InvalidArgument { .. }),
        "{error:?}"
    );
    assert!(f.all().is_empty());
}

pub(super) fn a_batch_has_at_most_10000_events(f: &Store) {
    let most = MAX_BATCH as u64;

    let error = f.append("order-1", orders(0..=most), Any).unwrap_err();
    let appended = f.append("order-1", orders(0..most), NoStream).unwrap();

    assert!(
        matches!(error, StoreError::InvalidArgument { .. }),
        "{error:?}"
    );
    assert_eq!(appended.revision, Some(most - 1));
}

pub(super) fn find_event_says_where_an_event_is(f: &Store) {
    f.given("order-1", orders([1]));
    let appended = f.given("order-2", orders([2, 3]));

    let find = |n| block_on(f.store().find_event(id(n))).unwrap();

    assert_eq!(
        find(3),
        Some(EventRef {
            stream: "order-2".into(),
            revision: 1,
            position: appended.position.unwrap(),
        })
    );
    assert_eq!(find(4), None);
}

pub(super) fn what_was_acknowledged_survives_reopening(f: &mut Store) {
    let durable = f.store().capabilities().durable;
    f.given("order-1", orders([1, 2]));
    let before = f.all();

    if !f.reopen() {
        assert!(!durable, "a durable adapter's fixture says how to reopen");
        return skip(
            "what_was_acknowledged_survives_reopening",
            "the adapter is not durable",
        );
    }

    assert_eq!(f.all(), before);
    let next = f
        .append("order-1", vec![order_placed(3)], Exact(1))
        .unwrap();
    assert!(next.position > before.last().map(|e| e.position));
    assert!(
        f.append("order-1", orders([1, 2]), Any).unwrap().repeated,
        "ids are remembered"
    );
}
