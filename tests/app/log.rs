//! Events of the log reach their handlers: E02, E04, E05, E09 in one process.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt;
use orkestra::{
    Builder, Context, HandlerError, Orkestra,
    code::Coded,
    ports::{
        DeadLetter, DeadLetterFilter, DeadLetterReason, Direction, ExpectedRevision, NewEvent,
        Position, ReadAll, StreamName, all_events, stream_events,
    },
    subscription::{LEASE, Poison, Start, SubscriptionOptions},
};

use crate::{
    shop::{AddItem, Cart, ItemAdded, Store, until},
    suite,
};

fn add(cart: u32) -> AddItem {
    AddItem {
        cart: cart.to_string(),
        quantity: 1,
    }
}

type Seen = Arc<Mutex<Vec<u64>>>;

/// A cart app whose handler `count` notes each event's causing command.
fn counting(store: &Store, seen: &Seen) -> Builder {
    let seen = Arc::clone(seen);
    store
        .app()
        .aggregate::<Cart>()
        .event_handler("count", move |_: ItemAdded, context: Context| {
            let time = context.metadata().issued_at.as_millis();
            seen.lock().unwrap().push(time);
            async { Ok(()) }
        })
}

async fn an_appended_event_reaches_its_handler_after_the_commit(store: Arc<Store>) {
    let seen = Seen::default();
    let app = counting(&store, &seen).start().await.unwrap();

    for cart in 0..20 {
        app.dispatch(add(cart)).await.unwrap();
    }

    until(|| seen.lock().unwrap().len() == 20).await;
    app.close().await.unwrap();
}

async fn e05_after_a_restart_only_new_events_come(store: Arc<Store>) {
    let seen = Seen::default();
    let app = counting(&store, &seen).start().await.unwrap();
    app.dispatch(add(1)).await.unwrap();
    until(|| seen.lock().unwrap().len() == 1).await;
    let checkpoints = Arc::clone(&app.services().checkpoints);
    let head = app.store().unwrap().head().await.unwrap().unwrap();
    checkpoints
        .wait_until("shop.count".into(), head)
        .await
        .unwrap();
    app.close().await.unwrap();
    if !store.is_durable() {
        return;
    }

    let app = counting(&store, &seen).start().await.unwrap();
    app.dispatch(add(2)).await.unwrap();

    until(|| seen.lock().unwrap().len() == 2).await;
    app.close().await.unwrap();
    assert_eq!(seen.lock().unwrap().len(), 2);
}

async fn e02_from_the_origin_history_comes_first(store: Arc<Store>) {
    if !store.is_durable() {
        return;
    }
    let app = store.app().aggregate::<Cart>().start().await.unwrap();
    for cart in 0..5 {
        app.dispatch(add(cart)).await.unwrap();
    }
    app.close().await.unwrap();
    let seen = Seen::default();

    let app = counting(&store, &seen)
        .from(Start::Origin)
        .start()
        .await
        .unwrap();
    app.dispatch(add(9)).await.unwrap();

    until(|| seen.lock().unwrap().len() == 6).await;
    app.close().await.unwrap();
}

async fn e09_a_poison_event_is_parked_and_the_rest_go_on(store: Arc<Store>) {
    let calls = Arc::new(AtomicU32::new(0));
    let app = store
        .app()
        .aggregate::<Cart>()
        .event_handler("picky", {
            let calls = Arc::clone(&calls);
            move |_: ItemAdded, _: Context| {
                let call = calls.fetch_add(1, Ordering::SeqCst);
                async move {
                    // The first event fails at both attempts.
                    if call < 2 {
                        return Err(HandlerError::text("not this one"));
                    }
                    Ok(())
                }
            }
        })
        .max_retries(1)
        .start()
        .await
        .unwrap();

    for cart in 0..3 {
        app.dispatch(add(cart)).await.unwrap();
    }
    store
        .advance_until(|| calls.load(Ordering::SeqCst) == 4)
        .await;

    let page = app
        .dead_letters()
        .list(DeadLetterFilter::default())
        .await
        .unwrap();
    assert_eq!(page.total, 1);
    assert_eq!(page.items[0].attempts, 2);
    app.close().await.unwrap();
}

async fn several_lanes_keep_the_order_of_each_stream(store: Arc<Store>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let app = store
        .app()
        .aggregate::<Cart>()
        .event_handler("lanes", {
            let seen = Arc::clone(&seen);
            move |event: ItemAdded, _: Context| {
                seen.lock().unwrap().push(event.quantity);
                async { Ok(()) }
            }
        })
        .concurrency(4)
        .start()
        .await
        .unwrap();

    for quantity in 1..=4 {
        let command = AddItem {
            cart: "7".into(),
            quantity,
        };
        app.dispatch(command).await.unwrap();
    }

    until(|| seen.lock().unwrap().len() == 4).await;
    assert_eq!(*seen.lock().unwrap(), [1, 2, 3, 4]);
    app.close().await.unwrap();
}

/// An app whose handler refuses every event.
fn poisoned(store: &Store, poison: Poison) -> Builder {
    store
        .app()
        .aggregate::<Cart>()
        .event_handler("picky", |_: ItemAdded, _: Context| async {
            Err(HandlerError::text("not this one"))
        })
        .max_retries(0)
        .poison(poison)
}

async fn e09_a_poison_event_is_skipped_when_asked(store: Arc<Store>) {
    let app = poisoned(&store, Poison::Skip).start().await.unwrap();
    app.dispatch(add(1)).await.unwrap();
    let head = app.store().unwrap().head().await.unwrap().unwrap();

    app.caught_up("picky", head, Duration::from_secs(60))
        .await
        .unwrap();

    let page = app
        .dead_letters()
        .list(DeadLetterFilter::default())
        .await
        .unwrap();
    assert_eq!(page.total, 0);
    app.close().await.unwrap();
}

async fn e09_a_poison_event_stops_the_subscription_when_asked(store: Arc<Store>) {
    let app = poisoned(&store, Poison::Stop).start().await.unwrap();
    app.dispatch(add(1)).await.unwrap();
    let head = app.store().unwrap().head().await.unwrap().unwrap();
    until(|| !app.stopped_subscriptions().is_empty()).await;

    let error = app
        .caught_up("picky", head, Duration::from_secs(60))
        .await
        .unwrap_err();

    assert_eq!(error.code(), "ORK_SUBSCRIPTION_STOPPED");
    assert!(error.to_string().ends_with("not this one"), "{error}");
    app.close().await.unwrap();
}

async fn who_does_not_catch_up_in_time_is_told(store: Arc<Store>) {
    let app = store.app().start().await.unwrap();
    let waiting = tokio::spawn({
        let app = app.clone();
        async move {
            app.caught_up("nobody", Position(7), Duration::from_secs(5))
                .await
        }
    });

    store.advance_until(|| waiting.is_finished()).await;

    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(error.code(), "ORK_SUBSCRIPTION_NOT_CAUGHT_UP");
}

async fn e04_what_was_not_acknowledged_comes_again(store: Arc<Store>) {
    let app = store.app().aggregate::<Cart>().start().await.unwrap();
    for cart in 0..3 {
        app.dispatch(add(cart)).await.unwrap();
    }
    let options = SubscriptionOptions::default().batch_size(1);
    let mut reader = app.subscribe(Some("reader"), options.clone()).unwrap();
    let first = reader.next().await.unwrap();
    reader.ack(first.position).await.unwrap();
    let second = reader.next().await.unwrap();
    reader.release().await.unwrap();

    let mut reader = app.subscribe(Some("reader"), options).unwrap();

    assert_eq!(reader.next().await.unwrap().position, second.position);
    assert!(reader.next().await.unwrap().position > second.position);
    app.close().await.unwrap();
}

async fn e04_reading_on_does_not_acknowledge_what_was_handed_out(store: Arc<Store>) {
    let app = store.app().aggregate::<Cart>().start().await.unwrap();
    app.dispatch(add(1)).await.unwrap();
    let options = SubscriptionOptions::default();
    let mut reader = app.subscribe(Some("reader"), options.clone()).unwrap();
    let first = reader.next().await.unwrap();
    assert!(reader.try_next().await.unwrap().is_none());
    reader.release().await.unwrap();

    let mut reader = app.subscribe(Some("reader"), options).unwrap();

    assert_eq!(reader.next().await.unwrap().position, first.position);
    app.close().await.unwrap();
}

async fn e06_of_two_processes_one_handles_and_the_other_takes_over(store: Arc<Store>) {
    if !store.is_durable() {
        return;
    }
    let (one, two) = (Seen::default(), Seen::default());
    let first = counting(&store, &one).start().await.unwrap();
    first.dispatch(add(0)).await.unwrap();
    until(|| one.lock().unwrap().len() == 1).await;
    let second = counting(&store, &two).start().await.unwrap();

    for cart in 1..20 {
        second.dispatch(add(cart)).await.unwrap();
    }
    until(|| one.lock().unwrap().len() == 20).await;
    first.close().await.unwrap();
    second.dispatch(add(20)).await.unwrap();

    // The lease was given back: the other asks for it the next time it looks.
    store.advance_until(|| two.lock().unwrap().len() == 1).await;
    assert_eq!(one.lock().unwrap().len(), 20);
    second.close().await.unwrap();
}

async fn e07_an_owner_that_slept_past_its_lease_cannot_move_the_checkpoint(store: Arc<Store>) {
    let app = store.app().aggregate::<Cart>().start().await.unwrap();
    for cart in 0..3 {
        app.dispatch(add(cart)).await.unwrap();
    }
    let reader = |owner: &str| {
        let options = SubscriptionOptions::default().batch_size(1);
        let leases = Arc::clone(&app.services().leases);
        let reader = app.subscribe(Some("reader"), options).unwrap();
        reader.owned(leases, owner, Arc::new(store.clock.clone()))
    };
    let (mut sleeper, mut other) = (reader("sleeper"), reader("other"));
    let first = sleeper.next().await.unwrap();
    assert!(
        other.try_next().await.unwrap().is_none(),
        "the lease is the sleeper's"
    );

    store.clock.advance(LEASE);
    let again = other.try_next().await.unwrap().unwrap();
    assert_eq!(again.position, first.position, "nothing was acknowledged");
    other.ack(again.position).await.unwrap();
    let second = other.try_next().await.unwrap().unwrap();
    other.ack(second.position).await.unwrap();

    let error = sleeper.ack(first.position).await.unwrap_err();
    assert_eq!(error.code(), "ORK_STORE_STALE_LEASE");
    assert!(sleeper.try_next().await.unwrap().is_none());
    other.release().await.unwrap();
    let third = sleeper.try_next().await.unwrap().unwrap();
    assert!(
        third.position > second.position,
        "it goes on where the other stopped"
    );
    app.close().await.unwrap();
}

async fn reading_as_a_stream_gives_all_events_page_by_page(store: Arc<Store>) {
    let app = store.app().start().await.unwrap();
    let stream = StreamName::new("cart-7").unwrap();
    let events = app.store().unwrap();
    for batch in 0..5 {
        let batch = (0..500).map(|n| NewEvent {
            id: uuid::Uuid::from_u128(batch * 500 + n + 1),
            type_name: "Shop.Carts.Events.ItemAdded".into(),
            version: 3,
            data: "{}".into(),
            metadata: "{}".into(),
            occurred_at: orkestra::clock::Timestamp::from_micros(0),
        });
        events
            .append(stream.clone(), batch.collect(), ExpectedRevision::Any)
            .await
            .unwrap();
    }
    let read = |direction, from, limit| {
        let events = stream_events(Arc::clone(events), stream.clone(), from, direction, limit);
        async move {
            let events: Vec<_> = events.map(|e| e.unwrap().revision).collect().await;
            events
        }
    };

    let forwards = read(Direction::Forwards, None, None).await;
    let backwards = read(Direction::Backwards, None, None).await;
    let part = read(Direction::Forwards, Some(2), Some(1500)).await;
    let all = all_events(Arc::clone(events), ReadAll::default(), Some(2400));

    assert!(forwards.iter().copied().eq(0..2500));
    assert!(backwards.iter().copied().eq((0..2500).rev()));
    assert!(part.iter().copied().eq(2..1502));
    assert_eq!(all.count().await, 2400);
    app.close().await.unwrap();
}

fn raw(n: u128, metadata: &'static str) -> NewEvent {
    NewEvent {
        id: uuid::Uuid::from_u128(n),
        type_name: "Shop.Carts.Events.ItemAdded".into(),
        version: 3,
        data: r#"{"quantity":1,"unit":"piece"}"#.into(),
        metadata: metadata.into(),
        occurred_at: orkestra::clock::Timestamp::from_micros(0),
    }
}

/// Appends to cart 7 and returns the position of the last event.
async fn append(app: &Orkestra, events: Vec<NewEvent>) -> Position {
    let stream = StreamName::new("cart-7").unwrap();
    let store = app.store().unwrap();
    let appended = store.append(stream, events, ExpectedRevision::Any).await;
    appended.unwrap().position.unwrap()
}

async fn parked(app: &Orkestra) -> Vec<DeadLetter> {
    let page = app.dead_letters().list(DeadLetterFilter::default()).await;
    page.unwrap().items
}

async fn e09_a_handler_that_panics_parks_its_event_and_goes_on(store: Arc<Store>) {
    let app = store
        .app()
        .event_handler("picky", |_: ItemAdded, context: Context| async move {
            assert_eq!(context.message_id().as_u128(), 2, "not this one");
            Ok(())
        })
        .max_retries(0)
        .start()
        .await
        .unwrap();
    let last = append(&app, vec![raw(1, "{}"), raw(2, "{}")]).await;

    app.caught_up("picky", last, Duration::from_secs(60))
        .await
        .unwrap();

    assert_eq!(parked(&app).await.len(), 1);
    app.close().await.unwrap();
}

async fn e09_an_event_with_damaged_metadata_is_parked(store: Arc<Store>) {
    let seen = Seen::default();
    let app = counting(&store, &seen).start().await.unwrap();
    let damaged = raw(1, r#"{"correlation_id":7}"#);
    let last = append(&app, vec![damaged, raw(2, "{}")]).await;

    app.caught_up("count", last, Duration::from_secs(60))
        .await
        .unwrap();

    assert_eq!(seen.lock().unwrap().len(), 1);
    let letters = parked(&app).await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].reason, DeadLetterReason::Undecodable);
    assert_eq!(letters[0].message_id.as_u128(), 1);
    app.close().await.unwrap();
}

async fn e09_an_event_that_cannot_be_parked_is_not_passed_over(store: Arc<Store>) {
    let app = poisoned(&store, Poison::Park).start().await.unwrap();
    let Some(by_hand) = store.by_hand() else {
        return;
    };
    by_hand
        .execute_batch(
            "CREATE TRIGGER full BEFORE INSERT ON orkestra_dead_letters \
             BEGIN SELECT raise(ABORT, 'no room'); END",
        )
        .unwrap();
    let last = append(&app, vec![raw(1, "{}")]).await;
    let checkpoints = &app.services().checkpoints;
    until(|| store.clock.next_wake() == Some(Duration::from_millis(500))).await;
    let checkpoint = checkpoints.load("shop.picky".into()).await.unwrap();
    assert_eq!(checkpoint.and_then(|c| c.position), None);

    by_hand.execute_batch("DROP TRIGGER full").unwrap();
    let checkpoints = Arc::clone(checkpoints);
    let reached =
        tokio::spawn(async move { checkpoints.wait_until("shop.picky".into(), last).await });
    store.advance_until(|| reached.is_finished()).await;
    assert_eq!(parked(&app).await.len(), 1);
    app.close().await.unwrap();
}

async fn e09_a_stop_holds_though_the_checkpoint_cannot_be_saved(store: Arc<Store>) {
    let app = store
        .app()
        .event_handler("picky", |_: ItemAdded, context: Context| async move {
            match context.message_id().as_u128() {
                1 => Ok(()),
                _ => Err(HandlerError::text("not this one")),
            }
        })
        .max_retries(0)
        .poison(Poison::Stop)
        .start()
        .await
        .unwrap();
    if let Some(by_hand) = store.by_hand() {
        by_hand
            .execute_batch(
                "CREATE TRIGGER stuck BEFORE INSERT ON orkestra_checkpoints \
                 BEGIN SELECT raise(ABORT, 'no room'); END",
            )
            .unwrap();
    }

    append(&app, vec![raw(1, "{}"), raw(2, "{}")]).await;

    store
        .advance_until(|| !app.stopped_subscriptions().is_empty())
        .await;
    app.close().await.unwrap();
}

async fn what_is_handled_is_not_handled_again_for_a_checkpoint_that_failed(store: Arc<Store>) {
    let seen = Seen::default();
    let app = counting(&store, &seen).start().await.unwrap();
    let Some(by_hand) = store.by_hand() else {
        return;
    };
    by_hand
        .execute_batch(
            "CREATE TRIGGER stuck BEFORE INSERT ON orkestra_checkpoints \
             BEGIN SELECT raise(ABORT, 'no room'); END",
        )
        .unwrap();
    let last = append(&app, vec![raw(1, "{}"), raw(2, "{}")]).await;
    until(|| store.clock.next_wake() == Some(Duration::from_millis(500))).await;

    by_hand.execute_batch("DROP TRIGGER stuck").unwrap();
    let checkpoints = Arc::clone(&app.services().checkpoints);
    let reached =
        tokio::spawn(async move { checkpoints.wait_until("shop.count".into(), last).await });
    store.advance_until(|| reached.is_finished()).await;

    assert_eq!(seen.lock().unwrap().len(), 2);
    app.close().await.unwrap();
}

async fn an_app_that_cannot_start_leaves_nothing_running(store: Arc<Store>) {
    let app = store.app().start().await.unwrap();
    app.close().await.unwrap();
    let Some(by_hand) = store.by_hand() else {
        return;
    };
    by_hand
        .execute_batch(
            "CREATE TRIGGER stuck BEFORE INSERT ON orkestra_checkpoints \
             WHEN NEW.name = 'shop.second' BEGIN SELECT raise(ABORT, 'no room'); END",
        )
        .unwrap();
    let seen = Seen::default();

    let error = counting(&store, &seen)
        .event_handler("second", |_: ItemAdded, _: Context| async { Ok(()) })
        .start()
        .await
        .unwrap_err();

    assert_eq!(error.code(), "ORK_STORE_UNAVAILABLE");
    until(|| Arc::strong_count(&seen) == 1).await;
}

suite! {
    in_process {
        e04_reading_on_does_not_acknowledge_what_was_handed_out,
        e06_of_two_processes_one_handles_and_the_other_takes_over,
        e07_an_owner_that_slept_past_its_lease_cannot_move_the_checkpoint,
        e09_a_handler_that_panics_parks_its_event_and_goes_on,
        e09_an_event_with_damaged_metadata_is_parked,
        e09_an_event_that_cannot_be_parked_is_not_passed_over,
        e09_a_stop_holds_though_the_checkpoint_cannot_be_saved,
        what_is_handled_is_not_handled_again_for_a_checkpoint_that_failed,
        an_app_that_cannot_start_leaves_nothing_running,
        e09_a_poison_event_is_skipped_when_asked,
        e09_a_poison_event_stops_the_subscription_when_asked,
        who_does_not_catch_up_in_time_is_told,
        e04_what_was_not_acknowledged_comes_again,
        reading_as_a_stream_gives_all_events_page_by_page,
        an_appended_event_reaches_its_handler_after_the_commit,
        e05_after_a_restart_only_new_events_come,
        e02_from_the_origin_history_comes_first,
        e09_a_poison_event_is_parked_and_the_rest_go_on,
        several_lanes_keep_the_order_of_each_stream,
    }
}
