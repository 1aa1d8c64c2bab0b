//! Events of the log reach their handlers: E02, E04, E05, E09 in one process.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use orkestra::{Builder, Context, HandlerError, ports::DeadLetterFilter, subscription::Start};

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

suite! {
    an_appended_event_reaches_its_handler_after_the_commit,
    e05_after_a_restart_only_new_events_come,
    e02_from_the_origin_history_comes_first,
    e09_a_poison_event_is_parked_and_the_rest_go_on,
    several_lanes_keep_the_order_of_each_stream,
}
