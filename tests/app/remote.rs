//! K and L as they are over a broker: what in process is shown with a sender that waits, or a clock that stands still.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use orkestra::{
    Builder, Context, Error, HandlerError, Message, Orkestra, Reject, RetryAfter,
    code::Coded,
    message::{EventStatus, MessageKind},
    outbox::RELAY,
    ports::{
        BusError, DeadLetter, DeadLetterFilter, DeadLetterReason, DeadLetterStatus,
        ExpectedRevision, NewEvent, Outgoing, StreamName, TraceContext,
    },
    testing::samples::{NOON, dead_letter, full_event},
};
use serde_json::json;
use uuid::Uuid;

use crate::{
    shop::{ItemAdded, OrderPlaced, PlaceOrder, Store, until},
    suite,
};

type Seen = Arc<Mutex<Vec<String>>>;

fn order(product_id: &str) -> PlaceOrder {
    PlaceOrder {
        product_id: product_id.into(),
    }
}

fn placed(order_id: &str) -> OrderPlaced {
    OrderPlaced {
        order_id: order_id.into(),
    }
}

/// A handler of `OrderPlaced` that notes `<name> <order>`.
fn noting(app: Builder, name: &'static str, seen: &Seen) -> Builder {
    let seen = Arc::clone(seen);
    app.event_handler(name, move |event: OrderPlaced, _: Context| {
        seen.lock()
            .unwrap()
            .push(format!("{name} {}", event.order_id));
        async { Ok(()) }
    })
}

fn sorted(seen: &Seen) -> Vec<String> {
    let mut seen = seen.lock().unwrap().clone();
    seen.sort();
    seen
}

/// The dead letters, moved into the state store if they are not there.
async fn letters(store: &Store, app: &Orkestra, count: usize) -> Vec<DeadLetter> {
    store.buried(app, count).await;
    if !store.is_durable() {
        app.dead_letters().drain(None).await.unwrap();
    }
    let page = app.dead_letters().list(DeadLetterFilter::default()).await;
    page.unwrap().items
}

async fn k06_k15_the_failing_handler_is_retried_alone(store: Arc<Store>) {
    let seen = Seen::default();
    let app = noting(store.app(), "first", &seen).event_handler("middle", {
        let seen = Arc::clone(&seen);
        move |_: OrderPlaced, context: Context| {
            seen.lock()
                .unwrap()
                .push(format!("middle {}", context.attempt()));
            async { Err(HandlerError::text("no mail today")) }
        }
    });
    let app = noting(app.max_retries(2), "panicking", &Seen::default())
        .event_handler("last", |_: OrderPlaced, _: Context| async {
            panic!("not even that")
        })
        .max_retries(0)
        .start()
        .await
        .unwrap();

    let published = app.publish(placed("o-1")).await.unwrap();

    assert_eq!(published.settled().await, EventStatus::Published);
    assert!(published.handlers().is_empty());
    let letters = letters(&store, &app, 2).await;
    assert_eq!(
        sorted(&seen),
        ["first o-1", "middle 1", "middle 2", "middle 3"]
    );
    let mut told: Vec<_> = letters
        .iter()
        .map(|l| (l.handler.as_str(), l.attempts, l.errors[0].message.as_str()))
        .collect();
    told.sort_unstable();
    assert_eq!(
        told,
        [
            ("shop.last", 1, "the handler panicked: not even that"),
            ("shop.middle", 3, "no mail today"),
        ]
    );
    app.close().await.unwrap();
}

async fn k08_what_cannot_be_read_is_a_dead_letter_at_once(store: Arc<Store>) {
    let (seen, told) = (Seen::default(), Arc::new(AtomicU32::new(0)));
    let app = noting(store.app(), "mail", &seen)
        .on_dead_letter({
            let told = Arc::clone(&told);
            move |_| {
                told.fetch_add(1, Ordering::SeqCst);
            }
        })
        .start()
        .await
        .unwrap();
    let envelope = |id: u128, data: serde_json::Value| {
        let event = json!({
            "__type__": "event_envelope",
            "event_type": "Shop.Orders.Events.OrderPlaced",
            "event_id": Uuid::from_u128(id),
            "data": data,
        });
        event.to_string().into_bytes()
    };
    let bodies = [
        b"\xff\x00 not even text".to_vec(),
        b"{\"some\": \"JSON\"}".to_vec(),
        envelope(1, json!("no object")),
        // A whole envelope, whose payload the handler's type does not take.
        envelope(2, json!({"order": 7})),
    ];

    for body in &bodies {
        let topic = "orders.events.order_placed";
        store.broker().publish("orkestra.events", topic, body);
    }
    app.publish(placed("o-1")).await.unwrap();

    until(|| !seen.lock().unwrap().is_empty()).await;
    let letters = letters(&store, &app, bodies.len()).await;
    assert_eq!(told.load(Ordering::SeqCst), 4);
    for body in bodies {
        let letter = letters.iter().find(|l| l.body == body).unwrap();
        assert_eq!(letter.reason, DeadLetterReason::Undecodable);
        assert_eq!(letter.handler, "shop.mail");
        assert!(!letter.errors.is_empty());
    }
    app.close().await.unwrap();
}

async fn k14_services_get_all_and_instances_share(store: Arc<Store>) {
    let (shop, billing) = (Seen::default(), Seen::default());
    let one = noting(store.app(), "mail", &shop).start().await.unwrap();
    let two = noting(store.app(), "mail", &shop).start().await.unwrap();
    let other = noting(store.app_named("billing"), "mail", &billing)
        .start()
        .await
        .unwrap();
    let expected: Vec<_> = (10..40).map(|n| format!("mail {n}")).collect();

    for n in 10..40 {
        one.publish(placed(&n.to_string())).await.unwrap();
    }

    until(|| shop.lock().unwrap().len() == 30 && billing.lock().unwrap().len() == 30).await;
    for app in [one, two, other] {
        app.close().await.unwrap();
    }
    assert_eq!(sorted(&shop), expected);
    assert_eq!(sorted(&billing), expected);
}

async fn k02_a_command_goes_to_the_service_that_has_its_handler(store: Arc<Store>) {
    let web = store.app_named("web").start().await.unwrap();
    let error = web.send(order("sku_42")).await.unwrap_err();
    assert_eq!(error.code(), "ORK_BUS_NO_HANDLER");
    let app = store
        .app()
        .command_handler(|command: PlaceOrder, _: Context| async move {
            if command.product_id == "sold out" {
                let data = json!({"left": 0});
                let reason = "sold out".into();
                return Err(Reject { reason, data }.into());
            }
            Ok(command.product_id)
        })
        .start()
        .await
        .unwrap();

    assert_eq!(web.dispatch(order("sku_42")).await.unwrap(), "sku_42");
    let error = web.dispatch(order("sold out")).await.unwrap_err();

    let Error::Bus(BusError::Rejected { reason, data }) = error else {
        panic!("{error}");
    };
    assert_eq!((reason.as_str(), data), ("sold out", json!({"left": 0})));
    web.close().await.unwrap();
    app.close().await.unwrap();
}

/// Holds its first command until it is let go.
fn holding(store: &Store) -> (Builder, Arc<tokio::sync::Semaphore>, Arc<AtomicU32>) {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let begun = Arc::new(AtomicU32::new(0));
    let app = store.app().command_handler({
        let (gate, begun) = (Arc::clone(&gate), Arc::clone(&begun));
        move |command: PlaceOrder, context: Context| {
            let (gate, begun) = (Arc::clone(&gate), Arc::clone(&begun));
            async move {
                begun.fetch_add(1, Ordering::SeqCst);
                gate.acquire().await.unwrap().forget();
                // Also while the app closes.
                context.app().publish(placed(&command.product_id)).await?;
                Ok(command.product_id)
            }
        }
    });
    (app, gate, begun)
}

async fn k16_a_graceful_stop_finishes_what_is_in_hand(store: Arc<Store>) {
    let (app, gate, begun) = holding(&store);
    let app = app.concurrency(2).prefetch(10).start().await.unwrap();
    let seen = Seen::default();
    let mail = noting(store.app_named("mail"), "mail", &seen);
    let mail = mail.start().await.unwrap();
    for n in 0..6 {
        mail.send(order(&n.to_string())).await.unwrap();
    }
    until(|| begun.load(Ordering::SeqCst) == 2).await;

    let closing = tokio::spawn({
        let app = app.clone();
        async move { app.close().await }
    });
    until(|| !app.is_open()).await;
    gate.add_permits(100);
    closing.await.unwrap().unwrap();

    assert_eq!(begun.load(Ordering::SeqCst), 2);
    until(|| seen.lock().unwrap().len() == 2).await;
    let (app, gate, _) = holding(&store);
    gate.add_permits(100);
    let app = app.start().await.unwrap();
    until(|| seen.lock().unwrap().len() == 6).await;
    app.close().await.unwrap();
    mail.close().await.unwrap();
    assert_eq!(
        sorted(&seen),
        (0..6).map(|n| format!("mail {n}")).collect::<Vec<_>>()
    );
}

async fn k20_a_late_answer_is_dropped(store: Arc<Store>) {
    let (app, gate, begun) = holding(&store);
    let app = app.start().await.unwrap();
    let limit = Duration::from_millis(50);

    let error = app.dispatch(order("late")).timeout(limit).await;

    assert_eq!(error.unwrap_err().code(), "ORK_BUS_DISPATCH_TIMEOUT");
    until(|| begun.load(Ordering::SeqCst) == 1).await;
    gate.add_permits(2);
    assert_eq!(app.dispatch(order("next")).await.unwrap(), "next");
    app.close().await.unwrap();
}

async fn k22_what_a_handler_wants_no_more_is_acknowledged(store: Arc<Store>) {
    let seen = Seen::default();
    let handler = |patterns: &'static str| {
        let seen = Arc::clone(&seen);
        let noting = move |event: Arc<orkestra::message::Event>, _: Context| {
            seen.lock().unwrap().push(event.type_name.to_string());
            async { Ok(()) }
        };
        store.app().topic_handler("audit", patterns, noting)
    };
    let add = |app: &Orkestra| {
        let item = ItemAdded {
            quantity: 1,
            unit: "piece".into(),
        };
        app.publish(item).into_future()
    };
    handler("orders.#")
        .start()
        .await
        .unwrap()
        .close()
        .await
        .unwrap();
    let app = handler("carts.#").start().await.unwrap();

    app.publish(placed("o-1")).await.unwrap();
    add(&app).await.unwrap();

    until(|| !seen.lock().unwrap().is_empty()).await;
    app.close().await.unwrap();
    assert_eq!(*seen.lock().unwrap(), [ItemAdded::TYPE_NAME]);
    assert_eq!(store.broker().depth("orkestra.evt.shop.audit"), Some(0));
}

async fn k23_the_shorter_wait_is_over_first(store: Arc<Store>) {
    let seen = Seen::default();
    let app = store
        .app()
        .event_handler("later", {
            let seen = Arc::clone(&seen);
            move |event: OrderPlaced, context: Context| {
                let seen = Arc::clone(&seen);
                async move {
                    if context.attempt() == 1 {
                        let wait = event.order_id.parse()?;
                        return Err(RetryAfter(Duration::from_millis(wait)).into());
                    }
                    assert_eq!(context.attempt(), 2);
                    seen.lock().unwrap().push(event.order_id);
                    Ok(())
                }
            }
        })
        .max_retries(0)
        .start()
        .await
        .unwrap();

    app.publish(placed("1500")).await.unwrap();
    app.publish(placed("100")).await.unwrap();

    until(|| seen.lock().unwrap().len() == 2).await;
    assert_eq!(*seen.lock().unwrap(), ["100", "1500"]);
    assert_eq!(store.letters(&app).await, 0);
    app.close().await.unwrap();
}

async fn a_handler_that_never_returns_is_timed_out(store: Arc<Store>) {
    let app = store
        .app()
        .command_handler(|_: PlaceOrder, _: Context| std::future::pending())
        .timeout(Duration::from_millis(50))
        .start()
        .await
        .unwrap();

    let error = app.dispatch(order("sku_42")).await.unwrap_err();

    let Error::Bus(BusError::HandlerFailed { message, .. }) = error else {
        panic!("{error}");
    };
    assert_eq!(
        message,
        "handler shop.orders.commands.place_order ran longer than 0.05 s"
    );
    store.buried(&app, 1).await;
    app.close().await.unwrap();
}

async fn k12_a_broker_that_is_away_is_a_transient_error_at_the_start(store: Arc<Store>) {
    let away = "amqp://guest:guest@127.0.0.1:1/%2F?connect_timeout=1";
    let seen = Seen::default();

    let error = noting(store.app(), "mail", &seen).bus(away).start().await;

    let error = error.unwrap_err();
    assert_eq!(error.code(), "ORK_BUS_UNAVAILABLE");
    assert!(error.is_transient());
    // An app that only sends starts, and says it when it sends.
    let url = format!("{away}&publish_timeout=1");
    let app = store.app().bus(url).start().await.unwrap();
    let error = app.publish(placed("o-1")).await.unwrap_err();
    assert_eq!(error.code(), "ORK_BUS_UNAVAILABLE");
    let health = app.health().await;
    assert!(!health.ok);
    assert!(!health.bus.unwrap().connected);
    app.close().await.unwrap();
}

async fn k18_a_payload_over_the_limit_is_refused_before_it_is_sent(store: Arc<Store>) {
    let app = store.app().max_payload_bytes(100).start().await.unwrap();

    let event = app.publish(placed(&"x".repeat(100))).await.unwrap_err();
    let command = app.send(order(&"x".repeat(100))).await.unwrap_err();

    assert_eq!(event.code(), "ORK_MESSAGE_TOO_LARGE");
    assert_eq!(command.code(), "ORK_MESSAGE_TOO_LARGE");
    app.close().await.unwrap();
}

fn recorded(n: u128, type_name: &str, version: u32, data: &'static str) -> NewEvent {
    NewEvent {
        id: Uuid::from_u128(n),
        type_name: type_name.into(),
        version,
        data: data.into(),
        metadata: "{}".into(),
        occurred_at: orkestra::clock::Timestamp::from_micros(0),
    }
}

async fn what_is_appended_is_published_once_it_is_committed(store: Arc<Store>) {
    let seen = Seen::default();
    let noted = Arc::clone(&seen);
    // Another service, which has nothing of the store.
    let billing = Orkestra::builder("billing")
        .app_prefix("Shop")
        .store("memory:")
        .bus(&store.broker().url)
        .event_handler("items", move |event: ItemAdded, context: Context| {
            let line = format!(
                "{} {} {}",
                context.message_id().as_u128(),
                event.quantity,
                event.unit
            );
            noted.lock().unwrap().push(line);
            async { Ok(()) }
        })
        .start()
        .await
        .unwrap();
    let app = store.app().start().await.unwrap();
    let stream = StreamName::new("cart-7").unwrap();
    // Of an older schema, under an older name, and as it is now.
    let events = vec![
        recorded(1, "Shop.Carts.Events.ItemAdded", 1, r#"{"amount":2}"#),
        recorded(2, "Shop.Carts.Events.ItemPut", 2, r#"{"quantity":3}"#),
        recorded(
            3,
            "Shop.Carts.Events.ItemAdded",
            3,
            r#"{"quantity":4,"unit":"box"}"#,
        ),
    ];

    let appended = app
        .store()
        .unwrap()
        .append(stream, events, ExpectedRevision::Any);
    let last = appended.await.unwrap().position.unwrap();

    let limit = Duration::from_secs(60);
    app.caught_up(RELAY, last, limit).await.unwrap();
    until(|| seen.lock().unwrap().len() == 3).await;
    assert_eq!(*seen.lock().unwrap(), ["1 2 piece", "2 3 piece", "3 4 box"]);
    let health = app.health().await;
    assert!(health.ok, "{health:?}");
    assert_eq!(health.relay.unwrap().position, Some(last));
    let bus = billing.health().await.bus.unwrap();
    assert!(bus.connected);
    assert_eq!(bus.consumers[0].queue, "orkestra.evt.billing.items");
    assert!(bus.consumers[0].consuming);
    app.close().await.unwrap();
    billing.close().await.unwrap();
}

async fn of_two_processes_one_publishes_the_log(store: Arc<Store>) {
    if !store.is_durable() {
        return;
    }
    let seen = Seen::default();
    let mail = noting(store.app_named("mail"), "mail", &seen);
    let one = mail.start().await.unwrap();
    let two = store.app().start().await.unwrap();
    let append = |app: Orkestra, n: u128| async move {
        let stream = StreamName::new("order-1").unwrap();
        let event = recorded(
            n,
            "Shop.Orders.Events.OrderPlaced",
            1,
            r#"{"order_id":"o"}"#,
        );
        let store = app.store().unwrap();
        let appended = store.append(stream, vec![event], ExpectedRevision::Any);
        appended.await.unwrap().position.unwrap()
    };
    for n in 0..10 {
        append(one.clone(), 2 * n + 1).await;
        append(two.clone(), 2 * n + 2).await;
    }
    until(|| seen.lock().unwrap().len() == 20).await;

    // Whichever it was, the other goes on.
    let last = append(two.clone(), 21).await;
    let limit = Duration::from_secs(60);
    two.caught_up(RELAY, last, limit).await.unwrap();
    two.close().await.unwrap();
    let last = append(one.clone(), 22).await;
    one.caught_up(RELAY, last, limit).await.unwrap();
    until(|| seen.lock().unwrap().len() == 22).await;
    one.close().await.unwrap();
    assert_eq!(seen.lock().unwrap().len(), 22);
}

async fn what_cannot_be_published_is_parked_and_can_be_requeued(store: Arc<Store>) {
    let (seen, told) = (Seen::default(), Arc::new(AtomicU32::new(0)));
    let app = noting(store.app(), "mail", &seen)
        .on_dead_letter({
            let told = Arc::clone(&told);
            move |_| {
                told.fetch_add(1, Ordering::SeqCst);
            }
        })
        .start()
        .await
        .unwrap();
    let stream = StreamName::new("order-1").unwrap();
    let event = |n, data| recorded(n, "Shop.Orders.Events.OrderPlaced", 1, data);
    let damaged = NewEvent {
        metadata: r#"{"correlation_id":7}"#.into(),
        ..event(1, r#"{"order_id":"damaged"}"#)
    };
    let events = vec![damaged, event(2, r#"{"order_id":"sound"}"#)];

    let events = app
        .store()
        .unwrap()
        .append(stream, events, ExpectedRevision::Any);
    let last = events.await.unwrap().position.unwrap();

    app.caught_up(RELAY, last, Duration::from_secs(60))
        .await
        .unwrap();
    until(|| seen.lock().unwrap().len() == 1).await;
    let page = app.dead_letters().list(DeadLetterFilter::default()).await;
    let letter = page.unwrap().items.remove(0);
    assert_eq!(letter.handler, RELAY);
    assert_eq!(letter.reason, DeadLetterReason::Undecodable);
    assert_eq!(told.load(Ordering::SeqCst), 1);
    app.dead_letters().requeue(letter.id).await.unwrap();
    until(|| seen.lock().unwrap().len() == 2).await;
    assert_eq!(*seen.lock().unwrap(), ["mail sound", "mail damaged"]);
    let error = app.dead_letters().show(letter.id).await.unwrap_err();
    assert_eq!(error.code(), "ORK_STORE_NO_DEAD_LETTER");
    app.close().await.unwrap();
}

async fn what_is_left_in_the_log_goes_out_at_the_next_start(store: Arc<Store>) {
    let seen = Seen::default();
    let mail = noting(store.app_named("mail"), "mail", &seen);
    let mail = mail.start().await.unwrap();
    if !store.is_durable() {
        return mail.close().await.unwrap();
    }
    // The place where the relay begins is kept by the app before.
    let append = |app: Orkestra, n: u128| async move {
        let stream = StreamName::new("order-1").unwrap();
        let event = recorded(
            n,
            "Shop.Orders.Events.OrderPlaced",
            1,
            r#"{"order_id":"o"}"#,
        );
        let store = app.store().unwrap();
        let appended = store.append(stream, vec![event], ExpectedRevision::Any);
        appended.await.unwrap();
        app.close().await.unwrap();
    };
    append(store.app().start().await.unwrap(), 1).await;
    // In process nobody publishes the log.
    append(store.app().bus("memory:").start().await.unwrap(), 2).await;

    let app = store.app().start().await.unwrap();

    until(|| seen.lock().unwrap().len() == 2).await;
    app.close().await.unwrap();
    mail.close().await.unwrap();
    assert_eq!(seen.lock().unwrap().len(), 2);
}

async fn l01_a_dead_letter_has_the_trace_of_what_began_it(store: Arc<Store>) {
    let app = store
        .app()
        .command_handler(|_: PlaceOrder, context: Context| async move {
            context.app().publish(placed("o-1")).await?;
            Ok(String::new())
        })
        .event_handler("mail", |_: OrderPlaced, _: Context| async {
            Err(HandlerError::text("no mail today"))
        })
        .max_retries(0)
        .start()
        .await
        .unwrap();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let id = Uuid::from_u128(7);
    let body = json!({
        "__type__": "command_envelope",
        "command_type": "Shop.Orders.Commands.PlaceOrder",
        "command_id": id,
        "params": {"product_id": "sku_42"},
    });

    let broker = app.services().broker.clone().unwrap();
    let message = Outgoing {
        kind: MessageKind::Command,
        id,
        topic: "orders.commands.place_order".into(),
        correlation_id: "req-1".into(),
        body: body.to_string().into(),
        issued_at: orkestra::clock::Timestamp::from_micros(0),
        max_retries: None,
        trace: TraceContext {
            traceparent: Some(format!("00-{trace}-00f067aa0ba902b7-01").into()),
            ..TraceContext::default()
        },
    };
    broker.send(message).await.unwrap();

    let letters = letters(&store, &app, 1).await;
    assert_eq!(letters[0].handler, "shop.mail");
    assert_eq!(letters[0].trace_id.as_deref(), Some(trace));
    app.close().await.unwrap();
}

async fn l03_a_letter_is_requeued_by_who_is_not_its_handler(store: Arc<Store>) {
    let (seen, mended) = (Seen::default(), Arc::new(AtomicBool::new(false)));
    let breakable = |store: &Store| {
        let mended = Arc::clone(&mended);
        let app = noting(store.app(), "sound", &seen);
        let seen = Arc::clone(&seen);
        app.event_handler("mail", move |event: OrderPlaced, _: Context| {
            let mended = mended.load(Ordering::SeqCst);
            seen.lock()
                .unwrap()
                .push(format!("mail {}", event.order_id));
            async move {
                if mended {
                    return Ok(());
                }
                Err(HandlerError::text("no mail today"))
            }
        })
        .max_retries(0)
    };
    let app = breakable(&store).start().await.unwrap();
    app.publish(placed("o-1")).await.unwrap();
    let letter = letters(&store, &app, 1).await.remove(0);
    mended.store(true, Ordering::SeqCst);
    if !store.is_durable() {
        // Its entry is in the memory of this process.
        assert!(!app.dead_letters().requeue(letter.id).await.unwrap());
        until(|| seen.lock().unwrap().len() == 3).await;
        return app.close().await.unwrap();
    }
    // The handler's process is away; its queue is not.
    app.close().await.unwrap();
    let tool = store.app_named("tool").start().await.unwrap();

    assert!(!tool.dead_letters().requeue(letter.id).await.unwrap());

    let marked = tool.dead_letters().show(letter.id).await.unwrap();
    assert_eq!(marked.status, DeadLetterStatus::Requeued);
    let app = breakable(&store).start().await.unwrap();
    until(|| seen.lock().unwrap().len() == 3).await;
    assert_eq!(sorted(&seen), ["mail o-1", "mail o-1", "sound o-1"]);
    while tool.dead_letters().show(letter.id).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    app.close().await.unwrap();
    tool.close().await.unwrap();
}

async fn l03_an_entry_whose_queue_is_gone_stays_dead(store: Arc<Store>) {
    let app = store.app().start().await.unwrap();
    let letter = DeadLetter {
        kind: MessageKind::Event,
        body: orkestra::message::wire::encode_event(&full_event(1)).unwrap(),
        ..dead_letter(1, "gone.mail", NOON)
    };
    let entries = Arc::clone(&app.services().dead_letters);
    entries.record(letter.clone()).await.unwrap();

    let error = app.dead_letters().requeue(letter.id).await.unwrap_err();

    assert_eq!(error.code(), "ORK_BUS_TOPOLOGY_MISSING");
    assert_eq!(app.dead_letters().show(letter.id).await.unwrap(), letter);
    app.close().await.unwrap();
}

async fn a_service_may_call_a_type_by_another_name(store: Arc<Store>) {
    let seen = Seen::default();
    let app = noting(store.app(), "mail", &seen).start().await.unwrap();
    let body = json!({
        "__type__": "event_envelope",
        "event_type": "Elsewhere.Orders.OrderPlaced",
        "event_id": Uuid::from_u128(7),
        "data": {"order_id": "o-1", "more": true},
    });

    let topic = "orders.events.order_placed";
    let body = body.to_string();
    store
        .broker()
        .publish("orkestra.events", topic, body.as_bytes());

    until(|| !seen.lock().unwrap().is_empty()).await;
    assert_eq!(*seen.lock().unwrap(), ["mail o-1"]);
    app.close().await.unwrap();
}

suite! {
    over_a_broker {
        k02_a_command_goes_to_the_service_that_has_its_handler,
        k06_k15_the_failing_handler_is_retried_alone,
        k08_what_cannot_be_read_is_a_dead_letter_at_once,
        k12_a_broker_that_is_away_is_a_transient_error_at_the_start,
        k14_services_get_all_and_instances_share,
        k16_a_graceful_stop_finishes_what_is_in_hand,
        k18_a_payload_over_the_limit_is_refused_before_it_is_sent,
        k20_a_late_answer_is_dropped,
        k22_what_a_handler_wants_no_more_is_acknowledged,
        k23_the_shorter_wait_is_over_first,
        a_handler_that_never_returns_is_timed_out,
        a_service_may_call_a_type_by_another_name,
        what_is_appended_is_published_once_it_is_committed,
        of_two_processes_one_publishes_the_log,
        what_cannot_be_published_is_parked_and_can_be_requeued,
        what_is_left_in_the_log_goes_out_at_the_next_start,
        l01_a_dead_letter_has_the_trace_of_what_began_it,
        l03_a_letter_is_requeued_by_who_is_not_its_handler,
        l03_an_entry_whose_queue_is_gone_stays_dead,
    }
}
