//! A21, A22, D04, D05 and conflicts, through the app.

use std::sync::Arc;

use orkestra::{
    Aggregate, Reject,
    clock::derive_event_id,
    code::Coded,
    ports::{DeleteMode, ExpectedRevision, NewEvent, ReadStream, Snapshot, StreamName},
};
use uuid::Uuid;

use crate::{
    shop::{AddItem, Cart, ItemAdded, Store},
    suite,
};

fn add(quantity: i64) -> AddItem {
    AddItem {
        cart: "7".into(),
        quantity,
    }
}

fn cart_7() -> StreamName {
    StreamName::new("cart-7").unwrap()
}

fn raw(n: u128, type_name: &str, version: u32, data: &'static str) -> NewEvent {
    NewEvent {
        id: Uuid::from_u128(n),
        type_name: type_name.into(),
        version,
        data: data.into(),
        metadata: "{}".into(),
        occurred_at: orkestra::clock::Timestamp::from_micros(0),
    }
}

async fn a_command_appends_what_was_decided(store: Arc<Store>) {
    let app = store.app().aggregate::<Cart>().start().await.unwrap();

    let answer = app.dispatch(add(3)).actor_id("user_1").await.unwrap();
    let outcome = app.execute::<Cart>(add(4)).await.unwrap();

    assert_eq!(
        (answer.stream.as_str(), answer.revision),
        ("cart-7", Some(0))
    );
    assert_eq!(
        (outcome.state, outcome.revision, outcome.events.len()),
        (7, Some(1), 1)
    );
    let page = app
        .store()
        .unwrap()
        .read_stream(cart_7(), ReadStream::default());
    let page = page.await.unwrap();
    let metadata = page.events[0].metadata().unwrap();
    assert_eq!(metadata.actor_id.as_deref(), Some("user_1"));
    assert_eq!(
        metadata.causation_id.as_ref(),
        Some(&metadata.correlation_id)
    );
    let rejected = app.execute::<Cart>(add(4)).await.unwrap_err();
    assert_eq!(rejected.to_string(), "rejected: the cart is full");
    let nothing = app.execute::<Cart>(add(0)).await.unwrap();
    assert_eq!((nothing.revision, nothing.events.len()), (Some(1), 0));
}

async fn a21_recorded_events_of_older_schemas_are_upcast(store: Arc<Store>) {
    let app = store.app().aggregate::<Cart>().start().await.unwrap();
    let events = vec![
        raw(1, "Shop.Carts.Events.ItemPut", 1, r#"{"amount":2}"#),
        raw(2, "Shop.Carts.Events.ItemAdded", 2, r#"{"quantity":3}"#),
    ];
    let append = app
        .store()
        .unwrap()
        .append(cart_7(), events, ExpectedRevision::NoStream);
    append.await.unwrap();

    let outcome = app.execute::<Cart>(add(1)).await.unwrap();

    assert_eq!((outcome.state, outcome.revision), (6, Some(2)));
}

async fn an_event_of_a_newer_schema_is_an_error_not_a_guess(store: Arc<Store>) {
    let app = store.app().aggregate::<Cart>().start().await.unwrap();
    let events = vec![raw(
        1,
        "Shop.Carts.Events.ItemAdded",
        4,
        r#"{"quantity":3}"#,
    )];
    let append = app
        .store()
        .unwrap()
        .append(cart_7(), events, ExpectedRevision::NoStream);
    append.await.unwrap();

    let error = app.execute::<Cart>(add(1)).await.unwrap_err();

    assert_eq!(error.code(), "ORK_MESSAGE_NO_UPCASTER");
}

async fn a22_a_command_delivered_twice_appends_once(store: Arc<Store>) {
    let app = store.app().aggregate::<Cart>().start().await.unwrap();
    let id = "019506b8-9d2a-7c3e-8f00-0123456789ab";
    let first = app.execute::<Cart>(add(8)).id(id).await.unwrap();
    app.execute::<Cart>(add(1)).await.unwrap();

    // Decided again it would be rejected: the recorded answer comes first.
    let second = app.execute::<Cart>(add(8)).id(id).await.unwrap();

    assert_eq!((second.revision, second.repeated), (first.revision, true));
    assert_eq!(second.events, first.events);
    let page = app
        .store()
        .unwrap()
        .read_stream(cart_7(), ReadStream::default());
    let page = page.await.unwrap();
    assert_eq!(page.events.len(), 2);
    assert_eq!(page.events[0].id, derive_event_id(id.parse().unwrap(), 0));
}

async fn a22_a_repetition_that_would_be_decided_otherwise_is_found_by_the_store(store: Arc<Store>) {
    let app = store.app().aggregate::<Cart>().start().await.unwrap();
    let id = "019506b8-9d2a-7c3e-8f00-0123456789ab";
    app.execute::<Cart>(add(2)).id(id).await.unwrap();

    let second = app.execute::<Cart>(add(2)).id(id).await.unwrap();

    assert_eq!(
        (second.revision, second.repeated, second.events.len()),
        (Some(0), true, 1)
    );
}

async fn racing_commands_decide_again(store: Arc<Store>) {
    let app = store.app().aggregate::<Cart>().start().await.unwrap();

    let all = (0..4).map(|_| app.execute::<Cart>(add(1)).into_future());
    let outcomes = futures_util::future::join_all(all).await;

    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let page = app
        .store()
        .unwrap()
        .read_stream(cart_7(), ReadStream::default());
    assert_eq!(page.await.unwrap().events.len(), 4);
}

#[derive(Debug)]
struct Snapped<const SCHEMA: u32>;

impl<const SCHEMA: u32> Aggregate for Snapped<SCHEMA> {
    const NAME: &'static str = "Snapped";
    const SNAPSHOT_EVERY: Option<u64> = Some(3);
    const SCHEMA_VERSION: u32 = SCHEMA;
    type State = i64;
    type Command = AddItem;
    type Event = ItemAdded;
    fn initial() -> i64 {
        0
    }
    fn stream_id(command: &AddItem) -> String {
        Cart::stream_id(command)
    }
    fn decide(_: &i64, command: &AddItem) -> Result<Vec<ItemAdded>, Reject> {
        Cart::decide(&0, command)
    }
    fn evolve(state: i64, event: &ItemAdded) -> i64 {
        Cart::evolve(state, event)
    }
}

async fn d04_a_snapshot_of_another_schema_version_is_rebuilt(store: Arc<Store>) {
    let app = store.app().aggregate::<Snapped<2>>().start().await.unwrap();
    for _ in 0..3 {
        app.execute::<Snapped<2>>(add(1)).await.unwrap();
    }
    let snapshots = &app.services().snapshots;
    let snapshot = snapshots.load(cart_7()).await.unwrap().unwrap();
    assert_eq!((snapshot.revision, snapshot.schema_version), (2, 2));
    let other = Snapshot {
        schema_version: 1,
        state: "700".into(),
        ..snapshot
    };
    snapshots.save(other).await.unwrap();

    let outcome = app.execute::<Snapped<2>>(add(1)).await.unwrap();

    assert_eq!(outcome.state, 4);
}

async fn d05_a_snapshot_saves_reading_what_is_folded_in(store: Arc<Store>) {
    let app = store.app().aggregate::<Snapped<1>>().start().await.unwrap();
    for _ in 0..3 {
        app.execute::<Snapped<1>>(add(1)).await.unwrap();
    }
    let snapshots = &app.services().snapshots;
    let snapshot = snapshots.load(cart_7()).await.unwrap().unwrap();
    let marked = Snapshot {
        state: "700".into(),
        ..snapshot
    };
    snapshots.save(marked).await.unwrap();

    let outcome = app.execute::<Snapped<1>>(add(1)).await.unwrap();

    assert_eq!(outcome.state, 701, "the snapshot's state and the tail");
}

async fn d06_a_damaged_snapshot_is_ignored(store: Arc<Store>) {
    let app = store.app().aggregate::<Snapped<1>>().start().await.unwrap();
    for _ in 0..3 {
        app.execute::<Snapped<1>>(add(1)).await.unwrap();
    }
    let snapshots = &app.services().snapshots;
    let snapshot = snapshots.load(cart_7()).await.unwrap().unwrap();
    let damaged = Snapshot {
        state: r#"{"not":"a number"}"#.into(),
        ..snapshot
    };
    snapshots.save(damaged).await.unwrap();

    assert_eq!(app.execute::<Snapped<1>>(add(1)).await.unwrap().state, 4);
}

#[derive(Debug)]
struct Cached;

impl Aggregate for Cached {
    const NAME: &'static str = "Cached";
    const CACHE: usize = 2;
    type State = i64;
    type Command = AddItem;
    type Event = ItemAdded;
    fn initial() -> i64 {
        0
    }
    fn stream_id(command: &AddItem) -> String {
        Cart::stream_id(command)
    }
    fn decide(state: &i64, command: &AddItem) -> Result<Vec<ItemAdded>, Reject> {
        Cart::decide(state, command)
    }
    fn evolve(state: i64, event: &ItemAdded) -> i64 {
        Cart::evolve(state, event)
    }
}

async fn a_cached_state_is_checked_at_the_append(store: Arc<Store>) {
    let app = store.app().aggregate::<Cached>().start().await.unwrap();
    app.execute::<Cached>(add(1)).await.unwrap();
    let elsewhere = vec![raw(
        9,
        "Shop.Carts.Events.ItemAdded",
        2,
        r#"{"quantity":5}"#,
    )];
    let events = app.store().unwrap();
    events
        .append(cart_7(), elsewhere, ExpectedRevision::Any)
        .await
        .unwrap();

    assert_eq!(app.execute::<Cached>(add(1)).await.unwrap().state, 7);

    if !events.capabilities().hard_delete {
        // There the stream would be closed for good.
        return;
    }
    events
        .delete_stream(cart_7(), ExpectedRevision::Any, DeleteMode::Hard)
        .await
        .unwrap();
    assert_eq!(app.execute::<Cached>(add(1)).await.unwrap().state, 1);
}

async fn a_cached_state_that_is_behind_refuses_nothing(store: Arc<Store>) {
    let app = store.app().aggregate::<Cached>().start().await.unwrap();
    app.execute::<Cached>(add(9)).await.unwrap();
    let elsewhere = vec![raw(
        9,
        "Shop.Carts.Events.ItemAdded",
        2,
        r#"{"quantity":-5}"#,
    )];
    let events = app.store().unwrap();
    let append = events.append(cart_7(), elsewhere, ExpectedRevision::Any);
    append.await.unwrap();

    let nothing = app.execute::<Cached>(add(0)).await.unwrap();
    let added = app.execute::<Cached>(add(3)).await.unwrap();

    assert_eq!((nothing.state, nothing.revision), (4, Some(1)));
    assert_eq!((added.state, added.revision), (7, Some(2)));
}

/// Puts each item for itself.
#[derive(Debug)]
struct Single;

impl Aggregate for Single {
    const NAME: &'static str = "Single";
    type State = i64;
    type Command = AddItem;
    type Event = ItemAdded;
    fn initial() -> i64 {
        0
    }
    fn stream_id(command: &AddItem) -> String {
        Cart::stream_id(command)
    }
    fn decide(_: &i64, command: &AddItem) -> Result<Vec<ItemAdded>, Reject> {
        Ok((0..command.quantity)
            .map(|_| ItemAdded {
                quantity: 1,
                unit: "piece".into(),
            })
            .collect())
    }
    fn evolve(state: i64, event: &ItemAdded) -> i64 {
        Cart::evolve(state, event)
    }
}

async fn a22_the_answer_to_a_repetition_is_the_first_one_however_long(store: Arc<Store>) {
    let app = store.app().aggregate::<Single>().start().await.unwrap();
    let id = "019506b8-9d2a-7c3e-8f00-0123456789ab";
    let first = app.execute::<Single>(add(1500)).id(id).await.unwrap();
    app.execute::<Single>(add(1)).await.unwrap();

    let second = app.execute::<Single>(add(1500)).id(id).await.unwrap();

    assert!(second.repeated);
    assert_eq!(second.revision, first.revision);
    assert_eq!(second.events, first.events);
    assert_eq!(second.state, first.state);
}

suite! {
    everywhere {
        a_cached_state_that_is_behind_refuses_nothing,
        a22_the_answer_to_a_repetition_is_the_first_one_however_long,
        a_command_appends_what_was_decided,
        a21_recorded_events_of_older_schemas_are_upcast,
        an_event_of_a_newer_schema_is_an_error_not_a_guess,
        a22_a_command_delivered_twice_appends_once,
        a22_a_repetition_that_would_be_decided_otherwise_is_found_by_the_store,
        racing_commands_decide_again,
        d04_a_snapshot_of_another_schema_version_is_rebuilt,
        d05_a_snapshot_saves_reading_what_is_folded_in,
        d06_a_damaged_snapshot_is_ignored,
        a_cached_state_is_checked_at_the_append,
    }
}
