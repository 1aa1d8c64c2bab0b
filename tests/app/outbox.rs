//! The outbox: what is put in leaves at least once, to the broker or to the handlers of the process; and handlers with an inbox.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use orkestra::{
    AggregateAnswer, Context, HandlerError, Orkestra,
    outbox::RELAY,
    ports::{
        DeadLetterFilter, DeadLetterReason, Expected, ExpectedRevision, NewEvent, Outgoing,
        ReadAll, SaveCheckpoint, StreamName, TraceContext,
    },
    subscription::Start,
    testing::samples::{id, order_placed},
};

use crate::{
    shop::{AddItem, Cart, ItemAdded, OrderPlaced, PlaceOrder, Store, until},
    suite,
};

type Seen = Arc<Mutex<Vec<String>>>;

fn placed(order_id: &str) -> OrderPlaced {
    OrderPlaced {
        order_id: order_id.into(),
    }
}

fn order(product_id: &str) -> PlaceOrder {
    PlaceOrder {
        product_id: product_id.into(),
    }
}

fn note(seen: &Seen, line: String) {
    seen.lock().unwrap().push(line);
}

fn lines(seen: &Seen) -> Vec<String> {
    seen.lock().unwrap().clone()
}

/// Waits until the outbox is empty.
pub(crate) async fn left(store: &Store, app: &Orkestra) {
    for _ in 0..60_000 {
        if app.outbox().pending().await.unwrap().messages == 0 {
            return;
        }
        store.step();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("{:?}", app.outbox().pending().await);
}

async fn messages_of_the_outbox_reach_their_handlers_in_order(store: Arc<Store>) {
    let seen = Seen::default();
    let app = store
        .app()
        .event_handler("mail", {
            let seen = Arc::clone(&seen);
            move |event: OrderPlaced, _: Context| {
                note(&seen, event.order_id);
                async { Ok(()) }
            }
        })
        .event_handler("stock", {
            let seen = Arc::clone(&seen);
            move |_: OrderPlaced, _: Context| {
                note(&seen, "stock".into());
                async { Ok(()) }
            }
        })
        .command_handler({
            let seen = Arc::clone(&seen);
            move |command: PlaceOrder, context: Context| {
                let actor = context.metadata().actor_id.clone().unwrap_or_default();
                note(&seen, format!("{actor} orders {}", command.product_id));
                async { Ok(String::new()) }
            }
        })
        .start()
        .await
        .unwrap();

    for n in 0..20 {
        let event = placed(&format!("o-{n}"));
        app.outbox().add_event(&event).await.unwrap();
    }
    let command = order("sku_1");
    let adding = app.outbox().add_command(&command).actor_id("ann");
    adding.await.unwrap();

    left(&store, &app).await;
    until(|| seen.lock().unwrap().len() == 41).await;
    let mail: Vec<_> = lines(&seen)
        .into_iter()
        .filter(|l| l.starts_with("o-"))
        .collect();
    let expected: Vec<_> = (0..20).map(|n| format!("o-{n}")).collect();
    assert_eq!(mail, expected);
    assert!(lines(&seen).contains(&"ann orders sku_1".into()));
    assert_eq!(app.health().await.outbox.messages, 0);
    app.close().await.unwrap();
}

async fn a_message_that_fails_is_retried_and_given_up_for_its_handler_alone(store: Arc<Store>) {
    let (calls, others) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let app = store
        .app()
        .event_handler("mail", {
            let calls = Arc::clone(&calls);
            move |_: OrderPlaced, _: Context| {
                calls.fetch_add(1, Ordering::SeqCst);
                async { Err(HandlerError::text("no mail today")) }
            }
        })
        .max_retries(2)
        .event_handler("stock", {
            let others = Arc::clone(&others);
            move |_: OrderPlaced, _: Context| {
                others.fetch_add(1, Ordering::SeqCst);
                async { Ok(()) }
            }
        })
        .start()
        .await
        .unwrap();

    app.outbox().add_event(&placed("o-1")).await.unwrap();

    left(&store, &app).await;
    until(|| {
        store.step();
        calls.load(Ordering::SeqCst) == 3
    })
    .await;
    store.buried(&app, 1).await;
    left(&store, &app).await;
    assert_eq!(others.load(Ordering::SeqCst), 1);
    app.close().await.unwrap();
}

async fn a_command_that_nobody_handles_is_parked_and_the_rest_goes_on(store: Arc<Store>) {
    let seen = Seen::default();
    let app = store
        .app()
        .event_handler("mail", {
            let seen = Arc::clone(&seen);
            move |event: OrderPlaced, _: Context| {
                note(&seen, event.order_id);
                async { Ok(()) }
            }
        })
        .start()
        .await
        .unwrap();

    let id = app.outbox().add_command(&order("sku_1")).await.unwrap();
    app.outbox().add_event(&placed("o-1")).await.unwrap();

    left(&store, &app).await;
    until(|| lines(&seen) == ["o-1"]).await;
    // Also where the store is in memory: the relay has no other place for its letters.
    let page = app
        .services()
        .dead_letters
        .list(DeadLetterFilter::default());
    let letters = page.await.unwrap().items;
    assert_eq!(letters.len(), 1);
    assert_eq!((&*letters[0].handler, letters[0].message_id), (RELAY, id));
    assert_eq!(letters[0].reason, DeadLetterReason::NotRetryable);
    assert_eq!(letters[0].type_name, "Shop.Orders.Commands.PlaceOrder");
    app.close().await.unwrap();
}

async fn a_handler_with_an_inbox_handles_a_message_of_the_outbox_once(store: Arc<Store>) {
    let seen = Seen::default();
    let noting = |name: &'static str| {
        let seen = Arc::clone(&seen);
        move |_: OrderPlaced, context: Context| {
            note(&seen, format!("{name} {}", context.message_id()));
            async { Ok(()) }
        }
    };
    let app = store
        .app()
        .event_handler("mail", noting("mail"))
        .inbox()
        .event_handler("stock", noting("stock"))
        .start()
        .await
        .unwrap();
    let message = id(1).to_string();

    for n in 1..=2 {
        let adding = app.outbox().add_event(&placed("o-1")).id(&message);
        adding.await.unwrap();
        left(&store, &app).await;
        until(|| lines(&seen).len() == n + 1).await;
    }

    // Those after it come when it was passed over.
    app.outbox().add_event(&placed("o-2")).await.unwrap();
    until(|| lines(&seen).len() == 5).await;
    let count = |line: String| lines(&seen).iter().filter(|l| **l == line).count();
    assert_eq!(count(format!("mail {message}")), 1);
    assert_eq!(count(format!("stock {message}")), 2);
    app.close().await.unwrap();
}

async fn a_repeated_command_is_answered_with_the_recorded_result(store: Arc<Store>) {
    let calls = Arc::new(AtomicU32::new(0));
    let app = store
        .app()
        .command_handler({
            let calls = Arc::clone(&calls);
            move |command: PlaceOrder, _: Context| {
                let call = calls.fetch_add(1, Ordering::SeqCst) + 1;
                async move { Ok(format!("{} {call}", command.product_id)) }
            }
        })
        .inbox()
        .start()
        .await
        .unwrap();
    let id = id(1).to_string();

    let mut answers = Vec::new();
    for _ in 0..3 {
        answers.push(app.dispatch(order("sku_1")).id(&id).await.unwrap());
    }

    assert_eq!(answers, ["sku_1 1"; 3]);
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    app.close().await.unwrap();
}

async fn a_message_that_comes_while_it_is_handled_waits_for_the_outcome(store: Arc<Store>) {
    let calls = Arc::new(AtomicU32::new(0));
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let app = store
        .app()
        .event_handler("mail", {
            let (calls, gate) = (Arc::clone(&calls), Arc::clone(&gate));
            move |_: OrderPlaced, _: Context| {
                let gate = Arc::clone(&gate);
                calls.fetch_add(1, Ordering::SeqCst);
                async move {
                    gate.acquire().await?.forget();
                    Ok(())
                }
            }
        })
        .inbox()
        .concurrency(4)
        .start()
        .await
        .unwrap();
    let same = id(1).to_string();

    for _ in 0..3 {
        app.publish(placed("o-1")).id(&same).await.unwrap();
    }
    until(|| calls.load(Ordering::SeqCst) == 1).await;
    app.publish(placed("o-2")).await.unwrap();
    until(|| calls.load(Ordering::SeqCst) == 2).await;
    gate.add_permits(10);

    app.publish(placed("o-3")).await.unwrap();
    until(|| calls.load(Ordering::SeqCst) == 3).await;
    assert_eq!(gate.available_permits(), 7);
    app.close().await.unwrap();
}

async fn an_event_of_the_log_is_handled_once_though_it_is_read_again(store: Arc<Store>) {
    let seen = Seen::default();
    let noting = |name: &'static str| {
        let seen = Arc::clone(&seen);
        move |_: OrderPlaced, context: Context| {
            note(&seen, format!("{name} {}", context.message_id()));
            async { Ok(()) }
        }
    };
    let app = || {
        store
            .app()
            .event_handler("mail", noting("mail"))
            .inbox()
            .from(Start::Origin)
            .event_handler("stock", noting("stock"))
            .from(Start::Origin)
    };
    let first = app().start().await.unwrap();
    let stream = || StreamName::new("order-1").unwrap();
    let event = |n| NewEvent {
        data: format!(r#"{{"order_id":"o-{n}"}}"#).into(),
        ..order_placed(n)
    };
    let append = |app: Orkestra, n| async move {
        let appended = app
            .store()
            .unwrap()
            .append(stream(), vec![event(n)], ExpectedRevision::Any)
            .await;
        appended.unwrap().position.unwrap()
    };
    let position = append(first.clone(), 1).await;
    for name in ["mail", "stock"] {
        let late = Duration::from_secs(60);
        first.caught_up(name, position, late).await.unwrap();
    }
    if !store.is_durable() {
        return first.close().await.unwrap();
    }
    for name in ["shop.mail", "shop.stock"] {
        let reset = SaveCheckpoint::expected(Expected::Reset);
        let checkpoints = &first.services().checkpoints;
        checkpoints.save(name.into(), None, reset).await.unwrap();
    }
    first.close().await.unwrap();

    let second = app().start().await.unwrap();
    append(second.clone(), 2).await;
    until(|| lines(&seen).len() == 5).await;

    let count = |name: &str, n| {
        let line = format!("{name} {}", id(n));
        lines(&seen).iter().filter(|l| **l == line).count()
    };
    assert_eq!((count("mail", 1), count("stock", 1)), (1, 2));
    assert_eq!((count("mail", 2), count("stock", 2)), (1, 1));
    second.close().await.unwrap();
}

async fn an_event_whose_record_cannot_be_looked_up_comes_again(store: Arc<Store>) {
    come_again(store, 1).await;
}

async fn events_whose_records_cannot_be_looked_up_come_again_in_every_lane(store: Arc<Store>) {
    come_again(store, 4).await;
}

/// The table of the inbox is away for a while: nothing is passed over meanwhile.
async fn come_again(store: Arc<Store>, lanes: u32) {
    let Some(by_hand) = store.by_hand() else {
        return;
    };
    let seen = Seen::default();
    let app = store
        .app()
        .event_handler("mail", {
            let seen = Arc::clone(&seen);
            move |_: OrderPlaced, context: Context| {
                note(&seen, context.message_id().to_string());
                async { Ok(()) }
            }
        })
        .inbox()
        .concurrency(lanes)
        .start()
        .await
        .unwrap();
    by_hand.busy_timeout(Duration::from_secs(60)).unwrap();
    let rename = |from: &str, to: &str| {
        let sql = format!("ALTER TABLE {from} RENAME TO {to}");
        by_hand.execute_batch(&sql).unwrap();
    };
    let append = async |numbers: std::ops::RangeInclusive<u64>| {
        let events = numbers
            .map(|n| NewEvent {
                data: format!(r#"{{"order_id":"o-{n}"}}"#).into(),
                ..order_placed(n)
            })
            .collect();
        let stream = StreamName::new("order-1").unwrap();
        let log = app.store().unwrap();
        let appended = log.append(stream, events, ExpectedRevision::Any).await;
        appended.unwrap().position.unwrap()
    };

    rename("orkestra_inbox", "away");
    append(1..=3).await;
    // The reader waits before it tries again.
    let soon = |wake: Duration| wake <= Duration::from_millis(500);
    until(|| store.clock.next_wake().is_some_and(soon)).await;
    rename("away", "orkestra_inbox");
    let position = append(4..=4).await;
    let checkpoints = Arc::clone(&app.services().checkpoints);
    let waiting =
        tokio::spawn(async move { checkpoints.wait_until("shop.mail".into(), position).await });
    store.advance_until(|| waiting.is_finished()).await;
    waiting.await.unwrap().unwrap();

    let all: Vec<String> = (1..=4).map(|n| id(n).to_string()).collect();
    assert_eq!(lines(&seen), all);
    app.close().await.unwrap();
}

async fn a_process_without_handlers_leaves_messages_to_others(store: Arc<Store>) {
    if !store.is_durable() {
        return;
    }
    let seen = Seen::default();
    let web = store.app().start().await.unwrap();
    web.outbox().add_event(&placed("o-1")).await.unwrap();
    web.outbox().add_command(&order("sku_1")).await.unwrap();
    let worker = store
        .app()
        .event_handler("mail", {
            let seen = Arc::clone(&seen);
            move |event: OrderPlaced, _: Context| {
                note(&seen, event.order_id);
                async { Ok(()) }
            }
        })
        .command_handler({
            let seen = Arc::clone(&seen);
            move |command: PlaceOrder, _: Context| {
                note(&seen, command.product_id);
                async { Ok(String::new()) }
            }
        });
    let worker = worker.start().await.unwrap();

    left(&store, &worker).await;

    let mut seen = lines(&seen);
    seen.sort();
    assert_eq!(seen, ["o-1", "sku_1"]);
    assert_eq!(store.letters(&worker).await, 0);
    worker.close().await.unwrap();
    web.close().await.unwrap();
}

async fn a_retry_that_waits_keeps_nobody_from_closing(store: Arc<Store>) {
    let calls = Arc::new(AtomicU32::new(0));
    let app = store
        .app()
        .event_handler("mail", {
            let calls = Arc::clone(&calls);
            move |_: OrderPlaced, _: Context| {
                calls.fetch_add(1, Ordering::SeqCst);
                async { Err(HandlerError::RetryAfter(Duration::from_secs(3600))) }
            }
        })
        .start()
        .await
        .unwrap();
    app.outbox().add_event(&placed("o-1")).await.unwrap();
    until(|| calls.load(Ordering::SeqCst) == 1).await;
    // The leases of the log's reader and of the outbox's, each waited for and renewed behind, and the retry.
    until(|| store.clock.sleepers() >= 5).await;

    // The clock stands still, so a wait for that hour, or for a part of it, has no end.
    let closing = tokio::time::timeout(Duration::from_secs(60), app.close());

    closing.await.unwrap().unwrap();
}

fn trace() -> TraceContext {
    TraceContext {
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
        tracestate: Some("vendor=1".into()),
        baggage: Some("user=ann".into()),
    }
}

async fn a_trace_goes_on_through_the_outbox_the_log_and_the_broker(store: Arc<Store>) {
    let app = store
        .app()
        .aggregate::<Cart>()
        // From the outbox, to an aggregate, into the log.
        .event_handler("add", |event: OrderPlaced, context: Context| async move {
            let command = AddItem {
                cart: event.order_id,
                quantity: 1,
            };
            let _: AggregateAnswer = context.app().dispatch(command).await?;
            Ok(())
        })
        // Out of the log, into the log by hand.
        .event_handler("note", |_: ItemAdded, context: Context| async move {
            let stream = StreamName::new("notes")?;
            let noted = NewEvent {
                type_name: "Shop.Notes.Noted".into(),
                ..order_placed(7)
            };
            let store = context.app().store()?;
            store
                .append(stream, vec![noted], ExpectedRevision::Any)
                .await?;
            Ok(())
        })
        .start()
        .await
        .unwrap();
    let traced = Outgoing {
        trace: trace(),
        ..app.outbox().add_event(&placed("1")).message().unwrap()
    };

    let outbox = &app.services().outbox;
    outbox.enqueue(vec![traced]).await.unwrap();

    let mut events = Vec::new();
    for _ in 0..60_000 {
        let all = app.store().unwrap().read_all(ReadAll::default());
        events = all.await.unwrap().events;
        if events.len() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let streams: Vec<_> = events.iter().map(|event| &*event.stream).collect();
    assert_eq!(streams, ["cart-1", "notes"]);
    assert!(events.iter().all(|event| event.trace() == trace()));
    app.close().await.unwrap();
}

suite! {
    everywhere {
        messages_of_the_outbox_reach_their_handlers_in_order,
        a_message_that_fails_is_retried_and_given_up_for_its_handler_alone,
        a_command_that_nobody_handles_is_parked_and_the_rest_goes_on,
        a_handler_with_an_inbox_handles_a_message_of_the_outbox_once,
        a_trace_goes_on_through_the_outbox_the_log_and_the_broker,
    }
    in_process {
        an_event_of_the_log_is_handled_once_though_it_is_read_again,
        an_event_whose_record_cannot_be_looked_up_comes_again,
        events_whose_records_cannot_be_looked_up_come_again_in_every_lane,
        a_process_without_handlers_leaves_messages_to_others,
        a_retry_that_waits_keeps_nobody_from_closing,
    }
    over_a_broker {
        a_repeated_command_is_answered_with_the_recorded_result,
        a_message_that_comes_while_it_is_handled_waits_for_the_outcome,
    }
}
