//! L: dead letters through the app.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use orkestra::{
    Builder, Context, HandlerError,
    code::Coded,
    ports::{
        DeadLetter, DeadLetterFilter, DeadLetterReason, DeleteMode, ExpectedRevision, NewEvent,
        StreamName,
    },
};

use crate::{
    shop::{AddItem, Cart, PlaceOrder, Store},
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

async fn only(app: &orkestra::Orkestra) -> DeadLetter {
    let page = app
        .dead_letters()
        .list(DeadLetterFilter::default())
        .await
        .unwrap();
    assert_eq!((page.items.len(), page.total), (1, 1));
    page.items.into_iter().next().unwrap()
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

    let letter = only(&app).await;
    assert_eq!(letter.handler, "shop.orders.commands.place_order");
    assert_eq!(letter.topic, "orders.commands.place_order");
    assert_eq!(letter.reason, DeadLetterReason::RetriesExhausted);
    assert_eq!(letter.attempts, 1);
    assert_eq!(letter.errors[0].message, "the stock is away");
    assert_eq!(letter.correlation_id, "req-1");
    assert_eq!(letter.first_failed_at, letter.last_failed_at);
    assert_eq!(*told.lock().unwrap(), [letter.message_id]);
}

async fn l03_requeueing_keeps_the_id_and_removes_the_entry(store: Arc<Store>) {
    let (app, mended, seen) = breakable(&store);
    let app = app.start().await.unwrap();
    app.dispatch(order()).await.unwrap_err();
    let letter = only(&app).await;
    mended.store(true, Ordering::SeqCst);

    assert!(app.dead_letters().requeue(letter.id).await.unwrap());

    let line = format!("{} sku_42", letter.message_id);
    assert_eq!(*seen.lock().unwrap(), [line.clone(), line]);
    let page = app
        .dead_letters()
        .list(DeadLetterFilter::default())
        .await
        .unwrap();
    assert_eq!(page.total, 0);
    let error = app.dead_letters().requeue(letter.id).await.unwrap_err();
    assert_eq!(error.code(), "ORK_STORE_NO_DEAD_LETTER");
}

async fn l06_a_requeued_message_that_fails_again_is_one_entry_with_history(store: Arc<Store>) {
    let (app, _, _) = breakable(&store);
    let app = app.start().await.unwrap();
    app.dispatch(order()).await.unwrap_err();
    let first = only(&app).await;

    assert!(!app.dead_letters().requeue(first.id).await.unwrap());

    let second = only(&app).await;
    assert_eq!((second.id, second.attempts), (first.id, 2));
    assert_eq!(second.history.len(), 1);
}

async fn l07_a_mended_payload_is_handed_over(store: Arc<Store>) {
    let (app, mended, seen) = breakable(&store);
    let app = app.start().await.unwrap();
    app.dispatch(order()).await.unwrap_err();
    let letter = only(&app).await;
    mended.store(true, Ordering::SeqCst);

    let wrong = app
        .dead_letters()
        .edit(letter.id, "[]".into())
        .await
        .unwrap_err();
    assert_eq!(wrong.code(), "ORK_MESSAGE_NOT_JSON");
    let payload = r#"{"product_id":"sku_43"}"#;
    assert!(
        app.dead_letters()
            .edit(letter.id, payload.into())
            .await
            .unwrap()
    );

    let last = seen.lock().unwrap().last().cloned().unwrap();
    assert_eq!(last, format!("{} sku_43", letter.message_id));
}

async fn l08_dead_letters_survive_a_restart(store: Arc<Store>) {
    let (app, _, _) = breakable(&store);
    let app = app.start().await.unwrap();
    app.dispatch(order()).await.unwrap_err();
    app.close().await.unwrap();

    let app = breakable(&store).0.start().await.unwrap();

    let page = app
        .dead_letters()
        .list(DeadLetterFilter::default())
        .await
        .unwrap();
    assert_eq!(page.total, usize::from(store.is_durable()));
}

async fn l07_a_payload_that_does_not_fit_leaves_the_entry_as_it_is(store: Arc<Store>) {
    let (app, mended, seen) = breakable(&store);
    let app = app.start().await.unwrap();
    app.dispatch(order()).await.unwrap_err();
    let letter = only(&app).await;

    let wrong = app
        .dead_letters()
        .edit(letter.id, r#"{"sku":1}"#.into())
        .await
        .unwrap_err();

    assert_eq!(wrong.code(), "ORK_MESSAGE_INVALID_PAYLOAD");
    assert_eq!(only(&app).await, letter);
    mended.store(true, Ordering::SeqCst);
    assert!(app.dead_letters().requeue(letter.id).await.unwrap());
    assert_eq!(seen.lock().unwrap().len(), 2);
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
    let letter = only(&app).await;
    assert!(letter.requeueable, "{:?}", letter.errors);
    let delete = events.delete_stream(cart, any, DeleteMode::Hard);
    delete.await.unwrap();

    assert!(app.dead_letters().requeue(letter.id).await.unwrap());
}

suite! {
    l07_a_payload_that_does_not_fit_leaves_the_entry_as_it_is,
    l03_a_command_of_an_aggregate_can_be_requeued,
    l01_a_dead_letter_says_what_happened,
    l03_requeueing_keeps_the_id_and_removes_the_entry,
    l06_a_requeued_message_that_fails_again_is_one_entry_with_history,
    l07_a_mended_payload_is_handed_over,
    l08_dead_letters_survive_a_restart,
}
