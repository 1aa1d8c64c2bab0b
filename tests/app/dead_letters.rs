//! L: dead letters through the app.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use orkestra::{
    Builder, Context, Error, HandlerError, Orkestra,
    code::Coded,
    ports::{
        DeadLetter, DeadLetterFilter, DeadLetterReason, DeadLetterStatus, DeleteMode,
        ExpectedRevision, NewEvent, StreamName,
    },
};

use crate::{
    shop::{AddItem, Cart, PlaceOrder, Store, until},
    suite,
};

/// An app whose handler fails unless `mended`, and what it saw.
fn breakable(store: &Store) -> (Builder, Arc<AtomicBool>, Arc<Mutex<Vec<String>>>) {
    let mended = Arc::new(AtomicBool::new(false));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let app = store.app().command_handler({
        let (mended, seen) = (Arc::clone(&mended), Arc::clone(&seen));
        move |command: PlaceOrder, context: Context| {
            let line = format!("{} {}", context.message_id(), command.product_id);
            seen.lock().unwrap().push(line);
            let mended = mended.load(Ordering::SeqCst);
            async move {
                if mended {
                    return Ok(String::new());
                }
                Err(HandlerError::text("the stock is away"))
            }
        }
    });
    (app, mended, seen)
}

fn order() -> PlaceOrder {
    PlaceOrder {
        product_id: "sku_42".into(),
    }
}

/// The one dead letter. Over a broker with a state store in memory it lies at the broker, and is brought here.
async fn only(store: &Store, app: &Orkestra) -> DeadLetter {
    store.buried(app, 1).await;
    if store.is_remote() && !store.is_durable() {
        assert_eq!(app.dead_letters().drain(None).await.unwrap(), 1);
        assert_eq!(store.letters(app).await, 0);
    }
    let (items, total) = listed(app).await;
    assert_eq!((items.len(), total), (1, 1));
    items.into_iter().next().unwrap()
}

async fn listed(app: &Orkestra) -> (Vec<DeadLetter>, usize) {
    let page = app.dead_letters().list(DeadLetterFilter::default()).await;
    let page = page.unwrap();
    (page.items, page.total)
}

/// The message was handed to its handler: in process it is handled by now, over a broker it is on its way.
async fn handed_over(store: &Store, app: &Orkestra, answer: Result<bool, Error>) {
    assert_eq!(answer.unwrap(), !store.is_remote());
    for _ in 0..60_000 {
        if listed(app).await.1 == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("{:?}", listed(app).await);
}

async fn l01_a_dead_letter_says_what_happened(store: Arc<Store>) {
    let (app, _, _) = breakable(&store);
    let told = Arc::new(Mutex::new(Vec::new()));
    let app = app
        .on_dead_letter({
            let told = Arc::clone(&told);
            move |letter| told.lock().unwrap().push(letter.message_id)
        })
        .start()
        .await
        .unwrap();

    app.dispatch(order())
        .correlation_id("req-1")
        .await
        .unwrap_err();

    let letter = only(&store, &app).await;
    assert_eq!(letter.handler, "shop.orders.commands.place_order");
    assert_eq!(letter.topic, "orders.commands.place_order");
    assert_eq!(letter.reason, DeadLetterReason::RetriesExhausted);
    assert_eq!(letter.attempts, 1);
    assert_eq!(letter.errors[0].message, "the stock is away");
    assert_eq!(letter.correlation_id, "req-1");
    assert_eq!(letter.first_failed_at, letter.last_failed_at);
    assert_eq!(*told.lock().unwrap(), [letter.message_id]);
    app.close().await.unwrap();
}

async fn l03_requeueing_keeps_the_id_and_removes_the_entry(store: Arc<Store>) {
    let (app, mended, seen) = breakable(&store);
    let app = app.start().await.unwrap();
    app.dispatch(order()).await.unwrap_err();
    let letter = only(&store, &app).await;
    mended.store(true, Ordering::SeqCst);

    let answer = app.dead_letters().requeue(letter.id).await;
    handed_over(&store, &app, answer).await;

    let line = format!("{} sku_42", letter.message_id);
    until(|| seen.lock().unwrap().len() == 2).await;
    assert_eq!(*seen.lock().unwrap(), [line.clone(), line]);
    let error = app.dead_letters().requeue(letter.id).await.unwrap_err();
    assert_eq!(error.code(), "ORK_STORE_NO_DEAD_LETTER");
}

async fn l06_a_requeued_message_that_fails_again_is_one_entry_with_history(store: Arc<Store>) {
    let (app, _, seen) = breakable(&store);
    let app = app.start().await.unwrap();
    app.dispatch(order()).await.unwrap_err();
    let first = only(&store, &app).await;

    assert!(!app.dead_letters().requeue(first.id).await.unwrap());

    if store.is_remote() {
        until(|| seen.lock().unwrap().len() == 2).await;
    }
    let dead = DeadLetterFilter::default();
    let second = loop {
        let second = only(&store, &app).await;
        if second.status == DeadLetterStatus::Dead {
            break second;
        }
    };
    assert_eq!(app.dead_letters().list(dead).await.unwrap().total, 1);
    assert_eq!(second.id, first.id);
    // What the broker keeps has no history.
    let kept = !store.is_remote() || store.is_durable();
    assert_eq!(
        (second.attempts, second.history.len()),
        if kept { (2, 1) } else { (1, 0) }
    );
    app.close().await.unwrap();
}

async fn l07_a_mended_payload_is_handed_over(store: Arc<Store>) {
    let (app, mended, seen) = breakable(&store);
    let app = app.start().await.unwrap();
    app.dispatch(order()).await.unwrap_err();
    let letter = only(&store, &app).await;
    mended.store(true, Ordering::SeqCst);

    let wrong = app
        .dead_letters()
        .edit(letter.id, "[]".into())
        .await
        .unwrap_err();
    assert_eq!(wrong.code(), "ORK_MESSAGE_NOT_JSON");
    let payload = r#"{"product_id":"sku_43"}"#;
    let answer = app.dead_letters().edit(letter.id, payload.into()).await;
    handed_over(&store, &app, answer).await;

    until(|| seen.lock().unwrap().len() == 2).await;
    let last = seen.lock().unwrap().last().cloned().unwrap();
    assert_eq!(last, format!("{} sku_43", letter.message_id));
}

async fn l08_dead_letters_survive_a_restart(store: Arc<Store>) {
    let (app, _, _) = breakable(&store);
    let app = app.start().await.unwrap();
    app.dispatch(order()).await.unwrap_err();
    app.close().await.unwrap();

    let app = breakable(&store).0.start().await.unwrap();

    assert_eq!(listed(&app).await.1, usize::from(store.is_durable()));
    app.close().await.unwrap();
}

async fn l07_a_payload_that_does_not_fit_leaves_the_entry_as_it_is(store: Arc<Store>) {
    let (app, mended, seen) = breakable(&store);
    let app = app.start().await.unwrap();
    app.dispatch(order()).await.unwrap_err();
    let letter = only(&store, &app).await;

    let wrong = app
        .dead_letters()
        .edit(letter.id, r#"{"sku":1}"#.into())
        .await
        .unwrap_err();

    assert_eq!(wrong.code(), "ORK_MESSAGE_INVALID_PAYLOAD");
    assert_eq!(app.dead_letters().show(letter.id).await.unwrap(), letter);
    mended.store(true, Ordering::SeqCst);
    let answer = app.dead_letters().requeue(letter.id).await;
    handed_over(&store, &app, answer).await;
    until(|| seen.lock().unwrap().len() == 2).await;
    app.close().await.unwrap();
}

async fn l03_a_command_of_an_aggregate_can_be_requeued(store: Arc<Store>) {
    let app = store.app().aggregate::<Cart>().start().await.unwrap();
    let events = Arc::clone(app.store().unwrap());
    let cart = StreamName::new("cart-7").unwrap();
    let unknown = NewEvent {
        id: uuid::Uuid::from_u128(1),
        type_name: "Shop.Carts.Events.CartPainted".into(),
        version: 1,
        data: "{}".into(),
        metadata: "{}".into(),
        occurred_at: orkestra::clock::Timestamp::from_micros(0),
    };
    let any = ExpectedRevision::Any;
    let append = events.append(cart.clone(), vec![unknown], any);
    append.await.unwrap();
    let add = AddItem {
        cart: "7".into(),
        quantity: 1,
    };
    app.dispatch(add).await.unwrap_err();
    let letter = only(&store, &app).await;
    assert!(letter.requeueable, "{:?}", letter.errors);
    let mode = if events.capabilities().hard_delete {
        DeleteMode::Hard
    } else {
        DeleteMode::Soft
    };
    let delete = events.delete_stream(cart, any, mode);
    delete.await.unwrap();

    let answer = app.dead_letters().requeue(letter.id).await;
    handed_over(&store, &app, answer).await;
    app.close().await.unwrap();
}

suite! {
    everywhere {
        l07_a_payload_that_does_not_fit_leaves_the_entry_as_it_is,
        l03_a_command_of_an_aggregate_can_be_requeued,
        l01_a_dead_letter_says_what_happened,
        l03_requeueing_keeps_the_id_and_removes_the_entry,
        l06_a_requeued_message_that_fails_again_is_one_entry_with_history,
        l07_a_mended_payload_is_handed_over,
        l08_dead_letters_survive_a_restart,
    }
}
