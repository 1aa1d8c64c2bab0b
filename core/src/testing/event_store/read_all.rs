use super::{Store, ids};
use crate::{
    ports::{DeleteMode, ExpectedRevision::Any, ExpectedRevision::Exact, ReadAll, TypeFilter},
    testing::{
        block_on,
        samples::{event, id, order_placed, orders, stream},
        skip,
    },
    topic::Pattern,
};

fn patterns(patterns: &[&str]) -> TypeFilter {
    TypeFilter::new(patterns.iter().map(|p| Pattern::new(p).unwrap()), "Shop")
}

pub(super) fn b05_reading_goes_on_after_a_position(f: &Store) {
    f.given("order-1", orders([1]));
    f.given("order-2", orders([2]));
    f.given("order-1", orders([3]));
    let all = f.all();
    let (first, last) = (all[0].position, all[2].position);

    let read = |options| block_on(f.store().read_all(options)).unwrap();

    assert_eq!(read(ReadAll::default()).events.len(), 3);
    assert_eq!(
        ids(&read(ReadAll::after(Some(first))).events),
        [2, 3].map(id)
    );
    let none = read(ReadAll::after(Some(last)));
    assert_eq!(
        (none.events.len(), none.position, none.end),
        (0, None, true)
    );
    let one = read(ReadAll::default().limit(1));
    assert_eq!((ids(&one.events), one.position), (vec![id(1)], Some(first)));
    assert!(!one.end);
    assert_eq!(block_on(f.store().head()).unwrap(), Some(last));
}

pub(super) fn b06_patterns_choose_the_events(f: &Store) {
    let types = [
        "Shop.Orders.Events.OrderPlaced",
        "Shop.Orders.Events.OrderShipped",
        "Shop.Billing.Events.InvoiceSent",
    ];
    for n in 0..30 {
        let type_name = types[usize::try_from(n).unwrap() % 3];
        f.given("order-1", vec![event(n, type_name)]);
    }
    let chosen = |wanted: &[&str]| -> Vec<u64> {
        let every = f.drain(&ReadAll::default().types(patterns(wanted)));
        let paged = f.drain(&ReadAll::default().types(patterns(wanted)).limit(3));
        assert_eq!(every, paged, "{wanted:?}");
        (0..30).filter(|n| ids(&every).contains(&id(*n))).collect()
    };
    let every_third = |start| (start..30).step_by(3).collect::<Vec<u64>>();

    assert_eq!(chosen(&["orders.events.order_placed"]), every_third(0));
    assert_eq!(chosen(&["billing.#"]), every_third(2));
    assert_eq!(chosen(&["*.*.order_shipped", "nothing.#"]), every_third(1));
    assert_eq!(chosen(&["orders.#", "#.order_placed"]).len(), 20);
    assert_eq!(chosen(&["#"]).len(), 30);
    assert!(chosen(&["orders"]).is_empty());
    assert!(chosen(&[]).is_empty());
}

pub(super) fn b07_an_empty_store_has_no_head(f: &Store) {
    assert_eq!(block_on(f.store().head()).unwrap(), None);

    let page = block_on(f.store().read_all(ReadAll::default())).unwrap();
    assert_eq!(
        (page.events.len(), page.position, page.end),
        (0, None, true)
    );
}

pub(super) fn b08_a_hole_in_the_positions_hides_nothing(f: &Store) {
    let deletes = f.store().capabilities().hard_delete;
    if !deletes {
        skip(
            "b08_a_hole_in_the_positions_hides_nothing where events were deleted",
            "hard deleted events go when the server cleans up",
        );
    }
    for n in (0..20).step_by(4) {
        f.given("order-1", orders([n]));
        // What is rolled back and what is deleted may both leave a hole.
        f.append("order-1", orders([n + 1]), Exact(999))
            .unwrap_err();
        if !deletes {
            continue;
        }
        f.given("order-2", orders([n + 2, n + 3]));
        let delete = f
            .store()
            .delete_stream(stream("order-2"), Any, DeleteMode::Hard);
        block_on(delete).unwrap();
    }
    f.given("order-1", orders([20]));
    let expected: Vec<_> = (0..=20).step_by(4).map(id).collect();

    for limit in [1, 2, 1000] {
        let read = f.drain(&ReadAll::default().limit(limit));
        assert_eq!(ids(&read), expected, "pages of {limit}");
    }
}

pub(super) fn b10_a_large_log_comes_in_bounded_pages(f: &Store) {
    for batch in 0..10 {
        f.given("order-1", orders(batch * 10_000..(batch + 1) * 10_000));
    }

    let (mut after, mut read) = (None, 0);
    loop {
        let page = block_on(f.store().read_all(ReadAll::after(after).limit(500))).unwrap();
        assert!(page.events.len() <= 500);
        for event in &page.events {
            assert_eq!(event.id, id(read));
            read += 1;
        }
        if page.end {
            break;
        }
        after = page.position;
    }

    assert_eq!(read, 100_000);
}

pub(super) fn a_page_of_unwanted_events_says_how_far_it_read(f: &Store) {
    f.given("order-1", orders(0..50));
    let head = block_on(f.store().head()).unwrap();
    let options = ReadAll::default().types(patterns(&["billing.#"])).limit(10);

    let mut reached = None;
    loop {
        let next = ReadAll {
            after: reached,
            ..options.clone()
        };
        let page = block_on(f.store().read_all(next)).unwrap();
        assert!(page.events.is_empty());
        reached = page.position.or(reached);
        if page.end {
            break;
        }
    }

    assert_eq!(reached, head);
}

pub(super) fn a_stream_prefix_is_taken_literally(f: &Store) {
    let names = ["a_b-1", "a_b-2", "axb-1", "A_b-1", "a%-1", "a", "日本-1"];
    for (n, name) in (0..).zip(names) {
        f.given(name, vec![order_placed(n)]);
    }
    let found = |prefix: &str| -> Vec<String> {
        let found = f.drain(&ReadAll::default().stream_prefix(prefix));
        found.iter().map(|e| e.stream.to_string()).collect()
    };

    assert_eq!(found("a_b"), ["a_b-1", "a_b-2"]);
    assert_eq!(found("a%"), ["a%-1"]);
    assert_eq!(found("a_b-1"), ["a_b-1"]);
    assert_eq!(found("日"), ["日本-1"]);
    assert_eq!(found("").len(), names.len());
    assert!(found("b").is_empty());
}
