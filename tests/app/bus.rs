//! K: the bus.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use orkestra::{
    Context, Envelope, Error, HandlerError, Middleware, MiddlewareFuture, Next, Reject, RetryAfter,
    code::Coded,
    message::{EventStatus, HandlerState},
    ports::{BusError, DeadLetterFilter},
    retry::RetryPolicy,
};

use crate::{
    shop::{OrderPlaced, PlaceOrder, Store, until},
    suite,
};

fn order() -> PlaceOrder {
    PlaceOrder {
        product_id: "sku_42".into(),
    }
}

fn placed() -> OrderPlaced {
    OrderPlaced {
        order_id: "o-1".into(),
    }
}

/// The handler's own error in process, what is known of it over a broker.
fn is_the_handlers(error: &Error, store: &Store, text: &str) {
    match error {
        Error::Handler(_) if !store.is_remote() => assert_eq!(error.to_string(), text),
        Error::Bus(BusError::HandlerFailed {
            handler, message, ..
        }) if store.is_remote() => {
            assert_eq!(handler, "shop.orders.commands.place_order");
            assert_eq!(message, text);
        }
        error => panic!("{error:?}"),
    }
}

/// A handler of `PlaceOrder` that fails the first `failures` times, and counts its calls.
fn failing(store: &Store, failures: u32) -> (orkestra::Builder, Arc<AtomicU32>) {
    let calls = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&calls);
    let app = store
        .app()
        .command_handler(move |_: PlaceOrder, context: Context| {
            let call = count.fetch_add(1, Ordering::SeqCst) + 1;
            async move {
                assert_eq!(context.attempt(), call);
                if call <= failures {
                    return Err(HandlerError::text("the stock is away"));
                }
                Ok("o-1".to_owned())
            }
        });
    (app, calls)
}

async fn k01_a_command_with_one_handler_gives_its_result(store: Arc<Store>) {
    let (app, _) = failing(&store, 0);
    let app = app.start().await.unwrap();

    let answer = app.dispatch(order()).actor_id("user_123").await.unwrap();

    assert_eq!(answer, "o-1");
    app.close().await.unwrap();
}

async fn k02_a_command_without_a_handler_names_its_topic(store: Arc<Store>) {
    let app = store.app().start().await.unwrap();

    let error = app.dispatch(order()).await.unwrap_err();

    assert_eq!(error.code(), "ORK_BUS_NO_HANDLER");
    assert_eq!(
        error.to_string(),
        "no handler for orders.commands.place_order"
    );
}

async fn k03_a_second_handler_for_a_command_is_an_error_at_registration(store: Arc<Store>) {
    let handler = |_: PlaceOrder, _: Context| async { Ok(String::new()) };

    let app = store
        .app()
        .command_handler(handler)
        .command_handler(handler);

    let error = app.start().await.unwrap_err();
    assert!(
        matches!(error, Error::Bus(BusError::DuplicateHandler { .. })),
        "{error}"
    );
}

async fn k04_a_failure_without_retries_is_a_dead_letter(store: Arc<Store>) {
    let (app, calls) = failing(&store, 1);
    let app = app.start().await.unwrap();

    let error = app.dispatch(order()).await.unwrap_err();

    is_the_handlers(&error, &store, "the stock is away");
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    store.buried(&app, 1).await;
    app.close().await.unwrap();
}

async fn k04_two_retries_reach_the_third_attempt(store: Arc<Store>) {
    let (app, calls) = failing(&store, 2);
    let app = app.max_retries(2).start().await.unwrap();
    let answer = tokio::spawn({
        let app = app.clone();
        async move { app.dispatch(order()).await }
    });

    store.advance_until(|| answer.is_finished()).await;

    assert_eq!(answer.await.unwrap().unwrap(), "o-1");
    assert_eq!(calls.load(Ordering::SeqCst), 3);
    assert_eq!(store.letters(&app).await, 0);
}

async fn k04_the_senders_retries_come_before_the_handlers(store: Arc<Store>) {
    let (app, calls) = failing(&store, 9);
    let app = app.max_retries(5).start().await.unwrap();
    let answer = tokio::spawn({
        let app = app.clone();
        async move { app.dispatch(order()).max_retries(1).await }
    });

    store.advance_until(|| answer.is_finished()).await;

    assert!(answer.await.unwrap().is_err());
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    store.buried(&app, 1).await;
}

async fn k05_a_rejection_is_no_failure(store: Arc<Store>) {
    let app = store
        .app()
        .command_handler(|_: PlaceOrder, _: Context| async { Err(Reject::new("sold out").into()) })
        .max_retries(3)
        .start()
        .await
        .unwrap();

    let error = app.dispatch(order()).await.unwrap_err();

    assert_eq!(error.code(), "ORK_BUS_REJECTED");
    assert_eq!(error.to_string(), "rejected: sold out");
    assert_eq!(store.letters(&app).await, 0);
}

async fn k06_one_handlers_failure_does_not_affect_the_others(store: Arc<Store>) {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let note = |name: &'static str, fails: bool| {
        let calls = Arc::clone(&calls);
        move |_: OrderPlaced, _: Context| {
            calls.lock().unwrap().push(name);
            async move {
                if fails {
                    return Err(HandlerError::text("no mail today"));
                }
                Ok(())
            }
        }
    };
    let app = store
        .app()
        .event_handler("first", note("first", false))
        .event_handler("middle", note("middle", true))
        .max_retries(1)
        .event_handler("last", note("last", false))
        .start()
        .await
        .unwrap();

    let published = app.publish(placed()).await.unwrap();
    assert_eq!(published.status(), EventStatus::Published);
    let settled = tokio::spawn({
        let published = published.clone();
        async move { published.settled().await }
    });
    store.advance_until(|| settled.is_finished()).await;

    assert_eq!(settled.await.unwrap(), EventStatus::PartiallyHandled);
    let states: Vec<_> = published
        .handlers()
        .into_iter()
        .map(|(_, state)| state)
        .collect();
    assert_eq!(
        states,
        [
            HandlerState::Succeeded,
            HandlerState::Failed,
            HandlerState::Succeeded
        ]
    );
    assert_eq!(
        *calls.lock().unwrap(),
        ["first", "middle", "last", "middle"]
    );
    store.buried(&app, 1).await;
}

async fn k07_each_matching_handler_gets_an_event_once(store: Arc<Store>) {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let note = |name: &'static str| {
        let calls = Arc::clone(&calls);
        move |event: Arc<orkestra::message::Event>, _: Context| {
            calls.lock().unwrap().push((name, event.data.clone()));
            async { Ok(()) }
        }
    };
    let app = store
        .app()
        .topic_handler("exact", "orders.events.order_placed", note("exact"))
        .topic_handler("star", "orders.*.order_placed", note("star"))
        .topic_handler("hash", "#", note("hash"))
        .topic_handler("other", "billing.#", note("other"))
        .start()
        .await
        .unwrap();

    app.publish(placed()).await.unwrap();
    // What comes after is the end of what was before.
    app.publish(placed()).await.unwrap();

    until(|| calls.lock().unwrap().len() == 6).await;
    app.close().await.unwrap();
    let mut calls = calls.lock().unwrap();
    calls.sort();
    assert_eq!(
        calls.iter().map(|c| c.0).collect::<Vec<_>>(),
        ["exact", "exact", "hash", "hash", "star", "star"]
    );
    assert_eq!(calls[0].1, r#"{"order_id":"o-1"}"#);
}

async fn k17_one_consumer_keeps_the_order(store: Arc<Store>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let running = Arc::new(AtomicU32::new(0));
    let app = store
        .app()
        .event_handler("ordered", {
            let (seen, running) = (Arc::clone(&seen), Arc::clone(&running));
            move |event: OrderPlaced, _: Context| {
                let (seen, running) = (Arc::clone(&seen), Arc::clone(&running));
                async move {
                    assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0, "one at a time");
                    tokio::task::yield_now().await;
                    seen.lock().unwrap().push(event.order_id);
                    running.fetch_sub(1, Ordering::SeqCst);
                    Ok(())
                }
            }
        })
        .start()
        .await
        .unwrap();
    let expected: Vec<_> = (0..100).map(|n| n.to_string()).collect();

    let all = expected.iter().map(|order_id| {
        let event = OrderPlaced {
            order_id: order_id.clone(),
        };
        app.publish(event).into_future()
    });
    futures_util::future::join_all(all).await;

    until(|| seen.lock().unwrap().len() == 100).await;
    assert_eq!(*seen.lock().unwrap(), expected);
    app.close().await.unwrap();
}

async fn retry_after_comes_back_when_asked_and_uses_up_no_retry(store: Arc<Store>) {
    let start = store.clock.clone();
    let calls = Arc::new(AtomicU32::new(0));
    let app = store
        .app()
        .command_handler({
            let calls = Arc::clone(&calls);
            move |_: PlaceOrder, _: Context| {
                let call = calls.fetch_add(1, Ordering::SeqCst);
                async move {
                    if call == 0 {
                        return Err(RetryAfter(Duration::from_secs(60)).into());
                    }
                    Ok("later".to_owned())
                }
            }
        })
        .start()
        .await
        .unwrap();
    let before = orkestra::clock::Clock::monotonic(&start);
    let answer = tokio::spawn({
        let app = app.clone();
        async move { app.dispatch(order()).await }
    });

    store.advance_until(|| answer.is_finished()).await;

    assert_eq!(answer.await.unwrap().unwrap(), "later");
    let waited = orkestra::clock::Clock::monotonic(&start).saturating_sub(before);
    assert_eq!(waited, Duration::from_secs(60));
}

async fn an_error_type_that_is_given_up_on_is_not_retried(store: Arc<Store>) {
    let calls = Arc::new(AtomicU32::new(0));
    let app = store
        .app()
        .command_handler({
            let calls = Arc::clone(&calls);
            move |_: PlaceOrder, _: Context| {
                calls.fetch_add(1, Ordering::SeqCst);
                async { Ok("many".parse::<u32>()?.to_string()) }
            }
        })
        .retry(RetryPolicy {
            give_up_on: vec!["ParseIntError".into()],
            ..RetryPolicy::retries(5)
        })
        .start()
        .await
        .unwrap();

    app.dispatch(order()).await.unwrap_err();

    assert_eq!(calls.load(Ordering::SeqCst), 1);
    store.buried(&app, 1).await;
}

async fn closing_finishes_what_was_sent_and_buries_what_waits(store: Arc<Store>) {
    let (begun, finished) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let buried = Arc::new(AtomicU32::new(0));
    let app = store
        .app()
        .command_handler({
            let (begun, finished) = (Arc::clone(&begun), Arc::clone(&finished));
            move |_: PlaceOrder, _: Context| {
                let (begun, finished) = (Arc::clone(&begun), Arc::clone(&finished));
                async move {
                    begun.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    finished.fetch_add(1, Ordering::SeqCst);
                    Ok(String::new())
                }
            }
        })
        .event_handler("later", |_: OrderPlaced, _: Context| async {
            Err(RetryAfter(Duration::from_secs(3600)).into())
        })
        .on_dead_letter({
            let buried = Arc::clone(&buried);
            move |_| {
                buried.fetch_add(1, Ordering::SeqCst);
            }
        })
        .start()
        .await
        .unwrap();
    app.send(order()).await.unwrap();
    app.publish(placed()).await.unwrap();
    until(|| begun.load(Ordering::SeqCst) == 1).await;

    app.close().await.unwrap();

    assert_eq!(finished.load(Ordering::SeqCst), 1);
    assert_eq!(buried.load(Ordering::SeqCst), 1);
}

async fn a_handler_that_runs_too_long_is_timed_out(store: Arc<Store>) {
    let app = store
        .app()
        .command_handler(|_: PlaceOrder, _: Context| std::future::pending())
        .timeout(Duration::from_secs(5))
        .start()
        .await
        .unwrap();
    let answer = tokio::spawn({
        let app = app.clone();
        async move { app.dispatch(order()).await }
    });

    store.advance_until(|| answer.is_finished()).await;

    assert_eq!(
        answer.await.unwrap().unwrap_err().code(),
        "ORK_BUS_HANDLER_TIMEOUT"
    );
    store.buried(&app, 1).await;
}

async fn what_is_sent_inside_a_handler_is_caused_by_it(store: Arc<Store>) {
    let seen = Arc::new(Mutex::new(None));
    let app = store
        .app()
        .command_handler(|_: PlaceOrder, context: Context| async move {
            context.app().publish(placed()).await?;
            Ok(context.message_id().to_string())
        })
        .event_handler("mail", {
            let seen = Arc::clone(&seen);
            move |_: OrderPlaced, context: Context| {
                *seen.lock().unwrap() = Some((context.message_id(), context.metadata().clone()));
                async { Ok(()) }
            }
        })
        .start()
        .await
        .unwrap();

    let id = app
        .dispatch(order())
        .actor_id("user_123")
        .source("web")
        .await
        .unwrap();

    until(|| seen.lock().unwrap().is_some()).await;
    let (event_id, metadata) = seen.lock().unwrap().clone().unwrap();
    assert_eq!(metadata.causation_id.unwrap().to_string(), id);
    assert_eq!(metadata.correlation_id.to_string(), id);
    assert_eq!(metadata.actor_id.as_deref(), Some("user_123"));
    assert_eq!(metadata.source.as_deref(), Some("web"));
    assert_eq!(
        event_id,
        orkestra::clock::derive_event_id(id.parse().unwrap(), 0)
    );
}

async fn a_handler_that_publishes_to_itself_does_not_wait_for_itself(store: Arc<Store>) {
    let count = Arc::new(AtomicU32::new(0));
    let app = store
        .app()
        .event_handler("again", {
            let count = Arc::clone(&count);
            move |event: OrderPlaced, context: Context| {
                let call = count.fetch_add(1, Ordering::SeqCst);
                async move {
                    if call < 3 {
                        context.app().publish(event).await?;
                    }
                    Ok(())
                }
            }
        })
        .start()
        .await
        .unwrap();

    app.publish(placed()).await.unwrap();

    until(|| count.load(Ordering::SeqCst) == 4).await;
}

struct Noting(&'static str, Arc<Mutex<Vec<String>>>);

impl Middleware for Noting {
    fn around<'a>(&'a self, envelope: &'a Envelope, next: Next<'a>) -> MiddlewareFuture<'a> {
        Box::pin(async move {
            let note = |when| {
                let line = format!("{when} {} {} {}", self.0, envelope.topic, envelope.attempt);
                self.1.lock().unwrap().push(line);
            };
            note("before");
            let answer = next.run().await;
            note("after");
            answer
        })
    }
}

async fn middleware_runs_around_sending_and_handling_in_order(store: Arc<Store>) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let (app, _) = failing(&store, 0);
    let app = app
        .around_send(Noting("one", Arc::clone(&lines)))
        .around_send(Noting("two", Arc::clone(&lines)))
        .around_handle(Noting("three", Arc::clone(&lines)))
        .start()
        .await
        .unwrap();

    app.dispatch(order()).await.unwrap();

    let topic = "orders.commands.place_order";
    assert_eq!(
        *lines.lock().unwrap(),
        [
            format!("before one {topic} 0"),
            format!("before two {topic} 0"),
            format!("before three {topic} 1"),
            format!("after three {topic} 1"),
            format!("after two {topic} 0"),
            format!("after one {topic} 0"),
        ]
    );
}

async fn after_close_everything_is_refused_and_closing_again_is_harmless(store: Arc<Store>) {
    let (app, _) = failing(&store, 0);
    let app = app.start().await.unwrap();

    app.close().await.unwrap();
    app.close().await.unwrap();

    assert_eq!(
        app.dispatch(order()).await.unwrap_err().code(),
        "ORK_APP_CLOSED"
    );
    assert_eq!(
        app.publish(placed()).await.unwrap_err().code(),
        "ORK_APP_CLOSED"
    );
    assert_eq!(
        app.send(order()).await.unwrap_err().code(),
        "ORK_APP_CLOSED"
    );
}

async fn send_returns_once_accepted(store: Arc<Store>) {
    let (app, calls) = failing(&store, 0);
    let app = app.start().await.unwrap();

    let sent = app.send(order()).actor_id("user_123").await.unwrap();

    sent.settled().await.unwrap();
    // Settled says that it is handled in process; over a broker, that it is accepted.
    if store.is_remote() {
        until(|| calls.load(Ordering::SeqCst) == 1).await;
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    app.close().await.unwrap();
}

async fn ids_that_are_no_ids_are_refused(store: Arc<Store>) {
    let (app, _) = failing(&store, 0);
    let app = app.start().await.unwrap();

    let error = app.dispatch(order()).id("order-1").await.unwrap_err();
    assert_eq!(error.code(), "ORK_MESSAGE_INVALID_ID");
    let error = app
        .dispatch(order())
        .actor_type("Big Boss")
        .await
        .unwrap_err();
    assert_eq!(error.code(), "ORK_MESSAGE_INVALID_METADATA");
}

/// Fails its first attempt with the product `late`, and notes what it has done.
fn late_first(store: &Store) -> (orkestra::Builder, Arc<Mutex<Vec<String>>>) {
    let done = Arc::new(Mutex::new(Vec::new()));
    let app = store.app().command_handler({
        let done = Arc::clone(&done);
        move |command: PlaceOrder, context: Context| {
            let done = Arc::clone(&done);
            async move {
                if command.product_id == "late" && context.attempt() == 1 {
                    return Err(RetryAfter(Duration::from_secs(60)).into());
                }
                done.lock().unwrap().push(command.product_id);
                Ok(String::new())
            }
        }
    });
    (app, done)
}

fn late() -> PlaceOrder {
    PlaceOrder {
        product_id: "late".into(),
    }
}

async fn a_command_that_waits_for_its_retry_holds_no_slot(store: Arc<Store>) {
    let (app, done) = late_first(&store);
    let app = app.concurrency(1).start().await.unwrap();
    let waiting = app.send(late()).await.unwrap();
    until(|| store.clock.next_wake().is_some()).await;

    let other = app.dispatch(order()).into_future();
    let other = tokio::time::timeout(Duration::from_secs(10), other).await;

    other.unwrap().unwrap();
    store
        .advance_until(|| done.lock().unwrap().len() == 2)
        .await;
    waiting.settled().await.unwrap();
    assert_eq!(*done.lock().unwrap(), ["sku_42", "late"]);
}

async fn k20_when_the_caller_waits_no_more_the_command_is_still_handled(store: Arc<Store>) {
    let (app, done) = late_first(&store);
    let app = app.start().await.unwrap();
    let answer = tokio::spawn({
        let app = app.clone();
        async move { app.dispatch(late()).timeout(Duration::from_secs(5)).await }
    });
    store.advance_until(|| answer.is_finished()).await;
    assert_eq!(
        answer.await.unwrap().unwrap_err().code(),
        "ORK_BUS_DISPATCH_TIMEOUT"
    );

    store
        .advance_until(|| !done.lock().unwrap().is_empty())
        .await;

    app.close().await.unwrap();
}

async fn k06_a_panic_is_the_failure_of_its_handler_alone(store: Arc<Store>) {
    let (app, _) = failing(&store, 0);
    let app = app
        .event_handler("broken", |_: OrderPlaced, _: Context| async {
            panic!("no mail today")
        })
        .max_retries(0)
        .event_handler("sound", |_: OrderPlaced, _: Context| async { Ok(()) })
        .start()
        .await
        .unwrap();

    let published = app.publish(placed()).await.unwrap();

    assert_eq!(published.settled().await, EventStatus::PartiallyHandled);
    let page = app.dead_letters().list(DeadLetterFilter::default()).await;
    assert_eq!(
        page.unwrap().items[0].errors[0].message,
        "the handler panicked: no mail today"
    );
}

async fn closing_ends_the_wait_for_what_is_left_to_do(store: Arc<Store>) {
    let app = store
        .app()
        .event_handler("failing", |_: OrderPlaced, _: Context| async {
            Err(HandlerError::text("no mail today"))
        })
        .start()
        .await
        .unwrap();
    let published = app.publish(placed()).await.unwrap();

    app.close().await.unwrap();

    let settled = tokio::time::timeout(Duration::from_secs(10), published.settled()).await;
    assert_eq!(settled.unwrap(), EventStatus::Failed);
}

suite! {
    everywhere {
        an_error_type_that_is_given_up_on_is_not_retried,
        k01_a_command_with_one_handler_gives_its_result,
        k02_a_command_without_a_handler_names_its_topic,
        k03_a_second_handler_for_a_command_is_an_error_at_registration,
        k04_a_failure_without_retries_is_a_dead_letter,
        k04_two_retries_reach_the_third_attempt,
        k04_the_senders_retries_come_before_the_handlers,
        k05_a_rejection_is_no_failure,
        k07_each_matching_handler_gets_an_event_once,
        k17_one_consumer_keeps_the_order,
        what_is_sent_inside_a_handler_is_caused_by_it,
        a_handler_that_publishes_to_itself_does_not_wait_for_itself,
        middleware_runs_around_sending_and_handling_in_order,
        after_close_everything_is_refused_and_closing_again_is_harmless,
        send_returns_once_accepted,
        ids_that_are_no_ids_are_refused,
    }
    // Here the sender waits for first attempts, or a manual clock for retries. `remote` shows the same over a broker.
    in_process {
        closing_finishes_what_was_sent_and_buries_what_waits,
        a_command_that_waits_for_its_retry_holds_no_slot,
        k20_when_the_caller_waits_no_more_the_command_is_still_handled,
        k06_a_panic_is_the_failure_of_its_handler_alone,
        k06_one_handlers_failure_does_not_affect_the_others,
        closing_ends_the_wait_for_what_is_left_to_do,
        retry_after_comes_back_when_asked_and_uses_up_no_retry,
        a_handler_that_runs_too_long_is_timed_out,
    }
}
