#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{sync::Arc, thread, time::Duration};

use orkestra::{
    Bytes,
    adapters::rabbitmq::{RabbitmqBus, RabbitmqConfig},
    clock::{Clock, IdSource, SystemClock, SystemIds, Timestamp},
    message::MessageKind,
    ports::{
        Arrived, Bus, BusError, ConsumerSpec, HandlerAddress, Inbox, Outgoing, Settlement,
        TraceContext,
    },
    testing::block_on,
    topic::Pattern,
};
use orkestra_tests::broker::{self, VirtualHost};
use uuid::Uuid;

/// A virtual host of the test's own; the test is skipped where there is no broker.
macro_rules! host {
    ($name:literal) => {
        match broker::shared() {
            Some(shared) => shared.virtual_host(concat!("rabbitmq-", $name)),
            None => return,
        }
    };
}

fn open(host: &VirtualHost, parameters: &str) -> Arc<RabbitmqBus> {
    at(&format!("{}?{parameters}", host.url))
}

fn at(url: &str) -> Arc<RabbitmqBus> {
    let config = RabbitmqConfig::parse(url).unwrap();
    Arc::new(RabbitmqBus::open(config, "shop", Arc::new(SystemClock::default())).unwrap())
}

fn address(kind: MessageKind, name: &str) -> HandlerAddress {
    HandlerAddress {
        kind,
        topic: if kind == MessageKind::Command {
            name.into()
        } else {
            String::new()
        },
        handler: format!("shop.{name}"),
    }
}

fn spec(kind: MessageKind, name: &str, patterns: &[&str]) -> ConsumerSpec {
    ConsumerSpec {
        address: address(kind, name),
        patterns: patterns.iter().map(|p| Pattern::new(p).unwrap()).collect(),
        concurrency: 1,
        prefetch: None,
    }
}

fn commands(bus: &RabbitmqBus, topic: &str) -> Inbox {
    block_on(bus.consume(spec(MessageKind::Command, topic, &[topic]))).unwrap()
}

fn events(bus: &RabbitmqBus, name: &str, patterns: &[&str]) -> Inbox {
    block_on(bus.consume(spec(MessageKind::Event, name, patterns))).unwrap()
}

fn id() -> Uuid {
    SystemIds::default().next_id(SystemClock::default().now())
}

fn message(kind: MessageKind, topic: &str, payload: &str) -> Outgoing {
    let id = id();
    let body = match kind {
        MessageKind::Command => format!(
            r#"{{"__type__":"command_envelope","command_type":"Shop.C","command_id":"{id}","params":{{"p":"{payload}"}}}}"#
        ),
        MessageKind::Event => format!(
            r#"{{"__type__":"event_envelope","event_type":"Shop.E","event_id":"{id}","data":{{"p":"{payload}"}}}}"#
        ),
    };
    Outgoing {
        kind,
        id,
        topic: topic.into(),
        correlation_id: "c-1".into(),
        body: Bytes::from(body),
        issued_at: Timestamp::from_micros(1_700_000_000_000_000),
        max_retries: None,
        trace: TraceContext::default(),
    }
}

fn command(topic: &str) -> Outgoing {
    message(MessageKind::Command, topic, "")
}

fn event(topic: &str) -> Outgoing {
    message(MessageKind::Event, topic, "")
}

fn text<T>(result: Result<T, BusError>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

/// The next arrival, within ten seconds.
fn next(inbox: &Inbox) -> Arrived {
    within(inbox, Duration::from_secs(10)).unwrap()
}

fn within(inbox: &Inbox, limit: Duration) -> Option<Arrived> {
    let clock = SystemClock::default();
    block_on(async {
        match futures_util::future::select(std::pin::pin!(inbox.take()), clock.sleep(limit)).await {
            futures_util::future::Either::Left((arrived, _)) => arrived,
            futures_util::future::Either::Right(_) => None,
        }
    })
}

fn done(arrived: Arrived) {
    arrived.receipt.settle(Settlement::Done { reply: None });
}

fn close(bus: &RabbitmqBus) {
    block_on(bus.close(Duration::from_secs(5)));
}

#[test]
fn a_command_goes_to_its_queue_and_is_done_with() {
    let host = host!("command");
    let bus = open(&host, "");
    let inbox = commands(&bus, "orders.place_order");

    let sent = Outgoing {
        max_retries: Some(3),
        trace: TraceContext {
            traceparent: Some("00-nonsense".into()),
            tracestate: None,
            baggage: Some("a=b".into()),
        },
        ..command("orders.place_order")
    };
    block_on(bus.send(sent.clone())).unwrap();
    let arrived = next(&inbox);

    assert_eq!(arrived.raw.id, Some(sent.id));
    assert_eq!(arrived.raw.body, sent.body);
    assert_eq!(arrived.raw.topic, "orders.place_order");
    assert_eq!(arrived.raw.kind, Some(MessageKind::Command));
    assert_eq!((arrived.raw.attempts, arrived.raw.failures), (0, 0));
    assert_eq!(arrived.raw.max_retries, Some(3));
    assert_eq!(arrived.raw.trace, sent.trace);
    assert!(!arrived.raw.wants_reply);
    assert!(arrived.content.is_ok());
    done(arrived);
    close(&bus);
    assert_eq!(host.depth("orkestra.cmd.orders.place_order"), Some(0));
}

#[test]
fn a_command_without_a_handler_is_an_error_and_an_event_is_not() {
    let host = host!("unroutable");
    let bus = open(&host, "");
    let inbox = commands(&bus, "known");

    let results = block_on(futures_util::future::join_all((0..200).map(|n| {
        let bus = Arc::clone(&bus);
        async move {
            let topic = if n % 3 == 0 { "unknown" } else { "known" };
            (topic, text(bus.send(command(topic)).await))
        }
    })));

    for (topic, result) in results {
        let expected = if topic == "known" {
            Ok(())
        } else {
            Err("no handler for unknown".to_owned())
        };
        assert_eq!(result, expected);
    }
    block_on(bus.send(event("nobody.cares"))).unwrap();
    for _ in 0..133 {
        done(next(&inbox));
    }
    close(&bus);
}

#[test]
fn a_question_is_answered() {
    let host = host!("ask");
    let bus = open(&host, "");
    let inbox = commands(&bus, "sum");
    let worker = thread::spawn(move || {
        for _ in 0..3 {
            let arrived = next(&inbox);
            assert!(arrived.raw.wants_reply);
            let reply = Some(Bytes::from(format!("answer {}", arrived.raw.id.unwrap())));
            arrived.receipt.settle(Settlement::Done { reply });
        }
    });

    for _ in 0..3 {
        let asked = command("sum");
        let answer = block_on(bus.ask(asked.clone())).unwrap();
        assert_eq!(answer, format!("answer {}", asked.id));
    }
    assert_eq!(
        text(block_on(bus.ask(command("nobody")))),
        Err("no handler for nobody".to_owned())
    );
    worker.join().unwrap();
    close(&bus);
}

#[test]
fn a_retry_comes_back_to_its_own_queue_with_what_is_known() {
    let host = host!("retry");
    let bus = open(&host, "");
    let inbox = events(&bus, "mail", &["orders.*"]);
    let other = events(&bus, "stock", &["orders.#"]);
    let failed = Timestamp::from_micros(1_700_000_000_000_000);

    let sent = event("orders.placed");
    block_on(bus.send(sent.clone())).unwrap();
    next(&inbox).receipt.settle(Settlement::Retry {
        after: Duration::from_millis(80),
        attempts: 1,
        failures: 1,
        first_failed_at: failed,
    });
    done(next(&other));
    let again = next(&inbox);

    assert_eq!((again.raw.attempts, again.raw.failures), (1, 1));
    assert_eq!(again.raw.first_failed_at, Some(failed));
    assert_eq!(again.raw.topic, "orders.placed");
    assert_eq!((again.raw.id, &again.raw.body), (Some(sent.id), &sent.body));
    done(again);
    assert!(within(&other, Duration::from_millis(50)).is_none());
    close(&bus);
    assert_eq!(host.depth("orkestra.evt.shop.mail"), Some(0));
    assert_eq!(host.depth("orkestra.retry.100"), Some(0));
}

#[test]
fn a_short_wait_behind_a_long_one_comes_back_first() {
    let host = host!("ladder");
    let bus = open(&host, "");
    let inbox = events(&bus, "mail", &["#"]);
    let retry = |arrived: Arrived, millis| {
        arrived.receipt.settle(Settlement::Retry {
            after: Duration::from_millis(millis),
            attempts: 1,
            failures: 1,
            first_failed_at: Timestamp::from_micros(0),
        });
    };

    block_on(bus.send(event("long"))).unwrap();
    retry(next(&inbox), 2_000);
    block_on(bus.send(event("short"))).unwrap();
    retry(next(&inbox), 100);

    for topic in ["short", "long"] {
        let arrived = next(&inbox);
        assert_eq!(arrived.raw.topic, topic);
        done(arrived);
    }
    close(&bus);
}

#[test]
fn a_body_that_is_not_ours_is_doomed_with_its_bytes() {
    let host = host!("poison");
    let bus = open(&host, "");
    let inbox = events(&bus, "mail", &["#"]);

    for body in [&b"not json"[..], b"{}", b"\xff\xfe", b""] {
        host.publish("orkestra.events", "orders.placed", body);
        let arrived = next(&inbox);
        assert_eq!(arrived.raw.body, body);
        assert!(arrived.content.is_err());
        done(arrived);
    }
    block_on(bus.send(event("orders.placed"))).unwrap();
    done(next(&inbox));
    close(&bus);
}

#[test]
fn what_is_given_back_comes_again() {
    let host = host!("give-back");
    let bus = open(&host, "");
    let inbox = commands(&bus, "work");

    block_on(bus.send(command("work"))).unwrap();
    drop(next(&inbox));
    let again = next(&inbox);

    assert_eq!(again.raw.attempts, 1);
    done(again);
    close(&bus);
}

#[test]
fn a_lost_connection_comes_back_by_itself() {
    let host = host!("reconnect");
    let bus = open(&host, "");
    let inbox = events(&bus, "mail", &["#"]);
    block_on(bus.send(event("a"))).unwrap();
    let held = next(&inbox);

    host.close_connections();
    block_on(bus.send(event("b"))).unwrap();
    // Settled already: by coming again.
    done(held);

    let mut topics = [next(&inbox), next(&inbox)].map(|arrived| {
        let topic = arrived.raw.topic.clone();
        done(arrived);
        topic
    });
    topics.sort();
    assert_eq!(topics, ["a", "b"]);
    assert!(within(&inbox, Duration::from_millis(50)).is_none());
    close(&bus);
    assert_eq!(host.depth("orkestra.evt.shop.mail"), Some(0));
}
